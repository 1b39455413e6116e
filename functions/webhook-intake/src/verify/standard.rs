//! Standard Webhooks, symmetric (`v1`) and asymmetric (`v1a`).
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use definition::HmacAlgorithm;
use ed25519_dalek::{Signature, VerifyingKey};
use ports::Secret;

use super::{Check, Genuine, mac};
use crate::Refusal;

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .ok()
}

pub(super) fn verify(check: &Check<'_>) -> Result<Genuine, Refusal> {
    // Svix, from which the standard comes, still sends its own names for the headers.
    let header = |name: &str, old: &str| {
        let value = check
            .request
            .header(name)
            .or_else(|| check.request.header(old));
        value.ok_or_else(|| Refusal::Missing(name.to_owned()))
    };
    let id = header("webhook-id", "svix-id")?;
    let time = header("webhook-timestamp", "svix-timestamp")?;
    let signatures = header("webhook-signature", "svix-signature")?;
    let parts: [&[u8]; 5] = [
        id.as_bytes(),
        b".",
        time.as_bytes(),
        b".",
        &check.request.body,
    ];
    let mut genuine = false;
    for signature in signatures.split(' ') {
        for secret in check.secrets {
            genuine |= one(signature, secret, &parts);
        }
    }
    if !genuine {
        return Err(Refusal::Signature);
    }
    check.in_time(time)?;
    Ok(Genuine {
        delivery: Some(id.to_owned()),
    })
}

/// Whether one of the listed signatures matches one of the secrets. A public key checks `v1a`
/// signatures only, a shared secret `v1` only: else the public key would serve as a secret.
fn one(signature: &str, secret: &Secret, parts: &[&[u8]; 5]) -> bool {
    let Some((version, text)) = signature.split_once(',') else {
        return false;
    };
    let Some(signature) = decode(text) else {
        return false;
    };
    match (version, secret.expose().strip_prefix("whpk_")) {
        ("v1a", Some(key)) => asymmetric(key, parts, &signature).unwrap_or(false),
        ("v1", None) => {
            let secret = secret.expose();
            let Some(key) = decode(secret.strip_prefix("whsec_").unwrap_or(secret)) else {
                return false;
            };
            mac::matches(HmacAlgorithm::Sha256, &key, parts, &signature)
        }
        _ => false,
    }
}

fn asymmetric(key: &str, parts: &[&[u8]; 5], signature: &[u8]) -> Option<bool> {
    let key = VerifyingKey::from_bytes(&decode(key)?.try_into().ok()?).ok()?;
    let signature = Signature::from_slice(signature).ok()?;
    Some(key.verify_strict(&parts.concat(), &signature).is_ok())
}
