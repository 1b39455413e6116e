//! What a client keeps to and what it keeps to itself.

#![cfg(test)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use connector_http::{Call, HttpClient};
use definition::Definition;
use embedded::Store;
use model::{ConnectionName, Lane};
use ports::{Clock, Secret, SecretError, Secrets, testing::ManualClock};
use runtime::Rates;

/// Gives this for `secret://url`, and `s3cret` for all others.
#[derive(Debug)]
struct Safe(String);

#[async_trait::async_trait]
impl Secrets for Safe {
    async fn get(&self, name: &str) -> Result<Secret, SecretError> {
        let text = if name == "url" { &self.0 } else { "s3cret" };
        Ok(Secret::new(text.to_owned()))
    }
}

type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// Answers by the last part of a path: a status; `token` with a token, `hop` with a
/// redirection to `200` beside it, `up` with one to the folder above, `out` with one to
/// another folder, `long` with more than is read.
async fn answer(State(seen): State<Seen>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let seen_now = (path.clone(), request.headers().clone());
    seen.lock().unwrap().push(seen_now);
    let moved = |to: &str| {
        let to = HeaderValue::from_str(to).unwrap();
        (StatusCode::FOUND, [(LOCATION, to)]).into_response()
    };
    match path.rsplit('/').next().unwrap() {
        "token" => {
            let token = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#;
            ([("content-type", "application/json")], token).into_response()
        }
        "hop" => moved("200"),
        "up" => moved(".."),
        "out" => moved("/elsewhere/hidden"),
        "long" => " ".repeat((64 << 20) + 1).into_response(),
        status => {
            let status = status.parse().unwrap_or(404);
            StatusCode::from_u16(status).unwrap().into_response()
        }
    }
}

struct Fixture {
    client: HttpClient,
    clock: Arc<ManualClock>,
    seen: Seen,
    _folder: tempfile::TempDir,
}

/// A client of a connection with these settings. `{host}` in them and in the secret stands
/// for the server.
async fn fixture(settings: &str, secret: &str) -> Fixture {
    let seen = Seen::default();
    let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let text = format!(
        "connections:
  s: {{ kind: rest, url: \"http://localhost\" }}
  hook: {{ kind: http, {settings} }}
maps:
  m:
    from: {{ stream: s.x, key: id, rest: {{ path: /x }} }}
    to: {{ stream: hook.x, key: id, http: {{ upsert: {{ path: /x }}, delete: {{ path: /x }} }} }}
    fields: {{ id: id }}
"
    );
    let reading = Definition::read(&text.replace("{host}", &host));
    let definition = reading.definition.expect("a good definition");
    let name = ConnectionName::new("hook").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let port: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let store = Store::open(folder.path(), Arc::clone(&port)).unwrap();
    let rates = Rates::new(Arc::new(store), Arc::clone(&port));
    let connection = definition.connection(&name).unwrap();
    let secrets = Arc::new(Safe(secret.replace("{host}", &host)));
    let client = HttpClient::new(name, connection, secrets, rates, port).await;
    Fixture {
        client: client.unwrap(),
        clock,
        seen,
        _folder: folder,
    }
}

impl Fixture {
    fn get(&self, path: &str) -> Call<'static> {
        Call::get(self.client.at(path).unwrap(), Lane::Live)
    }

    /// What is said of an answer.
    async fn error(&self, path: &str) -> String {
        let error = self.client.call(&self.get(path)).await.unwrap_err();
        error.to_string()
    }

    fn paths(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(path, _)| path.clone()).collect()
    }
}

#[tokio::test]
async fn a_password_in_an_address_is_used_and_never_shown() {
    let there = fixture("url: secret://url", "http://ann:pa%20ss@{host}/base").await;
    assert_eq!(
        there.client.call(&there.get("/hop")).await.unwrap().status,
        200
    );
    for (_, headers) in there.seen.lock().unwrap().iter() {
        let sent: Vec<_> = headers.get_all("authorization").iter().collect();
        assert_eq!(sent, ["Basic YW5uOnBhIHNz"]);
    }
    let base = there.client.base();
    let with_login = base.as_str().replace("//", "//ann:pa%20ss@");
    let next = there.client.follow(base, &with_login).unwrap();
    for text in [
        there.error("/404").await,
        there.error("/out").await,
        base.to_string(),
        next.to_string(),
        format!("{:?}", there.client),
    ] {
        assert!(!text.contains("pa%20ss") && !text.contains("ann"), "{text}");
    }
}

