//! How one page leads to the next.

#![cfg(test)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Query, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use connector_http::HttpClient;
use connector_odata::OdataSource;
use definition::Definition;
use embedded::{LocalSecrets, Store};
use model::{ConnectionName, MapName};
use ports::{Clock, Next, ReadFrom, Source, SourceError, testing::ManualClock};
use runtime::Rates;
use serde_json::json;

/// Rows per page.
const PAGE: usize = 4;

/// A service whose links are of one form.
#[derive(Debug, Default)]
struct Service {
    rows: Mutex<BTreeSet<u32>>,
    asked: Mutex<Vec<String>>,
    /// Parts of an address that it answers with status 400.
    refuses: &'static [&'static str],
    /// Whether its links count rows; else they name the last one.
    counts: bool,
}

impl Service {
    fn new(rows: u32, counts: bool, refuses: &'static [&'static str]) -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::new((1..=rows).collect()),
            counts,
            refuses,
            ..Self::default()
        })
    }

    fn rows(&self) -> BTreeSet<u32> {
        self.rows.lock().unwrap().clone()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn page(&self, parameters: &BTreeMap<String, String>) -> serde_json::Value {
        let number = |name: &str| parameters.get(name).and_then(|text| text.parse().ok());
        let filter = parameters.get("$filter").map_or("", String::as_str);
        let after: u32 = filter
            .strip_prefix("ID gt ")
            .map_or(number("after").unwrap_or(0), |text| text.parse().unwrap());
        let skip = number("$skip").unwrap_or(0) as usize;
        let rows: Vec<u32> = self
            .rows()
            .into_iter()
            .filter(|row| *row > after)
            .skip(skip)
            .take(PAGE)
            .collect();
        let records: Vec<_> = rows.iter().map(|id| json!({ "ID": id })).collect();
        let mut page = json!({ "value": records });
        // A full page has a next one, although that may be empty.
        if let Some(last) = rows.get(PAGE - 1) {
            page["@odata.nextLink"] = if self.counts {
                json!(format!("Rows?$skip={}", skip + PAGE))
            } else {
                json!(format!("Rows?after={last}"))
            };
        }
        page
    }
}

async fn answer(
    State(service): State<Arc<Service>>,
    Query(parameters): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    if request.uri().path() != "/Rows" {
        return StatusCode::NOT_FOUND.into_response();
    }
    let asked = request.uri().query().unwrap_or_default().to_owned();
    service.asked.lock().unwrap().push(asked.clone());
    if service.refuses.iter().any(|part| asked.contains(part)) {
        return (StatusCode::BAD_REQUEST, "{}").into_response();
    }
    service.page(&parameters).to_string().into_response()
}

async fn source(service: &Arc<Service>) -> OdataSource {
    let router = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(service));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let text = format!(
        "\
connections:
  s: {{ kind: odata, url: \"{url}\" }}
  w: {{ kind: sqlite, url: w.db }}
maps:
  rows:
    from: {{ stream: s.Rows, key: ID, version: V }}
    to: {{ stream: w.rows, key: id }}
    fields: {{ id: ID }}
    pull: {{ every: 5m }}
"
    );
    let definition = Definition::read(&text).definition.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let store = Store::open(folder.path(), Arc::clone(&clock)).unwrap();
    let rates = Rates::new(Arc::new(store), Arc::clone(&clock));
    let name = ConnectionName::new("s").unwrap();
    let secrets = Arc::new(LocalSecrets::new(folder.path(), Arc::clone(&clock)));
    let connection = &definition.connections[&name];
    let client = HttpClient::new(name, connection, secrets, rates, clock)
        .await
        .unwrap();
    let map = &definition.maps[&MapName::new("rows").unwrap()];
    OdataSource::new(Arc::new(client), map, None)
}

/// Reads all rows; `between` is done before each further page.
async fn read_all(source: &OdataSource, between: impl Fn(&[u32])) -> Result<Vec<u32>, SourceError> {
    let mut rows = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = source.read(ReadFrom::Rows(None), cursor.as_deref()).await?;
        for record in &page.records {
            let row: serde_json::Value = serde_json::from_slice(&record.raw).unwrap();
            rows.push(u32::try_from(row["ID"].as_u64().unwrap()).unwrap());
        }
        match page.next {
            Next::Page(next) => cursor = Some(next),
            Next::End(_) => return Ok(rows),
        }
        between(&rows);
    }
}

/// Deletes the row that was read last.
fn delete_last(service: &Service, read: &[u32]) {
    service.rows.lock().unwrap().remove(read.last().unwrap());
}

#[tokio::test]
async fn links_that_count_rows_are_not_followed() {
    for rows in [0, 3, 4, 5, 8, 30] {
        let service = Service::new(rows, true, &[]);
        let source = source(&service).await;
        let read = read_all(&source, |read| delete_last(&service, read)).await;
        assert_eq!(read.unwrap(), (1..=rows).collect::<Vec<_>>());
        let asked = service.asked();
        assert!(
            !asked.iter().any(|asked| asked.contains("skip")),
            "{asked:?}"
        );
        // One page more, to put them in order, is all that it costs.
        let pages = rows as usize / PAGE + 1 + usize::from(rows as usize >= PAGE);
        assert_eq!(asked.len(), pages, "{asked:?}");
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_asked_by_keys_is_read_by_its_links() {
    for refuses in [&["$orderby"], &["$filter"]] {
        let service = Service::new(11, true, refuses);
        let source = source(&service).await;
        let read = read_all(&source, |_| {}).await.unwrap();
        let read: BTreeSet<u32> = read.into_iter().collect();
        assert_eq!(read, service.rows(), "{refuses:?}");
        let asked = service.asked();
        assert_eq!(asked.last().unwrap(), "$skip=8", "{asked:?}");
    }
}

#[tokio::test]
async fn a_service_that_refuses_everything_is_not_asked_for_ever() {
    let service = Service::new(11, true, &["="]);
    let source = source(&service).await;
    let read = read_all(&source, |_| {}).await;
    assert!(matches!(read, Err(SourceError::Invalid { .. })), "{read:?}");
    let asked = service.asked();
    assert_eq!(asked, ["", "$orderby=ID%20asc", "", "$skip=4"]);
}

#[tokio::test]
async fn other_links_are_followed_as_they_are() {
    let service = Service::new(11, false, &["$orderby", "$filter"]);
    let source = source(&service).await;
    let read = read_all(&source, |read| delete_last(&service, read)).await;
    assert_eq!(read.unwrap(), (1..=11).collect::<Vec<_>>());
    assert_eq!(service.asked(), ["", "after=4", "after=8"]);
}
