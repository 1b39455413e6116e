//! Hash-based message authentication codes, and the senders that use nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use definition::{HmacAlgorithm, HmacEncoding, HmacScheme};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use ports::Secret;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::{Check, Genuine, MOST_SIGNATURES, unix_seconds};
use crate::Refusal;

/// Whether one of `signatures` is the code of `parts`, joined, under `key`. The code is
/// computed once, and comparing takes the same time wherever they differ.
pub(super) fn matches(
    algorithm: HmacAlgorithm,
    key: &[u8],
    parts: &[&[u8]],
    signatures: &[Vec<u8>],
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
            signatures.iter().fold(false, |found, signature| {
                found | mac.clone().verify_slice(signature).is_ok()
            })
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
pub(super) fn any(
    secrets: &[Secret],
    algorithm: HmacAlgorithm,
    parts: &[&[u8]],
    signatures: &[Vec<u8>],
) -> bool {
    secrets.iter().fold(false, |found, secret| {
        found | matches(algorithm, secret.expose().as_bytes(), parts, signatures)
    })
}

fn decode(text: &str, encoding: HmacEncoding) -> Option<Vec<u8>> {
    match encoding {
        HmacEncoding::Hex => hex::decode(text).ok(),
        HmacEncoding::Base64 => STANDARD.decode(text).ok(),
    }
}

fn over_body(check: &Check<'_>, signature: &str, encoding: HmacEncoding) -> Result<(), Refusal> {
    let signatures: Vec<Vec<u8>> = decode(signature, encoding).into_iter().collect();
    if any(
        check.secrets,
        HmacAlgorithm::Sha256,
        &[&check.request.body],
        &signatures,
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

/// A scheme described by its parts. The header may list several signatures, with commas or
/// blanks between them, as senders do while they rotate secrets.
pub(super) fn declared(check: &Check<'_>, scheme: &HmacScheme) -> Result<Genuine, Refusal> {
    let header = check.header(&scheme.header)?;
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
    let signatures: Vec<Vec<u8>> = listed(header, &scheme.prefix)
        .into_iter()
        .filter_map(|text| decode(text, scheme.encoding))
        .collect();
    if !any(check.secrets, scheme.algorithm, &parts, &signatures) {
        return Err(Refusal::Signature);
    }
    if let Some(time) = time {
        check.in_time(any_time(time))?;
    }
    Ok(Genuine {
        delivery: id.map(str::to_owned),
    })
}

/// The signatures in a header, without the text before each.
fn listed<'h>(header: &'h str, prefix: &str) -> Vec<&'h str> {
    const BETWEEN: [char; 2] = [',', ' '];
    // A prefix that ends with a blank itself, as in `HMAC <signature>`, stands once.
    if prefix.contains(BETWEEN) {
        return header.strip_prefix(prefix).into_iter().collect();
    }
    let parts = header.split(BETWEEN).take(MOST_SIGNATURES);
    parts.filter_map(|part| part.strip_prefix(prefix)).collect()
}

/// Reads the forms in which senders write the time: seconds or milliseconds of Unix time, or
/// RFC 3339. Milliseconds are told by their size: as seconds they would be 30,000 years ahead.
fn any_time(text: &str) -> Option<Timestamp> {
    match text.parse::<i64>() {
        Ok(millis) if millis.unsigned_abs() >= 1_000_000_000_000 => {
            Timestamp::from_millisecond(millis).ok()
        }
        Ok(_) => unix_seconds(text),
        Err(_) => text.parse().ok(),
    }
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
