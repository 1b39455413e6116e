//! Failures that are whole queue messages, because nothing in them could be read.

use jiff::Timestamp;
use model::{
    Cause, ErrorClass, Failure, FailureReport, FailureStatus, LoadJob, Outcome, Pack, PullJob,
    QueueName, Resolution, RetryJob, decode_pack,
};
use ports::{CheckpointError, Outgoing, Stored};
use runtime::OutboxError;
use serde::Deserialize;

use crate::{Retry, RetryError};

impl Retry {
    /// Reads a message once more: this version may know it, or a person may have mended it.
    /// The changes in it become failures of their own, which are due at once.
    pub(crate) async fn reread(
        &self,
        stored: Stored<Failure>,
        now: Timestamp,
    ) -> Result<(), RetryError> {
        let message = stored.value;
        let next = match decode_pack(&message.raw) {
            Ok(pack) => {
                self.failures.put_new(&self.unpacked(&pack, now)).await?;
                ports::crash_point("retry.unpacked");
                let said = format!("its {} changes are tried by themselves", pack.changes.len());
                ended(message, now, said)
            }
            Err(error) => match queue_of(&message.raw) {
                Some(queue) => {
                    let outgoing = vec![Outgoing::new(message.raw.clone())];
                    let sent = self.outbox.queue().send(queue, outgoing).await;
                    sent.map_err(OutboxError::from)?;
                    ended(message, now, format!("it is in queue `{queue}` again"))
                }
                None => Failure {
                    cause: Cause {
                        message: format!("it still cannot be read: {error}"),
                        ..message.cause.clone()
                    },
                    status: FailureStatus::Open,
                    due: None,
                    attempts: message.attempts + 1,
                    last: now,
                    ..message
                },
            },
        };
        match self.failures.put(Some(stored.revision), &next).await {
            // Somebody else has it.
            Ok(_) | Err(CheckpointError::Conflict { .. }) => Ok(()),
            Err(CheckpointError::Store(error)) => Err(error.into()),
        }
    }

    /// The changes of a pack as failures. Those that were failures before are kept already.
    fn unpacked(&self, pack: &Pack, now: Timestamp) -> Vec<Failure> {
        let message = "it was in a message that could not be read, and is tried now";
        let cause = Cause::new(ErrorClass::Transient, "unread", message);
        (0..pack.changes.len())
            .filter(|at| pack.changes[*at].failure.is_none())
            .map(|at| Failure {
                status: FailureStatus::Waiting,
                due: Some(now),
                attempts: 0,
                ..self.of_pack(pack, at, &cause)
            })
            .collect()
    }
}

/// Where a message is read that holds no changes.
fn queue_of(message: &str) -> Option<QueueName> {
    fn is<'m, T: Deserialize<'m>>(message: &'m str) -> bool {
        serde_json::from_str::<T>(message).is_ok()
    }
    [
        (QueueName::Failures, is::<FailureReport>(message)),
        (QueueName::Pulls, is::<PullJob>(message)),
        (QueueName::Loads, is::<LoadJob>(message)),
        (QueueName::Retries, is::<RetryJob>(message)),
    ]
    .into_iter()
    .find_map(|(queue, is)| is.then_some(queue))
}

/// A message that has nothing left to say: what is in it stands for itself in the books.
fn ended(message: Failure, now: Timestamp, reason: String) -> Failure {
    Failure {
        status: FailureStatus::Resolved,
        due: None,
        weight: 0,
        resolution: Some(Resolution {
            outcome: Outcome::Unchanged,
            at: now,
            reason: Some(reason),
        }),
        ..message
    }
}
