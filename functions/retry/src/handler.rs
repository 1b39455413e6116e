//! Sending failures round again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use definition::Definition;
use jiff::Timestamp;
use model::{
    Backoff, Change, Failure, FailureId, FailureStatus, Lane, MapName, Origin, PackHead, PackId,
    Packer, RetryJob, RunId, TraceId,
};
use ports::{CheckpointError, Clock, Failures, Ledger, StoreError, Stored};
use runtime::{MapStates, Outbox, OutboxError, Parking};

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
    /// Another worker changes the same failure all the time.
    #[error("failure {0} is being changed by others")]
    Contended(FailureId),
}

/// Messages worked on side by side.
const AT_ONCE: usize = 8;
/// Failures sent round in one tick.
const DUE_AT_ONCE: usize = 2_000;
/// How long an attempt may be on its way before it counts as lost.
const LOST_AFTER: Duration = Duration::from_mins(15);
/// How long failures of a map that may not be applied wait before they are looked at again.
const LATER: Duration = Duration::from_secs(30);
/// The same for a map that is not in the definition.
const MUCH_LATER: Duration = Duration::from_mins(10);

/// What failures must have in common to travel in one pack.
type Group = (MapName, RunId, Origin, u32, Option<TraceId>);

impl Retry {
    /// Takes in what `apply` reports: messages of the queue `failures`.
    pub async fn handle_reports(&self, event: SqsEvent) -> SqsBatchResponse {
        // One after the other: two that tell of one record at once would not know of each other.
        runtime::each_message(event, 1, |message| self.report(message)).await
    }

    /// Takes in dead letters: messages of the queue `dead`.
    pub async fn handle_dead(&self, event: SqsEvent) -> SqsBatchResponse {
        runtime::each_message(event, AT_ONCE, |message| self.bury(message)).await
    }

    /// Does what it is asked: messages of the queue `retries`.
    pub async fn handle_jobs(&self, event: SqsEvent) -> SqsBatchResponse {
        runtime::each_message(event, AT_ONCE, |message| self.job(message)).await
    }

    async fn job(&self, message: SqsMessage) -> Result<(), RetryError> {
        let receives = message.attributes.get("ApproximateReceiveCount");
        let receives: u32 = receives.and_then(|n| n.parse().ok()).unwrap_or(1);
        let id = message.message_id.unwrap_or_default();
        let body = message.body.unwrap_or_default();
        let Some((body, blob)) = self.outbox.open(body).await? else {
            return Ok(());
        };
        match serde_json::from_str(&body) {
            Ok(RetryJob::Replay { failures }) => self.replay(&failures, receives > 1).await?,
            Ok(RetryJob::Release { map }) => self.release(&map).await?,
            // Where it is wrong, and not what stands there.
            Err(error) => tracing::error!(
                message.id = %id,
                "job {id} for retry, of {} bytes, is dropped: it cannot be read from its column {} on",
                body.len(),
                error.column()
            ),
        }
        Ok(self.outbox.close(blob.as_slice()).await?)
    }

    /// The tick of a timer: sends round what is due, releases what waits, forgets what is old.
    pub async fn tick(&self) -> Result<(), RetryError> {
        let now = self.clock.now();
        let due = self.failures.due(now, DUE_AT_ONCE).await?;
        self.send_round(due, now).await?;
        self.release_each(self.parking.maps().await?).await;
        Ok(())
    }

    /// The tick of a slower timer, once a minute or so: ends what was left in the middle and
    /// forgets what ended long ago.
    pub async fn tidy(&self) -> Result<(), RetryError> {
        self.resume_stragglers().await?;
        let before = self
            .clock
            .now()
            .saturating_sub(self.keep)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let expired = self.failures.expire(before).await?;
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
    async fn replay(&self, ids: &[FailureId], again: bool) -> Result<(), RetryError> {
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
        self.send_round(chosen, self.clock.now()).await
    }

    /// Marks failures as being tried and sends them to `apply`. They are marked first: a
    /// worker that dies in between leaves them marked, and they come due again.
    async fn send_round(
        &self,
        chosen: Vec<Stored<Failure>>,
        now: Timestamp,
    ) -> Result<(), RetryError> {
        let mut groups: BTreeMap<Group, Vec<Change>> = BTreeMap::new();
        for stored in chosen {
            if stored.value.is_message() {
                self.reread(stored, now).await?;
                continue;
            }
            let failure = stored.value;
            let waits = self.waits(&failure.map).await?;
            let marked = Failure {
                status: if waits.is_some() {
                    failure.status
                } else {
                    FailureStatus::Retrying
                },
                due: Some(now + waits.unwrap_or(LOST_AFTER)),
                ..failure.clone()
            };
            match self.failures.put(Some(stored.revision), &marked).await {
                Ok(_) if waits.is_some() => {}
                Ok(_) => {
                    let group = (
                        failure.map.clone(),
                        failure.run,
                        failure.origin,
                        failure.generation,
                        failure.trace,
                    );
                    groups.entry(group).or_default().push(failure.to_change());
                }
                // Somebody else has it.
                Err(CheckpointError::Conflict { .. }) => {}
                Err(CheckpointError::Store(error)) => return Err(error.into()),
            }
        }
        ports::crash_point("retry.marked");
        for (group, changes) in groups {
            self.send_group(group, &changes, now).await?;
        }
        ports::crash_point("retry.sent");
        Ok(())
    }

    /// How long failures of a map wait that may not be applied now.
    async fn waits(&self, map: &MapName) -> Result<Option<Duration>, RetryError> {
        if !self.definition.maps.contains_key(map) {
            return Ok(Some(MUCH_LATER));
        }
        let state = self.states.recent(map).await?;
        Ok((!state.applies(Lane::Retry)).then_some(LATER))
    }

    async fn send_group(
        &self,
        group: Group,
        changes: &[Change],
        now: Timestamp,
    ) -> Result<(), RetryError> {
        let (map, run, origin, generation, trace) = group;
        let new_id = || PackId::from_uuid(self.clock.new_id());
        let head = PackHead {
            id: new_id(),
            map,
            run,
            origin,
            generation,
            created: now,
            trace,
        };
        let mut packer = Packer::new(head, new_id);
        for change in changes {
            packer.push(change);
        }
        self.outbox.send_packs(Lane::Retry, packer.finish()).await?;
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
