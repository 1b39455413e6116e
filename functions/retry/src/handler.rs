//! Sending failures round again.

use std::{sync::Arc, time::Duration};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use definition::Definition;
use jiff::Timestamp;
use model::{Backoff, FailureId, FailureStatus, MapName, QueueName, RetryJob};
use ports::{CheckpointError, Checkpoints, Clock, Failures, Ledger, StoreError};
use runtime::{Breakers, MapStates, Outbox, OutboxError, Parking};

/// The function.
#[derive(Debug)]
pub struct Retry {
    /// The deployment.
    pub definition: Arc<Definition>,
    /// Where failures are kept.
    pub failures: Arc<dyn Failures>,
    /// Where they are sent from.
    pub outbox: Outbox,
    /// Where packs of paused maps are kept.
    pub parking: Parking,
    /// The states of maps.
    pub states: MapStates,
    /// The breakers of connections: nothing is sent to a target that is down.
    pub breakers: Breakers,
    /// Where it keeps what it is in the middle of.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// The books, for dead letters.
    pub ledger: Arc<dyn Ledger>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How long what has ended is kept.
    pub keep: Duration,
}

/// A job of this function did not succeed and has to be done again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError {
    /// A store did not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be sent.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A map did not change its state.
    #[error(transparent)]
    Transition(#[from] runtime::TransitionError),
    /// What it is in the middle of could not be noted.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A job could not be read.
    #[error(transparent)]
    Unreadable(#[from] runtime::UnreadableJob),
    /// It was not begun with.
    #[error("there was no time left for it")]
    Late,
    /// Another worker changes the same failure all the time.
    #[error("failure {0} is being changed by others")]
    Contended(FailureId),
}

/// Messages worked on side by side.
const AT_ONCE: usize = 8;
/// Failures forgotten before it is looked whether there is time for more.
const EXPIRE_AT_ONCE: usize = 500;

impl Retry {
    /// Takes in what `apply` reports: messages of the queue `failures`. What is not begun with by
    /// `deadline` comes back.
    pub async fn handle_reports(&self, event: SqsEvent, deadline: Timestamp) -> SqsBatchResponse {
        // One after the other: two that tell of one record at once would not know of each other.
        let take = |message| self.in_time(deadline, self.report(message));
        runtime::each_message(event, 1, take).await
    }

    /// Takes in dead letters: messages of the queue `dead`. What is not begun with by `deadline`
    /// comes back.
    pub async fn handle_dead(&self, event: SqsEvent, deadline: Timestamp) -> SqsBatchResponse {
        let take = |message| self.in_time(deadline, self.bury(message));
        runtime::each_message(event, AT_ONCE, take).await
    }

    async fn in_time(
        &self,
        deadline: Timestamp,
        work: impl Future<Output = Result<(), RetryError>> + Send,
    ) -> Result<(), RetryError> {
        if self.clock.now() >= deadline {
            return Err(RetryError::Late);
        }
        work.await
    }

    /// Does what it is asked: messages of the queue `retries`. What is not done at `deadline` goes
    /// on in an invocation of its own.
    pub async fn handle_jobs(&self, event: SqsEvent, deadline: Timestamp) -> SqsBatchResponse {
        runtime::each_message(event, AT_ONCE, |message| self.job(message, deadline)).await
    }

    async fn job(&self, message: SqsMessage, deadline: Timestamp) -> Result<(), RetryError> {
        let receives = message.attributes.get("ApproximateReceiveCount");
        let receives: u32 = receives.and_then(|n| n.parse().ok()).unwrap_or(1);
        let body = message.body.unwrap_or_default();
        let Some((body, blob)) = self.outbox.open(body).await? else {
            return Ok(());
        };
        match runtime::read_job(&body)? {
            RetryJob::Replay { failures } => {
                self.replay(&failures, receives > 1, deadline).await?;
            }
            RetryJob::Release { map } => self.release(&map, deadline).await?,
        }
        Ok(self.outbox.close(blob.as_slice()).await?)
    }

    /// The tick of a timer: sends round what is due and what was left in the middle, and releases
    /// what waits. What is not done at `deadline` is for the next tick.
    pub async fn tick(&self, deadline: Timestamp) -> Result<(), RetryError> {
        // Each has its turn, whatever becomes of the others.
        let ended = self.end_rounds(deadline).await;
        let sent = self.send_due(deadline).await;
        let released = self.release_parked(deadline).await;
        ended.and(sent).and(released)
    }

    /// The tick of a slower timer, once a minute or so: ends what was left in the middle and
    /// forgets what ended long ago.
    pub async fn tidy(&self, deadline: Timestamp) -> Result<(), RetryError> {
        self.resume_stragglers(deadline).await?;
        let before = self
            .clock
            .now()
            .saturating_sub(self.keep)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let mut expired = 0;
        loop {
            let some = self.failures.expire(before, EXPIRE_AT_ONCE).await?;
            expired += some;
            if some < EXPIRE_AT_ONCE as u64 || self.clock.now() >= deadline {
                break;
            }
        }
        if expired > 0 {
            tracing::info!(
                failure.count = expired,
                "{expired} failures that ended before {before} are forgotten"
            );
        }
        Ok(())
    }

    /// Sends failures round. If the job has come before, its worker may have died between marking
    /// them and sending them: then marked ones are sent as well. One that is tried twice ends once.
    async fn replay(
        &self,
        ids: &[FailureId],
        again: bool,
        deadline: Timestamp,
    ) -> Result<(), RetryError> {
        let mut chosen = Vec::with_capacity(ids.len());
        for id in ids {
            chosen.extend(self.failures.get(*id).await?.filter(
                |stored| match stored.value.status {
                    FailureStatus::Open | FailureStatus::Waiting => true,
                    FailureStatus::Retrying => again,
                    FailureStatus::Resolved | FailureStatus::Discarded => false,
                },
            ));
        }
        let failures = self.send_round(chosen, deadline).await?;
        if failures.is_empty() {
            return Ok(());
        }
        let name = format!("replay/{}", self.clock.new_id());
        let rest = RetryJob::Replay { failures };
        self.outbox
            .send(QueueName::Retries, None, &name, &rest, Duration::ZERO)
            .await?;
        Ok(())
    }

    /// When the failures of a map are tried again.
    pub(crate) fn policy(&self, map: &MapName) -> Backoff {
        self.definition
            .maps
            .get(map)
            .map(|map| map.retry)
            .unwrap_or_default()
    }
}
