//! The end of packs: who is told, and the books.

use std::sync::PoisonError;

use model::{Attempt, Counts, Lane, MapName, Outcome, Settlement};
use runtime::Tally;

use crate::{
    handler::{Apply, Work, note},
    invocation::Invocation,
    open::Item,
    stop::Stop,
    traced::{Traced, traced},
    verdict::{Report, Verdict},
};

/// Packs of a map that have been applied.
#[derive(Debug)]
pub(crate) struct Concluded {
    map: MapName,
    /// Their messages.
    messages: Vec<String>,
    blobs: Vec<String>,
    settlements: Vec<Settlement>,
    outcomes: Counts,
    /// Of these, changes that had no outcome before.
    settled: u64,
    traced: Vec<Traced>,
}

/// What came of the messages of a map.
pub(crate) struct Applied {
    pub(crate) map: MapName,
    /// Messages that come back.
    pub(crate) failed: Vec<String>,
    /// What there is to say of it.
    pub(crate) tally: Tally,
}

impl Concluded {
    fn note(&self, tally: &mut Tally) {
        tally.outcomes.merge(&self.outcomes);
        tally.settled += self.settled;
    }
}

impl Apply {
    /// Reports, settles and cleans up, in this order: a failure is on its way to its store no
    /// later than its pack counts as done, and a pack counts once however often this is
    /// repeated. Packs of the live lane without failures are settled with those of all other maps,
    /// in the end or before a pack is tried that may break the worker: they are many, and small.
    pub(crate) async fn conclude(
        &self,
        work: &Work<'_>,
        items: &[Item],
        verdicts: Vec<Verdict>,
    ) -> Result<(), Stop> {
        ports::crash_point("apply.written");
        let mut report = Report::new(work.plan, self.clock.now());
        let mut concluded = self.concluded(work, items, verdicts, &mut report);
        if report.is_empty() && work.lane == Lane::Live {
            work.invocation.with_kept(|kept| kept.open.push(concluded));
            return Ok(());
        }
        let settlements = std::mem::take(&mut concluded.settlements);
        if !report.is_empty() {
            report.send(&self.outbox, settlements).await?;
            ports::crash_point("apply.reported");
        } else if !settlements.is_empty() {
            self.ledger.settle(settlements).await?;
        }
        ports::crash_point("apply.settled");
        // Only now: what comes back is counted when it is settled.
        note(work.tally, |tally| concluded.note(tally));
        self.log(&concluded);
        Ok(self.outbox.close(&concluded.blobs).await?)
    }

    /// What became of packs, in order of their changes.
    fn concluded(
        &self,
        work: &Work<'_>,
        items: &[Item],
        verdicts: Vec<Verdict>,
        report: &mut Report<'_>,
    ) -> Concluded {
        let mut verdicts = verdicts.into_iter();
        let mut settlements = Vec::with_capacity(items.len());
        let mut outcomes = Counts::default();
        let attempt = Attempt::from(self.clock.new_id());
        for item in items {
            let mut counts = Counts::default();
            for (index, change) in item.pack.changes.iter().enumerate() {
                let verdict = verdicts
                    .next()
                    .unwrap_or(Verdict::Ended(Outcome::Unchanged));
                counts.add(verdict.outcome(), 1);
                report.add(&item.pack.head, index, change, verdict);
            }
            outcomes.merge(&counts);
            settlements.push(Settlement {
                pack: (&item.pack.head).into(),
                counts,
                attempt,
            });
        }
        let traced = traced(self.traces, items, &settlements);
        let mut settled = outcomes.total();
        if work.lane == Lane::Retry {
            // What comes from the failure store is in the books already.
            settlements.clear();
            settled = 0;
        }
        Concluded {
            map: work.plan.map().clone(),
            messages: items.iter().map(|item| item.id.clone()).collect(),
            blobs: items.iter().filter_map(|item| item.blob.clone()).collect(),
            settlements,
            outcomes,
            settled,
            traced,
        }
    }

    /// Settles the packs that were kept for it, of all maps in one call. Where that does not work
    /// their messages come back.
    pub(crate) async fn settle_kept(&self, invocation: &Invocation) {
        let mut kept = invocation.with_kept(|kept| std::mem::take(&mut kept.open));
        let settlements: Vec<Settlement> = kept
            .iter_mut()
            .flat_map(|one| std::mem::take(&mut one.settlements))
            .collect();
        if settlements.is_empty() {
            return;
        }
        if let Err(error) = self.ledger.settle(settlements).await {
            tracing::warn!("packs that were applied come back: {error}");
            let messages = kept.into_iter().flat_map(|one| one.messages);
            return invocation.with_kept(|kept| kept.failed.extend(messages));
        }
        ports::crash_point("apply.settled");
        for one in &kept {
            self.log(one);
        }
        let blobs: Vec<String> = kept.iter().flat_map(|one| one.blobs.clone()).collect();
        let closed = self.outbox.close(&blobs).await;
        if let Err(error) = &closed {
            tracing::warn!("packs that were settled come back: {error}");
        }
        invocation.with_kept(|all| {
            let back = kept
                .iter()
                .filter(|one| closed.is_err() && !one.blobs.is_empty());
            all.failed.extend(back.flat_map(|one| one.messages.clone()));
            all.settled.extend(kept);
        });
    }

    /// Settles what is left to settle and says what there is to say; returns the messages that come
    /// back.
    pub(crate) async fn finish(
        &self,
        invocation: &Invocation,
        mut applied: Vec<Applied>,
    ) -> Vec<String> {
        self.settle_kept(invocation).await;
        let mut ended = invocation.with_kept(std::mem::take);
        for one in ended.settled {
            if let Some(applied) = applied.iter_mut().find(|applied| applied.map == one.map) {
                one.note(&mut applied.tally);
            }
        }
        for Applied { map, failed, tally } in applied {
            self.metrics.gather(self.clock.now(), &map, tally);
            ended.failed.extend(failed);
        }
        ended.failed
    }

    fn log(&self, concluded: &Concluded) {
        for traced in &concluded.traced {
            traced.log(&concluded.map, self.clock.now());
        }
    }
}

/// Packs of an invocation that are settled together.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Those that are applied.
    open: Vec<Concluded>,
    /// Those that are settled.
    settled: Vec<Concluded>,
    /// The messages of those that could not be.
    failed: Vec<String>,
}

impl Invocation {
    fn with_kept<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> T {
        act(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
