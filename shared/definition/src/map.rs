//! Maps.

use std::time::Duration;

use model::{Backoff, ConnectionName, MapName, VersionKind};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    fields::{self, Field},
    http::{self, HttpTarget},
    node::{Node, Section},
    stream::{self, RestStream},
    webhook::{self, Webhook},
};

/// How rows of one stream become rows of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Map {
    /// Its name.
    pub name: MapName,
    /// The process it serves, for the people who own that.
    pub process: Option<String>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// What it reads.
    pub from: From,
    /// What it writes.
    pub to: To,
    /// The columns it writes, in the order of the file.
    pub fields: Vec<Field>,
    /// CEL expression; a record for which it is false is left out, and deleted where it was.
    pub filter: Option<String>,
    /// What deletes mean.
    pub deletes: Deletes,
    /// How it takes webhooks.
    pub webhook: Option<Webhook>,
    /// How its source is pulled.
    pub pull: Pull,
    /// How it is loaded.
    pub load: Load,
    /// When a failure is tried again.
    pub retry: Backoff,
    /// What its owner expects of it.
    pub expect: Expect,
}

impl Map {
    /// A digest of all of it: twelve hexadecimal digits that change when the map does.
    #[must_use]
    pub fn digest(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        hex::encode(&Sha256::digest(text.as_bytes())[..6])
    }
}

/// What a map reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct From {
    /// The connection.
    pub connection: ConnectionName,
    /// The entity set, table or collection.
    pub entity: String,
    /// Its key fields.
    pub key: Vec<String>,
    /// Its version field.
    pub version: VersionField,
    /// Condition in the source's own language.
    pub condition: Option<String>,
    /// CEL expression; a record for which it is true is a deleted one.
    pub deleted: Option<String>,
    /// SQL query to read instead of the table.
    pub query: Option<String>,
    /// How a JSON service is read.
    pub rest: Option<RestStream>,
}

/// Where a record says how new it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VersionField {
    /// The field; `None` when the kind is [`VersionKind::Arrival`].
    pub field: Option<String>,
    /// How to read it.
    pub kind: VersionKind,
}

/// What a map writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct To {
    /// The connection.
    pub connection: ConnectionName,
    /// The table, or for an HTTP endpoint a name for people.
    pub table: String,
    /// Its key columns.
    pub key: Vec<String>,
    /// Whether the table was there before and keeps its shape.
    pub existing: bool,
    /// How an HTTP endpoint is called.
    pub http: Option<HttpTarget>,
}

/// What deletes mean and how many are believed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Deletes {
    /// What they mean.
    pub policy: DeletePolicy,
    /// Largest share of the table that one run may delete without a person's consent.
    pub brake: f64,
}

/// What deletes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletePolicy {
    /// Delete the row.
    Propagate,
    /// Keep the row and mark it.
    Mark,
    /// Nothing.
    Ignore,
}

/// How a stream is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pull {
    /// How often; `None` is never.
    pub every: Option<Duration>,
    /// How changes are asked for.
    pub mode: PullMode,
    /// How far back before the newest version a pull by cursor begins.
    pub overlap: Duration,
    /// Records per page, where the source lets one choose.
    pub page_size: Option<u32>,
}

/// How changes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullMode {
    /// By delta link where the source has them, else by cursor.
    Auto,
    /// By delta link.
    Delta,
    /// By version field.
    Cursor,
}

/// How a map is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Into how many parts the stream is cut at the most.
    pub slices: u32,
    /// Field to cut by; without it the key.
    pub by: Option<String>,
}

/// What the owner of a map expects of it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Expect {
    /// No change may be older than this before it is applied.
    pub fresh_within: Option<Duration>,
    /// No larger share of changes may fail.
    pub failures_below: Option<f64>,
}