#[tokio::test]
async fn of_an_address_that_is_a_secret_only_what_lies_below_it_is_shown() {
    let there = fixture("url: secret://url", "http://{host}/services/T0KEN").await;
    let mut put = there.get("/up");
    put.method = http::Method::PUT;
    let moved = there.client.call(&put).await.unwrap_err().to_string();
    assert!(moved.starts_with("PUT `hook`/up answered 302"), "{moved}");
    assert!(moved.contains("leads to http://127.0.0.1"), "{moved}");
    let stranger = there.client.base().join("http://localhost:1/").unwrap();
    let abroad = there.client.follow(there.client.base(), stranger.as_str());
    for text in [
        there.error("/404").await,
        abroad.unwrap_err().to_string(),
        format!("{:?}", there.client),
        moved,
    ] {
        assert!(!text.contains("T0KEN"), "{text}");
        assert!(text.contains("hook"), "{text}");
    }
    assert!(
        there
            .error("/404")
            .await
            .starts_with("GET `hook`/404 answered")
    );
    let plain = fixture("url: \"http://{host}/base\"", "").await;
    assert!(plain.error("/404").await.contains("/base/404 answered"));
}

#[tokio::test]
async fn a_header_that_is_a_secret_is_not_shown() {
    let settings = "url: \"http://{host}\", headers: { X-Api-Key: secret://k, X-Shop: north }";
    let there = fixture(settings, "").await;
    there.client.call(&there.get("/200")).await.unwrap();
    let (_, headers) = there.seen.lock().unwrap()[0].clone();
    assert_eq!(headers["x-api-key"], "s3cret");
    assert_eq!(headers["x-shop"], "north");
    let text = format!("{:?}", there.client);
    assert!(!text.contains("s3cret"), "{text}");
}

const OAUTH: &str = "url: \"http://{host}\", limits: { rate: 6/m }, auth: { oauth2: { token_url: \"http://{host}/token\", client: c, secret: secret://k } }";

/// How long a call takes on the client's clock.
async fn takes(there: &Fixture, path: &str) -> Duration {
    let before = there.clock.now();
    let turn = there.client.turn(Lane::Live, "a test").await.unwrap();
    let call = there.get(path);
    there.client.exchange(&call, turn).await.unwrap();
    Duration::try_from(there.clock.now().duration_since(before)).unwrap()
}

#[tokio::test]
async fn everything_that_is_sent_keeps_to_the_rate() {
    let there = fixture(OAUTH, "").await;
    takes(&there, "/200").await;
    let one = Duration::from_secs(9);
    for (path, calls) in [("/200", 1), ("/401", 2), ("/hop", 2)] {
        let took = takes(&there, path).await;
        assert!(took >= one * calls, "{path}: {took:?}");
    }
}

#[tokio::test]
async fn a_new_token_is_fetched_when_one_is_refused_but_not_for_lack_of_permission() {
    let there = fixture(OAUTH, "").await;
    takes(&there, "/403").await;
    assert_eq!(there.paths(), ["/token", "/403"]);
    takes(&there, "/401").await;
    assert_eq!(there.paths()[2..], ["/401", "/token", "/401"]);
}

#[tokio::test]
async fn whoever_asked_says_how_answers_get_smaller() {
    let there = fixture("url: \"http://{host}\"", "").await;
    let text = there.error("/long").await;
    assert!(text.ends_with("answered with more than 64 MiB"), "{text}");
    let call = Call {
        smaller: "ask for less",
        ..there.get("/long")
    };
    let text = there.client.call(&call).await.unwrap_err().to_string();
    assert!(text.ends_with("more than 64 MiB: ask for less"), "{text}");
}
