//! Webhooks of a map.

use std::time::Duration;

use serde::Serialize;

use crate::{connection, node::Node};

/// How a map takes webhooks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Webhook {
    /// The last part of the address, `/hooks/{endpoint}`. Maps may share one.
    pub endpoint: String,
    /// How a request proves where it comes from.
    pub scheme: Scheme,
    /// Names of the secrets that are good now: one, or two during a rotation.
    pub secrets: Vec<String>,
    /// How old or how early a signed time may be.
    pub tolerance: Duration,
    /// Where a delivery's own name is said, when the scheme does not know it or it should be
    /// another one. Attempts at one delivery have one name.
    pub delivery: Option<EventRule>,
    /// How long a delivery's name is remembered: the sender's whole retry horizon.
    pub remember: Duration,
    /// Where in the body the record is, or a list of records; empty when it is the body.
    pub record: Vec<String>,
    /// Where in the record the key fields are, when they have other names there.
    pub key: Vec<(String, Vec<String>)>,
    /// Whether the body holds the whole record or only tells that it has changed.
    pub mode: WebhookMode,
    /// Where the kind of event is said.
    pub event: Option<EventRule>,
    /// What kinds of event mean. A kind that is not listed is no news for this map.
    pub ops: Vec<OpRule>,
}

/// Where a request says something of itself: its kind of event, its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventRule {
    /// In a header.
    Header(String),
    /// In the body.
    Body(Vec<String>),
}

/// What a kind of event means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpRule {
    /// The kind; one that ends with `*` means all that begin so.
    pub event: String,
    /// The operation; `None` is "no news for this map".
    pub op: Option<model::Op>,
}

/// Whether a webhook holds the whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WebhookMode {
    /// It does.
    Full,
    /// It holds at least the key; the record is read from the source.
    Touch,
}

/// How a request proves where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Standard Webhooks, `v1` and `v1a`.
    Standard,
    /// GitHub's `X-Hub-Signature-256`.
    Github,
    /// Stripe's `Stripe-Signature`.
    Stripe,
    /// Shopify's `X-Shopify-Hmac-Sha256`.
    Shopify,
    /// Dataverse: a header or query parameter with a fixed value.
    Dataverse {
        /// Name of the header, or of the query parameter with a leading `?`.
        carrier: String,
    },
    /// A header or query parameter with a fixed value.
    Header {
        /// Name of the header, or of the query parameter with a leading `?`.
        name: String,
    },
    /// Any other HMAC.
    Hmac(HmacScheme),
    /// Azure Event Grid, its own schema: a fixed value in a query parameter.
    EventGrid {
        /// Name of the query parameter.
        parameter: String,
    },
    /// CloudEvents 1.0 with the abuse-protection handshake: a fixed value in a query
    /// parameter or a header.
    CloudEvents {
        /// Name of the header, or of the query parameter with a leading `?`.
        carrier: String,
        /// The origins that may register.
        origins: Vec<String>,
    },
    /// None: anybody can send anything.
    Unsigned,
}

/// An HMAC described by its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HmacScheme {
    /// Header with the signature.
    pub header: String,
    /// Text before the signature in that header, such as `sha256=`.
    pub prefix: String,
    /// Hash function.
    pub algorithm: HmacAlgorithm,
    /// How the signature is written.
    pub encoding: HmacEncoding,
    /// What is signed: `{body}`, `{timestamp}`, `{id}` and any text between.
    pub signed: String,
    /// Header with the time of sending: seconds or milliseconds of Unix time, or RFC 3339.
    pub timestamp: Option<String>,
    /// Header with the name of the delivery.
    pub id: Option<String>,
}

/// Hash functions for HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HmacAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHA-1, for old senders only.
    Sha1,
}

/// Ways to write a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HmacEncoding {
    /// Hexadecimal.
    Hex,
    /// Base64.
    Base64,
}

pub(crate) const KEYS: &[&str] = &[
    "endpoint",
    "scheme",
    "secret",
    "tolerance",
    "remember",
    "delivery",
    "record",
    "key",
    "mode",
    "event",
    "ops",
    "hmac",
    "header",
    "carrier",
    "origins",
    "allow_unsigned",
];
pub(crate) const HMAC_KEYS: &[&str] = &[
    "header",
    "prefix",
    "algorithm",
    "encoding",
    "signed",
    "timestamp",
    "id",
];

