//! Writing to a system.

use std::{cmp::Ordering, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use model::{
    Cause, DataType, ErrorClass, Lane, LoadMode, PackId, Rows, TraceParent, Value, Version,
};
use serde::{Deserialize, Serialize};

/// Whose a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Syncline makes it from the map and keeps versions in it.
    Own,
    /// It was there before: its shape is not touched, versions are kept beside it.
    Existing,
}

/// What a delete at the source means for the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// The row is deleted; a tombstone stays beside the table.
    Propagate,
    /// The row stays and is marked.
    Mark,
    /// Nothing.
    Ignore,
}

/// One column of a target table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: DataType,
    /// Whether it must have a value.
    pub required: bool,
}

/// A target table as a map writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// Its name as the connection understands it.
    pub name: String,
    /// Its columns in the order of the rows' cells.
    pub columns: Vec<ColumnSpec>,
    /// Which of them are the key, by position.
    pub key: Vec<usize>,
    /// Whose it is.
    pub ownership: Ownership,
    /// What deletes mean.
    pub deletes: Deletes,
}

impl TableSpec {
    /// The key columns, in the order of the key.
    pub fn key_columns(&self) -> impl Iterator<Item = &ColumnSpec> {
        self.key.iter().filter_map(|at| self.columns.get(*at))
    }

    /// The key cells of a row, as text for people.
    #[must_use]
    pub fn key_cells<'r, 'a>(&self, row: &'r [Value<'a>]) -> Vec<&'r Value<'a>> {
        self.key.iter().filter_map(|at| row.get(*at)).collect()
    }
}

/// An adapter's own name for the exact state of a row; equal only while the row is untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen(pub Arc<str>);

/// What to do with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOp {
    /// Make it so, if `version` is newer than what is there.
    Upsert {
        /// Version of the row.
        version: Version,
    },
    /// Delete it, if `version` is newer than what is there. Only the key cells matter.
    Delete {
        /// Version of the deletion.
        version: Version,
    },
    /// Make it so although the version may be equal: the row was read from the source after
    /// the target was seen in the state `seen`. Done only while it is still in that state,
    /// and never when `version` is older than what is there.
    SettleUpsert {
        /// Version of the row.
        version: Version,
        /// The state the target was in before the source was read.
        seen: Seen,
    },
    /// Delete it: the source was asked after the target was seen in the state `seen`, and has
    /// no such row. Done only while it is still in that state. The tombstone has no version,
    /// since nobody knows that of the deletion: see [`crate::guard::decide`].
    SettleDelete {
        /// The state the target was in before the source was read.
        seen: Seen,
    },
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// It was written.
    Applied,
    /// It already was so.
    Unchanged,
    /// What is there is newer.
    Superseded,
    /// What is there has the same version and other content, or changed since it was seen:
    /// the source has to be read again.
    Tie,
    /// The target refuses it.
    Failed(Box<Cause>),
}

/// Rows to write in one transaction, each key at most once.
#[derive(Debug)]
pub struct WriteBatch<'a> {
    /// The rows, in the order of the table's columns.
    pub rows: Rows<'a>,
    /// What to do with each of them, in the same order.
    pub ops: Vec<RowOp>,
    /// The packs the rows came in, when the load is a bulk load.
    pub bulk: Option<BulkPacks>,
    /// The load under way, which remembers these rows as found whatever becomes of them.
    pub found_in: Option<u32>,
    /// The lane they came on, which decides who is served first when calls are scarce.
    pub lane: Lane,
    /// The rows that belong to a sampled trace, by place, in order. A target that speaks to
    /// something that takes traces MAY pass them on.
    pub traces: Vec<(usize, TraceParent)>,
}

/// The packs of a bulk load that rows came in.
///
/// The target writes each pack once. A table that is not (any more) being loaded in bulk takes
/// the rows past the guard instead. Where a newer load has begun, which brings all that there
/// still is itself, nothing is written, and all rows are superseded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkPacks {
    /// The load they are of.
    pub generation: u32,
    /// Each pack with the end of its rows in the batch, in order.
    pub packs: Vec<(PackId, usize)>,
}

/// What a target knows of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRow {
    /// The state it is in; of an absent row too.
    pub seen: Seen,
    /// Version of the row or of its tombstone, where one is known.
    pub version: Option<Version>,
    /// Whether there is a row that is not deleted.
    pub exists: bool,
}

/// How a bulk load ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadEnd {
    /// Rows taken out because the load brought a newer one of the same key.
    pub superseded: u64,
    /// Rows taken out because the load brought an equal one.
    pub unchanged: u64,
    /// Keys of which it brought several of one version: the source has to be read again.
    pub ties: Vec<Vec<Value<'static>>>,
}

/// What a load did not find.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sweep {
    /// Rows in the table.
    pub rows: u64,
    /// Rows that the load did not bring.
    pub missing: u64,
    /// Keys of up to the asked number of them.
    pub keys: Vec<Vec<Value<'static>>>,
}

