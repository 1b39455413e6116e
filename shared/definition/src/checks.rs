//! What can be wrong although every part can be read.

mod http;

use std::collections::BTreeMap;

use model::VersionKind;

use crate::{
    Connection, ConnectionKind, Definition, DeletePolicy, Field, FieldSource, Map, PullMode,
    Scheme, WebhookMode,
    problem::{Log, Severity},
    webhook::Webhook,
};

/// Longest name of a column in PostgreSQL, in bytes (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;

struct Checker<'d> {
    log: &'d Log,
    map: &'d Map,
    path: String,
}

impl Checker<'_> {
    fn say(&self, severity: Severity, code: &'static str, at: &str, message: String, help: &str) {
        let path = format!("{}.{at}", self.path);
        let help = (!help.is_empty()).then(|| help.to_owned());
        self.log.report(severity, code, &path, message, help);
    }

    fn error(&self, code: &'static str, at: &str, message: String, help: &str) {
        self.say(Severity::Error, code, at, message, help);
    }

    fn warn(&self, code: &'static str, at: &str, message: String, help: &str) {
        self.say(Severity::Warning, code, at, message, help);
    }
}

pub(crate) fn check(definition: &Definition, log: &Log) {
    for (name, map) in &definition.maps {
        let checker = Checker {
            log,
            map,
            path: format!("maps.{name}"),
        };
        checker.check_source(definition);
        checker.check_target(definition);
        checker.check_key();
        checker.check_fields();
        checker.check_names(definition);
        checker.check_webhook();
        checker.check_pull();
        checker.check_rest();
        checker.check_endpoint();
    }
    check_unused(definition, log);
    check_shared_targets(definition, log);
    check_shared_endpoints(definition, log);
}

