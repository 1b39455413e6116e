//! One HTTP connection of a deployment: authenticated, limited, patient for a moment.

use std::{
    fmt,
    sync::{Arc, Once},
    time::Duration,
};

use definition::{Auth, Connection, Text};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, LOCATION},
};
use jiff::Timestamp;
use model::{ConnectionName, Lane, full_jitter};
use percent_encoding::percent_decode_str;
use ports::{Clock, Secrets, SourceError};
use runtime::{Pace, Rates};
use tokio::sync::Semaphore;

use crate::{
    Answer, Authorizer, Call, NoAnswer, Turn,
    auth::basic,
    body::{self, BodyError},
    respond::{without_login, without_query},
};

/// Largest body that is read.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// Attempts of one call, and the longest wait between two of them. What takes longer is for
/// the caller, who can come back later instead of waiting.
const ATTEMPTS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(3);
/// Redirections that a call follows.
const REDIRECTS: usize = 5;

/// A client for one connection.
pub struct HttpClient {
    name: ConnectionName,
    base: url::Url,
    /// Whether the address itself is a secret.
    hidden: bool,
    headers: HeaderMap,
    http: reqwest::Client,
    auth: Authorizer,
    places: Semaphore,
    pace: Pace,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("name", &self.name)
            .field("at", &self.shown(&self.base))
            .finish_non_exhaustive()
    }
}

