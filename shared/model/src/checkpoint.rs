//! How far reading has come: of a stream, and of each slice of a load.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ErrorClass, RunId};

/// A durable place in a stream, from which a source can tell what changed since. Only the
/// connector that made it can read it: a delta link, a high-water mark.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceMark(pub String);

impl fmt::Debug for SourceMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Delta links can carry tokens: show that there is one, not which.
        write!(f, "SourceMark({} bytes)", self.0.len())
    }
}

/// What is kept of a stream's recurring pull.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PullState {
    /// Everything before it has been queued.
    pub mark: Option<SourceMark>,
    /// Where a pull that ran out of time goes on.
    pub cursor: Option<String>,
    /// The run that `cursor` belongs to.
    pub run: Option<RunId>,
    /// When the next pull is due; `None` until the first one.
    pub due: Option<Timestamp>,
    /// When the pull that is under way, or was last, began to read.
    pub began: Option<Timestamp>,
    /// Every change made before has been queued: the last pull that reached the end of the
    /// stream began then.
    pub covers: Option<Timestamp>,
    /// End of the last pull that reached the end of the stream.
    pub succeeded: Option<Timestamp>,
    /// Changes queued by that pull.
    pub changes: u64,
    /// Pulls that failed since then.
    pub failed: u32,
    /// Why the last one failed.
    pub error: Option<PullError>,
    /// Whether only a load can tell what happened since the last mark, deletes above all.
    /// Until it has begun, nothing is pulled.
    pub needs_load: bool,
    /// Who pulls right now; the epoch fences off those who did before.
    pub lease: Lease,
}

/// Why a pull failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullError {
    /// When.
    pub at: Timestamp,
    /// What kind of trouble.
    pub class: ErrorClass,
    /// What happened and what to do.
    pub message: String,
}

/// A claim on a record that ends by itself.
///
/// Whoever takes a lease raises its epoch. Each write on behalf of the lease is a
/// compare-and-set on the record that holds it, so the write of a former holder fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// How often it has been taken.
    pub epoch: u64,
    /// Until when it holds; `None` when it was given back.
    pub until: Option<Timestamp>,
}

impl Lease {
    /// The lease taken by a new holder until `until`, or `None` while another holds it.
    #[must_use]
    pub fn take(self, now: Timestamp, until: Timestamp) -> Option<Self> {
        let held = self.until.is_some_and(|end| now < end);
        (!held).then_some(Self {
            epoch: self.epoch + 1,
            until: Some(until),
        })
    }

    /// The lease given back by its holder.
    #[must_use]
    pub fn released(self) -> Self {
        Self {
            until: None,
            ..self
        }
    }
}

/// How a load writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadMode {
    /// Into a new table without a key, which gets its key when all is in; live changes wait.
    Bulk,
    /// Row by row past the guard, beside live changes.
    Guarded,
}

/// Where a load stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadStatus {
    /// Slices are being read.
    Reading,
    /// All is read; packs are still on their way to the target.
    Draining,
    /// Done.
    Done,
}

/// One load of a map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPlan {
    /// The generation it makes.
    pub generation: u32,
    /// Its books.
    pub run: RunId,
    /// How it writes.
    pub mode: LoadMode,
    /// Whether rows that it does not find are checked at the source and deleted.
    pub sweep: bool,
    /// Where it stands.
    pub status: LoadStatus,
    /// Number of the job that is to end it; jobs with older numbers are void.
    #[serde(default)]
    pub ticket: u32,
    /// Which rows each slice reads; `None` is all of them. Kept as a whole, so that whoever
    /// comes after a worker that died cuts the stream where it did. Empty in plans of versions
    /// that kept them otherwise: such a load cannot be gone on with.
    #[serde(default)]
    pub ranges: Vec<Option<SliceRange>>,
    /// Rows the source said there are, where it can count.
    pub estimate: Option<u64>,
    /// Place in the stream that was asked for before the first row was read.
    pub low_water: Option<SourceMark>,
    /// Whether the pull goes on from `low_water` afterwards even though it has a mark.
    pub replaces_mark: bool,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Who ends it right now.
    #[serde(default)]
    pub lease: Lease,
}

/// What keeps a load from going on for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadTrouble {
    /// Attempts in a row that failed.
    pub tries: u32,
    /// When the first of them did.
    pub since: Timestamp,
    /// When the next one is due.
    pub next: Timestamp,
    /// What happened at the last one and what to do.
    pub message: String,
}

/// A range of one field's values, in the source's own notation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceRange {
    /// The field.
    pub field: String,
    /// First value, included; `None` is the beginning.
    pub from: Option<String>,
    /// End value, not included; `None` is the end.
    pub to: Option<String>,
}

/// Where a slice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SliceStatus {
    /// Not read to its end.
    Open,
    /// Read to its end.
    Done,
}

/// One resumable part of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Which rows; `None` is all of them.
    pub range: Option<SliceRange>,
    /// Where it goes on: everything before it has been queued.
    pub cursor: Option<String>,
    /// Rows queued.
    pub rows: u64,
    /// Where it stands.
    pub status: SliceStatus,
    /// The place in the stream that the source gave with the last page.
    pub mark: Option<SourceMark>,
    /// Who reads it.
    pub lease: Lease,
}

impl Slice {
    /// A slice nobody has begun.
    #[must_use]
    pub fn new(range: Option<SliceRange>) -> Self {
        Self {
            range,
            cursor: None,
            rows: 0,
            status: SliceStatus::Open,
            mark: None,
            lease: Lease::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_lease_is_exclusive_until_it_ends_and_fences_by_epoch() {
        let first = Lease::default().take(at(0), at(60)).unwrap();
        assert_eq!(first.take(at(59), at(120)), None);
        let second = first.take(at(60), at(120)).unwrap();
        assert_eq!((first.epoch, second.epoch), (1, 2));
        assert_eq!(second.released().take(at(61), at(121)).unwrap().epoch, 3);
    }

    #[test]
    fn a_mark_never_shows_its_token() {
        assert_eq!(
            format!("{:?}", SourceMark("secret".into())),
            "SourceMark(6 bytes)"
        );
    }
}
