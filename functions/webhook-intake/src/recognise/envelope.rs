//! What is around a record: nothing, an Event Grid event or a CloudEvent.
//!
//! Sources: <https://learn.microsoft.com/azure/event-grid/event-schema> and CloudEvents 1.0,
//! "HTTP Protocol Binding" §3 (binary, structured and batched content) and "JSON Event
//! Format" §3.1 (`data` and `data_base64`).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use definition::{Scheme, Webhook};
use mapping::json;

use crate::request::Request;

/// How a request carries a CloudEvent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// The attributes are headers, the body is the data.
    Binary,
    /// The body is the event, or a list of events.
    Structured,
}

fn content(request: &Request) -> Content {
    let kind = request.header("content-type").unwrap_or_default().trim();
    let structured = "application/cloudevents";
    match kind.get(..structured.len()) {
        Some(start) if start.eq_ignore_ascii_case(structured) => Content::Structured,
        _ => Content::Binary,
    }
}

/// The events of a delivery, each as it stands in the body.
pub(super) fn events(request: &Request, webhook: &Webhook) -> Vec<Bytes> {
    let body = &request.body;
    let listed = match &webhook.scheme {
        // A subscription says farewell with an event that is no record.
        Scheme::EventGrid { .. } if !notifies(request) => return Vec::new(),
        Scheme::EventGrid { .. } => true,
        Scheme::CloudEvents { .. } => content(request) == Content::Structured,
        _ => false,
    };
    let list = match std::str::from_utf8(body) {
        Ok(text) if listed && text.trim_start().starts_with('[') => json::elements(body, text),
        _ => return vec![body.clone()],
    };
    list.unwrap_or_else(|_| vec![body.clone()])
}

fn notifies(request: &Request) -> bool {
    request
        .header("aeg-event-type")
        .is_none_or(|kind| kind.eq_ignore_ascii_case("Notification"))
}

/// An attribute of a CloudEvent whose attributes are headers.
pub(super) fn attribute<'r>(
    request: &'r Request,
    webhook: &Webhook,
    path: &[String],
) -> Option<&'r str> {
    let binary =
        matches!(webhook.scheme, Scheme::CloudEvents { .. }) && content(request) == Content::Binary;
    match path {
        [name] if binary => request.header(&format!("ce-{}", name.to_ascii_lowercase())),
        _ => None,
    }
}

/// The name of an event. A CloudEvent is known by its source and its identifier.
pub(super) fn name(request: &Request, webhook: &Webhook, event: &[u8]) -> Option<String> {
    let [source, id] = match &webhook.scheme {
        Scheme::CloudEvents { .. } if content(request) == Content::Binary => {
            ["ce-source", "ce-id"].map(|name| request.header(name).map(str::to_owned))
        }
        Scheme::CloudEvents { .. } => text(event, ["source", "id"]),
        Scheme::EventGrid { .. } => text(event, ["topic", "id"]),
        _ => return None,
    };
    Some(format!("{} {}", source.unwrap_or_default(), id?))
}

fn text<const N: usize>(event: &[u8], names: [&str; N]) -> [Option<String>; N] {
    let found = json::fields(event, names).unwrap_or([None; N]);
    found.map(|raw| json::scalar(raw?).map(std::borrow::Cow::into_owned))
}

/// The record, or the list of records, of an event; `None` when it is not where the map says.
pub(super) fn record(request: &Request, webhook: &Webhook, event: &Bytes) -> Option<Bytes> {
    let wraps = match &webhook.scheme {
        Scheme::EventGrid { .. } => true,
        Scheme::CloudEvents { .. } => content(request) == Content::Structured,
        _ => false,
    };
    if !wraps || !webhook.record.is_empty() {
        return part(event, &webhook.record);
    }
    let data = part(event, &["data".to_owned()]);
    match data.or_else(|| decoded(event)) {
        // Finance and operations apps send Event Grid the text of an object.
        Some(text) if text.starts_with(b"\"") => unquoted(&text),
        data => data,
    }
}

fn part(event: &Bytes, path: &[String]) -> Option<Bytes> {
    let raw = json::at(event, path).ok()??;
    Some(event.slice_ref(raw.as_bytes()))
}

fn decoded(event: &[u8]) -> Option<Bytes> {
    let [encoded] = text(event, ["data_base64"]);
    let data = Bytes::from(STANDARD.decode(encoded?).ok()?);
    json::check(&data).is_ok().then_some(data)
}

fn unquoted(text: &[u8]) -> Option<Bytes> {
    let text = json::scalar(std::str::from_utf8(text).ok()?)?;
    let inner = Bytes::from(text.trim().to_owned());
    json::check(&inner).is_ok().then_some(inner)
}
