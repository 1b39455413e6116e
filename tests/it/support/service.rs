//! Servers of the tests.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::header,
    response::Response,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) path: String,
}

type Answers = dyn Fn(&Asked) -> (u16, Vec<u8>) + Send + Sync;

/// A server that answers every request as a test says, in JSON, and remembers what it was
/// asked. It stops when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Answers>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Service {
    pub(crate) async fn start(
        answers: impl Fn(&Asked) -> (u16, Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Shared {
            asked: Arc::default(),
            answers: Arc::new(answers),
        };
        let asked = Arc::clone(&shared.asked);
        let router = Router::new().fallback(answer).with_state(shared);
        let server = tokio::spawn(async move {
            // It ends with the process or with this value.
            let _ = axum::serve(listener, router).await;
        });
        Self {
            address,
            asked,
            server,
        }
    }

    /// A service that has the same pages to whatever is asked, and neither metadata nor counts.
    pub(crate) async fn of_page(page: Vec<u8>) -> Self {
        Self::start(move |asked| {
            if asked.path.contains("$metadata") || asked.path.contains("$count") {
                return (404, b"{}".to_vec());
            }
            (200, page.clone())
        })
        .await
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("a list").clone()
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let asked = Asked {
        path: request.uri().to_string(),
    };
    let (status, body) = (shared.answers)(&asked);
    shared.asked.lock().expect("a list").push(asked);
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .expect("an answer")
}
