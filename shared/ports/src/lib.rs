//! What functions need from the world, as traits.
//!
//! A handler owns the ports it uses and nothing else, so its fields are its list of
//! permissions. Every trait states its contract in its documentation; the suites in
//! [`testing`] try to break it, and every adapter runs them.
//!
//! Ports are used as trait objects: they are called per batch or page, never per record, so
//! a virtual call and a boxed future cost nothing that can be measured.

mod alerts;
mod blobs;
mod checkpoints;
mod clock;
mod crash;
mod error;
mod failures;
pub mod guard;
mod ledger;
mod links;
mod queue;
mod secrets;
mod source;
mod systems;
mod target;
#[cfg(feature = "testing")]
pub mod testing;

pub use alerts::{Alerts, QUIET};
pub use blobs::Blobs;
pub use checkpoints::{CheckpointError, Checkpoints, CheckpointsExt, Revision, Stored};
pub use clock::{Clock, SystemClock};
pub use crash::{crash_on, crash_point};
pub use error::{BoxError, StoreError};
pub use failures::{FailureFilter, FailureGroup, FailurePage, Failures};
pub use ledger::Ledger;
pub use links::{Claim, ClaimBatch, Claimed, Link, Links};
pub use queue::{Consumer, Dedupe, Outgoing, PackEntry, Queue, QueueError, Received, Sent};
pub use secrets::{Secret, SecretError, Secrets};
pub use source::{
    FieldSchema, LowWater, Next, Page, PageRecord, ReadFrom, Source, SourceError, StreamSchema,
};
pub use systems::{Systems, SystemsError};
pub use target::{
    BulkPacks, ColumnSchema, ColumnSpec, Deletes, LoadEnd, Ownership, RowOp, RowOutcome, Seen,
    Sweep, TableSchema, TableSpec, Target, TargetError, TargetRow, WriteBatch,
};
