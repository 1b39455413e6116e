//! What is called.

use bytes::Bytes;
use http::{HeaderMap, Method};
use model::Lane;
use ports::SourceError;
use tokio::sync::SemaphorePermit;

/// One call.
#[derive(Debug, Clone)]
pub struct Call<'c> {
    /// Method.
    pub method: Method,
    /// Address.
    pub url: url::Url,
    /// Headers beside those of the connection.
    pub headers: HeaderMap,
    /// Body.
    pub body: Option<Bytes>,
    /// Who is served first when calls are scarce.
    pub lane: Lane,
    /// Whether the call may be repeated although its first attempt may have had an effect.
    pub repeatable: bool,
    /// What it is for, in messages.
    pub what: &'c str,
    /// How to make answers smaller, in the message for one that is too large.
    pub smaller: &'c str,
}

/// Why there is no answer to a call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoAnswer {
    /// It was not made: the other system cannot be reached, or there are no credentials.
    #[error(transparent)]
    NotSent(SourceError),
    /// It was made, and what it did is not known.
    #[error(transparent)]
    Lost(SourceError),
}

impl From<NoAnswer> for SourceError {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::NotSent(error) | NoAnswer::Lost(error) => error,
        }
    }
}

/// Leave to make one call; until it is dropped, the connection bears one call less.
#[derive(Debug)]
pub struct Turn<'c> {
    pub(crate) _place: SemaphorePermit<'c>,
}

impl Call<'_> {
    /// A call that reads.
    #[must_use]
    pub fn get(url: url::Url, lane: Lane) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: None,
            lane,
            repeatable: true,
            what: "",
            smaller: "",
        }
    }
}
