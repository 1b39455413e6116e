//! The guard, as a decision: what to do with a row, given what is there.

use std::cmp::Ordering;

use model::Version;

use crate::{RowOp, RowOutcome};

/// What a target has under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// Version of the row or of its tombstone; `None` for a row that was there before
    /// Syncline and has none.
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
    /// Delete it and leave a tombstone of this version; where there is no row, leave only that.
    Bury(Version),
}

/// Decides by the guard: newer wins, older does nothing, and a tie of different content is
/// settled only by a reading of the source that is newer than what is there.
#[must_use]
pub fn decide(current: Option<Current>, op: &RowOp) -> (Action, RowOutcome) {
    use RowOutcome::{Applied, Superseded, Tie, Unchanged};
    let leave = |outcome| (Action::Leave, outcome);
    match (op, current) {
        (RowOp::Upsert { version } | RowOp::SettleUpsert { version, .. }, None) => {
            (Action::Write(*version), Applied)
        }
        (RowOp::Delete { version }, None) => (Action::Bury(*version), Unchanged),
        (RowOp::SettleDelete { .. }, None) => leave(Unchanged),
        (RowOp::Upsert { version } | RowOp::SettleUpsert { version, .. }, Some(current)) => {
            let settles = matches!(op, RowOp::SettleUpsert { .. }) && current.as_seen;
            match order(*version, current) {
                Ordering::Less => leave(Superseded),
                Ordering::Equal if current.equal && !current.deleted => leave(Unchanged),
                Ordering::Equal if !settles => leave(Tie),
                _ => (Action::Write(*version), Applied),
            }
        }
        (RowOp::Delete { version }, Some(current)) => {
            match (order(*version, current), current.deleted) {
                (Ordering::Less, _) => leave(Superseded),
                (Ordering::Equal, true) => leave(Unchanged),
                (Ordering::Equal, false) => leave(Tie),
                (Ordering::Greater, true) => (Action::Bury(*version), Unchanged),
                (Ordering::Greater, false) => (Action::Bury(*version), Applied),
            }
        }
        (RowOp::SettleDelete { .. }, Some(current)) if current.deleted => leave(Unchanged),
        (RowOp::SettleDelete { .. }, Some(current)) if current.as_seen => (
            Action::Bury(current.version.unwrap_or(Version(i64::MIN))),
            Applied,
        ),
        (RowOp::SettleDelete { .. }, Some(_)) => leave(Tie),
    }
}

fn order(version: Version, current: Current) -> Ordering {
    current
        .version
        .map_or(Ordering::Greater, |known| version.cmp(&known))
}
