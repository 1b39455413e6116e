//! Outcomes, and the books that must balance.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{MapName, PackHead, PackId, RunId};

/// What became of one change. Every change gets exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The target was changed.
    Applied,
    /// The target already was as the change says.
    Unchanged,
    /// The target, or another change of the same batch, is newer.
    Superseded,
    /// The map's filter or delete policy leaves it out.
    Filtered,
    /// It is in the failure store.
    Failed,
}

/// How many changes ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// [`Outcome::Applied`].
    pub applied: u64,
    /// [`Outcome::Unchanged`].
    pub unchanged: u64,
    /// [`Outcome::Superseded`].
    pub superseded: u64,
    /// [`Outcome::Filtered`].
    pub filtered: u64,
    /// [`Outcome::Failed`].
    pub failed: u64,
}

impl Counts {
    /// Counts `n` changes that ended as `outcome`.
    pub fn add(&mut self, outcome: Outcome, n: u64) {
        match outcome {
            Outcome::Applied => self.applied += n,
            Outcome::Unchanged => self.unchanged += n,
            Outcome::Superseded => self.superseded += n,
            Outcome::Filtered => self.filtered += n,
            Outcome::Failed => self.failed += n,
        }
    }

    /// The sum over all outcomes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.applied + self.unchanged + self.superseded + self.filtered + self.failed
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.applied += other.applied;
        self.unchanged += other.unchanged;
        self.superseded += other.superseded;
        self.filtered += other.filtered;
        self.failed += other.failed;
    }
}

/// A pack and whose books it is in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PackRef {
    /// The pack.
    pub id: PackId,
    /// Its map.
    pub map: MapName,
    /// Its run.
    pub run: RunId,
}

impl From<&PackHead> for PackRef {
    fn from(head: &PackHead) -> Self {
        Self {
            id: head.id,
            map: head.map.clone(),
            run: head.run,
        }
    }
}

/// An attempt at a pack: two workers can have the same pack, one after the other or at once, and
/// come to different ends with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl From<Uuid> for Attempt {
    /// The attempt that has a random identifier to itself.
    fn from(id: Uuid) -> Self {
        let (_, random) = id.as_u64_pair();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "its lower half is as random"
        )]
        Self(random as u32)
    }
}

/// What became of one pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The pack.
    pub pack: PackRef,
    /// Its outcomes; their sum is the number of its changes.
    pub counts: Counts,
    /// Whose word this is. An attempt says one thing of a pack, however often.
    pub attempt: Attempt,
}

/// The books of one map or run: what was read, what became of it, and what is under way.
///
/// `read` and `outcomes` are written by different functions at different moments, and
/// `in_flight` is counted from the packs that are not settled, so [`Books::balanced`] can be
/// false when something was lost or counted twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Books {
    /// Changes accepted into a queue.
    pub read: u64,
    /// What became of them, failures that were repaired later included in what they became.
    #[serde(flatten)]
    pub outcomes: Counts,
    /// Changes in packs that are not settled: queued, being applied, or parked.
    pub in_flight: u64,
    /// Failures whose report is settled but not yet in the failure store.
    pub failing: u64,
}

impl Books {
    /// Invariant 5: read = applied + unchanged + superseded + filtered + failed + in flight.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.read == self.outcomes.total() + self.in_flight + self.failing
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.read += other.read;
        self.outcomes.merge(&other.outcomes);
        self.in_flight += other.in_flight;
        self.failing += other.failing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_or_doubled_change_unbalances_the_books() {
        let mut books = Books {
            read: 3,
            in_flight: 1,
            ..Books::default()
        };
        books.outcomes.add(Outcome::Applied, 1);
        books.outcomes.add(Outcome::Failed, 1);
        assert!(books.balanced());
        books.outcomes.add(Outcome::Unchanged, 1);
        assert!(!books.balanced());
        books.in_flight = 0;
        assert!(books.balanced());
        books.read += 1;
        assert!(!books.balanced());
    }
}
