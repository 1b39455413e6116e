//! Proving where a request comes from.
//!
//! Every scheme is checked over the raw bytes of the body, in constant time, against each of
//! the secrets that are good now. The time is looked at only after the signature, so that an
//! unsigned request learns nothing of this clock.

mod mac;
mod shared;
mod standard;
mod stripe;

use std::time::Duration;

use definition::Scheme;
use jiff::Timestamp;
use ports::Secret;

use crate::{Refusal, request::Request};

/// What a request that is genuine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Genuine {
    /// The sender's name for the delivery, the same for every attempt.
    pub delivery: Option<String>,
}

/// What a request is checked against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check<'c> {
    pub(crate) request: &'c Request,
    pub(crate) secrets: &'c [Secret],
    pub(crate) now: Timestamp,
    pub(crate) tolerance: Duration,
}

impl Check<'_> {
    fn header(&self, name: &str) -> Result<&str, Refusal> {
        self.request
            .header(name)
            .ok_or_else(|| Refusal::Missing(name.to_owned()))
    }

    /// Refuses a signed time, in seconds of Unix time, that is too old or too early.
    fn in_time(&self, seconds: &str) -> Result<(), Refusal> {
        let sent = seconds
            .parse()
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok());
        let sent = sent.ok_or(Refusal::Timestamp)?;
        let apart = self.now.duration_since(sent).unsigned_abs();
        if apart > self.tolerance {
            Err(Refusal::Timestamp)
        } else {
            Ok(())
        }
    }
}

/// Checks a request by its scheme.
pub(crate) fn verify(scheme: &Scheme, check: &Check<'_>) -> Result<Genuine, Refusal> {
    match scheme {
        Scheme::Standard => standard::verify(check),
        Scheme::Stripe => stripe::verify(check),
        Scheme::Github => mac::github(check),
        Scheme::Shopify => mac::shopify(check),
        Scheme::Hmac(hmac) => mac::declared(check, hmac),
        Scheme::Header { name } => shared::verify(check, name),
        Scheme::Dataverse { carrier } | Scheme::CloudEvents { carrier, .. } => {
            shared::verify(check, carrier)
        }
        Scheme::EventGrid { parameter } => shared::verify(check, &format!("?{parameter}")),
        Scheme::Unsigned => Ok(Genuine::default()),
    }
}
