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
pub(crate) struct Genuine {
    /// The sender's name for the delivery, the same for every attempt.
    pub(crate) delivery: Option<String>,
}

/// Signatures of one request that are looked at. Senders list one for each secret and version
/// they have; a list without end would only cost time.
const MOST_SIGNATURES: usize = 16;

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

    /// Refuses a signed time that is too old, too early or no time. Senders sign whole
    /// seconds, so whole seconds are compared.
    fn in_time(&self, sent: Option<Timestamp>) -> Result<(), Refusal> {
        let sent = sent.ok_or(Refusal::Timestamp)?;
        let apart = self.now.as_second().abs_diff(sent.as_second());
        if Duration::from_secs(apart) > self.tolerance {
            Err(Refusal::Timestamp)
        } else {
            Ok(())
        }
    }
}

/// Reads seconds of Unix time.
fn unix_seconds(text: &str) -> Option<Timestamp> {
    Timestamp::from_second(text.parse().ok()?).ok()
}

/// What is wrong with a secret that can never verify anything, or that would verify what
/// anybody can sign.
pub(crate) fn unusable(scheme: &Scheme, secret: &Secret) -> Option<&'static str> {
    if secret.expose().trim().is_empty() {
        return Some("is empty: nothing is verified with it");
    }
    match scheme {
        Scheme::Standard => standard::unusable(secret),
        _ => None,
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
