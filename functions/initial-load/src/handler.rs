//! Jobs.

use std::{sync::Arc, time::Duration};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use definition::Definition;
use jiff::Timestamp;
use mapping::{Plans, PlansError};
use model::{ErrorClass, LoadJob, LoadPlan, MapEvent, MapName, QueueName, plan_key};
use ports::{
    CheckpointError, Checkpoints, CheckpointsExt, Clock, Ledger, SourceError, StoreError, Stored,
    Systems, SystemsError, TargetError,
};
use runtime::{MapStates, Metrics, Outbox, OutboxError};

/// The function.
#[derive(Debug)]
pub struct InitialLoad {
    /// The deployment.
    pub definition: Arc<Definition>,
    /// Its maps, compiled.
    pub plans: Arc<dyn Plans>,
    /// The systems it reads and prepares.
    pub systems: Arc<dyn Systems>,
    /// Where it sends packs, and jobs for itself.
    pub outbox: Outbox,
    /// Where it keeps plans and slices.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// The books, which say when all of a load has been applied.
    pub ledger: Arc<dyn Ledger>,
    /// The states of maps.
    pub states: MapStates,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it says what it has sent.
    pub metrics: Metrics,
}

/// A step of a load did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A store did not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be sent.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The source did not give what it was asked for.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The target did not do what it was asked.
    #[error(transparent)]
    Target(TargetError),
    /// The map has no plan.
    #[error(transparent)]
    Plan(#[from] PlansError),
    /// A system could not be made ready.
    #[error(transparent)]
    Systems(#[from] SystemsError),
    /// The map did not change its state.
    #[error(transparent)]
    Transition(#[from] runtime::TransitionError),
    /// The plan of the load does not say which rows its slices read.
    #[error(
        "load {generation} was begun by an earlier version, which kept it otherwise: load the map again with `syncline load {map}`"
    )]
    Outdated {
        /// The map.
        map: MapName,
        /// The load.
        generation: u32,
    },
    /// A job could not be read.
    #[error(transparent)]
    Unreadable(#[from] runtime::UnreadableJob),
    /// Another worker has taken over.
    #[error("another worker has taken over: {0}")]
    Overtaken(String),
}

impl From<TargetError> for LoadError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Overtaken { what } => Self::Overtaken(what),
            error => Self::Target(error),
        }
    }
}

impl From<CheckpointError> for LoadError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Conflict { .. } => Self::Overtaken(error.to_string()),
            CheckpointError::Store(error) => Self::Store(error),
        }
    }
}

impl LoadError {
    /// Whether trying again later may help; otherwise only a person can.
    fn passes(&self) -> bool {
        match self {
            Self::Store(_) | Self::Outbox(_) | Self::Unreadable(_) | Self::Overtaken(_) => true,
            Self::Source(error) => {
                matches!(error.class(), ErrorClass::Transient | ErrorClass::Throttled)
            }
            Self::Target(error) => error.passes(),
            Self::Plan(error) => error.passes(),
            Self::Outdated { .. } => false,
            Self::Systems(error) => error.passes(),
            Self::Transition(error) => matches!(error, runtime::TransitionError::Checkpoint(_)),
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Source(error) => error.retry_after(),
            Self::Target(error) | Self::Plan(PlansError::Target(error)) => error.retry_after(),
            _ => None,
        }
    }
}

/// Jobs of one invocation that run side by side.
const AT_ONCE: usize = 4;
/// How long a worker holds a lease beyond its deadline, for what it has begun by then. In the
/// cloud it does not live so long.
pub(crate) const GRACE: Duration = Duration::from_mins(2);

impl InitialLoad {
    /// Does jobs: messages of the queue `loads`. What is not done at `deadline` goes on in an
    /// invocation of its own.
    pub async fn handle(&self, event: SqsEvent, deadline: Timestamp) -> SqsBatchResponse {
        runtime::each_message(event, AT_ONCE, |message| self.message(message, deadline)).await
    }

    async fn message(&self, message: SqsMessage, deadline: Timestamp) -> Result<(), LoadError> {
        let body = message.body.unwrap_or_default();
        let job: LoadJob = runtime::read_job(&body)?;
        let map = job.map().clone();
        let error = match self.job(job.clone(), deadline).await {
            Ok(()) => {
                self.forget_trouble(&map).await;
                return Ok(());
            }
            Err(error) => error,
        };
        match error {
            LoadError::Overtaken(_) => Ok(()),
            error if error.passes() => {
                tracing::warn!(map.name = %map, "the load of map `{map}` waits: {error}");
                let wait = self.note_trouble(&map, &error).await;
                self.send(&job, wait).await
            }
            error => {
                self.break_map(&map, &error).await;
                Ok(())
            }
        }
    }

    /// Stops a map whose load only a person can help.
    pub(crate) async fn break_map(&self, map: &MapName, error: &LoadError) {
        tracing::error!(map.name = %map, "the load of map `{map}` has broken it: {error}");
        let reason = format!("its load: {error}");
        self.forget_trouble(map).await;
        // An error means that a person has paused it already.
        let _ = self
            .states
            .transition(map, MapEvent::Break { reason })
            .await;
    }

    async fn job(&self, job: LoadJob, deadline: Timestamp) -> Result<(), LoadError> {
        match job {
            LoadJob::Start {
                map,
                replaces_mark,
                generation,
            } => self.start(&map, replaces_mark, generation).await,
            LoadJob::Slice {
                map,
                generation,
                index,
            } => self.slice(&map, generation, index, deadline).await,
            LoadJob::Finish {
                map,
                generation,
                ticket,
            } => self.finish(&map, generation, ticket, deadline).await,
        }
    }

    pub(crate) async fn send(&self, job: &LoadJob, delay: Duration) -> Result<(), LoadError> {
        let map = job.map();
        Ok(self
            .outbox
            .send(QueueName::Loads, Some(map), map.as_str(), job, delay)
            .await?)
    }

    pub(crate) async fn plan(
        &self,
        map: &MapName,
        generation: u32,
    ) -> Result<Option<Stored<LoadPlan>>, StoreError> {
        self.checkpoints.load(&plan_key(map, generation)).await
    }
}
