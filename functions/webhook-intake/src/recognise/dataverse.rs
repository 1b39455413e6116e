//! The execution contexts that Dataverse posts, and the business events of finance and
//! operations apps, which come through Dataverse or straight.
//!
//! Source: <https://learn.microsoft.com/power-apps/developer/data-platform/use-webhooks>. A
//! context holds only what was submitted, or nothing of it when it would be too large, and
//! never a version: it says which record to read.

use std::borrow::Cow;

use bytes::Bytes;
use definition::{EventRule, Map, Webhook};
use mapping::json;
use model::Op;
use serde_json::value::RawValue;

use super::{News, keyed, operation, unrecognised};
use crate::request::Request;

const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// Where fields may be: in the context, among its parameters, in the record that was
/// submitted, in the record as it was before.
const ROOTS: [&[&str]; 4] = [
    &[],
    &["InputParameters"],
    &["InputParameters", "Target", "Attributes"],
    &["InputParameters", "PreImage", "Attributes"],
];

pub(super) fn news(request: &Request, map: &Map, webhook: &Webhook) -> Option<News> {
    let body = std::str::from_utf8(&request.body).unwrap_or_default();
    let said = |rule: &EventRule| match rule {
        EventRule::Header(name) => request.header(name).map(Cow::Borrowed),
        EventRule::Body(path) => json::scalar(find(body, path)?),
    };
    let op = operation(webhook, said)?;
    let message = text(body, &["MessageName"]);
    let op = match message.as_deref() {
        Some("Delete" | "OnExternalDeleted") if op == Op::Touch => Op::Delete,
        _ => op,
    };
    let name = match &webhook.delivery {
        Some(rule) => said(rule).map(Cow::into_owned),
        None => name(body, message.as_deref()),
    };
    let (op, raw) = match record(body, map, webhook) {
        Some(raw) => (op, raw),
        None => (Op::Upsert, unrecognised(&request.body)),
    };
    Some(News { op, raw, name })
}

/// The key of the record; `None` when the context does not say it.
fn record(body: &str, map: &Map, webhook: &Webhook) -> Option<Bytes> {
    if !webhook.key.is_empty() {
        return keyed(b"{}", map, webhook, |path| {
            find(body, path).map(str::to_owned)
        });
    }
    let [key] = &map.from.key[..] else {
        return None;
    };
    let places: [&[&str]; 3] = [
        &["PrimaryEntityId"],
        &["InputParameters", "Target", "Id"],
        &["OutputParameters", "id"],
    ];
    let id = places
        .into_iter()
        .find_map(|place| text(body, place).filter(|id| id != NIL))?;
    Some(serde_json::json!({ key: id }).to_string().into())
}

/// An asynchronous step has an operation of its own for every record; a synchronous one does
/// not, and is not repeated.
fn name(body: &str, message: Option<&str>) -> Option<String> {
    let operation = text(body, &["OperationId"]).filter(|id| id != NIL);
    let event = || text(body, &["BusinessEventId"]).and(text(body, &["EventId"]));
    let id = operation.or_else(event)?;
    let entity = text(body, &["PrimaryEntityId"]).unwrap_or_default();
    Some(format!("{id} {} {entity}", message.unwrap_or_default()))
}

fn text<'b>(body: &'b str, path: &[&str]) -> Option<Cow<'b, str>> {
    json::scalar(walk(body, path.iter().copied())?)
}

/// A value at a path, in any of the places where fields may be.
fn find<'b>(body: &'b str, path: &[String]) -> Option<&'b str> {
    ROOTS.into_iter().find_map(|root| {
        let way = root.iter().copied().chain(path.iter().map(String::as_str));
        walk(body, way)
    })
}

/// Goes along a path through objects and through lists of `{"key": …, "value": …}`, and takes
/// the value out of what Dataverse wraps it in.
fn walk<'b, 'p>(body: &'b str, path: impl Iterator<Item = &'p str>) -> Option<&'b str> {
    let mut raw = body.trim();
    for name in path {
        raw = match raw.as_bytes().first()? {
            b'{' => json::fields(raw.as_bytes(), [name]).ok()?[0]?,
            b'[' => paired(raw, name)?,
            _ => return None,
        };
    }
    if !raw.starts_with('{') {
        return Some(raw);
    }
    // A choice or an amount, or a reference to another record.
    let [value, id] = json::fields(raw.as_bytes(), ["Value", "Id"]).ok()?;
    value.or(id).or(Some(raw))
}

fn paired<'b>(list: &'b str, name: &str) -> Option<&'b str> {
    let pairs: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    pairs.into_iter().find_map(|pair| {
        let [key, value] = json::fields(pair.get().as_bytes(), ["key", "value"]).ok()?;
        (json::scalar(key?)? == name).then_some(value?)
    })
}
