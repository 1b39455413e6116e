//! A batch of changes of one map in one queue message.
//!
//! The body is JSON with a tag for its version; the changes are in `data`: each change in
//! [postcard](https://postcard.jamesmunns.com/wire-format) form, one after the other,
//! compressed with zstd, in base64. A queue body has to be text, and an operator who looks
//! into a queue can read everything but the records.

use std::{cell::RefCell, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};

use crate::{Change, FailureId, MapName, Op, Origin, PackId, RunId, TraceId};

/// What is known of a pack without opening it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackHead {
    /// Its identifier.
    pub id: PackId,
    /// The map of all its changes.
    pub map: MapName,
    /// Whose books they are in.
    pub run: RunId,
    /// Where they entered.
    pub origin: Origin,
    /// The load generation they were read in.
    pub generation: u32,
    /// When the pack was made.
    pub created: Timestamp,
    /// Follows the changes from intake to outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
}

/// A pack, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// What it is.
    pub head: PackHead,
    /// What is in it. The raw records share one allocation.
    pub changes: Vec<Change>,
}

/// A pack as it is queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPack {
    /// What it is.
    pub head: PackHead,
    /// Number of changes.
    pub count: u32,
    /// The message body.
    pub body: String,
}

/// A message that is no pack this version can read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not the JSON of a pack, or of a newer version.
    #[error("the message is no pack this version can read: {0}")]
    Envelope(#[source] serde_json::Error),
    /// The data is no base64.
    #[error("the pack's data is not base64: {0}")]
    Base64(#[source] base64::DecodeError),
    /// The data does not decompress within the size the pack declares.
    #[error("the pack's data does not decompress to the {size} bytes it declares: {source}")]
    Compression {
        /// What it declares.
        size: usize,
        /// What zstd says.
        source: io::Error,
    },
    /// The pack declares more than any pack may hold.
    #[error("the pack declares {0} bytes of changes, more than the {MAX_OPEN_BYTES} allowed")]
    TooLarge(usize),
    /// The changes inside are damaged.
    #[error("change {index} of the pack is damaged: {source}")]
    Change {
        /// Position of the damaged change.
        index: usize,
        /// What the codec says.
        source: postcard::Error,
    },
    /// Fewer or more changes than declared.
    #[error("the pack declares {declared} changes and holds {found}")]
    Count {
        /// As declared.
        declared: u32,
        /// As found.
        found: usize,
    },
}

/// No pack opens to more than this, so that a damaged or hostile message cannot exhaust memory.
const MAX_OPEN_BYTES: usize = 64 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum Envelope<'a> {
    #[serde(rename = "pack.v1", borrow)]
    V1(EnvelopeV1<'a>),
}

#[derive(Serialize, Deserialize)]
struct EnvelopeV1<'a> {
    #[serde(flatten)]
    head: PackHead,
    count: u32,
    size: usize,
    data: &'a str,
}

#[derive(Serialize, Deserialize)]
struct WireChange<'a> {
    op: Op,
    observed: i64,
    failure: Option<FailureId>,
    #[serde(borrow)]
    raw: &'a [u8],
}

/// Appends one change to the uncompressed form of a pack.
pub(crate) fn append_change(buffer: &mut Vec<u8>, change: &Change) {
    let wire = WireChange {
        op: change.op,
        observed: change.observed,
        failure: change.failure,
        raw: &change.raw,
    };
    // Serialising plain data into memory has no way to fail.
    if let Ok(bytes) = postcard::to_extend(&wire, std::mem::take(buffer)) {
        *buffer = bytes;
    }
}

thread_local! {
    // Making one costs more than a small pack does.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Level 1: on business records it compresses as well as 3 in two thirds of the time.
const LEVEL: i32 = 1;
/// Builds no tables of letters: for a pack of a record or two they cost more than they save.
const SMALL_LEVEL: i32 = -1;
/// Most bytes of changes in a small pack.
const SMALL: usize = 1024;

fn compress(open: &[u8]) -> Vec<u8> {
    let level = if open.len() > SMALL {
        LEVEL
    } else {
        SMALL_LEVEL
    };
    COMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Compressor::new(level).ok();
        }
        let compressed = kept.as_mut().map(|compressor| {
            compressor.set_compression_level(level)?;
            compressor.compress(open)
        });
        // Compressing from memory to memory has no way to fail.
        compressed.and_then(Result::ok).unwrap_or_default()
    })
}

fn decompress(data: &[u8], size: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(decompressor) => decompressor.decompress(data, size),
        None => kept.insert(Decompressor::new()?).decompress(data, size),
    })
}

