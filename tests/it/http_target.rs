//! An HTTP endpoint as a target: loads, live changes, an outage, and everything twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use model::{ErrorClass, MapState};
use operations::Selection;
use ports::FailureFilter;
use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{Deployment, Project, small_crm};

/// A hub that keeps orders and knows nothing of versions.
struct Hub {
    url: String,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Inner {
    orders: BTreeMap<String, Value>,
    /// Requests that were taken, by their name.
    taken: BTreeSet<String>,
    /// How often one of them came again.
    again: usize,
    requests: usize,
    down: bool,
    /// Orders it does not take, and what it says to them.
    refuses: BTreeMap<String, u16>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Hub {
    async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let router = Router::new().fallback(take).with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { url, inner, server }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
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
    if !inner.taken.insert(name) {
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

fn deployment(crm: &SampleCrm, hub: &Hub) -> Deployment {
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
    let text = ORDERS
        .replace("{crm}", &crm.url())
        .replace("{hub}", &hub.url);
    Deployment::open(Project::new(&text))
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

fn assert_equal(crm: &SampleCrm, hub: &Hub) {
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

fn order(status: &str) -> Value {
    json!({ "AccountId": null, "ContactId": null, "OrderDate": "2026-02-28", "Currency": "EUR", "Total": 5.5, "Status": status })
}

#[tokio::test]
async fn an_endpoint_is_loaded_and_follows_and_sees_everything_once() {
    let crm = small_crm().await;
    let hub = Hub::start().await;
    let deployment = deployment(&crm, &hub);
    deployment.load_all().await;
    assert_equal(&crm, &hub);
    assert_eq!(hub.inner().requests, 20);

    crm.write(Set::Orders, "100003", &json!({ "Status": "paid" }));
    crm.write(Set::Orders, "777777", &order("new"));
    assert!(crm.delete(Set::Orders, "100004"));
    deployment.pull(&["orders"]).await;
    assert_equal(&crm, &hub);
    assert_eq!(hub.inner().requests, 23);

    // Everything once more: nothing is sent, and what a load does not find is deleted.
    deployment.load(&["orders"]).await;
    deployment.load(&["orders"]).await;
    assert_eq!(hub.inner().requests, 23);
    assert_eq!(hub.inner().again, 0);
    let books = deployment.books("orders").await;
    assert_eq!(books.outcomes.applied, 23, "{books:?}");
    assert!(books.outcomes.unchanged >= 40, "{books:?}");
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_reload_deletes_at_the_endpoint_what_the_source_has_lost() {
    let crm = small_crm().await;
    let hub = Hub::start().await;
    let deployment = deployment(&crm, &hub);
    deployment.load_all().await;
    assert!(crm.delete(Set::Orders, "100007"));
    crm.expire_deltas();
    deployment.load(&["orders"]).await;
    assert_equal(&crm, &hub);
    // Nothing is deleted that Syncline has not written.
    hub.inner().orders.insert("1".into(), json!({}));
    deployment.load(&["orders"]).await;
    assert!(hub.inner().orders.contains_key("1"));
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn an_endpoint_that_is_down_for_hours_misses_nothing_and_is_left_alone() {
    let crm = small_crm().await;
    let hub = Hub::start().await;
    let deployment = deployment(&crm, &hub);
    deployment.load_all().await;
    hub.inner().down = true;
    hub.inner().requests = 0;
    for step in 0..12 {
        let key = (100_000 + step).to_string();
        crm.write(
            Set::Orders,
            &key,
            &json!({ "Status": format!("step {step}") }),
        );
        deployment
            .home
            .operations
            .pull(&"orders".parse().unwrap())
            .await
            .unwrap();
        deployment.pass(Duration::from_mins(10)).await;
    }
    assert!(crm.delete(Set::Orders, "100015"));
    deployment.pull(&["orders"]).await;
    // It was asked now and then whether it is up again, and no change became a failure.
    let requests = hub.inner().requests;
    assert!(
        requests < 80,
        "{requests} requests to an endpoint that is down"
    );
    assert_eq!(deployment.failures("orders").await, []);
    assert!(deployment.books("orders").await.in_flight > 0);
    assert_eq!(deployment.state("orders").await, MapState::Running);

    hub.inner().down = false;
    deployment.run_dry().await;
    assert_equal(&crm, &hub);
    assert_eq!(hub.inner().again, 0);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_record_the_endpoint_refuses_waits_and_its_neighbours_do_not() {
    let crm = small_crm().await;
    let hub = Hub::start().await;
    let deployment = deployment(&crm, &hub);
    let bad = [("100002", 422), ("100005", 500), ("100009", 409)];
    hub.inner().refuses = bad.map(|(key, status)| (key.to_owned(), status)).into();
    for map in deployment.home.definition.maps.keys() {
        deployment.home.operations.load(map).await.unwrap();
    }
    deployment.settle().await;
    let mut failed: Vec<_> = deployment
        .failures("orders")
        .await
        .into_iter()
        .map(|failure| (failure.key.unwrap(), failure.cause.class))
        .collect();
    failed.sort();
    let classes = [
        ErrorClass::Invalid,
        ErrorClass::Transient,
        ErrorClass::Conflict,
    ];
    let expected: Vec<_> = bad
        .iter()
        .zip(classes)
        .map(|((key, _), class)| ((*key).to_owned(), class))
        .collect();
    assert_eq!(failed, expected);
    assert_eq!(hub.inner().orders.len(), 17);

    hub.inner().refuses.clear();
    let all = Selection::Matching(FailureFilter::default());
    deployment
        .home
        .operations
        .retry_failures(&all)
        .await
        .unwrap();
    deployment.run_dry().await;
    assert_equal(&crm, &hub);
    assert_eq!(deployment.failures("orders").await, []);
    deployment.assert_balanced().await;
}
