//! Being let in.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use definition::{Auth, OAuth2, Text};
use http::{HeaderName, HeaderValue, StatusCode, header::AUTHORIZATION};
use jiff::Timestamp;
use oauth2::{
    AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RequestTokenError, Scope,
    TokenResponse, TokenUrl, basic::BasicClient,
};
use ports::{Clock, SecretError, Secrets, SourceError};
use serde_json::Value as Json;
use tokio::sync::Mutex;

use crate::{
    Answer,
    body::{self, BodyError},
    client::{passes, transport_error},
};

/// Gives the header that lets a request in.
///
/// Tokens are kept until shortly before they end. While one worker asks for a new one the
/// others wait for it: one expiry makes one request.
#[derive(Debug)]
pub struct Authorizer {
    auth: Auth,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    http: reqwest::Client,
    token: Mutex<Option<Token>>,
}

/// How old a secret may be that is kept. A map that is pulled every five minutes would pay more for
/// reading its secret each time than for all else.
const KEPT: Duration = Duration::from_hours(1);

/// How old a secret may be.
#[derive(Debug, Clone, Copy)]
enum Age {
    /// As it is now.
    Now,
    /// As it is kept.
    Kept,
}

#[derive(Debug, Clone)]
struct Token {
    header: HeaderValue,
    renew: Timestamp,
}

/// How long before its end a token is renewed; a tenth of its life if that is shorter.
const EARLY: Duration = Duration::from_mins(5);
/// Life of a token whose issuer does not state one.
const DEFAULT_LIFE: Duration = Duration::from_mins(10);
/// Longest time a token is used: what says that it lives longer may give no life but an end.
const LONGEST_LIFE: Duration = Duration::from_hours(24);
/// Largest answer of a token service that is read.
const MAX_TOKEN: usize = 1024 * 1024;

fn refused(what: String) -> SourceError {
    SourceError::Auth { what }
}

fn unavailable(what: String) -> SourceError {
    SourceError::Unavailable {
        what,
        retry_after: None,
    }
}

impl Authorizer {
    /// Authorizes by `auth`, asking token services through `http`.
    #[must_use]
    pub fn new(
        auth: Auth,
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
        http: reqwest::Client,
    ) -> Self {
        Self {
            auth,
            secrets,
            clock,
            http,
            token: Mutex::default(),
        }
    }

    /// The value of a text that may be a secret.
    pub async fn text(&self, text: &Text) -> Result<String, SourceError> {
        match text {
            Text::Plain(text) => Ok(text.clone()),
            Text::Secret(name) => self.secret(name, Age::Now).await,
        }
    }

