//! Where plans come from.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use model::{ErrorClass, MapName};

use crate::Plan;

/// A map has no plan.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PlansError {
    /// The deployment has no such map.
    #[error("there is no map `{0}` in this deployment")]
    Unknown(MapName),
    /// A system could not be asked what its tables look like.
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
        matches!(
            self,
            Self::System {
                class: ErrorClass::Transient | ErrorClass::Throttled,
                ..
            }
        )
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
