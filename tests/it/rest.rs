//! A JSON service as a source: loads, pulls, thin webhooks, re-loads.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use model::{ErrorClass, MapState};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{Deployment, HOOK_SECRET, Project};

/// A shop: a list of items in numbered pages, changes since a time, and single items.
struct Shop {
    url: String,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

struct Inner {
    items: BTreeMap<i64, Value>,
    now: Timestamp,
    /// Items that make the service fail when they are asked for.
    broken: Vec<i64>,
    singles: usize,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Inner {
    fn write(&mut self, id: i64, price: &Value) {
        self.now += Duration::from_secs(1);
        let item = json!({ "id": id, "price": price, "changed": self.now.to_string() });
        self.items.insert(id, item);
    }
}

impl Shop {
    async fn with(items: i64) -> Self {
        let mut inner = Inner {
            items: BTreeMap::new(),
            now: "2026-03-01T12:00:00Z".parse().unwrap(),
            broken: Vec::new(),
            singles: 0,
        };
        for id in 0..items {
            inner.write(id, &json!(10));
        }
        let inner = Arc::new(Mutex::new(inner));
        let router = Router::new()
            .route("/v1/items", get(list))
            .route("/v1/items/{id}", get(single))
            .with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { url, inner, server }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// What the target should hold.
    fn expected(&self) -> Vec<Vec<String>> {
        let text = |value: &Value| value.to_string();
        let inner = self.inner();
        let items = inner.items.values();
        items
            .map(|item| vec![text(&item["id"]), text(&item["price"])])
            .collect()
    }
}

fn dated(now: Timestamp, body: &Value) -> Response {
    let date = jiff::fmt::rfc2822::DateTimePrinter::new();
    let date = date.timestamp_to_rfc9110_string(&now).unwrap();
    ([(header::DATE, date)], body.to_string()).into_response()
}

async fn list(
    State(inner): State<Arc<Mutex<Inner>>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let inner = inner.lock().unwrap();
    let page: usize = query["page"].parse().unwrap();
    let since = query.get("since").cloned().unwrap_or_default();
    let newer = |item: &&Value| item["changed"].as_str().unwrap() >= since.as_str();
    let items: Vec<&Value> = inner.items.values().filter(newer).collect();
    let items: Vec<_> = items.into_iter().skip((page - 1) * 10).take(10).collect();
    dated(inner.now, &json!({ "data": items }))
}

async fn single(State(inner): State<Arc<Mutex<Inner>>>, Path(id): Path<i64>) -> Response {
    let mut inner = inner.lock().unwrap();
    inner.singles += 1;
    if inner.broken.contains(&id) {
        return (StatusCode::BAD_REQUEST, "what?").into_response();
    }
    match inner.items.get(&id) {
        Some(item) => dated(inner.now, item),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

const MAP: &str = r#"
connections:
  shop: { kind: rest, url: "{url}" }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  items:
    from:
      stream: shop.items
      key: id
      version: changed
      rest:
        path: /items
        records: data
        since: since
        paging: { page: { param: page, size_param: size, size: 10 } }
        item: "/items/{id}"
    to: { stream: warehouse.items, key: id }
    fields: { id: { from: id, type: bigint }, price: { from: price, type: bigint } }
    pull: { every: 5m, overlap: 1m }
    webhook: { endpoint: shop, scheme: header, header: X-Secret, secret: secret://crm-hook, mode: touch }
"#;

fn deployment(shop: &Shop, from: &str, to: &str) -> Deployment {
    assert!(MAP.contains(from), "the map has no `{from}`");
    let text = MAP.replace(from, to).replace("{url}", &shop.url);
    Deployment::open(Project::new(&text))
}

async fn tell(deployment: &Deployment, id: i64) {
    let body = json!({ "id": id }).to_string();
    let headers = [("X-Secret", HOOK_SECRET)];
    let (status, answer) = deployment.post("shop", &headers, body.as_bytes()).await;
    assert_eq!(status, 202, "{answer}");
}

fn assert_equal(shop: &Shop, deployment: &Deployment) {
    let found = deployment.query("SELECT id, price FROM items ORDER BY id");
    assert_eq!(found, shop.expected());
}

#[tokio::test]
async fn a_json_service_is_loaded_pulled_and_swept() {
    let shop = Shop::with(35).await;
    let deployment = deployment(&shop, "", "");
    deployment.load_all().await;
    assert_equal(&shop, &deployment);

    shop.inner().write(7, &json!(11));
    shop.inner().write(100, &json!(12));
    deployment.pull(&["items"]).await;
    assert_equal(&shop, &deployment);

    // By then changes are told by webhook, and read from the service.
    shop.inner().write(8, &json!(13));
    tell(&deployment, 8).await;
    shop.inner().items.remove(&9);
    tell(&deployment, 9).await;
    deployment.settle().await;
    assert_equal(&shop, &deployment);

    // What goes without a word is noticed by the next load, and asked for before it is deleted.
    shop.inner().items.remove(&10);
    shop.inner().singles = 0;
    deployment.pull(&["items"]).await;
    assert_eq!(
        deployment.query("SELECT id FROM items WHERE id = 10").len(),
        1
    );
    deployment.load(&["items"]).await;
    assert_equal(&shop, &deployment);
    assert_eq!(shop.inner().singles, 1);
    assert_eq!(deployment.state("items").await, MapState::Running);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn one_record_that_cannot_be_read_again_does_not_stop_the_others() {
    let shop = Shop::with(12).await;
    let deployment = deployment(&shop, "", "");
    deployment.load_all().await;
    shop.inner().broken = vec![3];
    for id in 0..12 {
        shop.inner().write(id, &json!(20 + id));
        tell(&deployment, id).await;
    }
    deployment.settle().await;
    let failures = deployment.failures("items").await;
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert_eq!(failures[0].key.as_deref(), Some("3"));
    assert!(failures[0].cause.message.contains("answered 400"));
    let others = deployment.query("SELECT id, price FROM items WHERE id <> 3 ORDER BY id");
    let expected: Vec<_> = shop
        .expected()
        .into_iter()
        .filter(|row| row[0] != "3")
        .collect();
    assert_eq!(others, expected);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_record_that_a_load_could_not_map_is_not_taken_for_gone() {
    let shop = Shop::with(12).await;
    let text = MAP
        .replace("        item: \"/items/{id}\"\n", "")
        .replace(", mode: touch", "")
        .replace("{url}", &shop.url);
    let deployment = Deployment::open(Project::new(&text));
    deployment.load_all().await;
    shop.inner().write(5, &json!("ten"));
    shop.inner().items.remove(&6);
    deployment.load(&["items"]).await;
    // Six is gone; five is there, but cannot be mapped.
    let found = deployment.query("SELECT id, price FROM items WHERE id IN (5, 6)");
    assert_eq!(found, [["5", "10"]]);
    let failures = deployment.failures("items").await;
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert_eq!(failures[0].cause.class, ErrorClass::Mapping);
    deployment.assert_balanced().await;
}
