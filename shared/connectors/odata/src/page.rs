//! One page of an answer.

use bytes::Bytes;
use connector_http::Answer;
use mapping::json;
use ports::SourceError;

/// What a page holds, in slices of its body.
pub(crate) struct PageBody {
    pub(crate) records: Vec<Bytes>,
    pub(crate) next: Option<String>,
    pub(crate) delta: Option<String>,
}

const NAMES: [&str; 7] = [
    "value",
    "@odata.nextLink",
    "@nextLink",
    "@odata.deltaLink",
    "@deltaLink",
    "error",
    "@error",
];

/// Takes a page apart. `changes` says that it answers a request for changes, which Dataverse
/// answers with an empty object when there are none.
pub(crate) fn parse(answer: &Answer, changes: bool) -> Result<PageBody, SourceError> {
    let body = &answer.body;
    if changes && body.iter().all(u8::is_ascii_whitespace) {
        return Ok(PageBody {
            records: Vec::new(),
            next: None,
            delta: None,
        });
    }
    let found = json::fields(body, NAMES)
        .map_err(|error| answer.garbled(&format!("is not the JSON of a page ({error})")))?;
    if found[5].or(found[6]).is_some() {
        return Err(answer.error_in_body());
    }
    let link = |a: usize, b: usize| {
        found[a]
            .or(found[b])
            .and_then(json::scalar)
            .map(std::borrow::Cow::into_owned)
    };
    let (next, delta) = (link(1, 2), link(3, 4));
    let records = match found[0] {
        Some(list) => json::elements(body, list)
            .map_err(|error| answer.garbled(&format!("has a `value` that is no list ({error})")))?,
        None if changes || next.is_some() || delta.is_some() => Vec::new(),
        None => return Err(answer.garbled("has no `value`: is the entity set right?")),
    };
    Ok(PageBody {
        records,
        next,
        delta,
    })
}
