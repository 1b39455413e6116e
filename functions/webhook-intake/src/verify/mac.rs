//! Hash-based message authentication codes, and the senders that use nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use definition::{HmacAlgorithm, HmacEncoding, HmacScheme};
use hmac::{Hmac, KeyInit, Mac};
use ports::Secret;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::{Check, Genuine};
use crate::Refusal;

/// Whether `signature` is the code of `parts`, joined, under `key`. Takes the same time
/// wherever they differ.
pub(super) fn matches(
    algorithm: HmacAlgorithm,
    key: &[u8],
    parts: &[&[u8]],
    signature: &[u8],
) -> bool {
    macro_rules! check {
        ($hash:ty) => {{
            // Any length of key is good for HMAC.
            let Ok(mut mac) = Hmac::<$hash>::new_from_slice(key) else {
                return false;
            };
            for part in parts {
                mac.update(part);
            }
            mac.verify_slice(signature).is_ok()
        }};
    }
    match algorithm {
        HmacAlgorithm::Sha256 => check!(Sha256),
        HmacAlgorithm::Sha384 => check!(Sha384),
        HmacAlgorithm::Sha512 => check!(Sha512),
        HmacAlgorithm::Sha1 => check!(Sha1),
    }
}

/// Whether a signature matches under any of the secrets, taken as text.
fn any(secrets: &[Secret], algorithm: HmacAlgorithm, parts: &[&[u8]], signature: &[u8]) -> bool {
    secrets.iter().fold(false, |found, secret| {
        found | matches(algorithm, secret.expose().as_bytes(), parts, signature)
    })
}

fn decode(text: &str, encoding: HmacEncoding) -> Result<Vec<u8>, Refusal> {
    match encoding {
        HmacEncoding::Hex => hex::decode(text).map_err(|_| Refusal::Signature),
        HmacEncoding::Base64 => STANDARD.decode(text).map_err(|_| Refusal::Signature),
    }
}

fn over_body(check: &Check<'_>, signature: &str, encoding: HmacEncoding) -> Result<(), Refusal> {
    let signature = decode(signature, encoding)?;
    if any(
        check.secrets,
        HmacAlgorithm::Sha256,
        &[&check.request.body],
        &signature,
    ) {
        Ok(())
    } else {
        Err(Refusal::Signature)
    }
}

/// GitHub: `X-Hub-Signature-256: sha256=<hex>` over the body. There is no signed time.
pub(super) fn github(check: &Check<'_>) -> Result<Genuine, Refusal> {
    let header = check.header("x-hub-signature-256")?;
    let signature = header.strip_prefix("sha256=").ok_or(Refusal::Signature)?;
    over_body(check, signature, HmacEncoding::Hex)?;
    Ok(Genuine {
        delivery: check.request.header("x-github-delivery").map(str::to_owned),
    })
}

/// Shopify: `X-Shopify-Hmac-Sha256: <base64>` over the body. There is no signed time.
pub(super) fn shopify(check: &Check<'_>) -> Result<Genuine, Refusal> {
    over_body(
        check,
        check.header("x-shopify-hmac-sha256")?,
        HmacEncoding::Base64,
    )?;
    Ok(Genuine {
        delivery: check
            .request
            .header("x-shopify-webhook-id")
            .map(str::to_owned),
    })
}

/// A scheme described by its parts.
pub(super) fn declared(check: &Check<'_>, scheme: &HmacScheme) -> Result<Genuine, Refusal> {
    let header = check.header(&scheme.header)?;
    let text = header
        .strip_prefix(scheme.prefix.as_str())
        .ok_or(Refusal::Signature)?;
    let signature = decode(text, scheme.encoding)?;
    let named = |name: &Option<String>| match name {
        Some(name) => check.header(name).map(Some),
        None => Ok(None),
    };
    let (time, id) = (named(&scheme.timestamp)?, named(&scheme.id)?);
    let parts = fill(
        &scheme.signed,
        &check.request.body,
        time.unwrap_or_default(),
        id.unwrap_or_default(),
    );
    if !any(check.secrets, scheme.algorithm, &parts, &signature) {
        return Err(Refusal::Signature);
    }
    if let Some(time) = time {
        check.in_time(time)?;
    }
    Ok(Genuine {
        delivery: id.map(str::to_owned),
    })
}

/// The parts of a template such as `{id}.{timestamp}.{body}`, filled in.
fn fill<'p>(template: &'p str, body: &'p [u8], time: &'p str, id: &'p str) -> Vec<&'p [u8]> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        parts.push(before.as_bytes());
        let known: [(&str, &[u8]); 3] = [
            ("{body}", body),
            ("{timestamp}", time.as_bytes()),
            ("{id}", id.as_bytes()),
        ];
        if let Some((name, value)) = known.into_iter().find(|(name, _)| after.starts_with(name)) {
            parts.push(value);
            rest = &after[name.len()..];
        } else {
            parts.push(b"{");
            rest = &after[1..];
        }
    }
    parts.push(rest.as_bytes());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_in_order() {
        let filled = |template| fill(template, b"BODY", "7", "id1").concat();
        assert_eq!(filled("{id}.{timestamp}.{body}"), b"id1.7.BODY");
        assert_eq!(filled("v0:{timestamp}:{body}"), b"v0:7:BODY");
        assert_eq!(filled("{x}{body}{"), b"{x}BODY{");
    }
}
