//! What `apply` reports.

use std::collections::HashSet;

use aws_lambda_events::sqs::SqsMessage;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use model::{
    Failure, FailureId, FailureReport, FailureStatus, Outcome, PackId, Resolution, Resolved,
    Settlement,
};
use ports::{CheckpointError, FailureFilter, Stored};

use crate::{Retry, RetryError};

/// Failures that ended which are written down side by side.
const AT_ONCE: usize = 8;
/// Attempts at a compare-and-set before the message is given back.
const ATTEMPTS: usize = 10;

/// A change that says nothing beside a failure that is kept of it. The record is kept there.
fn said_before(failure: &Failure, twin: FailureId) -> Failure {
    Failure {
        status: FailureStatus::Resolved,
        resolution: Some(Resolution {
            outcome: Outcome::Unchanged,
            at: failure.last,
            reason: Some(format!("it says the same as failure {twin}")),
        }),
        raw: String::new(),
        ..failure.clone()
    }
}

/// The failures that the changes of a pack can become.
fn failures_of(pack: PackId, changes: u64) -> impl Iterator<Item = FailureId> {
    let changes = usize::try_from(changes).unwrap_or(usize::MAX);
    (0..changes).map(move |index| FailureId::of(pack, index))
}

impl Retry {
    pub(crate) async fn report(&self, message: SqsMessage) -> Result<(), RetryError> {
        let body = message.body.unwrap_or_default();
        let Some((body, blob)) = self.outbox.open(body).await? else {
            return Ok(());
        };
        match serde_json::from_str(&body) {
            Ok(report) => self.take(report).await?,
            // A report of a newer version: it comes back until an update can read it, and
            // becomes a dead letter if none comes.
            Err(error) => {
                let error = ports::StoreError::corrupt("a report of failures")(error);
                return Err(error.into());
            }
        }
        ports::crash_point("retry.stored");
        Ok(self.outbox.close(blob.as_slice()).await?)
    }

    pub(crate) async fn take(&self, report: FailureReport) -> Result<(), RetryError> {
        match report {
            FailureReport::Failed { failures, settles } => {
                self.failed(self.standing(failures, settles).await?).await?;
            }
            FailureReport::Resolved { resolved } => {
                stream::iter(resolved)
                    .map(|one| self.resolved(one))
                    .buffer_unordered(AT_ONCE)
                    .try_collect::<()>()
                    .await?;
            }
        }
        Ok(())
    }

    /// The failures that are to be stored. What a report says of its packs goes into the books
    /// first: where another attempt has settled a pack, that one's word stands, and the changes
    /// have an outcome already.
    async fn standing(
        &self,
        mut failures: Vec<Failure>,
        settles: Vec<Settlement>,
    ) -> Result<Vec<Failure>, RetryError> {
        if settles.is_empty() {
            return Ok(failures);
        }
        let overruled = self.ledger.settle(settles.clone()).await?;
        let settled_otherwise: HashSet<FailureId> = settles
            .iter()
            .filter(|settlement| overruled.contains(&settlement.pack.id))
            .flat_map(|settlement| failures_of(settlement.pack.id, settlement.counts.total()))
            .collect();
        failures.retain(|failure| !settled_otherwise.contains(&failure.id));
        Ok(failures)
    }

    async fn failed(&self, failures: Vec<Failure>) -> Result<(), RetryError> {
        let mut said = HashSet::new();
        let (firsts, echoes): (Vec<Failure>, Vec<Failure>) = failures
            .into_iter()
            .partition(|failure| said.insert((failure.map.clone(), failure.news())));
        self.take_new(&firsts).await?;
        // What is said twice in one report finds its twin once that is stored.
        for echo in &echoes {
            self.take_new(std::slice::from_ref(echo)).await?;
        }
        Ok(())
    }

