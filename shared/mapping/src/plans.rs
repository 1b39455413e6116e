//! Where plans come from.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use model::{ErrorClass, MapName};
use ports::TargetError;

use crate::Plan;

/// A map has no plan.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PlansError {
    /// The deployment has no such map.
    #[error("there is no map `{0}` in this deployment")]
    Unknown(MapName),
    /// The target could not be asked what its table looks like.
    #[error(transparent)]
    Target(TargetError),
    /// The source could not be asked what its stream looks like, or a system cannot be had at all.
    #[error("{what}")]
    System {
        /// What was asked and what came.
        what: String,
        /// What kind of trouble.
        class: ErrorClass,
    },
    /// The map does not fit its systems.
    #[error("map `{map}` does not fit: {what}")]
    Problems {
        /// The map.
        map: MapName,
        /// All that is wrong, in one line.
        what: String,
    },
}

impl PlansError {
    /// Whether it may pass by itself.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Target(error) => error.passes(),
            Self::System { class, .. } => {
                matches!(class, ErrorClass::Transient | ErrorClass::Throttled)
            }
            Self::Unknown(_) | Self::Problems { .. } => false,
        }
    }
}

/// The compiled maps of a deployment.
#[async_trait]
pub trait Plans: Debug + Send + Sync {
    /// The plan of a map, compiled against what its systems look like. It is asked for with
    /// every batch, so it should be at hand.
    async fn plan(&self, map: &MapName) -> Result<Arc<Plan>, PlansError>;

    /// Forgets what the systems of a map looked like, because they do not look so any more.
    async fn forget(&self, map: &MapName);
}
