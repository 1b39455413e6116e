//! Why an operation was not done.

use mapping::PlansError;
use model::{FailureId, MapName, MapState};
use ports::{CheckpointError, SourceError, StoreError, SystemsError, TargetError};
use runtime::{OutboxError, TransitionError};

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// There is no such map.
    #[error("there is no map `{name}`: {help}")]
    UnknownMap {
        /// What was asked for.
        name: String,
        /// What there is.
        help: String,
    },
    /// There is no such failure.
    #[error("there is no failure {0}")]
    UnknownFailure(String),
    /// Several failures begin so.
    #[error("several failures begin with `{0}`: give more of its identifier")]
    Ambiguous(String),
    /// The failure is in a state in which this makes no sense.
    #[error("failure {id} is {status}: {help}")]
    Status {
        /// Which.
        id: FailureId,
        /// Its state.
        status: String,
        /// What can be done.
        help: String,
    },
    /// A correction does not fit the record.
    #[error("the correction does not fit failure {id}, so nothing was changed: {why}")]
    Patch {
        /// Which record.
        id: FailureId,
        /// What of it.
        why: String,
    },
    /// A reason is needed.
    #[error("a reason is needed: it goes into the audit log")]
    NoReason,
    /// A key is not of the map's form.
    #[error("{0}")]
    Key(String),
    /// Only a map that was never loaded, or is stopped, can be started without a load.
    #[error("map `{map}` is {state}: only a map that is stopped can be started")]
    NotStopped {
        /// Which.
        map: MapName,
        /// Its state.
        state: MapState,
    },
    /// The map is in a state in which this makes no sense.
    #[error("map `{map}`: {source}")]
    Transition {
        /// Which.
        map: MapName,
        /// Why.
        source: TransitionError,
    },
    /// A store did not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be sent.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The map has no plan.
    #[error(transparent)]
    Plan(#[from] PlansError),
    /// A system could not be made ready.
    #[error(transparent)]
    Systems(#[from] SystemsError),
    /// The source did not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The target did not answer.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Somebody else changed the same thing at the same time.
    #[error("{0} was changed by somebody else at the same time: look at it again")]
    Contended(String),
}

impl OperationError {
    /// Whether it is about one failure, so that others can be gone on with.
    pub(crate) fn is_of_one(&self) -> bool {
        matches!(
            self,
            Self::Status { .. } | Self::Patch { .. } | Self::Contended(_)
        )
    }
}

impl From<CheckpointError> for OperationError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Conflict { key } => Self::Contended(key),
            CheckpointError::Store(error) => Self::Store(error),
        }
    }
}
