//! An HTTP endpoint that keeps what it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A hub that keeps orders and knows nothing of versions.
pub(crate) struct Hub {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) orders: BTreeMap<String, Value>,
    /// Requests that were taken, by their name.
    pub(crate) taken: BTreeSet<String>,
    /// How often one of them came again.
    pub(crate) again: usize,
    pub(crate) requests: usize,
    /// What it was told to do by requests of new names, each once unless it is told twice.
    pub(crate) effects: Vec<String>,
    pub(crate) down: bool,
    /// Orders it does not take, and what it says to them.
    pub(crate) refuses: BTreeMap<String, u16>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let router = Router::new().fallback(take).with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { url, inner, server }
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

async fn take(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = inner.lock().unwrap();
    inner.requests += 1;
    if inner.down {
        return (StatusCode::SERVICE_UNAVAILABLE, "back soon").into_response();
    }
    let key = uri.path().strip_prefix("/orders/").unwrap().to_owned();
    if let Some(status) = inner.refuses.get(&key) {
        return (StatusCode::from_u16(*status).unwrap(), "not this one").into_response();
    }
    let name = headers["idempotency-key"].to_str().unwrap().to_owned();
    if inner.taken.insert(name) {
        let body = String::from_utf8_lossy(&body);
        inner.effects.push(format!("{method} {key} {body}"));
    } else {
        inner.again += 1;
    }
    match method.as_str() {
        "PUT" => {
            let order = serde_json::from_slice(&body).unwrap();
            inner.orders.insert(key, order);
            StatusCode::NO_CONTENT.into_response()
        }
        "DELETE" => {
            let found = inner.orders.remove(&key).is_some();
            if found {
                StatusCode::NO_CONTENT
            } else {
                StatusCode::NOT_FOUND
            }
            .into_response()
        }
        other => panic!("{other}"),
    }
}

/// What the hub should hold.
fn expected(crm: &SampleCrm) -> BTreeMap<String, Value> {
    let order = |row: Value| {
        let no = row["OrderNo"].to_string();
        let order = json!({ "no": row["OrderNo"], "status": row["Status"], "total": row["Total"] });
        (
            no.clone(),
            json!({ "order": order, "link": format!("/o/{no}") }),
        )
    };
    crm.rows(Set::Orders).into_iter().map(order).collect()
}

/// Asserts that the hub holds exactly what the source does.
pub(crate) fn assert_equal_at_hub(crm: &SampleCrm, hub: &Hub) {
    // A decimal of the CRM may have lost zeros at its end on the way.
    let numbers = |orders: BTreeMap<String, Value>| -> BTreeMap<String, (Value, Value, f64)> {
        orders
            .into_iter()
            .map(|(no, order)| {
                let total = order["order"]["total"].as_f64().unwrap_or(f64::NAN);
                (
                    no,
                    (
                        order["order"]["status"].clone(),
                        order["link"].clone(),
                        total,
                    ),
                )
            })
            .collect()
    };
    let found = hub.inner().orders.clone();
    assert_eq!(numbers(found), numbers(expected(crm)));
}

/// Maps of orders, or what a test makes of them, that write to a hub.
pub(crate) fn to_hub(crm: &SampleCrm, hub: &Hub) -> String {
    const ORDERS: &str = r#"
connections:
  crm: { kind: odata, url: {crm} }
  hub: { kind: http, url: "{hub}" }
maps:
  orders:
    from: { stream: crm.Orders, key: OrderNo, version: ModifiedAt }
    to:
      stream: hub.orders
      key: no
      http:
        upsert: { path: "/orders/{{ key }}", body: '{ "order": {{ row }}, "link": {{ "/o/" ~ key }} }' }
        delete: { path: "/orders/{{ key }}" }
    fields: { no: OrderNo, status: Status, total: Total }
    pull: { every: 5m }
"#;
    ORDERS
        .replace("{crm}", &crm.url())
        .replace("{hub}", &hub.url)
}
