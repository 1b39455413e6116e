//! What `apply` reports.

use aws_lambda_events::sqs::SqsMessage;
use model::{Failure, FailureReport, FailureStatus, Outcome, Resolution, Resolved};
use ports::{CheckpointError, FailureFilter, Stored};

use crate::{Retry, RetryError};

/// Attempts at a compare-and-set before the message is given back.
const ATTEMPTS: usize = 10;
/// Failures among which one of the same record is looked for.
const TWINS: usize = 200;

/// Whether two records are the same but for annotations, which differ with the request.
fn same_record(a: &str, b: &str) -> bool {
    let plain = |text: &str| -> Option<serde_json::Map<String, serde_json::Value>> {
        let mut record: serde_json::Map<_, _> = serde_json::from_str(text).ok()?;
        record.retain(|name, _| !name.contains('@'));
        Some(record)
    };
    a == b || plain(a).is_some_and(|a| plain(b) == Some(a))
}

/// A change that says nothing beside a failure that is kept of it.
fn said_before(failure: &Failure, twin: &Failure) -> Failure {
    Failure {
        status: FailureStatus::Resolved,
        resolution: Some(Resolution {
            outcome: Outcome::Unchanged,
            at: failure.last,
            reason: Some(format!("it says the same as failure {}", twin.id)),
        }),
        ..failure.clone()
    }
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
            FailureReport::Failed { failures } => self.failed(failures).await?,
            FailureReport::Resolved { resolved } => {
                for one in resolved {
                    self.resolved(one).await?;
                }
            }
        }
        Ok(())
    }

    async fn failed(&self, failures: Vec<Failure>) -> Result<(), RetryError> {
        let mut first: Vec<Failure> = Vec::with_capacity(failures.len());
        for failure in &failures {
            first.push(match self.twin(failure).await? {
                Some(twin) => said_before(failure, &twin),
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

    /// A failure that is kept already of the same record in the same state: a source that is
    /// read with an overlap brings a bad record again and again.
    async fn twin(&self, failure: &Failure) -> Result<Option<Failure>, RetryError> {
        let group = failure.key.is_none().then(|| failure.fingerprint.clone());
        let filter = FailureFilter {
            map: Some(failure.map.clone()),
            key: failure.key.clone(),
            fingerprint: group,
            ..FailureFilter::unresolved()
        };
        let known = self.failures.query(&filter, None, TWINS).await?;
        let mut known = known.failures.into_iter().map(|stored| stored.value);
        Ok(known.find(|known| {
            let original = known.original.as_ref().unwrap_or(&known.raw);
            known.id != failure.id && known.op == failure.op && same_record(original, &failure.raw)
        }))
    }

    /// A failure that is known. If it was being tried, this is how that ended; otherwise its
    /// first report has come twice.
    async fn failed_again(&self, report: &Failure) -> Result<(), RetryError> {
        self.change(report, |known| {
            let tried = known.status == FailureStatus::Retrying;
            tried.then(|| self.scheduled(known.failed_again(report)))
        })
        .await
    }

    pub(crate) async fn resolved(&self, resolved: Resolved) -> Result<(), RetryError> {
        let Some(stored) = self.failures.get(resolved.id).await? else {
            return Ok(());
        };
        self.change(&stored.value, |known| {
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
        failure: &Failure,
        next: impl Fn(&Failure) -> Option<Failure> + Send + Sync,
    ) -> Result<(), RetryError> {
        for _ in 0..ATTEMPTS {
            let Some(Stored { value, revision }) = self.failures.get(failure.id).await? else {
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
        Err(RetryError::Contended(failure.id))
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
        let due = wait.map(|wait| self.clock.now() + wait);
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
