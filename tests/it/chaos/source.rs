//! The source, and its webhooks on their way.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sample_crm::{SampleCrm, Set};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    records::{breaks_a_rule, correction},
    tally::Tally,
};
use crate::support::Stack;

/// How soon a webhook is sent again that was not taken.
const AGAIN: Duration = Duration::from_millis(200);

/// The source, and who hears of what happens there.
#[derive(Debug)]
pub(super) struct Source<'s> {
    pub(super) crm: &'s SampleCrm,
    pub(super) tally: &'s Tally,
    stack: &'s Stack,
    bad: Mutex<HashSet<(Set, String)>>,
    accepted: AtomicU64,
    changes: AtomicU64,
}

/// A webhook on its way.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    pub(super) id: String,
    pub(super) set: Set,
    pub(super) event: Value,
    pub(super) due: Instant,
}

pub(super) fn hook(crm: &SampleCrm, set: Set, key: &str) -> Hook {
    Hook {
        id: format!("msg_{}", uuid::Uuid::new_v4()),
        set,
        event: crm.event(set, key),
        due: Instant::now(),
    }
}

impl<'s> Source<'s> {
    pub(super) fn new(crm: &'s SampleCrm, stack: &'s Stack, tally: &'s Tally) -> Self {
        let rows = |set: Set| crm.keys(set).into_iter().zip(crm.rows(set));
        let bad = |set: Set| rows(set).filter(move |(_, row)| breaks_a_rule(set, row));
        let bad = Set::ALL
            .into_iter()
            .flat_map(|set| bad(set).map(move |(key, _)| (set, key)));
        Self {
            crm,
            stack,
            tally,
            bad: Mutex::new(bad.collect()),
            accepted: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// Changes of contacts that were accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Counts a change.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// All changes that were made.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(super) fn note_bad(&self, set: Set, key: &str) {
        let mut bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.insert((set, key.to_owned()));
    }

    /// Whether a record broke a rule of its target at any time.
    pub(super) fn was_bad(&self, set: Set, key: &str) -> bool {
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.contains(&(set, key.to_owned()))
    }

    /// Sends a webhook until it is taken, as any good sender does.
    pub(super) async fn deliver(&self, hook: Hook) {
        let mut pace = tokio::time::interval(AGAIN);
        loop {
            pace.tick().await;
            // An error is the death of who was to answer.
            let Ok((202, answer)) = self.stack.post(&hook.id, &hook.event).await else {
                continue;
            };
            if hook.set == Set::Contacts {
                let accepted = answer["accepted"].as_u64().expect("a number");
                self.accepted.fetch_add(accepted, Ordering::SeqCst);
            }
            return;
        }
    }

    /// Lets records that break a rule keep it again, and tells of it.
    pub(super) async fn heal(&self) {
        let bad = self
            .bad
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (set, key) in bad {
            if self.crm.row(set, &key).is_some() {
                self.crm.write(set, &key, &correction(set));
                self.deliver(hook(self.crm, set, &key)).await;
            }
        }
    }
}
