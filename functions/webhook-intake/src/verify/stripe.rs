//! Stripe: `Stripe-Signature: t=<unix>,v1=<hex>[,v1=…]` over `t.body`.
//!
//! Source: <https://docs.stripe.com/webhooks#verify-manually>.

use definition::HmacAlgorithm;

use super::{Check, Genuine, MOST_SIGNATURES, mac, unix_seconds};
use crate::Refusal;

pub(super) fn verify(check: &Check<'_>) -> Result<Genuine, Refusal> {
    let header = check.header("stripe-signature")?;
    let mut time = None;
    let mut signatures = Vec::new();
    for part in header.split(',').take(MOST_SIGNATURES) {
        match part.trim().split_once('=') {
            Some(("t", text)) => time = Some(text),
            Some(("v1", text)) => signatures.extend(hex::decode(text).ok()),
            _ => {}
        }
    }
    let time = time.ok_or(Refusal::Signature)?;
    let parts: [&[u8]; 3] = [time.as_bytes(), b".", &check.request.body];
    // The secret's text is the key, its prefix included.
    if !mac::any(check.secrets, HmacAlgorithm::Sha256, &parts, &signatures) {
        return Err(Refusal::Signature);
    }
    check.in_time(unix_seconds(time))?;
    let id = mapping::json::fields(&check.request.body, ["id"])
        .ok()
        .and_then(|found| mapping::json::scalar(found[0]?));
    Ok(Genuine {
        delivery: id.map(std::borrow::Cow::into_owned),
    })
}
