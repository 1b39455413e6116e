//! Stripe: `Stripe-Signature: t=<unix>,v1=<hex>[,v1=…]` over `t.body`.
//!
//! Source: <https://docs.stripe.com/webhooks#verify-manually>.

use definition::HmacAlgorithm;

use super::{Check, Genuine, mac};
use crate::Refusal;

pub(super) fn verify(check: &Check<'_>) -> Result<Genuine, Refusal> {
    let header = check.header("stripe-signature")?;
    let mut time = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=') {
            Some(("t", text)) => time = Some(text),
            Some(("v1", text)) => signatures.extend(hex::decode(text).ok()),
            _ => {}
        }
    }
    let time = time.ok_or(Refusal::Signature)?;
    let parts: [&[u8]; 3] = [time.as_bytes(), b".", &check.request.body];
    let mut genuine = false;
    for secret in check.secrets {
        for signature in &signatures {
            // The secret's text is the key, its prefix included.
            genuine |= mac::matches(
                HmacAlgorithm::Sha256,
                secret.expose().as_bytes(),
                &parts,
                signature,
            );
        }
    }
    if !genuine {
        return Err(Refusal::Signature);
    }
    check.in_time(time)?;
    let id = mapping::json::fields(&check.request.body, ["id"])
        .ok()
        .and_then(|found| mapping::json::scalar(found[0]?));
    Ok(Genuine {
        delivery: id.map(std::borrow::Cow::into_owned),
    })
}
