//! What was answered.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::DATE};
use jiff::Timestamp;
use ports::SourceError;

use crate::respond;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// When the call was made, on this computer's clock.
    pub asked: Timestamp,
    /// What was called, in messages.
    pub what: String,
    /// Where a redirection leads, in messages.
    pub leads: Option<String>,
}

impl Answer {
    /// The answer, if its status says that all is well; else the error that it is. `now` is
    /// the time of the answer.
    pub fn good(self, now: Timestamp) -> Result<Self, SourceError> {
        self.trouble(now).map_or(Ok(self), Err)
    }

    /// The error that the answer is, if its status does not say that all is well.
    #[must_use]
    pub fn trouble(&self, now: Timestamp) -> Option<SourceError> {
        let bad = !self.status.is_success();
        let leads = self.leads.as_deref();
        bad.then(|| {
            respond::status_error(
                &self.what,
                self.status,
                &self.headers,
                leads,
                &self.body,
                now,
            )
        })
    }

    /// The body without a byte-order mark, which some services send.
    #[must_use]
    pub fn content(&self) -> Bytes {
        let start = if self.body.starts_with(b"\xef\xbb\xbf") {
            3
        } else {
            0
        };
        self.body.slice(start..)
    }

    /// What was called and what was answered, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        respond::sentence(&self.what, self.status, &self.said())
    }

    /// The message in the body of an error, else the beginning of the body.
    #[must_use]
    pub fn said(&self) -> String {
        respond::error_message(&self.body).unwrap_or_else(|| respond::excerpt(&self.body))
    }

    /// The time at the other system, from its `Date` header, else that of the call on ours.
    #[must_use]
    pub fn server_time(&self) -> Timestamp {
        let date = self.headers.get(DATE).and_then(|date| date.to_str().ok());
        date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
            .map_or(self.asked, |date| date.timestamp())
    }

    /// The error of a body that is not what it should be.
    #[must_use]
    pub fn garbled(&self, why: &str) -> SourceError {
        let content = self
            .headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let content = content.map_or_else(String::new, |content| format!(" of type {content}"));
        let what = format!(
            "{} answered {} with a body{content} that {why}: {}",
            self.what,
            self.status,
            respond::shown(&self.body)
        );
        SourceError::Garbled { what }
    }

    /// The error of a good status whose body is an error.
    #[must_use]
    pub fn error_in_body(&self) -> SourceError {
        let what = format!(
            "{} answered {} with an error in its body: {}",
            self.what,
            self.status,
            self.said()
        );
        SourceError::Unavailable {
            what,
            retry_after: None,
        }
    }
}
