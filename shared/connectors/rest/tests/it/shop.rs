//! A service with every kind of paging, and most of its mistakes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

/// What a page after the last one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Beyond {
    #[default]
    Empty,
    Missing,
    Bad,
    /// The last page once more.
    Clamped,
}

/// A change that happens before the request of this number.
pub(crate) type Script = Box<dyn FnMut(usize, &mut Inner) + Send>;

#[derive(Default)]
pub(crate) struct Inner {
    /// In the order in which they are listed.
    pub(crate) rows: Vec<Json>,
    pub(crate) now: Timestamp,
    /// Records per page at the most, whatever is asked for.
    pub(crate) cap: Option<usize>,
    pub(crate) beyond: Beyond,
    /// Parameters that mean nothing to it.
    pub(crate) deaf: bool,
    pub(crate) requests: Vec<String>,
    /// Answers it gives instead: status, content type, body.
    pub(crate) answers: VecDeque<(u16, &'static str, String)>,
    pub(crate) script: Option<Script>,
}

impl Inner {
    /// Writes a row, new or changed, with this version.
    pub(crate) fn write(&mut self, id: i64, version: &Json, name: &str) {
        let row = json!({ "id": id, "name": name, "updated_at": version });
        match self.rows.iter_mut().find(|row| row["id"] == id) {
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
    }

    pub(crate) fn delete(&mut self, id: i64) {
        self.rows.retain(|row| row["id"] != id);
    }

    pub(crate) fn ids(&self) -> Vec<i64> {
        self.rows
            .iter()
            .map(|row| row["id"].as_i64().unwrap())
            .collect()
    }
}

pub(crate) struct Shop {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shop {
    /// A shop with so many items.
    pub(crate) async fn with(items: i64) -> Self {
        let mut inner = Inner {
            now: "2026-03-01T12:00:00Z".parse().unwrap(),
            ..Inner::default()
        };
        for id in 0..items {
            let version = json!(format!("2026-01-01T00:00:{:02}Z", id % 60));
            inner.write(id, &version, "first");
        }
        let inner = Arc::new(Mutex::new(inner));
        let router = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { url, inner, server }
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn answer(&self, status: u16, kind: &'static str, body: &str) {
        self.inner()
            .answers
            .push_back((status, kind, body.to_owned()));
    }
}

type Query = HashMap<String, String>;

async fn handle(State(inner): State<Arc<Mutex<Inner>>>, uri: Uri) -> Response {
    let mut inner = inner.lock().unwrap();
    let number = inner.requests.len();
    inner.requests.push(uri.to_string());
    if let Some(mut script) = inner.script.take() {
        script(number, &mut inner);
        inner.script = Some(script);
    }
    let date = jiff::fmt::rfc2822::DateTimePrinter::new();
    let date = date.timestamp_to_rfc9110_string(&inner.now).unwrap();
    let mut response = match inner.answers.pop_front() {
        Some((status, kind, body)) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [(header::CONTENT_TYPE, kind)], body).into_response()
        }
        None => inner.list(&uri),
    };
    response
        .headers_mut()
        .insert(header::DATE, date.parse().unwrap());
    response
}

impl Inner {
    fn list(&self, uri: &Uri) -> Response {
        let parse = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap();
            (
                name.to_owned(),
                value.replace("%3A", ":").replace("%2B", "+"),
            )
        };
        let pairs = uri.query().unwrap_or_default().split('&');
        let query: Query = pairs.filter(|pair| !pair.is_empty()).map(parse).collect();
        let since = query.get("since").cloned().unwrap_or_default();
        let newer = |row: &&Json| match &row["updated_at"] {
            Json::String(text) => *text >= since,
            number => since.is_empty() || number.as_i64().unwrap() >= since.parse().unwrap(),
        };
        let rows: Vec<&Json> = self.rows.iter().filter(newer).collect();
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        let size = number("size")
            .unwrap_or(10)
            .min(self.cap.unwrap_or(usize::MAX));
        let size = if self.deaf { usize::MAX } else { size };
        let path = uri.path().rsplit('/').next().unwrap();
        let start = match path {
            "none" => return json!(rows).to_string().into_response(),
            "keyset" => return keyset(rows, number("after"), size),
            _ if self.deaf => 0,
            "paged" => (number("page").unwrap_or(1) - 1) * size,
            _ => number("skip").unwrap_or(0),
        };
        let beyond = start > 0 && start >= rows.len();
        let start = match self.beyond {
            Beyond::Missing if beyond => return StatusCode::NOT_FOUND.into_response(),
            Beyond::Bad if beyond => return StatusCode::BAD_REQUEST.into_response(),
            Beyond::Clamped if beyond => (rows.len().max(1) - 1) / size * size,
            _ => start.min(rows.len()),
        };
        let end = start.saturating_add(size).min(rows.len());
        let page = json!(rows[start..end]);
        let rest = format!("skip={end}&size={size}&since={since}");
        chained(
            path,
            &page,
            (end < rows.len()).then_some((end, rest.as_str())),
        )
    }
}

/// A page and the way to the next one, in the form that belongs to the path.
fn chained(path: &str, page: &Json, next: Option<(usize, &str)>) -> Response {
    match path {
        "linked" => {
            let next = next.map(|(_, rest)| format!("linked?{rest}"));
            json!({ "data": { "items": page }, "paging": { "next": next } })
                .to_string()
                .into_response()
        }
        "header" => {
            let next = next.map(|(_, rest)| format!("</api/header?{rest}>; rel=\"next\""));
            let links = next.unwrap_or_else(|| "<x>; rel=last".to_owned());
            ([(header::LINK, links)], page.to_string()).into_response()
        }
        "cursor" => {
            let mut body = json!({ "items": page });
            if let Some((end, _)) = next {
                body["next"] = json!(end.to_string());
            }
            body.to_string().into_response()
        }
        _ => page.to_string().into_response(),
    }
}

/// A page in the order of the keys, beginning after one.
fn keyset(mut rows: Vec<&Json>, after: Option<usize>, size: usize) -> Response {
    rows.sort_by_key(|row| row["id"].as_i64());
    let after = after.map_or(-1, |after| i64::try_from(after).unwrap());
    rows.retain(|row| row["id"].as_i64() > Some(after));
    let more = rows.len() > size;
    rows.truncate(size);
    let last = rows
        .last()
        .filter(|_| more)
        .map(|row| row["id"].to_string());
    json!({ "items": rows, "next": last })
        .to_string()
        .into_response()
}
