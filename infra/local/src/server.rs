//! The door for webhooks.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use aws_lambda_events::{
    apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse},
    encodings::Body as LambdaBody,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::{any, get},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::LengthLimitError;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use webhook_intake::{MAX_BODY, Refusal, WebhookIntake};

/// How long a client may take for the headers of a request, and for the next one.
const HEADERS: Duration = Duration::from_secs(30);
/// How long a client may take for a body.
const BODY: Duration = Duration::from_secs(30);
/// How long what is being answered may take when the server is to stop.
const LONGEST_STOP: Duration = Duration::from_secs(5);

/// An HTTP server for webhooks.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on `address`.
    pub async fn start(address: SocketAddr, intake: Arc<WebhookIntake>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/hooks/{*endpoint}", any(hook))
            .route("/healthz", get(async || "ok"))
            .fallback(hook)
            .with_state(intake);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, router, stopped));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Answers what is under way and stops. A client that takes too long is left alone.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Serves every connection until `stopped`.
async fn serve(listener: TcpListener, router: Router, mut stopped: oneshot::Receiver<()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            // An error means that nobody can ask any more.
            _ = &mut stopped => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(router.clone());
                let connection = http.serve_connection(TokioIo::new(stream), service);
                connections.spawn(graceful.watch(connection));
            }
            Err(error) => {
                tracing::warn!("a connection for webhooks cannot be taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let ended = tokio::time::timeout(LONGEST_STOP, graceful.shutdown()).await;
    if ended.is_err() {
        tracing::warn!("clients that take too long for their webhooks are left alone");
    }
}

/// The whole body, or the answer to a request that has none.
async fn whole(body: Body) -> Result<axum::body::Bytes, Response> {
    let Ok(read) = tokio::time::timeout(BODY, to_bytes(body, MAX_BODY)).await else {
        let message = format!("the body has not come within {} seconds", BODY.as_secs());
        return Err(refuse(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            &message,
        ));
    };
    read.map_err(|error| {
        let error = error.into_inner();
        if error.is::<LengthLimitError>() {
            return answer(Refusal::TooLarge.answer());
        }
        let message = format!("the body cannot be read to its end: {error}");
        refuse(StatusCode::BAD_REQUEST, "body-incomplete", &message)
    })
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message } });
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status.as_u16().into();
    response.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response.body = Some(LambdaBody::Text(body.to_string()));
    answer(response)
}

async fn hook(State(intake): State<Arc<WebhookIntake>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match whole(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let mut event = ApiGatewayV2httpRequest::default();
    event.request_context.http.method = parts.method;
    event.raw_path = Some(parts.uri.path().to_owned());
    event.raw_query_string = parts.uri.query().map(str::to_owned);
    event.headers = parts.headers;
    match String::from_utf8(body.into()) {
        Ok(text) => event.body = Some(text),
        Err(bytes) => {
            event.body = Some(STANDARD.encode(bytes.as_bytes()));
            event.is_base64_encoded = true;
        }
    }
    answer(intake.handle(event).await)
}

fn answer(response: ApiGatewayV2httpResponse) -> Response {
    let body = match response.body {
        Some(LambdaBody::Text(text)) => Body::from(text),
        Some(LambdaBody::Binary(bytes)) => Body::from(bytes),
        _ => Body::empty(),
    };
    let mut answer = Response::new(body);
    let status = u16::try_from(response.status_code)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    *answer.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().extend(response.headers);
    answer
        .headers_mut()
        .entry(header::SERVER)
        .or_insert(HeaderValue::from_static("syncline"));
    answer
}