    /// Stores failures that are new, no two of them of the same news.
    async fn take_new(&self, failures: &[Failure]) -> Result<(), RetryError> {
        let mut first: Vec<Failure> = Vec::with_capacity(failures.len());
        for failure in failures {
            first.push(match self.twin(failure).await? {
                Some(twin) => said_before(failure, twin),
                None => self.scheduled(failure.clone()),
            });
        }
        let new = self.failures.put_new(&first).await?;
        for (failure, new) in failures.iter().zip(new) {
            if !new {
                self.failed_again(failure).await?;
            }
        }
        Ok(())
    }

    /// A failure that is kept already of the same news: a source that is read with an overlap
    /// brings a bad record again and again. One that is being tried is none: its attempt may
    /// have read what was there before.
    async fn twin(&self, failure: &Failure) -> Result<Option<FailureId>, RetryError> {
        let filter = FailureFilter {
            map: Some(failure.map.clone()),
            status: vec![FailureStatus::Open, FailureStatus::Waiting],
            news: Some(failure.news()),
            ..FailureFilter::default()
        };
        let known = self.failures.query(&filter, None, 2).await?.failures;
        let Some(twin) = known.into_iter().find(|one| one.value.id != failure.id) else {
            return Ok(None);
        };
        let id = twin.value.id;
        if twin.value.observed >= failure.observed {
            return Ok(Some(id));
        }
        // It speaks for both from now on, and what came between them must not supersede it.
        let later = Failure {
            observed: failure.observed,
            ..twin.value
        };
        match self.failures.put(Some(twin.revision), &later).await {
            Ok(_) => Ok(Some(id)),
            // It is being tried now, or has ended.
            Err(CheckpointError::Conflict { .. }) => Ok(None),
            Err(CheckpointError::Store(error)) => Err(error.into()),
        }
    }

    /// A failure that is known. If it was being tried, this is how that ended; otherwise its
    /// first report has come twice.
    async fn failed_again(&self, report: &Failure) -> Result<(), RetryError> {
        self.change(report.id, |known| {
            let tried = known.status == FailureStatus::Retrying;
            tried.then(|| self.scheduled(known.failed_again(report)))
        })
        .await
    }

    pub(crate) async fn resolved(&self, resolved: Resolved) -> Result<(), RetryError> {
        self.change(resolved.id, |known| {
            known.status.is_unresolved().then(|| Failure {
                status: FailureStatus::Resolved,
                due: None,
                resolution: Some(Resolution {
                    outcome: resolved.outcome,
                    at: resolved.at,
                    reason: None,
                }),
                ..known.clone()
            })
        })
        .await
    }

    /// Changes a failure, whoever else does so meanwhile.
    async fn change(
        &self,
        id: FailureId,
        next: impl Fn(&Failure) -> Option<Failure> + Send + Sync,
    ) -> Result<(), RetryError> {
        for _ in 0..ATTEMPTS {
            let Some(Stored { value, revision }) = self.failures.get(id).await? else {
                return Ok(());
            };
            let Some(changed) = next(&value) else {
                return Ok(());
            };
            match self.failures.put(Some(revision), &changed).await {
                Ok(_) => return Ok(()),
                Err(CheckpointError::Conflict { .. }) => {}
                Err(CheckpointError::Store(error)) => return Err(error.into()),
            }
        }
        Err(RetryError::Contended(id))
    }

    /// Decides who deals with a failure: time, or a person.
    fn scheduled(&self, failure: Failure) -> Failure {
        let cause = &failure.cause;
        let wait = if cause.class.retries_itself() {
            let policy = self.policy(&failure.map);
            policy.wait(failure.attempts, self.clock.random(), cause.retry_after)
        } else {
            None
        };
        let due = wait.map(|wait| {
            let due = self.clock.now().saturating_add(wait);
            due.unwrap_or(Timestamp::MAX)
        });
        let status = if due.is_some() {
            FailureStatus::Waiting
        } else {
            FailureStatus::Open
        };
        Failure {
            status,
            due,
            ..failure
        }
    }
}
