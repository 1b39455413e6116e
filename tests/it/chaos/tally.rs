//! What was done to the deployment, counted.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A process of a function was killed.
    Killed,
    /// A call was refused because there were too many.
    Throttled,
    /// A write was refused because somebody else was writing.
    Conflict,
    /// A call was taken, but nothing of what was in it.
    Untaken,
    /// A call was made, and its answer lost.
    Lost,
    /// A message was sent twice at once.
    Twice,
    /// A message was sent again, some time after the first.
    Copied,
    /// A webhook was sent twice.
    HookTwice,
    /// A webhook was sent when there were newer ones.
    HookLate,
    /// A map was paused.
    Paused,
    /// The target was down.
    Down,
}

impl Kind {
    /// A run in which one of them never happened has not shown what it should.
    pub(super) const ALL: [Self; 11] = [
        Self::Killed,
        Self::Throttled,
        Self::Conflict,
        Self::Untaken,
        Self::Lost,
        Self::Twice,
        Self::Copied,
        Self::HookTwice,
        Self::HookLate,
        Self::Paused,
        Self::Down,
    ];
}

/// How often each happened, and to whom.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<(Kind, String), u64>>);

impl Tally {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<(Kind, String), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, kind: Kind, whom: &str) {
        *self.counts().entry((kind, whom.to_owned())).or_default() += 1;
    }

    /// How often it happened to anybody.
    pub(super) fn of(&self, kind: Kind) -> u64 {
        let counts = self.counts();
        let these = counts.iter().filter(|((this, _), _)| *this == kind);
        these.map(|(_, count)| count).sum()
    }

    /// How often it happened to one.
    pub(super) fn of_one(&self, kind: Kind, whom: &str) -> u64 {
        let counts = self.counts();
        counts.get(&(kind, whom.to_owned())).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            let counts = self.counts();
            let these = counts.iter().filter(|((this, _), _)| *this == kind);
            let each: Vec<String> = these
                .map(|((_, whom), count)| format!("{count} {whom}"))
                .collect();
            drop(counts);
            writeln!(f, "{:>6} {kind:?}: {}", self.of(kind), each.join(", "))?;
        }
        Ok(())
    }
}