#[derive(Clone, Copy)]
enum Kind {
    Standard,
    Github,
    Stripe,
    Shopify,
    Dataverse,
    Header,
    Hmac,
    EventGrid,
    CloudEvents,
    Unsigned,
}

const KINDS: &[(&str, Kind)] = &[
    ("standard", Kind::Standard),
    ("github", Kind::Github),
    ("stripe", Kind::Stripe),
    ("shopify", Kind::Shopify),
    ("dataverse", Kind::Dataverse),
    ("header", Kind::Header),
    ("hmac", Kind::Hmac),
    ("event-grid", Kind::EventGrid),
    ("cloud-events", Kind::CloudEvents),
    ("unsigned", Kind::Unsigned),
];

pub(crate) fn read(map: &str, node: &Node<'_>) -> Option<Webhook> {
    let section = node.map("webhook", KEYS)?;
    let kind = section
        .required("scheme")
        .and_then(|node| node.choice(KINDS))?;
    let scheme = read_scheme(kind, &section)?;
    let secrets = read_secrets(&scheme, &section)?;
    let duration =
        |key: &str, default: Duration| section.get(key).map_or(Some(default), Node::duration);
    let rule = |key: &str| match section.get(key) {
        Some(node) => read_rule(key, node).map(Some),
        None => Some(None),
    };
    let endpoint = match section.get("endpoint") {
        Some(node) => node
            .parse::<model::MapName>("invalid-name")?
            .as_str()
            .to_owned(),
        None => map.to_owned(),
    };
    let record = match section.get("record") {
        Some(node) => crate::stream::pointer(node)?,
        None => Vec::new(),
    };
    let modes = &[("full", WebhookMode::Full), ("touch", WebhookMode::Touch)];
    let thin = matches!(scheme, Scheme::Dataverse { .. });
    let default_mode = if thin {
        WebhookMode::Touch
    } else {
        WebhookMode::Full
    };
    Some(Webhook {
        endpoint,
        secrets,
        tolerance: duration("tolerance", Duration::from_mins(5))?,
        delivery: rule("delivery")?,
        remember: duration("remember", retry_horizon(&scheme))?,
        record,
        key: section.get("key").map_or(Some(Vec::new()), read_key)?,
        mode: section
            .get("mode")
            .map_or(Some(default_mode), |node| node.choice(modes))?,
        event: rule("event")?,
        ops: section.get("ops").map_or(Some(Vec::new()), read_ops)?,
        scheme,
    })
}

/// How long the sender tries, by its own documentation, with a margin.
fn retry_horizon(scheme: &Scheme) -> Duration {
    let days = match scheme {
        // Ten attempts over 75 hours and 35 minutes, with jitter; GitHub does not try again by
        // itself, but lets people do so for three days.
        Scheme::Standard | Scheme::Github => 4,
        // Three days, but resending by hand is possible for 30.
        Scheme::Stripe => 30,
        // 48 hours for Shopify, 24 for Event Grid; Dataverse tries once more, at once. What
        // others do is not known: their makers mostly say one day or less.
        _ => 3,
    };
    Duration::from_hours(days * 24)
}

fn read_secrets(scheme: &Scheme, section: &crate::node::Section<'_>) -> Option<Vec<String>> {
    if *scheme == Scheme::Unsigned {
        if let Some(node) = section.get("secret") {
            node.error("useless-key", "an unsigned webhook has no secret");
        }
        return Some(Vec::new());
    }
    let node = section.required("secret")?;
    let all = node.one_or_many();
    if all.is_empty() || all.len() > 2 {
        node.error(
            "out-of-range",
            "give one secret, or two while you rotate them",
        );
        return None;
    }
    all.iter().map(connection::secret).collect()
}

