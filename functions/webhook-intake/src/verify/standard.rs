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

use super::{Check, Genuine, MOST_SIGNATURES, mac, unix_seconds};
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
    let (mut symmetric, mut asymmetric) = (Vec::new(), Vec::new());
    for signature in signatures.split(' ').take(MOST_SIGNATURES) {
        match signature.split_once(',') {
            Some(("v1", text)) => symmetric.extend(decode(text)),
            Some(("v1a", text)) => asymmetric.extend(decode(text)),
            _ => {}
        }
    }
    // A public key checks `v1a` only, a shared one `v1` only: else whoever knows the public
    // key could sign with it.
    let genuine = check
        .secrets
        .iter()
        .filter_map(Key::read)
        .fold(false, |found, key| {
            found
                | match key {
                    Key::Shared(key) => {
                        mac::matches(HmacAlgorithm::Sha256, &key, &parts, &symmetric)
                    }
                    Key::Public(key) => signed(&key, &parts.concat(), &asymmetric),
                }
        });
    if !genuine {
        return Err(Refusal::Signature);
    }
    check.in_time(unix_seconds(time))?;
    Ok(Genuine {
        delivery: Some(id.to_owned()),
    })
}

/// What signatures are checked with.
enum Key {
    /// Signs as well: `v1`.
    Shared(Vec<u8>),
    /// Cannot sign: `v1a`.
    Public(VerifyingKey),
}

impl Key {
    fn read(secret: &Secret) -> Option<Self> {
        let text = secret.expose();
        match text.strip_prefix("whpk_") {
            Some(key) => VerifyingKey::from_bytes(&decode(key)?.try_into().ok()?)
                .ok()
                .map(Self::Public),
            None => decode(text.strip_prefix("whsec_").unwrap_or(text))
                .filter(|key| !key.is_empty())
                .map(Self::Shared),
        }
    }
}

pub(super) fn unusable(secret: &Secret) -> Option<&'static str> {
    Key::read(secret).is_none().then_some(
        "is neither `whsec_` with the base64 of a shared key nor `whpk_` with that of an Ed25519 public key",
    )
}

fn signed(key: &VerifyingKey, message: &[u8], signatures: &[Vec<u8>]) -> bool {
    signatures.iter().any(|signature| {
        Signature::from_slice(signature)
            .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
    })
}
