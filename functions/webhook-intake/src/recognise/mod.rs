//! Finding records in a body.

mod dataverse;
mod envelope;

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use definition::{EventRule, Map, Scheme, Webhook, WebhookMode};
use mapping::json;
use model::Op;
use serde_json::value::RawValue;

use crate::request::Request;

/// One record's news in a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) op: Op,
    pub(crate) raw: Bytes,
    /// What the body, or the map's own rule, names the delivery or the event in it.
    pub(crate) name: Option<String>,
}

/// What a delivery tells a map. A body in which the record is not where the map says is news
/// too: it becomes a failure that shows the body, instead of vanishing.
pub(crate) fn news(request: &Request, map: &Map, webhook: &Webhook) -> Vec<News> {
    match &webhook.scheme {
        Scheme::Dataverse { .. } if webhook.record.is_empty() => {
            dataverse::news(request, map, webhook).into_iter().collect()
        }
        _ => envelope::events(request, webhook)
            .iter()
            .flat_map(|event| event_news(request, event, map, webhook))
            .collect(),
    }
}

fn event_news(request: &Request, event: &Bytes, map: &Map, webhook: &Webhook) -> Vec<News> {
    let Some(op) = operation(webhook, |rule| said(request, webhook, event, rule)) else {
        return Vec::new();
    };
    let name = match &webhook.delivery {
        Some(rule) => said(request, webhook, event, rule).map(Cow::into_owned),
        None => envelope::name(request, webhook, event),
    };
    let news = |op, raw| News {
        op,
        raw,
        name: name.clone(),
    };
    let Some(record) = envelope::record(request, webhook, event) else {
        return vec![news(Op::Upsert, unrecognised(event))];
    };
    let records = match std::str::from_utf8(&record) {
        Ok(list) if list.starts_with('[') => json::elements(&record, list),
        _ => Ok(vec![record.clone()]),
    };
    records
        .unwrap_or_else(|_| vec![record.clone()])
        .into_iter()
        .map(|raw| news(op, with_key(raw, map, webhook)))
        .collect()
}

/// What a request says of itself at a place the map names.
fn said<'e>(
    request: &'e Request,
    webhook: &Webhook,
    event: &'e [u8],
    rule: &EventRule,
) -> Option<Cow<'e, str>> {
    match rule {
        EventRule::Header(name) => request.header(name).map(Cow::Borrowed),
        EventRule::Body(path) => envelope::attribute(request, webhook, path)
            .map(Cow::Borrowed)
            .or_else(|| json::scalar(json::at(event, path).ok()??)),
    }
}

/// What an event means for the map; `None` when it is none of its business.
fn operation<'e>(
    webhook: &Webhook,
    said: impl Fn(&EventRule) -> Option<Cow<'e, str>>,
) -> Option<Op> {
    let default = match webhook.mode {
        WebhookMode::Full => Op::Upsert,
        WebhookMode::Touch => Op::Touch,
    };
    let Some(rule) = webhook.event.as_ref().filter(|_| !webhook.ops.is_empty()) else {
        return Some(default);
    };
    // An event that does not say what it is must not vanish: the source knows what holds.
    let Some(kind) = said(rule) else {
        return Some(Op::Touch);
    };
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

/// The record with its key fields under the names that the source has for them.
fn with_key(raw: Bytes, map: &Map, webhook: &Webhook) -> Bytes {
    if webhook.key.is_empty() {
        return raw;
    }
    let found = |path: &[String]| json::at(&raw, path).ok().flatten().map(str::to_owned);
    keyed(&raw, map, webhook, found).unwrap_or_else(|| unrecognised(&raw))
}

/// What is no record that the map knows, so that it becomes a failure that shows it. An event
/// has fields of its own, and one named like the record's key must not be taken for it: in a
/// list no map finds anything.
fn unrecognised(event: &[u8]) -> Bytes {
    [br#"["unrecognised","#, event, b"]"].concat().into()
}

/// A record with the key fields that `found` finds; `None` when one is missing.
fn keyed(
    record: &[u8],
    map: &Map,
    webhook: &Webhook,
    found: impl Fn(&[String]) -> Option<String>,
) -> Option<Bytes> {
    let mut fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(record).ok()?;
    let mut key = Vec::with_capacity(map.from.key.len());
    for name in &map.from.key {
        let renamed = webhook.key.iter().find(|(field, _)| field == name);
        let value = match renamed {
            Some((_, path)) => found(path)?,
            None => found(std::slice::from_ref(name))?,
        };
        key.push((name, RawValue::from_string(value).ok()?));
    }
    for (name, value) in &key {
        fields.insert(Cow::Borrowed(name), value);
    }
    serde_json::to_vec(&fields).ok().map(Bytes::from)
}
