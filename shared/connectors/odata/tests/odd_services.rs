//! Services that are odd in what they answer.

#![cfg(test)]

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use connector_http::HttpClient;
use connector_odata::OdataSource;
use definition::Definition;
use embedded::{LocalSecrets, Store};
use model::{ConnectionName, MapName, SourceMark};
use ports::{Clock, Next, ReadFrom, Source, SourceError, testing::ManualClock};
use runtime::Rates;
use serde_json::{Value as Json, json};

/// A service that answers by rote.
#[derive(Debug)]
struct Service {
    /// What it answers for `$metadata`.
    metadata: (StatusCode, String),
    /// What it answers for everything else.
    page: Mutex<Vec<u8>>,
    asked: Mutex<Vec<String>>,
}

impl Service {
    fn new(page: &Json) -> Arc<Self> {
        Self::with(page.to_string().as_bytes(), StatusCode::NOT_FOUND, "")
    }

    fn with(page: &[u8], status: StatusCode, metadata: &str) -> Arc<Self> {
        Arc::new(Self {
            metadata: (status, metadata.to_owned()),
            page: Mutex::new(page.to_vec()),
            asked: Mutex::default(),
        })
    }

    /// One whose rows have a key of a type.
    fn with_key(ty: &str, page: &Json) -> Arc<Self> {
        let metadata = format!(
            r#"<Edmx><DataServices><Schema Namespace="n"><EntityType Name="Row"><Key><PropertyRef Name="ID"/></Key><Property Name="ID" Type="{ty}" Nullable="false"/></EntityType><EntityContainer Name="C"><EntitySet Name="Rows" EntityType="n.Row"/></EntityContainer></Schema></DataServices></Edmx>"#
        );
        Self::with(page.to_string().as_bytes(), StatusCode::OK, &metadata)
    }