    async fn secret(&self, name: &str, age: Age) -> Result<String, SourceError> {
        let secret = match age {
            Age::Now => self.secrets.get(name).await,
            Age::Kept => self.secrets.within(name, KEPT).await,
        };
        match secret {
            Ok(secret) => Ok(secret.expose().to_owned()),
            Err(error @ SecretError::Unavailable { .. }) => Err(unavailable(error.to_string())),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// The header for the next request, if any is needed. Secrets in it may be an hour old: one
    /// that was changed is found when the old one is refused.
    pub async fn header(&self) -> Result<Option<(HeaderName, HeaderValue)>, SourceError> {
        self.header_of(Age::Kept).await
    }

    async fn header_of(&self, age: Age) -> Result<Option<(HeaderName, HeaderValue)>, SourceError> {
        let authorization = |text: String| Ok(Some((AUTHORIZATION, sensitive(&text)?)));
        match &self.auth {
            Auth::None => Ok(None),
            Auth::Basic { user, password } => {
                let user = match user {
                    Text::Plain(user) => user.clone(),
                    Text::Secret(user) => self.secret(user, age).await?,
                };
                let password = self.secret(password, age).await?;
                Ok(Some((AUTHORIZATION, basic(&user, &password)?)))
            }
            Auth::Bearer { token } => {
                authorization(format!("Bearer {}", self.secret(token, age).await?))
            }
            Auth::Header { name, value } => {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| refused(format!("`{name}` is no name for a header")))?;
                Ok(Some((name, sensitive(&self.secret(value, age).await?)?)))
            }
            Auth::OAuth2(oauth2) => Ok(Some((AUTHORIZATION, self.bearer(oauth2).await?))),
        }
    }

    /// Says whether the next request will bring something else than what was refused with
    /// `status`: a new token, or a secret that has been changed.
    pub async fn refuse(&self, status: StatusCode, refused: Option<&HeaderValue>) -> bool {
        match &self.auth {
            Auth::None => false,
            Auth::OAuth2(_) => status == StatusCode::UNAUTHORIZED && self.forget(refused).await,
            // Where a secret that cannot be read now is the reason, the next request says so.
            _ => match self.header_of(Age::Now).await {
                Ok(header) => header.as_ref().map(|(_, value)| value) != refused,
                Err(_) => false,
            },
        }
    }

    /// Forgets the token that was refused, so that the next request asks for a new one.
    async fn forget(&self, refused: Option<&HeaderValue>) -> bool {
        let mut token = self.token.lock().await;
        // Another worker may have a newer one already.
        if token.as_ref().map(|token| &token.header) == refused {
            *token = None;
        }
        true
    }

    async fn bearer(&self, oauth2: &OAuth2) -> Result<HeaderValue, SourceError> {
        let mut token = self.token.lock().await;
        let now = self.clock.now();
        if let Some(token) = token.as_ref().filter(|token| now < token.renew) {
            return Ok(token.header.clone());
        }
        let (text, life) = self.request(oauth2).await?;
        let header = sensitive(&format!("Bearer {text}"))?;
        let renew = now.checked_add(life.saturating_sub(EARLY.min(life / 10)));
        let renew = renew.unwrap_or(now);
        *token = Some(Token {
            header: header.clone(),
            renew,
        });
        Ok(header)
    }

    async fn request(&self, oauth2: &OAuth2) -> Result<(String, Duration), SourceError> {
        let at = &oauth2.token_url;
        let bad_url = |error: oauth2::url::ParseError| {
            refused(format!("token_url `{at}` is no address: {error}"))
        };
        let client = BasicClient::new(ClientId::new(self.text(&oauth2.client).await?))
            .set_client_secret(ClientSecret::new(
                self.secret(&oauth2.secret, Age::Now).await?,
            ))
            .set_token_uri(TokenUrl::new(at.clone()).map_err(bad_url)?)
            .set_auth_type(AuthType::RequestBody);
        let mut request = client.exchange_client_credentials();
        for scope in oauth2
            .scope
            .iter()
            .flat_map(|scopes| scopes.split_whitespace())
        {
            request = request.add_scope(Scope::new(scope.to_owned()));
        }
        for (name, value) in &oauth2.params {
            request = request.add_extra_param(name.clone(), value.clone());
        }
        let send = |request: HttpRequest| {
            let (http, clock) = (self.http.clone(), Arc::clone(&self.clock));
            send(http, clock, at.clone(), request)
        };
        match request.request_async(&send).await {
            Ok(token) => {
                let life = token.expires_in().unwrap_or(DEFAULT_LIFE);
                Ok((token.access_token().secret().clone(), life))
            }
            Err(RequestTokenError::ServerResponse(error))
                if matches!(
                    error.error().as_ref(),
                    "temporarily_unavailable" | "server_error"
                ) =>
            {
                Err(unavailable(format!("no token from {at}: {error}")))
            }
            Err(RequestTokenError::ServerResponse(error)) => Err(refused(format!(
                "{at} refuses a token: {error}: check client, secret and scope"
            ))),
            Err(RequestTokenError::Request(error)) => Err(error),
            Err(RequestTokenError::Parse(error, _)) => {
                let what = format!("{at} did not answer with a token: {error}");
                Err(SourceError::Garbled { what })
            }
            Err(RequestTokenError::Other(text)) => {
                Err(unavailable(format!("no token from {at}: {text}")))
            }
        }
    }
}

/// Asks a token service. Trouble that passes is told apart here, before anything is made of
/// the body: in it, it looks like a refusal.
async fn send(
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    at: String,
    request: HttpRequest,
) -> Result<HttpResponse, SourceError> {
    let what = format!("asking {at} for a token");
    let asked = clock.now();
    let (parts, body) = request.into_parts();
    let sent = http
        .request(parts.method, parts.uri.to_string())
        .headers(parts.headers)
        .body(body)
        .send()
        .await
        .map_err(|error| transport_error(&what, error))?;
    let (status, headers) = (sent.status(), sent.headers().clone());
    let body = body::read(sent, MAX_TOKEN)
        .await
        .map_err(|error| match error {
            BodyError::Broken(error) => transport_error(&what, error).into(),
            BodyError::TooLarge => SourceError::Garbled {
                what: format!("{at} answered with more than {} MiB", MAX_TOKEN >> 20),
            },
        })?;
    let answer = Answer {
        status,
        headers,
        body,
        asked,
        what,
        leads: None,
    };
    if let Some(error) = answer.trouble(clock.now()).filter(passes) {
        return Err(error);
    }
    let mut response = HttpResponse::new(with_plain_life(&answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

/// The answer of a token service with the life of the token as a whole number of seconds: some
/// write it as text.
fn with_plain_life(body: &[u8]) -> Vec<u8> {
    let Ok(mut token) = serde_json::from_slice::<serde_json::Map<String, Json>>(body) else {
        return body.to_vec();
    };
    let life = token.remove("expires_in").and_then(|life| match life {
        Json::Number(seconds) => seconds.as_f64(),
        Json::String(seconds) => seconds.trim().parse().ok(),
        _ => None,
    });
    let life = life.filter(|seconds| *seconds >= 0.0);
    let life = life.and_then(|seconds: f64| {
        Duration::try_from_secs_f64(seconds.min(LONGEST_LIFE.as_secs_f64())).ok()
    });
    if let Some(life) = life {
        token.insert("expires_in".into(), life.as_secs().into());
    }
    Json::Object(token).to_string().into()
}

/// The header of basic authentication (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> Result<HeaderValue, SourceError> {
    let pair = STANDARD.encode(format!("{user}:{password}"));
    sensitive(&format!("Basic {pair}"))
}

fn sensitive(text: &str) -> Result<HeaderValue, SourceError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        refused("a secret has a character that no header can hold, such as a line end".into())
    })?;
    value.set_sensitive(true);
    Ok(value)
}
