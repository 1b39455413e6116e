//! The outside systems of a deployment, by name.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use model::{ConnectionName, MapName};

use crate::{SecretError, Source, Target};

/// A connection could not be made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemsError {
    /// A secret it needs cannot be had.
    #[error("connection `{connection}`: {source}")]
    Secret {
        /// Which.
        connection: ConnectionName,
        /// What is missing.
        source: SecretError,
    },
    /// Its address or settings make no sense.
    #[error("connection `{connection}`: {what}")]
    Settings {
        /// Which.
        connection: ConnectionName,
        /// What is wrong and what to do.
        what: String,
    },
    /// The deployment has no such map.
    #[error("there is no map `{0}` in this deployment")]
    UnknownMap(MapName),
}

impl SystemsError {
    /// Whether trying again later may help; otherwise only a person can.
    #[must_use]
    pub fn passes(&self) -> bool {
        let Self::Secret { source, .. } = self else {
            return false;
        };
        matches!(source, SecretError::Unavailable { .. })
    }
}

/// Connects maps to systems; connections are made once and shared.
#[async_trait]
pub trait Systems: Debug + Send + Sync {
    /// The stream a map reads.
    async fn source(&self, map: &MapName) -> Result<Arc<dyn Source>, SystemsError>;

    /// The system a map writes to.
    async fn target(&self, map: &MapName) -> Result<Arc<dyn Target>, SystemsError>;
}