fn read_scheme(kind: Kind, section: &crate::node::Section<'_>) -> Option<Scheme> {
    let carrier = |default: &str| match section.get("carrier") {
        Some(node) => node.text(),
        None => Some(default.to_owned()),
    };
    Some(match kind {
        Kind::Standard => Scheme::Standard,
        Kind::Github => Scheme::Github,
        Kind::Stripe => Scheme::Stripe,
        Kind::Shopify => Scheme::Shopify,
        Kind::Dataverse => Scheme::Dataverse {
            carrier: carrier("?code")?,
        },
        Kind::Header => Scheme::Header {
            name: section.required("header")?.text()?,
        },
        Kind::Hmac => Scheme::Hmac(read_hmac(section.required("hmac")?)?),
        Kind::EventGrid => Scheme::EventGrid {
            parameter: carrier("?code")?.trim_start_matches('?').to_owned(),
        },
        Kind::CloudEvents => Scheme::CloudEvents {
            carrier: carrier("?code")?,
            origins: match section.get("origins") {
                Some(node) => read_origins(node)?,
                None => vec!["eventgrid.azure.net".into()],
            },
        },
        Kind::Unsigned => {
            let allowed = section.get("allow_unsigned").and_then(Node::boolean);
            if allowed != Some(true) {
                section.node().error_help(
                    "unsigned-webhook",
                    "without a signature anybody who knows the address can change your data",
                    "choose a scheme, or write `allow_unsigned: true` beside it if you mean it",
                );
                return None;
            }
            Scheme::Unsigned
        }
    })
}

fn read_origins(node: &Node<'_>) -> Option<Vec<String>> {
    let all = node.one_or_many();
    if all.is_empty() {
        node.error(
            "out-of-range",
            "without an origin nobody may register: name one, or leave `origins` out",
        );
    }
    all.iter().map(Node::text).collect()
}

fn read_hmac(node: &Node<'_>) -> Option<HmacScheme> {
    let section = node.map("hmac", HMAC_KEYS)?;
    let header = section.required("header").and_then(Node::text);
    let text = |key: &str, default: &str| match section.get(key) {
        Some(node) => node.text(),
        None => Some(default.to_owned()),
    };
    let algorithms = &[
        ("sha256", HmacAlgorithm::Sha256),
        ("sha384", HmacAlgorithm::Sha384),
        ("sha512", HmacAlgorithm::Sha512),
        ("sha1", HmacAlgorithm::Sha1),
    ];
    let encodings = &[("hex", HmacEncoding::Hex), ("base64", HmacEncoding::Base64)];
    let scheme = HmacScheme {
        header: header?,
        prefix: text("prefix", "")?,
        algorithm: section
            .get("algorithm")
            .map_or(Some(HmacAlgorithm::Sha256), |n| n.choice(algorithms))?,
        encoding: section
            .get("encoding")
            .map_or(Some(HmacEncoding::Hex), |n| n.choice(encodings))?,
        signed: text("signed", "{body}")?,
        timestamp: section.get("timestamp").and_then(Node::text),
        id: section.get("id").and_then(Node::text),
    };
    for (placeholder, known) in [("{timestamp}", &scheme.timestamp), ("{id}", &scheme.id)] {
        if scheme.signed.contains(placeholder) && known.is_none() {
            let key = placeholder.trim_matches(['{', '}']);
            node.error(
                "missing-key",
                format!("`signed` uses {placeholder}, so `{key}` must name its header"),
            );
        }
    }
    if !scheme.signed.contains("{body}") {
        node.error(
            "weak-signature",
            "`signed` does not contain {body}: the body could be exchanged",
        );
    }
    if scheme.timestamp.is_some() && !scheme.signed.contains("{timestamp}") {
        node.error_help(
            "weak-signature",
            "`signed` does not contain {timestamp}: the time could be exchanged, so it proves nothing",
            "add it where the sender does, or leave `timestamp` out",
        );
    }
    Some(scheme)
}

fn read_key(node: &Node<'_>) -> Option<Vec<(String, Vec<String>)>> {
    let entries = node.entries("key fields")?;
    let path = |text: String| text.split(['.', '/']).map(str::to_owned).collect();
    entries
        .into_iter()
        .map(|(field, node)| Some((field, path(node.text()?))))
        .collect()
}

fn read_rule(key: &str, node: &Node<'_>) -> Option<EventRule> {
    if !node.is_mapping() {
        let path = node.text()?.split(['.', '/']).map(str::to_owned).collect();
        return Some(EventRule::Body(path));
    }
    let section = node.map(key, &["header"])?;
    Some(EventRule::Header(section.required("header")?.text()?))
}

fn read_ops(node: &Node<'_>) -> Option<Vec<OpRule>> {
    let ops = &[
        ("upsert", Some(model::Op::Upsert)),
        ("delete", Some(model::Op::Delete)),
        ("touch", Some(model::Op::Touch)),
        ("ignore", None),
    ];
    let entries = node.entries("events")?;
    entries
        .into_iter()
        .map(|(event, node)| {
            Some(OpRule {
                event,
                op: node.choice(ops)?,
            })
        })
        .collect()
}
