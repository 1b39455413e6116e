//! One record's news.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::FailureId;

/// What happened to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// The record is as the raw data says.
    Upsert,
    /// The record is gone.
    Delete,
    /// Something changed; the source has to be read to know what.
    Touch,
}

/// Where a change entered; kept through failures and replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A webhook.
    Webhook,
    /// A recurring pull.
    Pull,
    /// An initial load or a re-load.
    Load,
}

/// One record's news, with the source's own data untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub op: Op,
    /// When the source was last known to be at least this new, in microseconds of Unix time:
    /// for a page the start of its request, for a webhook its arrival.
    pub observed: i64,
    /// The source record as it was read: JSON text. For [`Op::Delete`] and [`Op::Touch`] it
    /// need only hold the key fields.
    pub raw: Bytes,
    /// The failure this change repeats, when it comes from the failure store.
    pub failure: Option<FailureId>,
}

impl Change {
    /// The raw record as text; bytes that are no UTF-8 are shown as replacement characters.
    #[must_use]
    pub fn raw_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.raw)
    }
}
