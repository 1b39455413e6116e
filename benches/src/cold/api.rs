//! A Runtime API of Lambda for one process at a time: it hands out events and stops the process at
//! each of its two calls until what it has cost is known.

use std::{io, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot},
};

/// What a process has done.
#[derive(Debug)]
pub(crate) enum Did {
    /// It has asked for an event, and gets the one that is sent here.
    Next(oneshot::Sender<Bytes>),
    /// It has answered, and goes on when something is sent here.
    Answered(Bytes, oneshot::Sender<()>),
    /// It has said that it failed.
    Failed(Bytes),
}

/// The API.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    /// `host:port`, as `AWS_LAMBDA_RUNTIME_API` wants it.
    pub(crate) address: String,
    seen: mpsc::Receiver<(Instant, Did)>,
}

/// When an event has to be done, in milliseconds of Unix time: never, as far as a bench goes.
const DEADLINE: &str = "4102444800000";

type Seen = Arc<Mutex<mpsc::Sender<(Instant, Did)>>>;

impl RuntimeApi {
    pub(crate) async fn start() -> io::Result<Self> {
        let (send, seen) = mpsc::channel(16);
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route(
                "/2018-06-01/runtime/invocation/{id}/response",
                post(answered),
            )
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failed))
            .route("/2018-06-01/runtime/init/error", post(failed))
            .with_state(Arc::new(Mutex::new(send)));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move { axum::serve(NoDelay(listener), router).await });
        Ok(Self { address, seen })
    }

    /// What the process does next, and when.
    pub(crate) async fn seen(&mut self) -> io::Result<(Instant, Did)> {
        let seen = self.seen.recv().await;
        seen.ok_or_else(|| io::Error::other("the Runtime API has ended"))
    }
}

/// Small answers are not held back.
pub(super) struct NoDelay(pub(super) TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.0).await;
        // An error means that the stream is closed already.
        let _ = stream.set_nodelay(true);
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

async fn say(seen: &Seen, did: Did) {
    let now = Instant::now();
    // Nobody listens any more when the bench is done with the process.
    let _ = seen.lock().await.send((now, did)).await;
}

async fn next(State(seen): State<Seen>) -> Response {
    let (send, event) = oneshot::channel();
    say(&seen, Did::Next(send)).await;
    let Ok(event) = event.await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let headers = [
        ("content-type", "application/json".to_owned()),
        (
            "lambda-runtime-aws-request-id",
            "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned(),
        ),
        ("lambda-runtime-deadline-ms", DEADLINE.to_owned()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-west-1:123456789012:function:bench".to_owned(),
        ),
        (
            "lambda-runtime-trace-id",
            "Root=1-69555605-0123456789abcdef01234567".to_owned(),
        ),
    ];
    (headers, event).into_response()
}

async fn answered(State(seen): State<Seen>, answer: Bytes) -> StatusCode {
    let (send, go) = oneshot::channel();
    say(&seen, Did::Answered(answer, send)).await;
    // It goes on as well when the bench is done with it.
    let _ = go.await;
    StatusCode::ACCEPTED
}

async fn failed(State(seen): State<Seen>, error: Bytes) -> StatusCode {
    say(&seen, Did::Failed(error)).await;
    StatusCode::ACCEPTED
}