pub(crate) const KEYS: &[&str] = &[
    "process", "owner", "from", "to", "fields", "filter", "deletes", "webhook", "pull", "load",
    "retry", "expect",
];
pub(crate) const FROM_KEYS: &[&str] = &[
    "stream", "key", "version", "where", "deleted", "query", "rest",
];
pub(crate) const VERSION_KEYS: &[&str] = &["field", "kind"];
pub(crate) const TO_KEYS: &[&str] = &["stream", "key", "existing", "http"];
pub(crate) const DELETES_KEYS: &[&str] = &["policy", "brake"];
pub(crate) const PULL_KEYS: &[&str] = &["every", "mode", "overlap", "page_size"];
pub(crate) const LOAD_KEYS: &[&str] = &["slices", "by"];
pub(crate) const RETRY_KEYS: &[&str] = &["attempts", "base", "max"];
pub(crate) const EXPECT_KEYS: &[&str] = &["fresh_within", "failures_below"];

const VERSION_KINDS: &[(&str, VersionKind)] = &[
    ("auto", VersionKind::Auto),
    ("integer", VersionKind::Integer),
    ("timestamp", VersionKind::Timestamp),
    ("unix-seconds", VersionKind::UnixSeconds),
    ("unix-millis", VersionKind::UnixMillis),
    ("rowversion", VersionKind::Rowversion),
];
const POLICIES: &[(&str, DeletePolicy)] = &[
    ("propagate", DeletePolicy::Propagate),
    ("mark", DeletePolicy::Mark),
    ("ignore", DeletePolicy::Ignore),
];
const MODES: &[(&str, PullMode)] = &[
    ("auto", PullMode::Auto),
    ("delta", PullMode::Delta),
    ("cursor", PullMode::Cursor),
];

/// A map is worth having only whole, but all of it is read first so that every problem is
/// found at once.
pub(crate) fn read(name: &MapName, node: &Node<'_>) -> Option<Map> {
    let section = node.map("a map", KEYS)?;
    let from = section.required("from").and_then(read_from);
    let to = section.required("to").and_then(read_to);
    let fields = section.required("fields").and_then(fields::read);
    let deletes = section
        .get("deletes")
        .map_or(Some(Deletes::default()), read_deletes);
    let pull = section.get("pull").map_or(Some(Pull::default()), read_pull);
    let load = section.get("load").map_or(Some(Load::default()), read_load);
    let retry = section
        .get("retry")
        .map_or(Some(Backoff::default()), read_retry);
    let expect = section
        .get("expect")
        .map_or(Some(Expect::default()), read_expect);
    let webhook = match section.get("webhook") {
        Some(node) => webhook::read(name.as_str(), node).map(Some),
        None => Some(None),
    };
    let text = |key: &str| section.get(key).and_then(Node::text);
    Some(Map {
        name: name.clone(),
        process: text("process"),
        owner: text("owner"),
        filter: text("filter"),
        from: from?,
        to: to?,
        fields: fields?,
        deletes: deletes?,
        webhook: webhook?,
        pull: pull?,
        load: load?,
        retry: retry?,
        expect: expect?,
    })
}

/// `connection.entity`.
fn stream_name(section: &Section<'_>) -> Option<(ConnectionName, String)> {
    let node = section.required("stream")?;
    let text = node.text()?;
    let Some((connection, entity)) = text
        .split_once('.')
        .filter(|(_, entity)| !entity.is_empty())
    else {
        node.error_help(
            "invalid-stream",
            format!("`{text}` is no stream"),
            "write connection.entity, such as crm.accounts or warehouse.public.customers",
        );
        return None;
    };
    Some((node.name(connection)?, entity.to_owned()))
}

fn key(section: &Section<'_>) -> Option<Vec<String>> {
    let node = section.required("key")?;
    let all = node.one_or_many();
    if all.is_empty() {
        node.error("no-key", "a key needs at least one field");
        return None;
    }
    all.iter().map(Node::text).collect()
}

fn read_from(node: &Node<'_>) -> Option<From> {
    let section = node.map("from", FROM_KEYS)?;
    let stream = stream_name(&section);
    let key = key(&section);
    let version = match section.get("version") {
        Some(node) => read_version(node),
        None => Some(VersionField {
            field: None,
            kind: VersionKind::Arrival,
        }),
    };
    let rest = match section.get("rest") {
        Some(node) => stream::read(node).map(Some),
        None => Some(None),
    };
    let text = |key: &str| section.get(key).and_then(Node::text);
    let (connection, entity) = stream?;
    Some(From {
        connection,
        entity,
        key: key?,
        version: version?,
        condition: text("where"),
        deleted: text("deleted"),
        query: text("query"),
        rest: rest?,
    })
}

