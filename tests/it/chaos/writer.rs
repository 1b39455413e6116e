//! Who changes rows at the source, and how webhooks tell of it.

use std::time::Duration;

use fastrand::Rng;
use futures_util::{StreamExt, stream};
use sample_crm::Set;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    records::{any_state, bad_state, blank},
    source::{Hook, Source, hook},
    tally::Kind,
};

/// How often a writer changes some rows, at most.
const EVERY: Duration = Duration::from_millis(250);
/// How many rows of each set one writer changes, so that each changes often.
const HOT: usize = 40;
/// Webhooks of one writer on their way at the same time.
const AT_ONCE: usize = 6;
/// One change of so many breaks a rule, and one of so many is a deletion.
const BAD: u32 = 30;
const DELETED: u32 = 10;
/// How late a webhook is at most.
const LATEST: Duration = Duration::from_mins(1);

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// One who changes rows that nobody else changes.
#[derive(Debug)]
pub(super) struct Writer<'s> {
    source: &'s Source<'s>,
    random: Rng,
    rows: Vec<(Set, String)>,
    /// Webhooks that are sent when they are late.
    late: Vec<Hook>,
}

impl<'s> Writer<'s> {
    /// The `number`-th of `all`.
    pub(super) fn new(source: &'s Source<'s>, number: usize, all: usize, mut random: Rng) -> Self {
        let mut rows = Vec::new();
        for set in Set::ALL {
            let keys = source.crm.keys(set);
            let mine = keys.into_iter().skip(number).step_by(all);
            rows.extend(mine.take(HOT).map(|key| (set, key)));
            let new = (0..HOT / 4).map(|_| match set {
                Set::Orders => random.u64(800_000_000..900_000_000).to_string(),
                _ => uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes())
                    .into_uuid()
                    .to_string(),
            });
            rows.extend(new.map(|key| (set, key)));
        }
        Self {
            source,
            random,
            rows,
            late: Vec::new(),
        }
    }

    /// Changes rows and tells of it until `end`; whatever is late then is sent at once.
    pub(super) async fn write_until(mut self, end: Instant) {
        let mut pace = tokio::time::interval(EVERY);
        while Instant::now() < end {
            pace.tick().await;
            let mut hooks = Vec::new();
            for _ in 0..self.random.usize(1..5) {
                hooks.extend(self.change());
            }
            hooks.extend(self.due());
            self.send(hooks).await;
        }
        let late = std::mem::take(&mut self.late);
        self.send(late).await;
    }

    async fn send(&mut self, mut hooks: Vec<Hook>) {
        self.random.shuffle(&mut hooks);
        let source = self.source;
        stream::iter(hooks)
            .for_each_concurrent(AT_ONCE, |hook| source.deliver(hook))
            .await;
    }

    fn due(&mut self) -> Vec<Hook> {
        let now = Instant::now();
        let (due, late) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|hook| hook.due <= now);
        self.late = late;
        due
    }

    /// Changes one row; returns the webhooks to send of it now.
    fn change(&mut self) -> Vec<Hook> {
        let crm = self.source.crm;
        let (set, key) = self.random.choice(&self.rows).expect("rows").clone();
        self.source.changed();
        if self.random.u32(..DELETED) == 0 {
            // If it is not there, that it was deleted is told all the same.
            let _ = crm.delete(set, &key);
        } else {
            let mut state = if self.random.u32(..BAD) == 0 {
                self.source.note_bad(set, &key);
                bad_state(set, &mut self.random)
            } else {
                any_state(set, &mut self.random)
            };
            if crm.row(set, &key).is_none() {
                let mut whole = blank(set);
                merge(&mut whole, state);
                state = whole;
            }
            crm.write(set, &key, &state);
        }
        let hook = hook(crm, set, &key);
        if hook.event.is_null() {
            return Vec::new();
        }
        self.tell(hook)
    }

    /// Decides how a change is told. Contacts are not pulled: each of theirs is told once at
    /// least.
    fn tell(&mut self, hook: Hook) -> Vec<Hook> {
        let tally = self.source.tally;
        let set = hook.set.name();
        match self.random.u32(..10) {
            0 if hook.set != Set::Contacts => Vec::new(),
            1 => {
                tally.add(Kind::HookTwice, set);
                vec![hook.clone(), hook]
            }
            2 => {
                tally.add(Kind::HookTwice, set);
                self.put_off(hook.clone());
                vec![hook]
            }
            3 | 4 => {
                self.put_off(hook);
                Vec::new()
            }
            _ => vec![hook],
        }
    }

    fn put_off(&mut self, hook: Hook) {
        self.source.tally.add(Kind::HookLate, hook.set.name());
        let due = hook.due + LATEST.mul_f64(self.random.f64());
        self.late.push(Hook { due, ..hook });
    }
}
