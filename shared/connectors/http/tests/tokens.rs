//! Tokens, from a service of the test's own.

#![cfg(test)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use connector_http::Authorizer;
use definition::{Auth, OAuth2, Text};
use ports::{BoxError, Clock, Secret, SecretError, Secrets, SourceError, testing::ManualClock};

#[derive(Debug)]
struct OneSecret {
    broken: bool,
}

#[async_trait::async_trait]
impl Secrets for OneSecret {
    async fn get(&self, name: &str) -> Result<Secret, SecretError> {
        if self.broken {
            return Err(SecretError::Unavailable {
                name: name.to_owned(),
                source: BoxError::from("it sleeps"),
            });
        }
        Ok(Secret::new("s3cret".into()))
    }
}

/// What a token service answers.
#[derive(Debug)]
struct Service {
    answer: Mutex<(u16, String)>,
    asked: AtomicUsize,
}

async fn answer(State(service): State<Arc<Service>>, _: Request) -> Response {
    service.asked.fetch_add(1, Ordering::Relaxed);
    let (status, body) = service.answer.lock().unwrap().clone();
    let status = StatusCode::from_u16(status).unwrap();
    let mut response = (status, Body::from(body)).into_response();
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert("content-type", json);
    headers.insert("retry-after", HeaderValue::from_static("7"));
    response
}

async fn serve(status: u16, body: &str) -> (Arc<Service>, Authorizer, Arc<ManualClock>) {
    let service = Arc::new(Service {
        answer: Mutex::new((status, body.to_owned())),
        asked: AtomicUsize::new(0),
    });
    let router = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&service));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let clock = Arc::new(ManualClock::default());
    let authorizer = authorizer(&url, false, &clock);
    (service, authorizer, clock)
}

fn authorizer(url: &str, broken: bool, clock: &Arc<ManualClock>) -> Authorizer {
    let auth = Auth::OAuth2(OAuth2 {
        token_url: url.to_owned(),
        client: Text::Plain("c".into()),
        secret: "s".into(),
        scope: None,
        params: Vec::new(),
    });
    drop(rustls::crypto::ring::default_provider().install_default());
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    Authorizer::new(
        auth,
        Arc::new(OneSecret { broken }),
        clock,
        reqwest::Client::new(),
    )
}

async fn error(status: u16, body: &str) -> SourceError {
    let (_, authorizer, _) = serve(status, body).await;
    authorizer.header().await.unwrap_err()
}

fn token(life: &str) -> String {
    format!(r#"{{"access_token":"t","token_type":"Bearer","expires_in":{life}}}"#)
}

#[tokio::test]
async fn a_token_service_in_passing_trouble_is_not_a_refusal() {
    let busy = r#"{"error":"temporarily_unavailable"}"#;
    for (status, body) in [
        (503, busy),
        (400, busy),
        (502, "<html>"),
        (408, ""),
        (500, "{}"),
    ] {
        let error = error(status, body).await;
        let unavailable = matches!(error, SourceError::Unavailable { .. });
        assert!(unavailable, "{status}: {error:?}");
    }
    let throttled = error(429, r#"{"error":"slow_down"}"#).await;
    let wait = throttled.retry_after().map(|wait| wait.as_secs());
    assert!(
        matches!(throttled, SourceError::Throttled { .. }),
        "{throttled:?}"
    );
    assert_eq!(wait, Some(7));
    for status in [400, 401] {
        let refused = error(status, r#"{"error":"invalid_client"}"#).await;
        assert!(matches!(refused, SourceError::Auth { .. }), "{refused:?}");
        assert!(refused.to_string().contains("invalid_client"), "{refused}");
    }
}

#[tokio::test]
async fn a_store_of_secrets_in_passing_trouble_is_not_a_refusal() {
    let clock = Arc::new(ManualClock::default());
    let authorizer = authorizer("http://127.0.0.1:1/token", true, &clock);
    let error = authorizer.header().await.unwrap_err();
    assert!(
        matches!(error, SourceError::Unavailable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_life_of_a_token_is_read_in_every_form_and_has_an_end() {
    for (life, seconds) in [
        ("3600", 3_600),
        (r#""3600""#, 3_600),
        ("3599.5", 3_599),
        ("null", 600),
        (r#""soon""#, 600),
        ("-1", 600),
        ("18446744073709551615", 86_400),
        ("1e300", 86_400),
    ] {
        let (service, authorizer, clock) = serve(200, &token(life)).await;
        let asked = || service.asked.load(Ordering::Relaxed);
        authorizer.header().await.unwrap().unwrap();
        let early = (seconds / 10).min(300);
        clock.advance(std::time::Duration::from_secs(seconds - early - 1));
        authorizer.header().await.unwrap().unwrap();
        assert_eq!(asked(), 1, "{life}");
        clock.advance(std::time::Duration::from_secs(2));
        authorizer.header().await.unwrap().unwrap();
        assert_eq!(asked(), 2, "{life}");
    }
}

#[tokio::test]
async fn a_token_of_many_megabytes_is_not_read_to_its_end() {
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(2 << 20));
    let error = error(200, &long).await;
    assert!(matches!(error, SourceError::Garbled { .. }), "{error:?}");
    assert!(error.to_string().contains("1 MiB"), "{error}");
}

/// A secret that was changed since it was read last.
#[derive(Debug)]
struct Changed {
    kept: Mutex<&'static str>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Secrets for Changed {
    async fn get(&self, _name: &str) -> Result<Secret, SecretError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.kept.lock().unwrap() = "new";
        self.within("", Duration::MAX).await
    }

    async fn within(&self, _name: &str, _age: Duration) -> Result<Secret, SecretError> {
        Ok(Secret::new((*self.kept.lock().unwrap()).into()))
    }
}

#[tokio::test]
async fn a_secret_is_read_anew_when_it_is_refused_and_only_then() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let secrets = Arc::new(Changed {
        kept: Mutex::new("old"),
        asked: AtomicUsize::new(0),
    });
    let authorizer = Authorizer::new(
        Auth::Bearer { token: "s".into() },
        Arc::clone(&secrets) as _,
        Arc::new(ManualClock::default()),
        reqwest::Client::new(),
    );
    let header = async || authorizer.header().await.unwrap().unwrap().1;
    let old = header().await;
    assert_eq!(old, "Bearer old");
    assert_eq!(header().await, old);
    assert_eq!(secrets.asked.load(Ordering::Relaxed), 0);
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        assert!(
            authorizer.refuse(status, Some(&old)).await,
            "it is worth another attempt"
        );
        let new = header().await;
        assert_eq!(new, "Bearer new");
        assert!(
            !authorizer.refuse(status, Some(&new)).await,
            "the same again would be refused again"
        );
    }
}
