//! What became of each change, and who is told.

use std::collections::HashSet;

use jiff::Timestamp;
use mapping::Plan;
use model::{
    Cause, Change, Failure, FailureId, FailureReport, Outcome, PackHead, PackId, Resolved,
    Settlement,
};
use runtime::Outbox;

use crate::stop::Stop;

/// What became of one change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It ended well.
    Ended(Outcome),
    /// It failed.
    Failed(Box<Cause>),
}

impl Verdict {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Ended(outcome) => *outcome,
            Self::Failed(_) => Outcome::Failed,
        }
    }
}

/// Failures per report: with records of some kilobytes each it stays within one message.
const FAILURES_PER_REPORT: usize = 100;

/// Collects what the failure store has to know.
pub(crate) struct Report<'p> {
    plan: &'p Plan,
    now: Timestamp,
    /// With the packs they are of.
    failures: Vec<(PackId, Failure)>,
    resolved: Vec<Resolved>,
}

impl<'p> Report<'p> {
    pub(crate) fn new(plan: &'p Plan, now: Timestamp) -> Self {
        Self {
            plan,
            now,
            failures: Vec::new(),
            resolved: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, head: &PackHead, index: usize, change: &Change, verdict: Verdict) {
        match (verdict, change.failure) {
            (Verdict::Ended(outcome), Some(id)) => self.resolved.push(Resolved {
                id,
                outcome,
                at: self.now,
            }),
            (Verdict::Ended(_), None) => {}
            (Verdict::Failed(cause), _) => {
                let failure = self.failure(head, index, change, *cause);
                self.failures.push((head.id, failure));
            }
        }
    }

    fn failure(&self, head: &PackHead, index: usize, change: &Change, cause: Cause) -> Failure {
        let id = change.failure;
        let id = id.unwrap_or_else(|| FailureId::of(head.id, index));
        Failure {
            key: self.plan.key_of(change),
            op: change.op,
            origin: head.origin,
            run: head.run,
            generation: head.generation,
            map_version: self.plan.digest().to_owned(),
            trace: head.trace,
            observed: change.observed,
            raw: change.raw_text().into_owned(),
            ..Failure::new(id, head.map.clone(), cause, self.now)
        }
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.failures.is_empty() && self.resolved.is_empty()
    }

    /// Sends all of it, and settles the packs it is of. When it returns `Ok`, `retry` will hear
    /// of every failure.
    pub(crate) async fn send(self, outbox: &Outbox, settles: Vec<Settlement>) -> Result<(), Stop> {
        let mut reports = Vec::new();
        for failures in self.failures.chunks(FAILURES_PER_REPORT) {
            reports.extend(failed(failures, &settles));
        }
        reports.extend(
            self.resolved
                .chunks(FAILURES_PER_REPORT)
                .filter_map(resolved),
        );
        Ok(outbox.report(self.plan.map(), &reports, settles).await?)
    }
}

/// A report of failures that have ended, with its name.
fn resolved(failures: &[Resolved]) -> Option<(String, FailureReport)> {
    let first = failures.first()?;
    let name = format!("resolved/{}/{}", first.id, first.at.as_microsecond());
    let resolved = failures.to_vec();
    Some((name, FailureReport::Resolved { resolved }))
}

/// A report of failures with its name. It tells what became of their packs, so that a worker that
/// dies before it could settle them leaves them to the one who reads the report.
fn failed(
    failures: &[(PackId, Failure)],
    settles: &[Settlement],
) -> Option<(String, FailureReport)> {
    let (_, first) = failures.first()?;
    let name = format!("failed/{}/{}", first.id, first.last.as_microsecond());
    let packs: HashSet<PackId> = failures.iter().map(|(pack, _)| *pack).collect();
    let settles = settles
        .iter()
        .filter(|settlement| packs.contains(&settlement.pack.id));
    let report = FailureReport::Failed {
        failures: failures
            .iter()
            .map(|(_, failure)| failure.clone())
            .collect(),
        settles: settles.cloned().collect(),
    };
    Some((name, report))
}
