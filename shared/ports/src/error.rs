//! Errors that stores have in common.

/// Any error below one of ours.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be reached or does not work right now; the same call may succeed later.
    #[error("{what}: {source}")]
    Unavailable {
        /// What was being done.
        what: &'static str,
        /// What the store says.
        source: BoxError,
    },
    /// What it holds cannot be read by this version.
    #[error("{what}: what is stored cannot be read: {source}")]
    Corrupt {
        /// What was being read.
        what: String,
        /// Why it cannot be read.
        source: BoxError,
    },
}

impl StoreError {
    /// An [`StoreError::Unavailable`] for use with `map_err`.
    pub fn unavailable<E: Into<BoxError>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Unavailable {
            what,
            source: source.into(),
        }
    }

    /// An [`StoreError::Corrupt`] for use with `map_err`.
    pub fn corrupt<E: Into<BoxError>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Corrupt {
            what,
            source: source.into(),
        }
    }
}