fn read_version(node: &Node<'_>) -> Option<VersionField> {
    if !node.is_mapping() {
        return Some(VersionField {
            field: Some(node.text()?),
            kind: VersionKind::Auto,
        });
    }
    let section = node.map("version", VERSION_KEYS)?;
    let field = section.required("field")?.text()?;
    let kind = section
        .get("kind")
        .map_or(Some(VersionKind::Auto), |node| node.choice(VERSION_KINDS))?;
    Some(VersionField {
        field: Some(field),
        kind,
    })
}

fn read_to(node: &Node<'_>) -> Option<To> {
    let section = node.map("to", TO_KEYS)?;
    let stream = stream_name(&section);
    let key = key(&section);
    let existing = section.get("existing").map_or(Some(false), Node::boolean);
    let http = match section.get("http") {
        Some(node) => http::read(node).map(Some),
        None => Some(None),
    };
    let (connection, table) = stream?;
    Some(To {
        connection,
        table,
        key: key?,
        existing: existing?,
        http: http?,
    })
}

impl Default for Deletes {
    fn default() -> Self {
        Self {
            policy: DeletePolicy::Propagate,
            brake: 0.2,
        }
    }
}

fn read_deletes(node: &Node<'_>) -> Option<Deletes> {
    let default = Deletes::default();
    if !node.is_mapping() {
        return Some(Deletes {
            policy: node.choice(POLICIES)?,
            ..default
        });
    }
    let section = node.map("deletes", DELETES_KEYS)?;
    let policy = section
        .get("policy")
        .map_or(Some(default.policy), |node| node.choice(POLICIES))?;
    let brake = section
        .get("brake")
        .map_or(Some(default.brake), Node::share)?;
    Some(Deletes { policy, brake })
}

impl Default for Pull {
    fn default() -> Self {
        Self {
            every: None,
            mode: PullMode::Auto,
            overlap: Duration::from_mins(5),
            page_size: None,
        }
    }
}

fn read_pull(node: &Node<'_>) -> Option<Pull> {
    let section = node.map("pull", PULL_KEYS)?;
    let default = Pull::default();
    let every = match section.get("every") {
        Some(node) => Some(node.duration()?),
        None => None,
    };
    if every.is_some_and(|every| every < Duration::from_secs(1)) {
        section
            .node()
            .error("out-of-range", "`every` must be at least 1s");
    }
    Some(Pull {
        every,
        mode: section
            .get("mode")
            .map_or(Some(default.mode), |node| node.choice(MODES))?,
        overlap: section
            .get("overlap")
            .map_or(Some(default.overlap), Node::duration)?,
        page_size: match section.get("page_size") {
            Some(node) => Some(node.count(1, 100_000)?),
            None => None,
        },
    })
}

impl Default for Load {
    fn default() -> Self {
        Self {
            slices: 1,
            by: None,
        }
    }
}

fn read_load(node: &Node<'_>) -> Option<Load> {
    let section = node.map("load", LOAD_KEYS)?;
    Some(Load {
        slices: section
            .get("slices")
            .map_or(Some(1), |node| node.count(1, 1_000))?,
        by: section.get("by").and_then(Node::text),
    })
}

fn read_retry(node: &Node<'_>) -> Option<Backoff> {
    let section = node.map("retry", RETRY_KEYS)?;
    let default = Backoff::default();
    let base = section
        .get("base")
        .map_or(Some(default.base), Node::duration)?;
    let max = section
        .get("max")
        .map_or(Some(default.max.max(base)), Node::duration)?;
    if max < base {
        section
            .node()
            .error("out-of-range", "`max` must not be shorter than `base`");
    }
    let attempts = section
        .get("attempts")
        .map_or(Some(default.attempts), |node| node.count(1, 1_000))?;
    Some(Backoff {
        base,
        max,
        attempts,
    })
}

fn read_expect(node: &Node<'_>) -> Option<Expect> {
    let section = node.map("expect", EXPECT_KEYS)?;
    Some(Expect {
        fresh_within: match section.get("fresh_within") {
            Some(node) => Some(node.duration()?),
            None => None,
        },
        failures_below: match section.get("failures_below") {
            Some(node) => Some(node.share()?),
            None => None,
        },
    })
}
