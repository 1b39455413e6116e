//! Secrets by name.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::BoxError;

/// A secret that does not show itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// There is none of this name.
    #[error("secret `{name}` is not set: {remedy}")]
    NotFound {
        /// The name.
        name: String,
        /// How to set it.
        remedy: String,
    },
    /// The store of secrets does not answer.
    #[error("secret `{name}` could not be read: {source}")]
    Unavailable {
        /// The name.
        name: String,
        /// What the store says.
        source: BoxError,
    },
}

/// Where secrets are kept.
#[async_trait]
pub trait Secrets: fmt::Debug + Send + Sync {
    /// The secret of this name, at most a minute old.
    async fn get(&self, name: &str) -> Result<Secret, SecretError>;

    /// The same as it was at most `age` ago: for those who notice when it is no longer good, and
    /// use [`Secrets::get`] then. Where a reading is paid for it is much cheaper.
    async fn within(&self, name: &str, age: Duration) -> Result<Secret, SecretError> {
        let _ = age;
        self.get(name).await
    }
}
