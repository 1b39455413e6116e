//! Reading from a system.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use model::{Cause, DataType, ErrorClass, Op, SliceRange, SourceMark};
use serde::{Deserialize, Serialize};

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom<'a> {
    /// All rows, or those of a range.
    Rows(Option<&'a SliceRange>),
    /// What changed since a mark.
    Mark(&'a SourceMark),
}

/// One record of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRecord {
    /// What happened to it.
    pub op: Op,
    /// The record as it was read; a slice of the page.
    pub raw: Bytes,
}

/// One page of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its records, in the source's order.
    pub records: Vec<PageRecord>,
    /// The source was at least this new when the page was asked for, in microseconds of Unix
    /// time.
    pub observed: i64,
    /// What comes after it.
    pub next: Next,
}

/// What comes after a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Another page, read by giving this cursor with the same [`ReadFrom`].
    Page(String),
    /// Nothing now. The next read for changes begins at the mark, where the source gives one.
    End(Option<SourceMark>),
}

/// A place in a stream asked for before its rows are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LowWater {
    /// Reading from here finds every change made after it was asked for; `None` when only
    /// the end of a full read can tell.
    pub mark: Option<SourceMark>,
    /// How many rows there are, where the source can count.
    pub rows: Option<u64>,
}

/// What a source says of its records.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamSchema {
    /// Its fields; empty when the source cannot tell.
    pub fields: Vec<FieldSchema>,
    /// Its key fields, where it can tell.
    pub key: Vec<String>,
}

/// One field of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSchema {
    /// Name in the records.
    pub name: String,
    /// Type, where there is one like it.
    pub ty: Option<DataType>,
    /// Whether it may be null.
    pub nullable: bool,
}

/// A source did not give what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It cannot be reached or does not work right now.
    #[error("{what}")]
    Unavailable {
        /// What was asked, what came, and where.
        what: String,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// It asks to be called less often.
    #[error("{what}")]
    Throttled {
        /// What was asked and what came.
        what: String,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// It refuses the credentials, or they cannot be had.
    #[error("{what}")]
    Auth {
        /// What was asked, what came, and what to do.
        what: String,
    },
    /// The mark or cursor is too old: only a full read helps.
    #[error("{what}")]
    Expired {
        /// What was asked and what came.
        what: String,
    },
    /// It refuses the request itself: address, stream, filter or field.
    #[error("{what}")]
    Invalid {
        /// What was asked, what came, and what to do.
        what: String,
    },
    /// It answered with something that is not what its protocol says: a proxy's error page,
    /// a truncated body.
    #[error("{what}")]
    Garbled {
        /// What was asked, what came, and where in it the trouble is.
        what: String,
    },
}

impl SourceError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable { .. } | Self::Expired { .. } | Self::Garbled { .. } => {
                ErrorClass::Transient
            }
            Self::Throttled { .. } => ErrorClass::Throttled,
            Self::Auth { .. } => ErrorClass::Auth,
            Self::Invalid { .. } => ErrorClass::Invalid,
        }
    }

    /// How long the source asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::Throttled { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// The cause of a failure that this error makes of a change.
    #[must_use]
    pub fn to_cause(&self) -> Cause {
        let mut cause = Cause::new(self.class(), "source-read", self.to_string());
        cause.retry_after = self.retry_after();
        cause
    }
}

/// One stream of a source system, as one map reads it.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// What the source says of the stream.
    async fn describe(&self) -> Result<StreamSchema, SourceError>;

    /// A place in the stream from which no change made from now on is missed.
    async fn low_water(&self) -> Result<LowWater, SourceError>;

    /// Cuts the stream into at most `wanted` ranges that together hold every row once; one
    /// `None` when it cannot be cut.
    async fn slices(&self, wanted: u32) -> Result<Vec<Option<SliceRange>>, SourceError>;

    /// Reads the page at `cursor`, or the first one. A repeated call with the same arguments
    /// MUST NOT skip a row.
    async fn read(&self, from: ReadFrom<'_>, cursor: Option<&str>) -> Result<Page, SourceError>;

    /// Reads single records as they are now. `keys` are JSON objects that hold at least the
    /// key fields; the answers are in their order, `None` for what does not exist (any more)
    /// or is outside the map's own condition.
    async fn fetch(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, SourceError>;

    /// Whether [`Source::fetch`] can be used at all.
    fn can_fetch(&self) -> bool;

    /// Where recurring pulls begin after a load that began at `low_water` and whose slices
    /// ended with `ends`.
    fn after_load(
        &self,
        low_water: Option<SourceMark>,
        ends: Vec<SourceMark>,
    ) -> Option<SourceMark> {
        low_water.or_else(|| ends.into_iter().next())
    }
}
