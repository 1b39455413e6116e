//! Streams and targets over HTTP.

use crate::{PullMode, WebhookMode, stream::RestStream};

use super::Checker;

impl Checker<'_> {
    /// What only JSON services have.
    pub(super) fn check_rest(&self) {
        let (from, pull) = (&self.map.from, &self.map.pull);
        let Some(rest) = &from.rest else { return };
        if rest.since.is_some() && from.version.field.is_none() {
            let message = "`since` needs a version field".to_owned();
            self.error("missing-key", "from", message, "add `version: <field>`");
        }
        if rest.since.is_none() && pull.every.is_some() {
            self.warn(
                "reads-everything",
                "from.rest",
                "every pull reads the whole stream".into(),
                "if the service can be asked for what has changed, name the parameter with `since`",
            );
        }
        if pull.mode == PullMode::Delta {
            let message = "a rest connection has no delta links".to_owned();
            let help = "leave `mode` out: changes are asked for with `rest.since`";
            self.error("no-delta", "pull.mode", message, help);
        }
        if pull.page_size.is_some() {
            let message = "`page_size` is for services that all ask for it alike".to_owned();
            let help = "give the parameter its place in `rest.query` or `rest.paging`";
            self.error("useless-key", "pull.page_size", message, help);
        }
        let touches = |hook: &crate::Webhook| hook.mode == WebhookMode::Touch;
        if rest.item.is_none() && self.map.webhook.as_ref().is_some_and(touches) {
            let message = "webhooks that only touch need a way to read one record".to_owned();
            let help = "add `item: /path/{key}`";
            self.error("missing-key", "from.rest", message, help);
        }
        self.check_item(rest);
    }

    /// The path of a single record has to name its key.
    fn check_item(&self, rest: &RestStream) {
        let Some(item) = &rest.item else { return };
        let key = &self.map.from.key;
        let example = key.iter().map(|field| format!("{{{field}}}"));
        let help = format!(
            "write it as {}/{}",
            rest.path,
            example.collect::<Vec<_>>().join("/")
        );
        let mut named = Vec::new();
        let mut rest = item.as_str();
        while let Some((_, after)) = rest.split_once('{') {
            let Some((field, after)) = after.split_once('}') else {
                let message = format!("`{item}` has a brace that is not closed");
                return self.error("invalid-path", "from.rest.item", message, &help);
            };
            named.push(field.trim());
            rest = after;
        }
        for field in &named {
            if !key.iter().any(|known| known == field) {
                let message = format!("`{field}` is no key field of the source");
                self.error("unknown-key-field", "from.rest.item", message, &help);
            }
        }
        if named.is_empty() {
            let message = format!("`{item}` is the same for all records");
            self.error("no-record", "from.rest.item", message, &help);
        }
    }

    /// What HTTP endpoints do not have.
    pub(super) fn check_endpoint(&self) {
        let to = &self.map.to;
        if to.http.is_some() && to.existing {
            let message = "an HTTP endpoint has no tables".to_owned();
            self.error("useless-key", "to.existing", message, "leave it out");
        }
    }
}
