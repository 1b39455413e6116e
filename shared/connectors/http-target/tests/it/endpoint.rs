//! A server that keeps rows.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value as Json, json};
use tokio::{sync::Notify, task::JoinHandle};

/// What happens to a request instead of what should.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is answered so and not done.
    Refused(u16),
    /// It is answered so, but done.
    DoneAnd(u16),
    /// It is done, and the answer breaks off.
    DoneAndLost,
    /// Not done, and answered with a status, a header and a body.
    Answer(u16, &'static str, &'static str),
    /// It waits until it is let go.
    Waits,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) attempt: String,
    pub(crate) trace: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Rows by company and number.
    pub(crate) rows: BTreeMap<(String, i64), Json>,
    pub(crate) seen: Vec<Seen>,
    /// What is done, in order: number of the row and its name, none for a delete.
    pub(crate) done: Vec<(i64, Option<String>)>,
    pub(crate) faults: VecDeque<Fault>,
    /// Rows whose name is this are answered with this status.
    pub(crate) poison: Vec<(&'static str, u16)>,
    /// Whether a delete of what is not there is no error.
    pub(crate) lenient: bool,
    /// Whether requests for many are answered with 207.
    pub(crate) multi: bool,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    arrived: Notify,
    go: Notify,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self {
            url,
            shared,
            server,
        }
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap()
    }

    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner().faults.extend(faults);
    }

    /// Waits for a request that waits.
    pub(crate) async fn arrived(&self) {
        self.shared.arrived.notified().await;
    }

    pub(crate) fn let_go(&self) {
        self.shared.go.notify_one();
    }

    pub(crate) fn name(&self, no: i64) -> Option<String> {
        let row = self.inner().rows.get(&("c".to_owned(), no)).cloned();
        row.map(|row| row["name"].as_str().unwrap().to_owned())
    }

    pub(crate) fn requests(&self) -> usize {
        self.inner().seen.len()
    }
}

/// What a request asks for: rows to write, or keys to delete.
enum Asked {
    Put(Vec<Json>),
    Gone(Vec<Json>),
    Get(Json),
}

fn asked(method: &Method, uri: &Uri, body: &Bytes) -> Asked {
    let parts: Vec<&str> = uri.path().split('/').skip(1).collect();
    let list = || serde_json::from_slice(body).unwrap();
    let key = || {
        let company = parts[1].replace("%20", " ");
        json!({ "company": company, "no": parts[2].parse::<i64>().unwrap() })
    };
    match (method.as_str(), parts[0]) {
        ("POST", "rows") => Asked::Put(list()),
        ("POST", "gone") => Asked::Gone(list()),
        ("PUT" | "PATCH", "rows") => Asked::Put(vec![serde_json::from_slice(body).unwrap()]),
        ("DELETE", "rows") => Asked::Gone(vec![key()]),
        ("GET", "rows") => Asked::Get(key()),
        other => panic!("{other:?}"),
    }
}

fn key(row: &Json) -> (String, i64) {
    let company = row["company"].as_str().unwrap().to_owned();
    (company, row["no"].as_i64().unwrap())
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert_eq!(headers["authorization"], "Bearer token");
    let asked = asked(&method, &uri, &body);
    let fault = {
        let mut inner = shared.inner.lock().unwrap();
        if let Asked::Get(key) = &asked {
            return get(&inner, key);
        }
        let attempt = headers["idempotency-key"].to_str().unwrap().to_owned();
        let trace = headers.get("traceparent");
        let trace = trace.map(|trace| trace.to_str().unwrap().to_owned());
        inner.seen.push(Seen { attempt, trace });
        inner.faults.pop_front()
    };
    let status = |code: u16| StatusCode::from_u16(code).unwrap();
    match fault {
        Some(Fault::Refused(code)) => return status(code).into_response(),
        Some(Fault::Answer(code, header, body)) => {
            let (name, value) = header.split_once(": ").unwrap();
            return (status(code), [(name, value)], body).into_response();
        }
        Some(Fault::Waits) => {
            shared.arrived.notify_one();
            shared.go.notified().await;
        }
        _ => {}
    }
    let answer = shared.inner.lock().unwrap().perform(asked);
    match fault {
        Some(Fault::DoneAnd(code)) => status(code).into_response(),
        Some(Fault::DoneAndLost) => {
            let broken = Err::<Bytes, _>(std::io::Error::other("broken off"));
            Body::from_stream(futures_util::stream::iter([broken])).into_response()
        }
        _ => answer,
    }
}

fn get(inner: &Inner, row: &Json) -> Response {
    match inner.rows.get(&key(row)) {
        Some(row) => row.to_string().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Inner {
    fn status_of(&self, row: &Json) -> u16 {
        let poison = self.poison.iter().find(|(name, _)| row["name"] == *name);
        match poison {
            Some((_, status)) => *status,
            None if row["name"].is_null() => 422,
            None => 200,
        }
    }

    fn perform(&mut self, asked: Asked) -> Response {
        match asked {
            Asked::Put(rows) if rows.len() > 1 && self.multi => {
                let each: Vec<Json> = rows.iter().map(|row| self.put_one(row)).collect();
                (
                    StatusCode::MULTI_STATUS,
                    json!({ "results": each }).to_string(),
                )
                    .into_response()
            }
            Asked::Put(rows) => {
                // All or nothing.
                if let Some(bad) = rows.iter().find(|row| self.status_of(row) != 200) {
                    let status = StatusCode::from_u16(self.status_of(bad)).unwrap();
                    let error = json!({ "error": { "message": "no", "target": "name" } });
                    return (status, error.to_string()).into_response();
                }
                for row in &rows {
                    self.put_one(row);
                }
                StatusCode::NO_CONTENT.into_response()
            }
            Asked::Gone(keys) => {
                let mut there = true;
                for row in &keys {
                    there &= self.rows.remove(&key(row)).is_some();
                    self.done.push((key(row).1, None));
                }
                if there || self.lenient {
                    StatusCode::NO_CONTENT.into_response()
                } else {
                    StatusCode::NOT_FOUND.into_response()
                }
            }
            Asked::Get(row) => get(self, &row),
        }
    }

    /// Writes a row over what is there, unless it is bad.
    fn put_one(&mut self, row: &Json) -> Json {
        let status = self.status_of(row);
        if status == 200 {
            let name = row["name"].as_str().unwrap().to_owned();
            self.done.push((key(row).1, Some(name)));
            let there = self.rows.entry(key(row)).or_insert_with(|| json!({}));
            let fields = row.as_object().unwrap().clone();
            there.as_object_mut().unwrap().extend(fields);
        }
        json!({ "status": status, "error": { "target": "name" } })
    }
}
