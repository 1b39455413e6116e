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

/// To make a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(1);

/// There can be no client of HTTP.
#[derive(Debug, thiserror::Error)]
#[error(
    "no connection can be made: {0}: the certificates that this system trusts have to be readable"
)]
pub struct NoHttp(#[source] reqwest::Error);

/// One pool of connections for whatever clients are given it: they do not make their own.
#[derive(Debug, Clone)]
struct Pool(reqwest::Client);

/// A client of HTTP for the SDK. It follows nobody elsewhere; how long a call may take and how often
/// it is tried, the SDK decides.
pub fn http_client() -> Result<SharedHttpClient, NoHttp> {
    Ok(SharedHttpClient::new(Pool(client()?)))
}

fn client() -> Result<reqwest::Client, NoHttp> {
    // An error means that the process has chosen a provider already.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // Credentials of a machine are asked for at addresses of its own, which no proxy reaches.
        .no_proxy()
        // What is packed is packed already, and the SDK's checks are of what was sent.
        .gzip(false)
        .build()
        .map_err(NoHttp)
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