impl Checker<'_> {
    fn connection<'d>(
        &self,
        definition: &'d Definition,
        name: &model::ConnectionName,
        at: &str,
    ) -> Option<&'d Connection> {
        let found = definition.connections.get(name);
        if found.is_none() {
            let names: Vec<&str> = definition
                .connections
                .keys()
                .map(model::ConnectionName::as_str)
                .collect();
            let help = match crate::node::closest(name.as_str(), &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the connections are {}", names.join(", ")),
            };
            self.error(
                "unknown-connection",
                at,
                format!("there is no connection `{name}`"),
                &help,
            );
        }
        found
    }

    fn check_source(&self, definition: &Definition) {
        let from = &self.map.from;
        let Some(connection) = self.connection(definition, &from.connection, "from.stream") else {
            return;
        };
        let kind = connection.kind;
        if !kind.is_source() {
            let message = format!("a connection of kind {} cannot be read", kind.as_str());
            self.error("not-a-source", "from.stream", message, "");
            return;
        }
        if kind == ConnectionKind::Rest && from.rest.is_none() {
            let message = format!(
                "`{}` is a rest connection: say how to read the stream",
                from.connection
            );
            self.error(
                "missing-key",
                "from",
                message,
                "add `rest:` with at least `path`",
            );
        }
        let only_for = |present: bool, key: &str, wanted: ConnectionKind| {
            if present && kind != wanted {
                let message = format!("`{key}` is for connections of kind {}", wanted.as_str());
                self.error("useless-key", &format!("from.{key}"), message, "");
            }
        };
        only_for(from.rest.is_some(), "rest", ConnectionKind::Rest);
        only_for(from.query.is_some(), "query", ConnectionKind::Postgres);
        if from.condition.is_some() && kind == ConnectionKind::Rest {
            let help = "filter with `rest.query` at the source, or with `filter` here";
            self.error(
                "useless-key",
                "from.where",
                "a rest connection has no `where`".into(),
                help,
            );
        }
        if from.condition.is_some() && from.deleted.is_none() {
            let delta = matches!(self.map.pull.mode, PullMode::Delta);
            if !delta && self.map.pull.every.is_some() {
                self.warn(
                    "where-hides-changes",
                    "from.where",
                    "a row that stops matching `where` is not seen by a pull by cursor".into(),
                    "use `filter`, which deletes such rows, or re-load from time to time",
                );
            }
        }
    }

    fn check_target(&self, definition: &Definition) {
        let to = &self.map.to;
        let Some(connection) = self.connection(definition, &to.connection, "to.stream") else {
            return;
        };
        let kind = connection.kind;
        if !kind.is_target() {
            let message = format!("a connection of kind {} cannot be written", kind.as_str());
            self.error("read-only-target", "to.stream", message, "");
            return;
        }
        let is_http = kind == ConnectionKind::Http;
        if is_http && to.http.is_none() {
            let message = format!(
                "`{}` is an http connection: say which requests to make",
                to.connection
            );
            self.error(
                "missing-key",
                "to",
                message,
                "add `http:` with at least `upsert`",
            );
        }
        if !is_http && to.http.is_some() {
            self.error(
                "useless-key",
                "to.http",
                "`http` is for connections of kind http".into(),
                "",
            );
        }
        if let Some(http) = &to.http
            && http.delete.is_none()
            && self.map.deletes.policy == DeletePolicy::Propagate
        {
            let help = "add `http.delete`, or set `deletes: ignore`";
            self.error(
                "no-delete-request",
                "to.http",
                "deletes cannot be propagated".into(),
                help,
            );
        }
        if self.map.deletes.policy == DeletePolicy::Mark && (is_http || to.existing) {
            let message = "rows can be marked as deleted only in a table of Syncline's own".into();
            self.error("cannot-mark", "deletes", message, "use propagate or ignore");
        }
    }

    fn check_key(&self) {
        let Map { from, to, .. } = self.map;
        if from.key.len() != to.key.len() {
            let message = format!(
                "the source key has {} field(s) and the target key {}",
                from.key.len(),
                to.key.len()
            );
            self.error(
                "half-mapped-key",
                "to.key",
                message,
                "every key column takes one key field",
            );
            return;
        }
        let used: Vec<Option<&str>> = to
            .key
            .iter()
            .map(|column| self.check_key_column(column))
            .collect();
        if used.iter().any(Option::is_none) {
            return;
        }
        for key in from
            .key
            .iter()
            .filter(|key| !used.contains(&Some(key.as_str())))
        {
            let message = format!("key field `{key}` of the source goes into no key column");
            self.error(
                "half-mapped-key",
                "from.key",
                message,
                "two records could get the same key",
            );
        }
    }

    /// The key field that goes into a key column.
    fn check_key_column(&self, column: &str) -> Option<&str> {
        let Map { from, fields, .. } = self.map;
        let Some(field) = fields.iter().find(|field| field.column == *column) else {
            let message = format!("key column `{column}` is not among the fields");
            self.error(
                "missing-key-column",
                "fields",
                message,
                &format!("add `{column}: <key field>`"),
            );
            return None;
        };
        let at = format!("fields.{column}");
        let path = match &field.source {
            FieldSource::Path(path) if path.len() == 1 && from.key.contains(&path[0]) => &path[0],
            _ => {
                let message =
                    format!("key column `{column}` must take a key field of the source as it is");
                let help = format!("the key of the source is {}", from.key.join(", "));
                self.error("half-mapped-key", &at, message, &help);
                return None;
            }
        };
        if field.default.is_some() || field.values.is_some() {
            let message = format!("key column `{column}` must not have a default or mapped values");
            self.error(
                "changed-key",
                &at,
                message,
                "two records could get the same key",
            );
            return None;
        }
        Some(path)
    }

    fn check_fields(&self) {
        for field in &self.map.fields {
            let at = format!("fields.{}", field.column);
            if let Some(values) = &field.values {
                let mut seen = BTreeMap::new();
                for (from, to) in &values.0 {
                    if let Some(first) = seen.insert(to.as_text().to_owned(), from) {
                        let message =
                            format!("`{first}` and `{from}` both become `{}`", to.as_text());
                        let help = "which of them it was cannot be told from the target any more";
                        self.warn("values-not-reversible", &at, message, help);
                    }
                }
            }
            if field.column.starts_with("_syncline") {
                let message = "columns that begin with _syncline are Syncline's own".to_owned();
                self.error("reserved-name", &at, message, "choose another name");
            }
        }
    }

    /// Names that the target takes for the same, or cuts off.
    fn check_names(&self, definition: &Definition) {
        let Map { to, fields, .. } = self.map;
        let kind = definition.connections.get(&to.connection).map(|to| to.kind);
        let mut seen = BTreeMap::new();
        for Field { column, .. } in fields {
            let at = format!("fields.{column}");
            if kind == Some(ConnectionKind::Sqlite)
                && let Some(first) = seen.insert(column.to_ascii_lowercase(), column)
            {
                let message = format!(
                    "`{first}` and `{column}` are one column: SQLite does not tell case apart"
                );
                self.error(
                    "duplicate-column",
                    &at,
                    message,
                    "give one of them another name",
                );
            }
            if kind == Some(ConnectionKind::Postgres) && column.len() > LONGEST_NAME {
                let message = format!(
                    "the name `{column}` is longer than the {LONGEST_NAME} bytes that PostgreSQL takes"
                );
                self.error("long-name", &at, message, "give the column a shorter name");
            }
        }
    }

    fn check_webhook(&self) {
        let Some(webhook) = &self.map.webhook else {
            return;
        };
        if webhook.scheme == Scheme::Unsigned {
            let message = "this webhook believes whatever it is sent".to_owned();
            self.warn(
                "unsigned-webhook",
                "webhook.scheme",
                message,
                "choose a scheme as soon as the sender has one",
            );
        }
        if !webhook.ops.is_empty() && webhook.event.is_none() {
            let message = "`ops` needs `event` to know the kind of event".to_owned();
            self.error(
                "missing-key",
                "webhook.ops",
                message,
                "add `event: type` or `event: { header: X-Event }`",
            );
        }
        for (field, _) in &webhook.key {
            if !self.map.from.key.contains(field) {
                let message = format!("`{field}` is no key field of the source");
                let help = format!("the key of the source is {}", self.map.from.key.join(", "));
                self.error("unknown-key-field", "webhook.key", message, &help);
            }
        }
        self.check_execution_context(webhook);
        let no_version = self.map.from.version.kind == VersionKind::Arrival;
        if no_version && webhook.mode == WebhookMode::Full {
            self.warn(
                "order-by-arrival",
                "webhook",
                "records have no version, so the last webhook to arrive wins".into(),
                "name a `version` field, or use `mode: touch` to read the record again",
            );
        }
    }

    /// The body of a Dataverse webhook holds what was submitted, in a form of its own, and one
    /// identifier.
    fn check_execution_context(&self, webhook: &Webhook) {
        let context =
            matches!(webhook.scheme, Scheme::Dataverse { .. }) && webhook.record.is_empty();
        if context && webhook.mode == WebhookMode::Full {
            self.error(
                "thin-webhook",
                "webhook.mode",
                "a Dataverse webhook does not hold the whole record".into(),
                "leave `mode` out: the record is read from its source",
            );
        }
        let parts = self.map.from.key.len();
        if context && parts > 1 && webhook.key.is_empty() {
            let message = format!(
                "a Dataverse webhook names a record by one identifier, and the key has {parts} fields"
            );
            let help = "say with `key` where they are, such as `key: { dataAreaId: LegalEntity }`";
            self.error("half-mapped-key", "webhook", message, help);
        }
    }

    fn check_pull(&self) {
        let Map {
            from,
            pull,
            webhook,
            ..
        } = self.map;
        if pull.every.is_none() && webhook.is_some() {
            self.warn(
                "webhook-only",
                "webhook",
                "a webhook that is lost is never made up for".into(),
                "add `pull: { every: 15m }`: webhooks make it fast, pulls make it right",
            );
        }
        if pull.mode == PullMode::Cursor && from.version.field.is_none() {
            let message = "a pull by cursor needs a version field".to_owned();
            self.error("missing-key", "from", message, "add `version: <field>`");
        }
    }
}

