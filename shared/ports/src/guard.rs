//! The guard, as a decision: what to do with a row, given what is there.

use std::cmp::Ordering;

use model::Version;

use crate::{RowOp, RowOutcome};

/// What a target has under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// Version of the row or of its tombstone. `None` for a row that was there before Syncline,
    /// and for a tombstone of a deletion whose version nobody knows.
    pub version: Option<Version>,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Whether a row that is there equals the one to be written.
    pub equal: bool,
    /// Whether it is still in the state in which it was seen before the source was read.
    pub as_seen: bool,
}

/// What to do with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Leave,
    /// Write it with this version; a tombstone goes.
    Write(Version),
    /// Delete it and leave a tombstone of this version, if one is known; where there is no row,
    /// leave only that.
    Bury(Option<Version>),
}

/// Decides by the guard: newer wins, older does nothing, and a tie of different content is
/// settled only by a reading of the source that is newer than what is there.
///
/// That a source does not have a row says that it was deleted, not when: a version that comes
/// late may be newer than the row that was here and older than the deletion. Such a tombstone
/// has no version, and only another reading of the source overcomes it.
#[must_use]
pub fn decide(current: Option<Current>, op: &RowOp) -> (Action, RowOutcome) {
    use RowOutcome::{Applied, Superseded, Tie, Unchanged};
    let leave = |outcome| (Action::Leave, outcome);
    match (op, current) {
        (RowOp::Upsert { version } | RowOp::SettleUpsert { version, .. }, None) => {
            (Action::Write(*version), Applied)
        }
        (RowOp::Delete { version }, None) => (Action::Bury(Some(*version)), Unchanged),
        (RowOp::SettleDelete { .. }, None) => (Action::Bury(None), Unchanged),
        (RowOp::Upsert { version } | RowOp::SettleUpsert { version, .. }, Some(current)) => {
            let settles = matches!(op, RowOp::SettleUpsert { .. }) && current.as_seen;
            match order(*version, current) {
                Ordering::Less => leave(Superseded),
                Ordering::Equal if current.equal && !current.deleted => leave(Unchanged),
                Ordering::Equal if !settles => leave(Tie),
                _ => (Action::Write(*version), Applied),
            }
        }
        (RowOp::Delete { .. }, Some(current)) if current.is_undated() => leave(Unchanged),
        (RowOp::Delete { version }, Some(current)) => {
            match (order(*version, current), current.deleted) {
                (Ordering::Less, _) => leave(Superseded),
                (Ordering::Equal, true) => leave(Unchanged),
                (Ordering::Equal, false) => leave(Tie),
                (Ordering::Greater, true) => (Action::Bury(Some(*version)), Unchanged),
                (Ordering::Greater, false) => (Action::Bury(Some(*version)), Applied),
            }
        }
        (RowOp::SettleDelete { .. }, Some(current)) if current.is_undated() => leave(Unchanged),
        (RowOp::SettleDelete { .. }, Some(current)) if current.deleted => {
            (Action::Bury(None), Unchanged)
        }
        (RowOp::SettleDelete { .. }, Some(current)) if current.as_seen => {
            (Action::Bury(None), Applied)
        }
        (RowOp::SettleDelete { .. }, Some(_)) => leave(Tie),
    }
}

impl Current {
    /// Whether it is a tombstone of a deletion whose version nobody knows.
    fn is_undated(&self) -> bool {
        self.deleted && self.version.is_none()
    }
}

/// How a version stands to what is there. With an undated tombstone it ties.
fn order(version: Version, current: Current) -> Ordering {
    match current.version {
        Some(known) => version.cmp(&known),
        None if current.deleted => Ordering::Equal,
        None => Ordering::Greater,
    }
}
