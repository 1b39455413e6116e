//! What `apply` reports.

use aws_lambda_events::sqs::SqsMessage;
use model::{Failure, FailureReport, FailureStatus, Resolution, Resolved};
use ports::{CheckpointError, Stored};

use crate::{Retry, RetryError};

/// Attempts at a compare-and-set before the message is given back.
const ATTEMPTS: usize = 10;

impl Retry {
    pub(crate) async fn report(&self, message: SqsMessage) -> Result<(), RetryError> {
        let body = message.body.unwrap_or_default();
        let Some((body, blob)) = self.outbox.open(body).await? else {
            return Ok(());
        };
        match serde_json::from_str(&body) {
            Ok(FailureReport::Failed { failures }) => self.failed(failures).await?,
            Ok(FailureReport::Resolved { resolved }) => {
                for one in resolved {
                    self.resolved(one).await?;
                }
            }
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

    async fn failed(&self, failures: Vec<Failure>) -> Result<(), RetryError> {
        let first: Vec<Failure> = failures
            .iter()
            .map(|failure| self.scheduled(failure.clone()))
            .collect();
        let new = self.failures.put_new(&first).await?;
        for (failure, new) in failures.iter().zip(new) {
            if !new {
                self.failed_again(failure).await?;
            }
        }
        Ok(())
    }

    /// A failure that is known. If it was being tried, this is how that ended; otherwise its
    /// first report has come twice.
    async fn failed_again(&self, report: &Failure) -> Result<(), RetryError> {
        self.change(report, |known| {
            let tried = known.status == FailureStatus::Retrying;
            let unread = known.is_message() && known.status == FailureStatus::Resolved;
            (tried || unread).then(|| Failure {
                resolution: None,
                ..self.scheduled(known.failed_again(report))
            })
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
