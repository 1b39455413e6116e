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
    let came = answer.content();
    let readable = readable(&came);
    let body = readable.as_ref().unwrap_or(&came);
    if changes && body.iter().all(u8::is_ascii_whitespace) {
        return Ok(PageBody {
            records: Vec::new(),
            next: None,
            delta: None,
        });
    }
    let found = json::fields(body, NAMES)
        .map_err(|error| answer.garbled(&format!("is not the JSON of a page ({error})")))?;
    if found[5..].iter().flatten().any(|error| *error != "null") {
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
            .map_err(|error| answer.garbled(&format!("has a `value` that is no list ({error})")))?
            .into_iter()
            .map(|record| original(&came, body, record))
            .collect(),
        None if changes || next.is_some() || delta.is_some() => Vec::new(),
        None => return Err(answer.garbled("has no `value`: is the entity set right?")),
    };
    Ok(PageBody {
        records,
        next,
        delta,
    })
}

/// The body with every byte that is not UTF-8 replaced; `None` when there is none. One record
/// in another encoding must not hide its neighbours: what is replaced is looked at only to
/// find where records begin and end.
fn readable(body: &Bytes) -> Option<Bytes> {
    std::str::from_utf8(body).err()?;
    let mut text = Vec::with_capacity(body.len());
    for chunk in body.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        text.extend(std::iter::repeat_n(b'?', chunk.invalid().len()));
    }
    Some(text.into())
}

/// The record as it came, bytes that are not UTF-8 included: they make it a failure.
fn original(came: &Bytes, read: &Bytes, record: Bytes) -> Bytes {
    if came.as_ptr() == read.as_ptr() {
        return record;
    }
    let start = record.as_ptr() as usize - read.as_ptr() as usize;
    came.slice(start..start + record.len())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn answer(body: &[u8]) -> Answer {
        Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body),
            asked: jiff::Timestamp::UNIX_EPOCH,
            what: "GET x".into(),
            leads: None,
        }
    }

    #[test]
    fn a_record_in_another_encoding_does_not_hide_its_neighbours() {
        let page = parse(
            &answer(
                b"{\"value\":[{\"a\":\"\xe4\"},{\"a\":\"\xc3\xa4\"}],\"@odata.nextLink\":\"x\"}",
            ),
            false,
        );
        let page = page.unwrap();
        assert_eq!(
            page.records,
            [&b"{\"a\":\"\xe4\"}"[..], "{\"a\":\"ä\"}".as_bytes()]
        );
        assert_eq!(page.next.as_deref(), Some("x"));
    }

    #[test]
    fn a_page_with_two_lists_is_none() {
        let error = parse(&answer(br#"{"value":[1],"value":[]}"#), false)
            .err()
            .unwrap();
        assert!(error.to_string().contains("`value` comes twice"), "{error}");
    }
}
