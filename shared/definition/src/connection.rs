//! Connections.

use std::time::Duration;

use serde::Serialize;

use crate::node::Node;

/// An outside system.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Connection {
    /// What it speaks.
    pub kind: ConnectionKind,
    /// Where it is: an address, or for SQLite a file.
    pub url: Text,
    /// How to be let in.
    pub auth: Auth,
    /// Headers for every request.
    pub headers: Vec<(String, Text)>,
    /// What it may be asked to bear.
    pub limits: Limits,
}

impl Connection {
    /// The names of its secrets, each with the place below the connection where it stands.
    #[must_use]
    pub fn secrets(&self) -> Vec<(String, &str)> {
        let mut found: Vec<(String, &str)> = named("url", &self.url).into_iter().collect();
        match &self.auth {
            Auth::None => {}
            Auth::Basic { user, password } => {
                found.extend(named("auth.basic.user", user));
                found.push(("auth.basic.password".to_owned(), password));
            }
            Auth::Bearer { token } => found.push(("auth.bearer".to_owned(), token)),
            Auth::Header { value, .. } => found.push(("auth.header.value".to_owned(), value)),
            Auth::OAuth2(oauth2) => {
                found.extend(named("auth.oauth2.client", &oauth2.client));
                found.push(("auth.oauth2.secret".to_owned(), &oauth2.secret));
            }
        }
        for (name, value) in &self.headers {
            found.extend(named(&format!("headers.{name}"), value));
        }
        found
    }
}

/// The secret that a text is, with the place where it is named.
fn named<'t>(at: &str, text: &'t Text) -> Option<(String, &'t str)> {
    match text {
        Text::Secret(name) => Some((at.to_owned(), name)),
        Text::Plain(_) => None,
    }
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionKind {
    /// OData 4.0 or 4.01; can be read.
    Odata,
    /// JSON over HTTP; can be read.
    Rest,
    /// Any HTTP endpoint; can be written.
    Http,
    /// PostgreSQL; can be read and written.
    Postgres,
    /// An SQLite file; can be written.
    Sqlite,
}

impl ConnectionKind {
    /// Whether maps can read from it.
    #[must_use]
    pub fn is_source(self) -> bool {
        matches!(self, Self::Odata | Self::Rest | Self::Postgres)
    }

    /// Whether maps can write to it.
    #[must_use]
    pub fn is_target(self) -> bool {
        matches!(self, Self::Http | Self::Postgres | Self::Sqlite)
    }

    /// Whether one record of any of its streams can be read again by its key.
    #[must_use]
    pub fn fetches(self) -> bool {
        matches!(self, Self::Odata | Self::Postgres)
    }

    /// Whether it is spoken to over HTTP.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Odata | Self::Rest | Self::Http)
    }

    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Odata => "odata",
            Self::Rest => "rest",
            Self::Http => "http",
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Text in the file, or the name of a secret that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Text {
    /// The text itself.
    Plain(String),
    /// `secret://name`.
    Secret(String),
}

/// How to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Not at all.
    None,
    /// HTTP basic authentication.
    Basic {
        /// User name.
        user: Text,
        /// Name of the secret with the password.
        password: String,
    },
    /// `Authorization: Bearer`.
    Bearer {
        /// Name of the secret with the token.
        token: String,
    },
    /// A header of its own.
    Header {
        /// Name of the header.
        name: String,
        /// Name of the secret with its value.
        value: String,
    },
    /// OAuth 2.0 client credentials (RFC 6749 §4.4).
    OAuth2(OAuth2),
}

/// OAuth 2.0 client credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OAuth2 {
    /// Where tokens are had.
    pub token_url: String,
    /// Client id.
    pub client: Text,
    /// Name of the secret with the client's secret.
    pub secret: String,
    /// Scopes, separated by blanks.
    pub scope: Option<String>,
    /// Further parameters of the request, such as `audience` or `resource`.
    pub params: Vec<(String, String)>,
}

/// What a connection may be asked to bear.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Calls at the same time, of one process: 10 of an endpoint (`kind: http`), 4 of others.
    pub concurrency: u32,
    /// Calls per second on average, of all processes together.
    pub rate: Option<f64>,
    /// How long one call may take.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: 4,
            rate: None,
            timeout: Duration::from_mins(1),
        }
    }
}

impl Limits {
    /// What a connection of a kind bears where nothing is said of it. A call of an endpoint carries
    /// one row and is mostly waited for, which costs as much as work does.
    fn of(kind: Option<ConnectionKind>) -> Self {
        let default = Self::default();
        match kind {
            Some(ConnectionKind::Http) => Self {
                concurrency: 10,
                ..default
            },
            _ => default,
        }
    }
}

pub(crate) const KEYS: &[&str] = &["kind", "url", "auth", "headers", "limits"];
pub(crate) const LIMIT_KEYS: &[&str] = &["concurrency", "rate", "timeout"];
pub(crate) const AUTH_KEYS: &[&str] = &["none", "basic", "bearer", "header", "oauth2"];
pub(crate) const OAUTH2_KEYS: &[&str] = &["token_url", "client", "secret", "scope", "params"];

const KINDS: &[(&str, ConnectionKind)] = &[
    ("odata", ConnectionKind::Odata),
    ("rest", ConnectionKind::Rest),
    ("http", ConnectionKind::Http),
    ("postgres", ConnectionKind::Postgres),
    ("sqlite", ConnectionKind::Sqlite),
];

