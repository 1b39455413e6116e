//! Why a request is not accepted.

use http::StatusCode;

use crate::MAX_BODY;

/// Why a request is not accepted. What it says is for the sender's log: which secret or which
/// part of a signature was wrong is nobody's business.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such endpoint.
    #[error("there is no webhook endpoint `{0}` here")]
    UnknownEndpoint(String),
    /// Only POST is taken.
    #[error("webhooks are taken with POST")]
    Method,
    /// The body is larger than any webhook should be.
    #[error("the body has more than the {MAX_BODY} bytes that are allowed")]
    TooLarge,
    /// What the scheme needs is not there.
    #[error("the request has no `{0}`")]
    Missing(String),
    /// The signature does not match.
    #[error("the signature does not match")]
    Signature,
    /// The signed time is too far from now.
    #[error("the signed time is too far from the time here")]
    Timestamp,
    /// The body is not JSON, or two readers could read it differently.
    #[error("the body is not JSON that everybody reads alike: {0}")]
    Malformed(String),
    /// The queue did not take it; send it again.
    #[error("the webhook cannot be stored right now; send it again")]
    Unavailable,
}

impl Refusal {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownEndpoint(_) => "unknown-endpoint",
            Self::Method => "method-not-allowed",
            Self::TooLarge => "body-too-large",
            Self::Missing(_) => "signature-missing",
            Self::Signature => "signature-mismatch",
            Self::Timestamp => "timestamp-out-of-tolerance",
            Self::Malformed(_) => "malformed-json",
            Self::Unavailable => "unavailable",
        }
    }

    /// Status. 503 is the one that every sender tries again, Dataverse included.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownEndpoint(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Missing(_) | Self::Signature | Self::Timestamp => StatusCode::UNAUTHORIZED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
