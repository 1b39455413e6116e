//! Finding records in a body.

use bytes::Bytes;
use definition::{EventRule, Map, Scheme, Webhook, WebhookMode};
use mapping::json;
use model::Op;

use crate::request::Request;

/// One record's news in a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) op: Op,
    pub(crate) raw: Bytes,
    /// The event's own name, where a delivery holds several.
    pub(crate) event: Option<String>,
}

/// What a delivery tells a map. A body in which the record is not where the map says is news
/// too: it becomes a failure that shows the body, instead of vanishing.
pub(crate) fn news(request: &Request, map: &Map, webhook: &Webhook) -> Vec<News> {
    if matches!(webhook.scheme, Scheme::Dataverse { .. }) && webhook.record.is_empty() {
        return dataverse(request, map, webhook).into_iter().collect();
    }
    let body = &request.body;
    let batched = matches!(
        webhook.scheme,
        Scheme::EventGrid { .. } | Scheme::CloudEvents { .. }
    );
    let events = match std::str::from_utf8(body) {
        Ok(text) if batched && text.trim_start().starts_with('[') => {
            json::elements(body, text).unwrap_or_else(|_| vec![body.clone()])
        }
        _ => vec![body.clone()],
    };
    events
        .iter()
        .flat_map(|event| event_news(request, event, map, webhook))
        .collect()
}

fn event_news(request: &Request, event: &Bytes, map: &Map, webhook: &Webhook) -> Vec<News> {
    let Some(op) = operation(request, event, webhook) else {
        return Vec::new();
    };
    let name = json::fields(event, ["id"])
        .ok()
        .and_then(|found| json::scalar(found[0]?));
    let name = name.map(std::borrow::Cow::into_owned);
    let news = |raw: Bytes| News {
        op,
        raw: with_key(raw, map, webhook),
        event: name.clone(),
    };
    match json::at(event, record_path(request, webhook)) {
        Ok(Some(raw)) if raw.starts_with('[') => match json::elements(event, raw) {
            Ok(records) => records.into_iter().map(news).collect(),
            Err(_) => vec![news(event.clone())],
        },
        Ok(Some(raw)) => vec![news(event.slice_ref(raw.as_bytes()))],
        Ok(None) | Err(_) => vec![News {
            op: Op::Upsert,
            raw: event.clone(),
            event: name,
        }],
    }
}

/// Event Grid and structured CloudEvents wrap the record in `data`.
fn record_path<'w>(request: &Request, webhook: &'w Webhook) -> &'w [String] {
    static DATA: std::sync::LazyLock<[String; 1]> =
        std::sync::LazyLock::new(|| ["data".to_owned()]);
    let structured = request
        .header("content-type")
        .is_some_and(|kind| kind.contains("cloudevents"));
    match &webhook.scheme {
        Scheme::EventGrid { .. } if webhook.record.is_empty() => DATA.as_slice(),
        Scheme::CloudEvents { .. } if webhook.record.is_empty() && structured => DATA.as_slice(),
        _ => &webhook.record,
    }
}

/// What an event means for the map; `None` when it is none of its business.
fn operation(request: &Request, event: &Bytes, webhook: &Webhook) -> Option<Op> {
    let default = match webhook.mode {
        WebhookMode::Full => Op::Upsert,
        WebhookMode::Touch => Op::Touch,
    };
    let Some(rule) = &webhook.event else {
        return Some(default);
    };
    let kind = match rule {
        EventRule::Header(name) => request.header(name).map(str::to_owned),
        EventRule::Body(path) => {
            let raw = json::at(event, path).ok().flatten();
            raw.and_then(json::scalar).map(std::borrow::Cow::into_owned)
        }
    };
    if webhook.ops.is_empty() {
        return Some(default);
    }
    let kind = kind?;
    let applies = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => kind.starts_with(start),
        None => kind == pattern,
    };
    let rule = webhook.ops.iter().find(|rule| applies(&rule.event))?;
    match rule.op? {
        // A thin webhook has no record to write.
        Op::Upsert if webhook.mode == WebhookMode::Touch => Some(Op::Touch),
        op => Some(op),
    }
}

/// Where the key fields have other names in the webhook, a record with the right names and
/// nothing else: only a touch or a delete can do with that.
fn with_key(raw: Bytes, map: &Map, webhook: &Webhook) -> Bytes {
    if webhook.key.is_empty() {
        return raw;
    }
    let mut object = serde_json::Map::new();
    for (field, path) in &webhook.key {
        let value = json::at(&raw, path)
            .ok()
            .flatten()
            .and_then(|value| serde_json::from_str(value).ok());
        match value {
            Some(value) => object.insert(field.clone(), value),
            // The key is not where the map says: the failure shows the record as it came.
            None => return raw,
        };
    }
    for key in map
        .from
        .key
        .iter()
        .filter(|key| !object.contains_key(*key))
        .cloned()
        .collect::<Vec<_>>()
    {
        let value = json::fields(&raw, [key.as_str()])
            .ok()
            .and_then(|found| serde_json::from_str(found[0]?).ok());
        match value {
            Some(value) => object.insert(key, value),
            None => return raw,
        };
    }
    Bytes::from(serde_json::Value::Object(object).to_string())
}

/// A Dataverse execution context holds only what was submitted, or nothing when it would be
/// too large, and never a version: it says which record to read.
fn dataverse(request: &Request, map: &Map, webhook: &Webhook) -> Option<News> {
    let op = operation(request, &request.body, webhook)?;
    let found = json::fields(
        &request.body,
        ["PrimaryEntityId", "MessageName", "OperationId"],
    )
    .ok();
    let text = |at: usize| {
        found
            .as_ref()
            .and_then(|found| json::scalar(found[at]?))
            .map(std::borrow::Cow::into_owned)
    };
    let (Some(id), [key]) = (text(0), &map.from.key[..]) else {
        return Some(News {
            op: Op::Upsert,
            raw: request.body.clone(),
            event: None,
        });
    };
    let op = if text(1).as_deref() == Some("Delete") {
        Op::Delete
    } else {
        op
    };
    let raw = serde_json::json!({ key: id }).to_string().into();
    let operation = text(2).filter(|id| id != "00000000-0000-0000-0000-000000000000");
    Some(News {
        op,
        raw,
        event: operation,
    })
}
