//! Ticks and jobs.

use std::{sync::Arc, time::Duration};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use definition::Definition;
use jiff::Timestamp;
use model::{MapName, PullJob, QueueName};
use ports::{CheckpointError, Checkpoints, Clock, StoreError, Systems};
use runtime::{MapStates, Metrics, Outbox, OutboxError};
use serde::Deserialize;

use crate::schedule::Schedule;

/// The function.
#[derive(Debug)]
pub struct RecurringPull {
    /// The deployment.
    pub definition: Arc<Definition>,
    /// The systems it reads.
    pub systems: Arc<dyn Systems>,
    /// Where it sends packs, and jobs for itself.
    pub outbox: Outbox,
    /// Where it keeps how far it has read.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// The states of maps.
    pub states: MapStates,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it says what it has sent.
    pub metrics: Metrics,
    /// When which map is due.
    pub schedule: Schedule,
}

/// What sets this function off besides its own jobs: a scheduler's event of any shape, which
/// means "whatever is due", or one that names a map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Tick {
    /// Pull this map now, due or not.
    #[serde(default)]
    pub map: Option<MapName>,
}

/// A pull did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// A store did not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be sent.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// A job could not be read.
    #[error(transparent)]
    Unreadable(#[from] runtime::UnreadableJob),
    /// Somebody else has taken over.
    #[error("another worker has taken the pull of map `{0}` over")]
    Overtaken(MapName),
}

impl PullError {
    pub(crate) fn from_checkpoint(map: &MapName, error: CheckpointError) -> Self {
        match error {
            CheckpointError::Conflict { .. } => Self::Overtaken(map.clone()),
            CheckpointError::Store(error) => Self::Store(error),
        }
    }
}

/// Pulls of one invocation that run side by side.
const AT_ONCE: usize = 8;

impl RecurringPull {
    /// Sends a job for every map that is due, or for the one that is named.
    pub async fn tick(&self, tick: Tick) -> Result<usize, PullError> {
        let now = self.clock.now();
        let wanted = tick.map.is_some();
        let maps = match tick.map {
            Some(map) => vec![map],
            None => {
                self.schedule
                    .due(&self.definition, self.checkpoints.as_ref(), now)
                    .await?
            }
        };
        // All at once: one by one, ten thousand would take longer than a tick may.
        let job = |map: &MapName| {
            let map = map.clone();
            (
                map.clone(),
                PullJob::Pull {
                    map,
                    wanted,
                    asked: Some(now),
                },
            )
        };
        let jobs: Vec<(MapName, PullJob)> = maps.iter().map(job).collect();
        self.outbox.send_for_each(QueueName::Pulls, &jobs).await?;
        for map in &maps {
            if let Some(every) = self.definition.maps.get(map).and_then(|map| map.pull.every) {
                let due = now.saturating_add(every).unwrap_or(Timestamp::MAX);
                self.schedule.set(map, due);
            }
        }
        // A person who asks for a map does not show that the timer lives.
        if !wanted {
            self.metrics.pull_heartbeat(now);
        }
        Ok(maps.len())
    }

    /// Asks for a pull of a map.
    pub(crate) async fn request(
        &self,
        map: &MapName,
        wanted: bool,
        delay: Duration,
    ) -> Result<(), PullError> {
        let job = PullJob::Pull {
            map: map.clone(),
            wanted,
            asked: Some(self.clock.now()),
        };
        Ok(self
            .outbox
            .send(QueueName::Pulls, Some(map), map.as_str(), &job, delay)
            .await?)
    }

    /// Does jobs: messages of the queue `pulls`. What is not done at `deadline` goes on in an
    /// invocation of its own.
    pub async fn handle(&self, event: SqsEvent, deadline: Timestamp) -> SqsBatchResponse {
        runtime::each_message(event, AT_ONCE, |message| self.job(message, deadline)).await
    }

    async fn job(&self, message: SqsMessage, deadline: Timestamp) -> Result<(), PullError> {
        let body = message.body.unwrap_or_default();
        let PullJob::Pull { map, wanted, asked } = runtime::read_job(&body)?;
        match self.pull(&map, (wanted, asked), deadline).await {
            // Whoever has taken over does the work.
            Err(PullError::Overtaken(_)) => Ok(()),
            other => other,
        }
    }
}