/// Makes the message body of a pack from its uncompressed changes.
pub(crate) fn seal(head: &PackHead, count: u32, open: &[u8]) -> String {
    let data = STANDARD.encode(compress(open));
    let envelope = Envelope::V1(EnvelopeV1 {
        head: head.clone(),
        count,
        size: open.len(),
        data: &data,
    });
    serde_json::to_string(&envelope).unwrap_or_default()
}

/// Encodes `changes` into one message body, however large that is.
#[must_use]
pub fn encode_pack(head: PackHead, changes: &[Change]) -> EncodedPack {
    let mut open = Vec::new();
    for change in changes {
        append_change(&mut open, change);
    }
    let count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
    let body = seal(&head, count, &open);
    EncodedPack { head, count, body }
}

/// Opens a message body.
pub fn decode_pack(body: &str) -> Result<Pack, DecodeError> {
    let Envelope::V1(envelope) = serde_json::from_str(body).map_err(DecodeError::Envelope)?;
    if envelope.size > MAX_OPEN_BYTES {
        return Err(DecodeError::TooLarge(envelope.size));
    }
    let compressed = STANDARD
        .decode(envelope.data)
        .map_err(DecodeError::Base64)?;
    let open =
        decompress(&compressed, envelope.size).map_err(|source| DecodeError::Compression {
            size: envelope.size,
            source,
        })?;
    let open = Bytes::from(open);
    let mut changes = Vec::with_capacity((envelope.count as usize).min(open.len()));
    let mut rest: &[u8] = &open;
    while !rest.is_empty() {
        let (wire, left): (WireChange<'_>, _) =
            postcard::take_from_bytes(rest).map_err(|source| DecodeError::Change {
                index: changes.len(),
                source,
            })?;
        changes.push(Change {
            op: wire.op,
            observed: wire.observed,
            failure: wire.failure,
            raw: open.slice_ref(wire.raw),
        });
        rest = left;
    }
    if changes.len() != envelope.count as usize {
        return Err(DecodeError::Count {
            declared: envelope.count,
            found: changes.len(),
        });
    }
    Ok(Pack {
        head: envelope.head,
        changes,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    pub(crate) fn head() -> PackHead {
        let map = MapName::new("customers").unwrap();
        PackHead {
            id: PackId::from_uuid(Uuid::from_u128(1)),
            run: RunId::live(&map),
            map,
            origin: Origin::Webhook,
            generation: 3,
            created: Timestamp::UNIX_EPOCH,
            trace: None,
        }
    }

    fn any_change() -> impl Strategy<Value = Change> {
        let op = prop_oneof![Just(Op::Upsert), Just(Op::Delete), Just(Op::Touch)];
        (op, any::<i64>(), any::<Option<u128>>(), any::<Vec<u8>>()).prop_map(
            |(op, observed, failure, raw)| Change {
                op,
                observed,
                failure: failure.map(|id| FailureId::from_uuid(Uuid::from_u128(id))),
                raw: raw.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_pack_comes_out_as_it_went_in(changes in prop::collection::vec(any_change(), 0..20)) {
            let encoded = encode_pack(head(), &changes);
            prop_assert_eq!(encoded.count as usize, changes.len());
            prop_assert_eq!(decode_pack(&encoded.body).unwrap(), Pack { head: head(), changes });
        }

        #[test]
        fn a_damaged_pack_is_an_error_and_never_a_panic(at in 0_usize..400, byte in 32_u8..127) {
            let change = Change {
                op: Op::Upsert,
                observed: 1,
                failure: None,
                raw: Bytes::from_static(br#"{"id":"A-1","name":"Alpine Ltd"}"#),
            };
            let body = encode_pack(head(), &[change.clone(), change]).body;
            let mut bytes = body.into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(pack) = decode_pack(std::str::from_utf8(&bytes).unwrap()) {
                prop_assert_eq!(pack.changes.len(), 2);
            }
        }
    }

    #[test]
    fn a_pack_of_a_newer_version_is_refused() {
        let body = encode_pack(head(), &[]).body.replace("pack.v1", "pack.v2");
        assert!(matches!(decode_pack(&body), Err(DecodeError::Envelope(_))));
    }

    #[test]
    fn a_pack_that_would_exhaust_memory_is_refused_before_it_is_opened() {
        let body = encode_pack(head(), &[])
            .body
            .replace(r#""size":0"#, r#""size":99999999999"#);
        assert!(matches!(decode_pack(&body), Err(DecodeError::TooLarge(_))));
    }
}
