//! The client against a server of the test's own.

#![cfg(test)]

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use connector_http::{Call, HttpClient, NoAnswer};
use definition::Definition;
use embedded::Store;
use http::Method;
use model::{ConnectionName, Lane};
use ports::{Clock, Secret, SecretError, Secrets, SourceError, testing::ManualClock};
use runtime::Rates;

#[derive(Debug)]
struct OneSecret;

#[async_trait::async_trait]
impl Secrets for OneSecret {
    async fn get(&self, _name: &str) -> Result<Secret, SecretError> {
        Ok(Secret::new("s3cret".into()))
    }
}

type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// Answers `/<status>` with that status, `/to/<rest>` with a redirection to `/<rest>` and
/// `/away` with one to another host.
async fn answer(State((seen, other)): State<(Seen, String)>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let line = format!("{} {path}", request.method());
    seen.lock().unwrap().push((line, request.headers().clone()));
    let moved = |to: &str| {
        let to = HeaderValue::from_str(to).unwrap();
        (StatusCode::FOUND, [(http::header::LOCATION, to)]).into_response()
    };
    match path.strip_prefix("/to/") {
        Some(rest) => moved(&format!("/{rest}?token=t")),
        None if path == "/away" => moved(&format!("{other}/200?token=t")),
        None if path == "/round" => moved("/round"),
        None => {
            let status = path[1..].parse().map(StatusCode::from_u16).unwrap();
            status.unwrap().into_response()
        }
    }
}

async fn serve(other: &str) -> (String, Seen) {
    let seen = Seen::default();
    let state = (Arc::clone(&seen), other.to_owned());
    let router = Router::new().fallback(answer).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

/// A client with the credentials in a header of its own.
async fn client(url: &str) -> HttpClient {
    client_with(url, "{ header: { name: X-Key, value: secret://k } }").await
}

async fn client_with(url: &str, auth: &str) -> HttpClient {
    let text = format!(
        "connections:
  s: {{ kind: rest, url: \"{url}\" }}
  c: {{ kind: http, url: \"{url}\", headers: {{ Content-Type: text/x }}, auth: {auth} }}"
    );
    let reading = Definition::read(&format!("{text}\n{MAPS}"));
    let definition = reading.definition.expect("a good definition");
    let name = ConnectionName::new("c").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let store = Store::open(folder.path(), Arc::clone(&clock)).unwrap();
    let rates = Rates::new(Arc::new(store), Arc::clone(&clock));
    let connection = definition.connection(&name).unwrap();
    HttpClient::new(name, connection, Arc::new(OneSecret), rates, clock)
        .await
        .unwrap()
}

const MAPS: &str = "\
maps:
  m:
    from: { stream: s.x, key: id, rest: { path: /x } }
    to: { stream: c.x, key: id, http: { upsert: { path: /x }, delete: { path: /x } } }
    fields: { id: id }
";

/// As RFC 7617 and RFC 6750 have it; the pair in Base64 is `Al Addin:s3cret`.
#[tokio::test]
async fn credentials_go_with_every_call() {
    let (url, seen) = serve("").await;
    for (auth, header, value) in [
        (
            "{ header: { name: X-Key, value: secret://k } }",
            "x-key",
            "s3cret",
        ),
        ("{ bearer: secret://k }", "authorization", "Bearer s3cret"),
        (
            "{ basic: { user: Al Addin, password: secret://k } }",
            "authorization",
            "Basic QWwgQWRkaW46czNjcmV0",
        ),
    ] {
        let client = client_with(&url, auth).await;
        let get = Call::get(client.at("/200").unwrap(), Lane::Live);
        assert_eq!(client.call(&get).await.unwrap().status, 200);
        let (_, headers) = seen.lock().unwrap().pop().unwrap();
        assert_eq!(headers[header], value, "{auth}");
    }
}

#[tokio::test]
async fn a_read_follows_redirections_on_its_host_and_no_others() {
    let (other, strangers) = serve("").await;
    let (url, seen) = serve(&other).await;
    let client = client(&url).await;
    let get = |path: &str| Call::get(client.at(path).unwrap(), Lane::Live);
    assert_eq!(client.call(&get("/to/to/200")).await.unwrap().status, 200);
    let away = client.call(&get("/away")).await.unwrap_err();
    assert!(matches!(away, SourceError::Invalid { .. }), "{away:?}");
    let text = away.to_string();
    let leads = format!("leads to {other}/200, where credentials do not follow: ");
    assert!(text.contains(&leads), "{text}");
    assert!(!text.contains("token"), "{text}");
    assert!(strangers.lock().unwrap().is_empty());
    client.call(&get("/round")).await.unwrap_err();
    assert!(seen.lock().unwrap().len() < 12);
}

#[tokio::test]
async fn a_write_that_is_redirected_is_refused_and_never_becomes_a_read() {
    let (url, seen) = serve("").await;
    let client = client(&url).await;
    let put = Call {
        method: Method::PUT,
        body: Some("{}".into()),
        ..Call::get(client.at("/to/200").unwrap(), Lane::Live)
    };
    let error = client.call(&put).await.unwrap_err();
    assert!(matches!(error, SourceError::Invalid { .. }), "{error:?}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_exchange_gives_every_status_back_and_says_what_was_not_sent() {
    let (url, seen) = serve("").await;
    let client = client(&url).await;
    for status in [200, 207, 302, 404, 429, 500, 503] {
        let mut call = Call::get(client.at(&format!("/{status}")).unwrap(), Lane::Live);
        call.headers
            .insert("content-type", HeaderValue::from_static("text/y"));
        let turn = client.turn(Lane::Live, "a test").await.unwrap();
        let answer = client.exchange(&call, turn).await.unwrap();
        assert_eq!(answer.status.as_u16(), status);
    }
    let (_, headers) = seen.lock().unwrap()[0].clone();
    let types: Vec<_> = headers.get_all("content-type").iter().collect();
    assert_eq!(types, ["text/x"], "the connection knows best");
    assert_eq!(headers["x-key"], "s3cret");
    let nobody = self::client("http://127.0.0.1:1").await;
    let call = Call::get(nobody.at("/200").unwrap(), Lane::Live);
    let turn = nobody.turn(Lane::Live, "a test").await.unwrap();
    let error = nobody.exchange(&call, turn).await.unwrap_err();
    assert!(matches!(error, NoAnswer::NotSent(_)), "{error:?}");
}

#[tokio::test]
async fn no_path_leads_out_of_the_connection() {
    let client = client("http://localhost/base").await;
    let at = |path: &str| client.at(path).map(|url| url.path().to_owned());
    assert_eq!(at("/x/a%2Fb").unwrap(), "/base/x/a%2Fb");
    assert_eq!(at("/x?y=../z").unwrap(), "/base/x");
    for bad in ["/x/..", "/./x", "/x/%2e%2E/y", "/x/.%2e"] {
        assert!(at(bad).is_err(), "{bad}");
    }
}
