//! The words of Syncline as types: plain data and pure rules, no input or output.
//!
//! Everything here is either carried in a queue message, kept in a store, or decides
//! something from its arguments alone. Serialised forms carry their version in their tag
//! (`pack.v1`), so that an old reader refuses what it does not know instead of guessing.

mod alert;
mod books;
mod change;
mod checkpoint;
mod error_class;
mod failure;
mod ids;
mod jobs;
mod keys;
mod lane;
mod map_state;
mod pack;
mod packer;
mod retry;
mod time;
mod trace_parent;
mod types;
mod value;
mod version;

pub use alert::{Alert, AlertKind};
pub use books::{Attempt, Books, Counts, Outcome, PackRef, Settlement};
pub use change::{Change, Op, Origin};
pub use checkpoint::{
    Lease, LoadMode, LoadPlan, LoadStatus, LoadTrouble, PullError, PullState, Slice, SliceRange,
    SliceStatus, SourceMark,
};
pub use error_class::ErrorClass;
pub use failure::{
    AuditEntry, Cause, Failure, FailureReport, FailureStatus, Fingerprint, Resolution, Resolved,
};
pub use ids::{ConnectionName, FailureId, InvalidName, MapName, PackId, RunId, TraceId};
pub use jobs::{LoadJob, PullJob, RetryJob};
pub use keys::{plan_key, pull_key, slice_key, slice_prefix, trouble_key};
pub use lane::{Lane, QueueName};
pub use map_state::{IllegalTransition, MapEvent, MapRecord, MapState};
pub use pack::{DecodeError, EncodedPack, Pack, PackHead, decode_pack, encode_pack};
pub use packer::Packer;
pub use retry::{Backoff, full_jitter};
pub use time::{time_micros, time_text, utc_micros};
pub use trace_parent::{InvalidTraceParent, TraceParent};
pub use types::{DataType, ParseTypeError};
pub use value::{Rows, Value};
pub use version::{Version, VersionError, VersionKind};

/// Largest body of one queue message in bytes; larger ones travel as a blob reference.
///
/// Amazon SQS allows 1 MiB including attributes; the margin is for those.
pub const MAX_MESSAGE_BYTES: usize = 1_000_000;

/// Size a pack aims at in bytes: the unit in which Amazon SQS bills.
pub const PACK_BYTES: usize = 64 * 1024;

/// How often a message may be received before it becomes a dead letter.
pub const MAX_RECEIVES: u32 = 100;