/// What a target says of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableSchema {
    /// Its columns.
    pub columns: Vec<ColumnSchema>,
    /// The columns of its primary key, or of its only unique index.
    pub key: Vec<String>,
    /// Whether it is Syncline's own.
    pub own: bool,
}

/// One column of an existing table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSchema {
    /// Its name.
    pub name: String,
    /// Its type, where there is one like it.
    pub ty: Option<DataType>,
    /// The target's own name for its type.
    pub native: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// Whether it gets a value when none is given.
    pub defaulted: bool,
    /// Whether it cannot be written, being computed.
    pub computed: bool,
}

/// A target did not take a batch at all.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It cannot be reached or cannot write right now: down, read-only, full.
    #[error("{what}")]
    Unavailable {
        /// What was tried, what came, and what to do.
        what: String,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// It asks to be called less often.
    #[error("{what}")]
    Throttled {
        /// What was tried and what came.
        what: String,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// It refuses the credentials, or they cannot be had.
    #[error("{what}")]
    Auth {
        /// What was tried, what came, and what to do.
        what: String,
    },
    /// The table is not as the map says: missing, or without a column.
    #[error("{what}")]
    Schema {
        /// What is missing and what to do.
        what: String,
    },
    /// A newer load of the table has begun: what this one had left to do is not done.
    #[error("{what}")]
    Overtaken {
        /// Which table and which loads.
        what: String,
    },
}

impl TargetError {
    /// Whether the load of `generation` is the newest of `table`, which knows of `newest`.
    ///
    /// # Errors
    ///
    /// [`TargetError::Overtaken`] when a newer one has begun, [`TargetError::Schema`] when the
    /// table does not know of this one.
    pub fn unless_newest(table: &str, generation: u32, newest: u32) -> Result<(), Self> {
        match generation.cmp(&newest) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(Self::Overtaken {
                what: format!(
                    "load {newest} of table `{table}` has begun: load {generation} is void"
                ),
            }),
            Ordering::Greater => Err(Self::Schema {
                what: format!(
                    "table `{table}` does not know of load {generation}, only of load {newest}: it was made anew or restored; load the map again"
                ),
            }),
        }
    }

    /// What kind of trouble it is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable { .. } => ErrorClass::Transient,
            Self::Throttled { .. } => ErrorClass::Throttled,
            Self::Auth { .. } => ErrorClass::Auth,
            Self::Schema { .. } => ErrorClass::Invalid,
            Self::Overtaken { .. } => ErrorClass::Conflict,
        }
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Throttled { .. })
    }

    /// How long the target asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::Throttled { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}

/// A target system.
#[async_trait]
pub trait Target: Debug + Send + Sync {
    /// About how many rows are to be written with one call of [`Target::write`], where each
    /// costs a call of its own: who writes looks at the time in between.
    fn rows_at_once(&self) -> usize {
        usize::MAX
    }

    /// What the target says of a table; `None` when there is none.
    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TargetError>;

    /// Makes the table ready to be written: creates an own one, adds columns the map has
    /// gained, and what is kept beside it. Repeating it changes nothing.
    async fn prepare(&self, table: &TableSpec) -> Result<(), TargetError>;

    /// Begins a load of `generation` and says how it has to write. Repeating it for the same
    /// generation gives the same answer. A bulk load that was given up leaves nothing behind:
    /// the next one begins with an empty table.
    async fn begin_load(&self, table: &TableSpec, generation: u32)
    -> Result<LoadMode, TargetError>;

    /// Ends a bulk load: takes out doubles and makes the key. Repeating it changes nothing.
    /// [`TargetError::Overtaken`] when a newer load has begun.
    async fn end_bulk(&self, table: &TableSpec, generation: u32) -> Result<LoadEnd, TargetError>;

    /// Rows that no batch of the load of `generation` has brought, with up to `limit` of their
    /// keys, in order of the keys, beginning after `after`. When a newer load has begun, what
    /// that one has not brought (yet) MUST NOT be among them: a target that cannot tell says
    /// [`TargetError::Overtaken`].
    async fn missing(
        &self,
        table: &TableSpec,
        generation: u32,
        after: Option<&[Value<'static>]>,
        limit: usize,
    ) -> Result<Sweep, TargetError>;

    /// Ends a load: forgets what it found, and never what a newer one has:
    /// [`TargetError::Overtaken`]. Repeating it changes nothing.
    async fn end_load(&self, table: &TableSpec, generation: u32) -> Result<(), TargetError>;

    /// Writes a batch, all of it in one transaction save the rows that fail. MUST be durable
    /// when it returns; gives one outcome per row in order.
    async fn write(
        &self,
        table: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> Result<Vec<RowOutcome>, TargetError>;

    /// The state of rows by their key cells, one answer per key in order.
    async fn look(&self, table: &TableSpec, keys: &Rows<'_>)
    -> Result<Vec<TargetRow>, TargetError>;

    /// Reads one row as JSON, for people; `None` when there is none.
    async fn show(&self, table: &TableSpec, key: &Rows<'_>) -> Result<Option<String>, TargetError>;
}
