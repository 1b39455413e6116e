//! The calls of the SDK over the HTTP client that the connectors have too: there is one such stack
//! in a function.

use std::time::Duration;

use aws_sdk_sqs::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use reqwest::{ClientBuilder, NoProxy, Proxy};
use runtime::env::optional;

/// To make a connection, TLS included: in the cloud, and from elsewhere.
const CONNECT: Duration = Duration::from_secs(1);
const CONNECT_FROM_AFAR: Duration = Duration::from_secs(3);

/// Where the address of a proxy is looked for, as other tools of AWS do.
const PROXY: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];

/// There can be no client of HTTP.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoHttp {
    /// What is needed to make one is missing.
    #[error(
        "no connection can be made: {0}: the certificates that this system trusts have to be readable"
    )]
    Client(#[source] reqwest::Error),
    /// A variable names no proxy. Its value may hold a password.
    #[error("{0} is not the address of a proxy: it has to be like http://proxy.example.com:3128")]
    Proxy(&'static str),
}

/// One pool of connections for whatever clients are given it: they do not make their own.
#[derive(Debug, Clone)]
struct Pool(reqwest::Client);

/// A client of HTTP for the SDK in a function. It follows nobody elsewhere; how long a call may take
/// and how often it is tried, the SDK decides.
pub fn http_client() -> Result<SharedHttpClient, NoHttp> {
    made(client(CONNECT).no_proxy())
}

/// The same for a command on any machine: HTTPS goes through the proxy that `HTTPS_PROXY` names, but
/// for what `NO_PROXY` lists. HTTP does not: so credentials are asked for at addresses of the
/// machine itself, which no proxy reaches.
pub(crate) fn machine_http_client() -> Result<SharedHttpClient, NoHttp> {
    let named = |name| Some((name, optional(name)?));
    let builder = client(CONNECT_FROM_AFAR);
    made(match PROXY.into_iter().find_map(named) {
        Some((name, address)) => builder.proxy(proxy(name, &address, NoProxy::from_env())?),
        None => builder.no_proxy(),
    })
}

/// The proxy at an address, for all hosts but those `direct`.
fn proxy(name: &'static str, address: &str, direct: Option<NoProxy>) -> Result<Proxy, NoHttp> {
    let scheme = address
        .split_once("://")
        .map_or("http", |(scheme, _)| scheme);
    // Of others some are silently passed by.
    if !["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return Err(NoHttp::Proxy(name));
    }
    let proxy = Proxy::https(address).map_err(|_| NoHttp::Proxy(name))?;
    Ok(proxy.no_proxy(direct))
}

fn made(builder: ClientBuilder) -> Result<SharedHttpClient, NoHttp> {
    let client = builder.build().map_err(NoHttp::Client)?;
    Ok(SharedHttpClient::new(Pool(client)))
}

fn client(connect: Duration) -> ClientBuilder {
    // An error means that the process has chosen a provider already.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .connect_timeout(connect)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // What is packed is packed already, and the SDK's checks are of what was sent.
        .gzip(false)
}

impl HttpClient for Pool {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            http: self.0.clone(),
            patience: settings.read_timeout(),
        })
    }
}

/// The pool as one client of the SDK uses it.
#[derive(Debug)]
struct Connector {
    http: reqwest::Client,
    /// How long it waits for the head of an answer.
    patience: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (http, patience) = (self.http.clone(), self.patience);
        HttpConnectorFuture::new(async move {
            let Some(patience) = patience else {
                return call(&http, request).await;
            };
            let called = tokio::time::timeout(patience, call(&http, request)).await;
            called.map_err(|late| ConnectorError::timeout(late.into()))?
        })
    }
}

async fn call(
    http: &reqwest::Client,
    request: HttpRequest,
) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x();
    let request = request.map_err(|error| ConnectorError::user(error.into()))?;
    let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap)).map_err(failed)?;
    let response: http::Response<reqwest::Body> =
        http.execute(request).await.map_err(failed)?.into();
    HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
        .map_err(|error| ConnectorError::other(error.into(), None))
}

/// Of which kind a failure is decides whether the SDK tries again: not what cannot be sent.
fn failed(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else if error.is_builder() {
        ConnectorError::user(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}

#[cfg(test)]
mod tests;
