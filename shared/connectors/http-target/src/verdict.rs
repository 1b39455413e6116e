//! What an answer means for the records of a request.
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | done; 207 says what became of each record |
//! | 404, 410 to a delete at an address of its own | done: there is no such record |
//! | 401, 403 | nobody is let in: the map breaks |
//! | 404, 405 where the path is the same for all records, any redirection | the address is wrong: the map breaks; but a delete is refused with 404, which may mean the record |
//! | 429 | all wait, as long as it says |
//! | 503 | the endpoint is down: all wait, as long as it says |
//! | 409, 412 | a conflict |
//! | 413, 414, 431 | the record is too large |
//! | 423, 424 | something it needs is locked, or is not there yet |
//! | 408, 425, 500, 504 and other 5xx, no answer in time | the record is tried again |
//! | 502 | the same, or the endpoint is down if it has answered nothing else |
//! | all others | the record is refused |
//!
//! A 500 is no proof that an endpoint is down: some answer it to records they do not like.

use std::time::Duration;

use connector_http::{Answer, NoAnswer, retry_after};
use http::StatusCode;
use jiff::Timestamp;
use mapping::RequestKind;
use model::{Cause, ErrorClass};
use ports::{SourceError, TargetError};
use serde_json::Value as Json;

/// What became of a record.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// It is done.
    Done,
    /// No request can be made of it.
    Unfit(Box<Cause>),
    /// It was refused, and nothing was done.
    Refused(Box<Cause>),
    /// The endpoint failed. It has ended its work; what it did is not known.
    Doubtful(Box<Cause>),
    /// There is no answer. What was done, or is yet to be done, is not known.
    Silent {
        /// What is said of the record.
        cause: Box<Cause>,
        /// Whether a proxy says that there is nobody to answer.
        gone: bool,
    },
    /// Nothing was done, for a reason that concerns all records.
    Stop(TargetError),
    /// The endpoint is down; what it did is not known.
    Down(TargetError),
}

/// What became of the records of a request.
#[derive(Debug)]
pub(crate) enum Verdicts {
    /// The same for all of them.
    All(Verdict),
    /// Each its own, in order.
    Each(Vec<Verdict>),
}

/// What the request was, as far as it matters for its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) kind: RequestKind,
    /// Whether its path is the same for all records.
    pub(crate) fixed: bool,
    pub(crate) records: usize,
}

fn cause(class: ErrorClass, status: StatusCode, message: String) -> Cause {
    Cause::new(class, &format!("http-{}", status.as_u16()), message)
}

pub(crate) fn of_answer(answer: &Answer, asked: Asked, now: Timestamp) -> Verdicts {
    if answer.status == StatusCode::MULTI_STATUS {
        return each(answer, asked);
    }
    let wait = retry_after(&answer.headers, now);
    let wrong_address = match answer.status.as_u16() {
        301 | 302 | 303 | 307 | 308 => true,
        404 => asked.fixed && asked.kind == RequestKind::Upsert,
        405 => asked.fixed,
        _ => false,
    };
    if wrong_address {
        let trouble = answer.trouble(now).map(|error| error.to_string());
        let trouble = trouble.unwrap_or_else(|| answer.sentence());
        let what = format!("{trouble}: check the paths in `to.http`");
        return Verdicts::All(Verdict::Stop(TargetError::Schema { what }));
    }
    let mut verdict = of_status(answer.status, asked, answer.sentence());
    if let Verdict::Refused(cause) | Verdict::Doubtful(cause) = &mut verdict {
        cause.field = field(&answer.body);
        cause.retry_after = wait;
    }
    if let Verdict::Stop(TargetError::Throttled { retry_after, .. })
    | Verdict::Down(TargetError::Unavailable { retry_after, .. }) = &mut verdict
    {
        *retry_after = wait;
    }
    Verdicts::All(verdict)
}

fn of_status(status: StatusCode, asked: Asked, what: String) -> Verdict {
    use ErrorClass::{Conflict, Invalid, Reference, TooLarge, Transient};
    let refused = |class, what| Verdict::Refused(Box::new(cause(class, status, what)));
    match status.as_u16() {
        200..300 => Verdict::Done,
        404 | 410 if asked.kind == RequestKind::Delete && !asked.fixed => Verdict::Done,
        401 => Verdict::Stop(TargetError::Auth {
            what: format!("{what}: check the connection's `auth` and its secret"),
        }),
        403 => Verdict::Stop(TargetError::Auth {
            what: format!("{what}: the account lacks a permission there"),
        }),
        429 => Verdict::Stop(TargetError::Throttled {
            what,
            retry_after: None,
        }),
        503 => Verdict::Down(TargetError::Unavailable {
            what,
            retry_after: None,
        }),
        409 | 412 => refused(Conflict, what),
        413 | 414 | 431 => refused(TooLarge, what),
        423 => refused(Transient, what),
        424 => refused(Reference, what),
        501 | 505 => refused(Invalid, what),
        502 | 504 => Verdict::Silent {
            cause: Box::new(cause(Transient, status, what)),
            gone: status == StatusCode::BAD_GATEWAY,
        },
        408 | 425 | 500..600 => Verdict::Doubtful(Box::new(cause(Transient, status, what))),
        _ => refused(Invalid, what),
    }
}

