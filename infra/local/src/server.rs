//! The door for webhooks.

use std::{io, net::SocketAddr, sync::Arc};

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
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use webhook_intake::{MAX_BODY, Refusal, WebhookIntake};

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
        let task = tokio::spawn(async move {
            let graceful = axum::serve(listener, router).with_graceful_shutdown(async {
                // An error means that nobody can ask any more.
                let _ = stopped.await;
            });
            if let Err(error) = graceful.await {
                tracing::error!("the server for webhooks has ended: {error}");
            }
        });
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Answers what is under way and stops.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn hook(State(intake): State<Arc<WebhookIntake>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return answer(Refusal::TooLarge.answer());
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