fn provide_cryptography() {
    static ONCE: Once = Once::new();
    // An error means that the process has chosen a provider already.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

impl HttpClient {
    /// A client for a connection of a deployment.
    pub async fn new(
        name: ConnectionName,
        connection: &Connection,
        secrets: Arc<dyn Secrets>,
        rates: Rates,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SourceError> {
        let invalid = |what: String| SourceError::Invalid {
            what: format!("connection `{name}`: {what}"),
        };
        provide_cryptography();
        let http = reqwest::Client::builder()
            .user_agent(concat!("syncline/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .timeout(connection.limits.timeout)
            .pool_idle_timeout(Duration::from_secs(50))
            .tcp_nodelay(true)
            // Credentials go with every call, and a write that is redirected becomes a read
            // (RFC 9110 §15.4): which redirections are followed is decided here.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        let auth = Authorizer::new(
            connection.auth.clone(),
            secrets,
            Arc::clone(&clock),
            http.clone(),
        );
        let url = auth.text(&connection.url).await?;
        let base: url::Url = url
            .parse()
            .map_err(|error| invalid(format!("its url is no address: {error}")))?;
        if !base.has_host() {
            return Err(invalid("its url names no host".into()));
        }
        let mut headers = HeaderMap::new();
        for (header, text) in &connection.headers {
            let bad = || invalid(format!("header `{header}` cannot be sent"));
            let parsed = HeaderName::from_bytes(header.as_bytes()).map_err(|_| bad())?;
            let value = auth.text(text).await?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| bad())?;
            value.set_sensitive(matches!(text, Text::Secret(_)));
            headers.insert(parsed, value);
        }
        // Credentials in an address would be in every message and place that holds one.
        let free = match &connection.auth {
            Auth::None => true,
            // A door before the service may want a login as well.
            Auth::Header { name, .. } => !name.eq_ignore_ascii_case(AUTHORIZATION.as_str()),
            Auth::Basic { .. } | Auth::Bearer { .. } | Auth::OAuth2(_) => false,
        };
        if let Some(login) = login(&base).filter(|_| free) {
            headers.entry(AUTHORIZATION).or_insert(login?);
        }
        let base = without_login(base);
        Ok(Self {
            places: Semaphore::new(connection.limits.concurrency as usize),
            pace: Pace::new(name.clone(), connection.limits.rate, rates),
            hidden: matches!(connection.url, Text::Secret(_)),
            name,
            base,
            headers,
            http,
            auth,
            clock,
        })
    }

    /// The connection's address.
    #[must_use]
    pub fn base(&self) -> &url::Url {
        &self.base
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// An address as it may be shown: a query can hold tokens, and where the connection's
    /// address is a secret only what lies below it is none.
    #[must_use]
    pub fn shown(&self, url: &url::Url) -> String {
        if !self.hidden {
            return without_query(url);
        }
        let base = self.base.path().trim_end_matches('/');
        let below = url.path().strip_prefix(base).filter(|below| {
            url.origin() == self.base.origin() && (below.is_empty() || below.starts_with('/'))
        });
        match below {
            Some(below) => format!("`{}`{}", self.name, below.trim_end_matches('/')),
            None => format!("{}/…", url.origin().ascii_serialization()),
        }
    }

    /// Method and address of a call, and what it is for.
    #[must_use]
    pub fn describe(&self, call: &Call<'_>) -> String {
        let what = match call.what {
            "" => String::new(),
            what => format!(" ({what})"),
        };
        format!("{} {}{what}", call.method, self.shown(&call.url))
    }

    /// When a page was asked for, on the service's clock: its own time is that of the answer.
    #[must_use]
    pub fn asked(&self, answer: &Answer) -> Timestamp {
        let took = self.clock.now().duration_since(answer.asked);
        let asked = answer.server_time().checked_sub(took);
        asked.unwrap_or(answer.asked)
    }

    /// An address below the connection's. A path with a part `..` would lead out of it.
    pub fn at(&self, path: &str) -> Result<url::Url, SourceError> {
        let mut url = self.base.clone();
        let (path, query) = path
            .split_once('?')
            .map_or((path, None), |(path, query)| (path, Some(query)));
        if path.split('/').any(is_dots) {
            let what = format!("the path `{path}` has a part that is no name but a direction");
            return Err(SourceError::Invalid { what });
        }
        let joined = format!(
            "{}/{}",
            url.path().trim_end_matches('/'),
            path.trim_start_matches('/')
        );
        url.set_path(&joined);
        if query.is_some() {
            url.set_query(query);
        }
        Ok(url)
    }

    /// An address that the other system has given, relative to the one it was given at. It
    /// must stay on the connection's host: credentials go with every call.
    pub fn follow(&self, from: &url::Url, link: &str) -> Result<url::Url, SourceError> {
        let url = from.join(link).map_err(|error| SourceError::Garbled {
            what: format!(
                "a link in the answer from {} is no address: {error}",
                self.shown(from)
            ),
        })?;
        let (here, there) = (self.base.origin(), url.origin());
        if there == here {
            return Ok(without_login(url));
        }
        let (here, there) = (here.ascii_serialization(), there.ascii_serialization());
        let what = format!(
            "the answer from {} goes on at {there}, and credentials for {here} do not go there: if both are one system, give the connection the url that the system itself uses",
            self.shown(from)
        );
        Err(SourceError::Invalid { what })
    }

    /// Makes a call. A status that is no success is an error.
    pub async fn call(&self, call: &Call<'_>) -> Result<Answer, SourceError> {
        self.ask(call).await?.good(self.clock.now())
    }

    /// Makes a call, and again if that may help. An answer that would be the same again is
    /// given back whatever its status.
    pub async fn ask(&self, call: &Call<'_>) -> Result<Answer, SourceError> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(call).await {
                Ok(answer) => match answer.trouble(self.clock.now()).filter(passes) {
                    Some(error) => error,
                    None => return Ok(answer),
                },
                Err(error) => error,
            };
            let jitter = full_jitter(
                Duration::from_millis(200),
                PATIENCE,
                attempt,
                self.clock.random(),
            );
            let wait = error.retry_after().unwrap_or(jitter);
            if !passes(&error) || !call.repeatable || attempt == ATTEMPTS || wait > PATIENCE {
                return Err(error);
            }
            tracing::debug!(connection.name = %self.name, "trying again in {} ms: {error}", wait.as_millis());
            self.clock.sleep(wait).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Answer, SourceError> {
        let turn = self.turn(call.lane, &self.describe(call)).await?;
        Ok(self.exchange(call, turn).await?)
    }

    /// Waits until the connection's limits allow a call. `what` is to be called, in messages.
    pub async fn turn(&self, lane: Lane, what: &str) -> Result<Turn<'_>, SourceError> {
        self.wait_for_rate(lane, what).await?;
        let closed = |_| SourceError::Unavailable {
            what: "the client is shutting down".into(),
            retry_after: None,
        };
        let place = self.places.acquire().await.map_err(closed)?;
        Ok(Turn { _place: place })
    }

    /// Makes a call once and gives back whatever is answered.
    pub async fn exchange(&self, call: &Call<'_>, _turn: Turn<'_>) -> Result<Answer, NoAnswer> {
        let header = self.auth.header().await.map_err(NoAnswer::NotSent)?;
        let answer = self.send_on(call, header.as_ref()).await?;
        let token = header.map(|(_, value)| value);
        let status = answer.status;
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
        if refused && self.auth.refuse(status, token.as_ref()).await {
            // A token can be withdrawn before its end, and a secret be changed; a second refusal
            // is final.
            self.wait_again(call).await?;
            let header = self.auth.header().await.map_err(NoAnswer::NotSent)?;
            return self.send_on(call, header.as_ref()).await;
        }
        Ok(answer)
    }

    /// Finds out whether the credentials can be had, without a call to the other system.
    pub async fn authorize(&self) -> Result<(), SourceError> {
        self.auth.header().await.map(drop)
    }

    async fn wait_for_rate(&self, lane: Lane, what: &str) -> Result<(), SourceError> {
        let turn = self.pace.turn(lane).await;
        turn.map_err(|error| SourceError::Unavailable {
            what: format!("{what}: {error}"),
            retry_after: None,
        })
    }

    /// Waits until a call may be made once more; what was made of it had no effect.
    async fn wait_again(&self, call: &Call<'_>) -> Result<(), NoAnswer> {
        let waited = self.wait_for_rate(call.lane, &self.describe(call)).await;
        waited.map_err(NoAnswer::NotSent)
    }

    /// Sends a call, and one that reads again to where it is redirected.
    async fn send_on(
        &self,
        call: &Call<'_>,
        header: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<Answer, NoAnswer> {
        let mut call = call.clone();
        for _ in 0..REDIRECTS {
            let answer = self.send(&call, header).await?;
            match self.redirection(&call, &answer) {
                Some(url) => call.url = url,
                None => return Ok(answer),
            }
            self.wait_again(&call).await?;
        }
        self.send(&call, header).await
    }

    /// Where an answer says to go instead, if the call may go there.
    fn redirection(&self, call: &Call<'_>, answer: &Answer) -> Option<url::Url> {
        if call.method != Method::GET || !answer.status.is_redirection() {
            return None;
        }
        let location = answer.headers.get(LOCATION)?.to_str().ok()?;
        let target = call.url.join(location).ok()?;
        (target.origin() == self.base.origin()).then_some(target)
    }

    async fn send(
        &self,
        call: &Call<'_>,
        header: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<Answer, NoAnswer> {
        let what = self.describe(call);
        let asked = self.clock.now();
        let mut request = self
            .http
            .request(call.method.clone(), without_login(call.url.clone()))
            .headers(self.headers.clone());
        for (name, value) in &call.headers {
            // What a body is, the connection's own headers know best.
            if *name != CONTENT_TYPE || !self.headers.contains_key(CONTENT_TYPE) {
                request = request.header(name, value);
            }
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let response = request
            .send()
            .await
            .map_err(|error| transport_error(&what, error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let location = headers.get(LOCATION).and_then(|to| to.to_str().ok());
        let leads = location.and_then(|to| call.url.join(to).ok());
        let leads = leads.map(|to| self.shown(&to));
        let body = body::read(response, MAX_BODY)
            .await
            .map_err(|error| match error {
                BodyError::Broken(error) => transport_error(&what, error),
                BodyError::TooLarge => NoAnswer::Lost(SourceError::Invalid {
                    what: too_large(&what, call.smaller),
                }),
            })?;
        Ok(Answer {
            status,
            headers,
            body,
            asked,
            what,
            leads,
        })
    }
}

fn too_large(what: &str, smaller: &str) -> String {
    let what = format!("{what} answered with more than {} MiB", MAX_BODY >> 20);
    match smaller {
        "" => what,
        smaller => format!("{what}: {smaller}"),
    }
}

/// The header for the user and password in an address, if it has them.
fn login(url: &url::Url) -> Option<Result<HeaderValue, SourceError>> {
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (url.username(), url.password());
    let given = !user.is_empty() || password.is_some();
    given.then(|| basic(&plain(user), &plain(password.unwrap_or_default())))
}

/// Whether the same call may succeed a moment later.
pub(crate) fn passes(error: &SourceError) -> bool {
    matches!(
        error,
        SourceError::Unavailable { .. } | SourceError::Throttled { .. }
    )
}

fn is_dots(part: &str) -> bool {
    let part = part.to_ascii_lowercase().replace("%2e", ".");
    matches!(part.as_str(), "." | "..")
}

pub(crate) fn transport_error(what: &str, error: reqwest::Error) -> NoAnswer {
    let error = error.without_url();
    // The error's own text says only that there is one.
    let mut below: Vec<String> = runtime::error_chain(&error);
    if below.len() > 1 {
        below.remove(0);
    }
    let kind = if error.is_timeout() {
        "did not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off"
    };
    let source = SourceError::Unavailable {
        what: format!("{what} {kind}: {}", below.join(": ")),
        retry_after: None,
    };
    if error.is_connect() {
        NoAnswer::NotSent(source)
    } else {
        NoAnswer::Lost(source)
    }
}