fn check_unused(definition: &Definition, log: &Log) {
    for name in definition.connections.keys() {
        let used = definition
            .maps
            .values()
            .any(|map| map.from.connection == *name || map.to.connection == *name);
        if !used {
            let message = format!("connection `{name}` is not used by any map");
            log.report(
                Severity::Warning,
                "unused-connection",
                &format!("connections.{name}"),
                message,
                None,
            );
        }
    }
    if definition.maps.is_empty() && !log.has_errors() {
        log.report(
            Severity::Error,
            "no-maps",
            "maps",
            "there are no maps: nothing to do",
            None,
        );
    }
}

fn check_shared_targets(definition: &Definition, log: &Log) {
    let mut targets = BTreeMap::new();
    for (name, map) in &definition.maps {
        // Two connections may lead to one system.
        let system = definition.connections.get(&map.to.connection);
        let target = (system.map(|to| format!("{:?}", to.url)), &map.to.table);
        if let Some(first) = targets.insert(target, name) {
            let message = format!(
                "maps `{first}` and `{name}` write the same table, each with versions of its own"
            );
            let help = Some("let one map write it, or give them tables of their own".to_owned());
            log.report(
                Severity::Error,
                "duplicate-target",
                &format!("maps.{name}.to.stream"),
                message,
                help,
            );
        }
    }
}

fn check_shared_endpoints(definition: &Definition, log: &Log) {
    let mut endpoints = BTreeMap::new();
    for (name, map) in &definition.maps {
        let Some(webhook) = &map.webhook else {
            continue;
        };
        let proof = (&webhook.scheme, &webhook.secrets, webhook.tolerance);
        if let Some((first, other)) = endpoints.insert(&webhook.endpoint, (name, proof))
            && other != proof
        {
            let message = format!(
                "maps `{first}` and `{name}` share the endpoint `{}` with different schemes, secrets or tolerances",
                webhook.endpoint
            );
            let help = Some("give them endpoints of their own, or say the same in both".to_owned());
            log.report(
                Severity::Error,
                "endpoint-conflict",
                &format!("maps.{name}.webhook"),
                message,
                help,
            );
        }
    }
}