pub(crate) fn read(node: &Node<'_>) -> Option<Connection> {
    let section = node.map("a connection", KEYS)?;
    let kind = section.required("kind").and_then(|node| node.choice(KINDS));
    let url = section.required("url").and_then(text);
    let auth = section.get("auth").map_or(Some(Auth::None), read_auth);
    let limits = section
        .get("limits")
        .map_or(Some(Limits::of(kind)), |node| read_limits(node, kind));
    let headers = section
        .get("headers")
        .map_or(Some(Vec::new()), read_headers);
    let (kind, url) = (kind?, url?);
    if let Some(at) = section.get("url") {
        check_url(at, kind, &url);
    }
    if !kind.is_http() && section.get("headers").is_some() {
        node.error(
            "useless-key",
            format!("a connection of kind {} sends no headers", kind.as_str()),
        );
    }
    Some(Connection {
        kind,
        url,
        auth: auth?,
        headers: headers?,
        limits: limits?,
    })
}

fn check_url(node: &Node<'_>, kind: ConnectionKind, url: &Text) {
    let Text::Plain(url) = url else { return };
    let schemes: &[&str] = match kind {
        ConnectionKind::Odata | ConnectionKind::Rest | ConnectionKind::Http => {
            &["https://", "http://"]
        }
        ConnectionKind::Postgres => &["postgres://", "postgresql://"],
        ConnectionKind::Sqlite => return,
    };
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        let message = format!(
            "the url of a connection of kind {} begins with {}",
            kind.as_str(),
            schemes[0]
        );
        node.error("invalid-url", message);
    }
    let authority = url.split_once("://").map_or("", |(_, rest)| {
        rest.split(['/', '?', '#']).next().unwrap_or("")
    });
    if authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
    {
        literal_secret(node, "url");
    }
}

fn literal_secret(node: &Node<'_>, what: &str) {
    node.error_help(
        "literal-secret",
        format!("`{what}` holds a secret in plain text"),
        "write secret://name here and keep the value in the environment variable SYNCLINE_SECRET_NAME or in the file secrets/name",
    );
}

/// Text, or a reference to a secret.
pub(crate) fn text(node: &Node<'_>) -> Option<Text> {
    let text = node.text()?;
    match text.strip_prefix("secret://") {
        Some(name) => secret_name(node, name).map(Text::Secret),
        None => Some(Text::Plain(text)),
    }
}

/// A reference to a secret; text that is none is refused.
pub(crate) fn secret(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    let Some(name) = text.strip_prefix("secret://") else {
        let key = node.path.rsplit('.').next().unwrap_or_default();
        literal_secret(node, key);
        return None;
    };
    secret_name(node, name)
}

fn secret_name(node: &Node<'_>, name: &str) -> Option<String> {
    let good = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && name.len() <= 100;
    if !good {
        node.error(
            "invalid-name",
            format!("`{name}` is no name for a secret: use letters, digits, - and _"),
        );
    }
    good.then(|| name.to_owned())
}

fn read_headers(node: &Node<'_>) -> Option<Vec<(String, Text)>> {
    let entries = node.entries("headers")?;
    entries
        .into_iter()
        .map(|(name, node)| Some((name, text(&node)?)))
        .collect()
}

fn read_limits(node: &Node<'_>, kind: Option<ConnectionKind>) -> Option<Limits> {
    let section = node.map("limits", LIMIT_KEYS)?;
    let default = Limits::of(kind);
    let concurrency = section
        .get("concurrency")
        .map_or(Some(default.concurrency), |n| n.count(1, 1_000))?;
    let timeout = section
        .get("timeout")
        .map_or(Some(default.timeout), Node::duration)?;
    let rate = match section.get("rate") {
        Some(node) => Some(node.rate()?),
        None => None,
    };
    Some(Limits {
        concurrency,
        rate,
        timeout,
    })
}

fn read_auth(node: &Node<'_>) -> Option<Auth> {
    if !node.is_mapping() {
        return node.choice(&[("none", ())]).map(|()| Auth::None);
    }
    let section = node.map("auth", AUTH_KEYS)?;
    let kinds: Vec<&str> = section.keys().collect();
    let [kind] = kinds[..] else {
        node.error("ambiguous", "auth needs exactly one way of being let in");
        return None;
    };
    let inner = section.required(kind)?;
    match kind {
        "none" => Some(Auth::None),
        "basic" => {
            let basic = inner.map("basic", &["user", "password"])?;
            let (user, password) = (basic.required("user"), basic.required("password"));
            Some(Auth::Basic {
                user: user.and_then(text)?,
                password: password.and_then(secret)?,
            })
        }
        "bearer" => Some(Auth::Bearer {
            token: secret(inner)?,
        }),
        "header" => {
            let header = inner.map("header", &["name", "value"])?;
            let (name, value) = (header.required("name"), header.required("value"));
            Some(Auth::Header {
                name: name.and_then(Node::text)?,
                value: value.and_then(secret)?,
            })
        }
        _ => read_oauth2(inner).map(Auth::OAuth2),
    }
}

fn token_url(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    if !["https://", "http://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
    {
        node.error(
            "invalid-url",
            "the address of a token service begins with https://",
        );
    }
    Some(text)
}

fn read_oauth2(node: &Node<'_>) -> Option<OAuth2> {
    let section = node.map("oauth2", OAUTH2_KEYS)?;
    let token_url = section.required("token_url").and_then(token_url);
    let client = section.required("client").and_then(text);
    let secret_name = section.required("secret").and_then(secret);
    let scope = section.get("scope").and_then(Node::text);
    let params = match section.get("params") {
        Some(node) => node
            .entries("parameters")?
            .into_iter()
            .map(|(name, node)| Some((name, node.text()?)))
            .collect::<Option<Vec<_>>>()?,
        None => Vec::new(),
    };
    Some(OAuth2 {
        token_url: token_url?,
        client: client?,
        secret: secret_name?,
        scope,
        params,
    })
}