    fn last(&self) -> String {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

async fn answer(State(service): State<Arc<Service>>, request: Request) -> Response {
    if request.uri().path() == "/$metadata" {
        return service.metadata.clone().into_response();
    }
    let asked = request.uri().query().unwrap_or_default().to_owned();
    service.asked.lock().unwrap().push(asked);
    let mut headers = HeaderMap::new();
    let date = "Sun, 01 Mar 2026 12:00:00 GMT".parse().unwrap();
    headers.insert("date", date);
    (headers, service.page.lock().unwrap().clone()).into_response()
}

/// The rows of a service, with a version of a kind.
async fn source_of(service: &Arc<Service>, kind: &str) -> OdataSource {
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
    from: {{ stream: s.Rows, key: ID, version: {{ field: V, kind: {kind} }} }}
    to: {{ stream: w.rows, key: id }}
    fields: {{ id: ID }}
    pull: {{ every: 5m, overlap: 1m }}
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

async fn source(service: &Arc<Service>) -> OdataSource {
    source_of(service, "auto").await
}

/// Reads the changes since a mark, all on one page, and gives the next mark.
async fn pull(source: &OdataSource, mark: &SourceMark) -> SourceMark {
    let page = source.read(ReadFrom::Mark(mark), None).await.unwrap();
    match page.next {
        Next::End(Some(mark)) => mark,
        other => panic!("{other:?}"),
    }
}

async fn low_water(source: &OdataSource) -> SourceMark {
    source.low_water().await.unwrap().mark.unwrap()
}

/// The version from which the service was asked last.
fn asked_since(service: &Service) -> String {
    let asked = service.last();
    let since = asked.split_once("V%20ge%20").unwrap().1;
    since.split('&').next().unwrap().replace("%3A", ":")
}

#[tokio::test]
async fn a_version_of_the_future_does_not_make_pulls_blind() {
    for (kind, version, since) in [
        (
            "auto",
            json!("2099-01-01T00:00:00Z"),
            "2026-03-01T11:59:00Z",
        ),
        ("unix-seconds", json!(4_070_908_800_u64), "1772366340"),
        ("unix-millis", json!(4_070_908_800_000_u64), "1772366340000"),
    ] {
        let service = Service::new(&json!({ "value": [{ "ID": 1, "V": version }] }));
        let source = source_of(&service, kind).await;
        let mark = low_water(&source).await;
        let mark = pull(&source, &mark).await;
        assert_eq!(asked_since(&service), since, "{kind}: after a load");
        pull(&source, &mark).await;
        assert_eq!(asked_since(&service), since, "{kind}: after a pull");
    }
}

#[tokio::test]
async fn a_read_of_many_pages_is_bounded_by_the_time_of_its_first() {
    let mark = SourceMark(r#"{"by":"cursor","at":"2026-03-01T10:00:00Z"}"#.into());
    let service = Service::new(&json!({
        "value": [{ "ID": 1, "V": "2026-03-01T12:30:00Z" }],
        "@odata.nextLink": "Rows?after=1",
    }));
    let source = source(&service).await;
    let first = source.read(ReadFrom::Mark(&mark), None).await.unwrap();
    let Next::Page(cursor) = first.next else {
        panic!("{first:?}")
    };
    assert!(cursor.contains(r#""started":1772366400000000"#), "{cursor}");
    // One that an older version left has no such time.
    let older = cursor.replace(r#""started":1772366400000000,"#, "");
    *service.page.lock().unwrap() = br#"{"value":[]}"#.to_vec();
    for cursor in [cursor, older] {
        let last = source.read(ReadFrom::Mark(&mark), Some(&cursor)).await;
        let Next::End(Some(mark)) = last.unwrap().next else {
            panic!("{cursor}")
        };
        assert!(mark.0.contains("2026-03-01T12:00:00Z"), "{mark:?}");
    }
}

#[tokio::test]
async fn every_kind_of_time_gets_its_overlap() {
    for (kind, at, since) in [
        (
            "auto",
            "2026-03-01T10:00:00.000Z",
            "2026-03-01T09:59:00.000Z",
        ),
        ("auto", "2026-03-01", "2026-02-28"),
        ("unix-seconds", "1772366400", "1772366340"),
        ("unix-millis", "1772366400000", "1772366340000"),
        ("integer", "1772366400", "1772366400"),
    ] {
        let service = Service::new(&json!({ "value": [] }));
        let source = source_of(&service, kind).await;
        let mark = SourceMark(json!({ "by": "cursor", "at": at }).to_string());
        pull(&source, &mark).await;
        assert_eq!(asked_since(&service), since, "{kind}");
    }
}

/// Asks for the row with a key.
async fn fetch(service: &Arc<Service>, keys: &[Json]) -> Result<Vec<Option<Bytes>>, SourceError> {
    let keys: Vec<Bytes> = keys
        .iter()
        .map(|key| json!({ "ID": key }).to_string().into())
        .collect();
    source(service).await.fetch(&keys).await
}

#[tokio::test]
async fn a_key_is_found_however_the_service_writes_it() {
    for (ty, asked, written) in [
        ("Edm.Decimal", json!("12.0000"), json!(12)),
        ("Edm.Decimal", json!(0.5), json!("0.50")),
        ("Edm.Int32", json!("5.0"), json!(5)),
        ("Edm.Double", json!(1500), json!(1.5e3)),
        (
            "Edm.DateTimeOffset",
            json!("2026-01-01T00:00:00Z"),
            json!("2026-01-01T01:00:00.000+01:00"),
        ),
        ("Edm.Date", json!("2026-01-01"), json!("2026-01-01")),
        (
            "Edm.Guid",
            json!("6D81597F-0F9F-E711-8122-000D3AA2331C"),
            json!("6d81597f-0f9f-e711-8122-000d3aa2331c"),
        ),
        ("Edm.String", json!("us-1"), json!("US-1 ")),
    ] {
        let page = json!({ "value": [{ "ID": written }] });
        for service in [Service::with_key(ty, &page), Service::new(&page)] {
            let found = fetch(&service, &[asked.clone(), asked.clone()]).await;
            assert_eq!(found.unwrap().iter().flatten().count(), 2, "{ty} {asked}");
        }
    }
    let page = json!({ "value": [{ "ID": "12" }] });
    let service = Service::with_key("Edm.Decimal", &page);
    let found = fetch(&service, &[json!("12.0"), json!("12"), json!("13")]).await;
    let found = found.unwrap();
    assert!(found[0].is_some() && found[1].is_some() && found[2].is_none());
}

#[tokio::test]
async fn a_row_nobody_asked_for_does_not_say_that_another_is_gone() {
    for (ty, written) in [
        ("Edm.String", json!("12")),
        ("Edm.Decimal", json!(12.001)),
        ("Edm.DateTimeOffset", json!("2026-01-01T00:00:00Z")),
    ] {
        let service = Service::with_key(ty, &json!({ "value": [{ "ID": written }] }));
        let error = fetch(&service, &[json!("12.0")]).await.unwrap_err();
        assert!(matches!(error, SourceError::Garbled { .. }), "{error:?}");
        assert!(error.to_string().contains("was not asked for"), "{error}");
    }
}

#[tokio::test]
async fn a_service_without_readable_metadata_is_used_all_the_same() {
    let page = json!({ "value": [{ "ID": "a", "V": 1 }] }).to_string();
    for (status, metadata) in [
        (StatusCode::OK, "<html><body><br>Sign in</p></html>"),
        (StatusCode::OK, "<html><body>Sign in</body></html>"),
        (StatusCode::OK, r#"{"$Version":"4.01","n":{}}"#),
        (StatusCode::OK, ""),
        (StatusCode::FORBIDDEN, ""),
        (StatusCode::GONE, ""),
        (StatusCode::NOT_IMPLEMENTED, ""),
    ] {
        let service = Service::with(page.as_bytes(), status, metadata);
        let schema = source(&service).await.describe().await;
        assert_eq!(schema.unwrap().fields, [], "{status} {metadata}");
        let found = fetch(&service, &[json!("a")]).await.unwrap();
        assert!(found[0].is_some(), "{status} {metadata}");
    }
    for status in [StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE] {
        let service = Service::with(page.as_bytes(), status, "");
        source(&service).await.describe().await.unwrap_err();
    }
}

#[tokio::test]
async fn a_byte_order_mark_and_an_error_that_is_none_do_no_harm() {
    let mark = SourceMark(r#"{"by":"cursor","at":"1"}"#.into());
    let page = "\u{feff}{\"error\":null,\"value\":[{\"ID\":\"\u{e4}\"}]}";
    let latin = b"\xef\xbb\xbf{\"value\":[{\"ID\":\"\xe4\"}],\"@error\":null}";
    for (page, row) in [
        (page.as_bytes(), "{\"ID\":\"\u{e4}\"}".as_bytes()),
        (&latin[..], &b"{\"ID\":\"\xe4\"}"[..]),
    ] {
        let service = Service::with(page, StatusCode::NOT_FOUND, "");
        let page = source(&service)
            .await
            .read(ReadFrom::Mark(&mark), None)
            .await;
        assert_eq!(page.unwrap().records[0].raw, row);
    }
    let failed = Service::new(&json!({ "error": { "message": "no" }, "value": [] }));
    let error = source(&failed).await.read(ReadFrom::Rows(None), None).await;
    assert!(error.unwrap_err().to_string().contains("no"));
}
