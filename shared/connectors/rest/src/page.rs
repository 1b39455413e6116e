//! Taking an answer apart.

use bytes::Bytes;
use connector_http::Answer;
use http::StatusCode;
use mapping::json;
use ports::SourceError;

/// Whether an object is nothing but the report of an error.
fn is_error(body: &[u8]) -> bool {
    let names = ["error", "errors", "@error", "fault"];
    json::fields(body, names).is_ok_and(|found| {
        let mut found = found.into_iter().flatten();
        found.any(|value| !matches!(value, "null" | "false" | "[]" | "{}" | "\"\""))
    })
}

/// What an answer does not have.
fn lacks(what: &str, path: &[String]) -> String {
    match path {
        [] => format!("is {what}"),
        path => format!("has {what} at `{}`", path.join(".")),
    }
}

/// The value at a place in an answer. An answer that does not have it may be an error with a
/// good status.
pub(crate) fn value<'b>(
    answer: &Answer,
    body: &'b [u8],
    path: &[String],
) -> Result<&'b str, SourceError> {
    let found = json::at(body, path)
        .map_err(|error| answer.garbled(&format!("is no good JSON ({error})")))?;
    match found {
        Some(value) if value != "null" => Ok(value),
        _ if is_error(body) => Err(answer.error_in_body()),
        Some(null) => Ok(null),
        None => Err(answer.garbled(&lacks("nothing", path))),
    }
}

/// The records of a page, as slices of its body.
pub(crate) fn records(answer: &Answer, path: &[String]) -> Result<Vec<Bytes>, SourceError> {
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(Vec::new());
    }
    let body = answer.content();
    let list = value(answer, &body, path)?;
    // Some services write an empty list so.
    if list == "null" {
        return Ok(Vec::new());
    }
    if !list.starts_with('[') {
        if is_error(&body) {
            return Err(answer.error_in_body());
        }
        let lacks = lacks("no list", path);
        return Err(answer.garbled(&format!(
            "{lacks}: say with `rest.records` where the records are"
        )));
    }
    json::elements(&body, list)
        .map_err(|error| answer.garbled(&format!("has a broken list ({error})")))
}

/// The text of a link or cursor at a place in an answer; `None` at the last page.
pub(crate) fn token(answer: &Answer, path: &[String]) -> Result<Option<String>, SourceError> {
    let body = answer.content();
    let found = json::at(&body, path)
        .map_err(|error| answer.garbled(&format!("is no good JSON ({error})")))?;
    match found {
        None | Some("null" | "false" | "\"\"") => Ok(None),
        Some(raw) => match json::scalar(raw) {
            Some(text) => Ok(Some(text.into_owned())),
            None => Err(answer.garbled(&lacks("neither text nor a number", path))),
        },
    }
}