pub(crate) fn of_silence(error: NoAnswer) -> Verdict {
    match error {
        NoAnswer::NotSent(error) => Verdict::Stop(target_error(error)),
        NoAnswer::Lost(error) => silent(&error.to_string()),
    }
}

/// No answer came before the claim had to be given up.
pub(crate) fn of_delay(what: &str, limit: Duration) -> Verdict {
    silent(&format!("{what} did not answer in {} s", limit.as_secs()))
}

fn silent(what: &str) -> Verdict {
    let message = format!("{what}: what it did is not known, so it is made again");
    let cause = Cause::new(ErrorClass::Transient, "no-answer", message);
    Verdict::Silent {
        cause: Box::new(cause),
        gone: false,
    }
}

pub(crate) fn target_error(error: SourceError) -> TargetError {
    let what = error.to_string();
    match error {
        SourceError::Auth { .. } => TargetError::Auth { what },
        SourceError::Throttled { retry_after, .. } => TargetError::Throttled { what, retry_after },
        SourceError::Invalid { .. } => TargetError::Schema { what },
        error => TargetError::Unavailable {
            what,
            retry_after: error.retry_after(),
        },
    }
}

/// RFC 4918 §13 has each status in XML; services with JSON answer a list, or an
/// object with one, of an entry with `status` for each record, in the order of the request.
fn each(answer: &Answer, asked: Asked) -> Verdicts {
    if let Some(each) = entries(&answer.body, asked) {
        return Verdicts::Each(each);
    }
    let message = format!(
        "{}: its body does not say what became of each record, as a list with a `status` for each in their order",
        answer.sentence()
    );
    let cause = cause(ErrorClass::Invalid, answer.status, message);
    Verdicts::All(Verdict::Doubtful(Box::new(cause)))
}

fn entries(body: &[u8], asked: Asked) -> Option<Vec<Verdict>> {
    let json: Json = serde_json::from_slice(body).ok()?;
    let list = match &json {
        Json::Array(list) => list,
        Json::Object(object) => object.values().find_map(Json::as_array)?,
        _ => return None,
    };
    if list.len() != asked.records {
        return None;
    }
    list.iter().map(|entry| of_entry(entry, asked)).collect()
}

fn of_entry(entry: &Json, asked: Asked) -> Option<Verdict> {
    let status = entry.get("status").or_else(|| entry.get("statusCode"))?;
    let code = match status {
        Json::Number(number) => u16::try_from(number.as_u64()?).ok()?,
        Json::String(text) => text.split_whitespace().find_map(|word| word.parse().ok())?,
        _ => return None,
    };
    let status = StatusCode::from_u16(code).ok()?;
    let shown: String = entry.to_string().chars().take(300).collect();
    let what = format!("the endpoint answered {status} for this record: {shown}");
    // Each entry is about one record, as if it had an address of its own.
    let alone = Asked {
        fixed: false,
        ..asked
    };
    Some(match of_status(status, alone, what) {
        // What concerns all records has a status of its own.
        Verdict::Stop(error) => {
            let cause = cause(error.class(), status, error.to_string());
            Verdict::Refused(Box::new(cause))
        }
        Verdict::Down(error) => {
            let cause = cause(error.class(), status, error.to_string());
            Verdict::Doubtful(Box::new(cause))
        }
        Verdict::Refused(mut cause) => {
            cause.field = field(entry.to_string().as_bytes());
            Verdict::Refused(cause)
        }
        verdict => verdict,
    })
}

/// The field that an error names: `error.target` as in OData, a `field`, or the pointer of the
/// first of its `errors` (RFC 9457 §3).
fn field(body: &[u8]) -> Option<String> {
    let json: Json = serde_json::from_slice(body).ok()?;
    let error = json.get("error").unwrap_or(&json);
    let first = error.get("errors").and_then(|errors| errors.get(0));
    let names = ["target", "field", "pointer", "path"];
    let mut found = [Some(error), first].into_iter().flatten();
    let name = found.find_map(|place| names.iter().find_map(|name| place.get(name)?.as_str()))?;
    let name = name.trim_start_matches(['#', '/', '$', '.']);
    (!name.is_empty() && name.len() <= 100).then(|| name.to_owned())
}
