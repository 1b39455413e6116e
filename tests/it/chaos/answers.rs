//! What services of AWS say when they do not do what they are asked.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use test_proxy::{Answer, Call};

use super::tally::Kind;

fn error(kind: &str, more: Value) -> Answer {
    let mut body = json!({ "__type": kind, "message": format!("{kind}: chaos") });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    Answer::error(StatusCode::BAD_REQUEST, body.to_string())
}

fn taken(body: &Value) -> Answer {
    Answer::error(StatusCode::OK, body.to_string())
}

/// One of the refusals that fit a call; which, is up to `choice`.
pub(super) fn refusal(call: &Call, choice: usize) -> (Kind, Answer) {
    match call.service() {
        "dynamodb" => dynamodb(call, choice),
        "sqs" => sqs(call, choice),
        "s3" => (Kind::Throttled, slow_down()),
        _ => (Kind::Throttled, error("ThrottlingException", Value::Null)),
    }
}

fn dynamodb(call: &Call, choice: usize) -> (Kind, Answer) {
    let asked: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let name = |error: &str| format!("com.amazonaws.dynamodb.v20120810#{error}");
    let busy = [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
    ][choice % 3];
    let throttled = (Kind::Throttled, error(&name(busy), Value::Null));
    if choice.is_multiple_of(3) {
        return throttled;
    }
    match call.action() {
        "TransactWriteItems" => (Kind::Conflict, cancelled(&name, &asked, choice)),
        "BatchGetItem" => {
            let unread = json!({ "Responses": {}, "UnprocessedKeys": asked["RequestItems"] });
            (Kind::Untaken, taken(&unread))
        }
        "BatchWriteItem" => {
            let unwritten = json!({ "UnprocessedItems": asked["RequestItems"] });
            (Kind::Untaken, taken(&unwritten))
        }
        "PutItem" | "UpdateItem" | "DeleteItem" => {
            let conflict = error(&name("TransactionConflictException"), Value::Null);
            (Kind::Conflict, conflict)
        }
        _ => throttled,
    }
}

/// A transaction of which one item is in the way of others, or of too many.
fn cancelled(name: &impl Fn(&str) -> String, asked: &Value, choice: usize) -> Answer {
    let items = asked["TransactItems"].as_array().map_or(1, Vec::len);
    let why = ["TransactionConflict", "ThrottlingError"][choice % 2];
    let reasons: Vec<Value> = (0..items)
        .map(|at| if at == choice % items { why } else { "None" })
        .map(|code| json!({ "Code": code, "Message": "chaos" }))
        .collect();
    let reasons = json!({ "CancellationReasons": reasons });
    error(&name("TransactionCanceledException"), reasons)
}

fn sqs(call: &Call, choice: usize) -> (Kind, Answer) {
    let asked: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    match asked["Entries"].as_array() {
        Some(entries) if choice.is_multiple_of(2) => {
            let failed = |entry: &Value| json!({ "Id": entry["Id"], "Code": "InternalError", "Message": "chaos", "SenderFault": false });
            let failed: Vec<Value> = entries.iter().map(failed).collect();
            let untaken = json!({ "Successful": [], "Failed": failed });
            (Kind::Untaken, taken(&untaken))
        }
        _ => {
            let throttled = error("com.amazonaws.sqs#RequestThrottled", Value::Null);
            (Kind::Throttled, throttled)
        }
    }
}

fn slow_down() -> Answer {
    let xml = HeaderValue::from_static("application/xml");
    Answer {
        status: StatusCode::SERVICE_UNAVAILABLE,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, xml)]),
        body: "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>chaos</Message></Error>"
            .into(),
    }
}
