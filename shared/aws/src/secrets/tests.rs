//! What the secrets make of answers that no emulator gives, and how often they ask.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::config::Credentials;
use axum::{Json, Router, body::Bytes, extract::State, http::StatusCode};
use ports::testing::ManualClock;
use serde_json::{Value, json};

use super::*;

/// Answers with the number of the call as the secret, except for some names.
async fn answer(
    State(calls): State<Arc<AtomicUsize>>,
    request: Bytes,
) -> (StatusCode, Json<Value>) {
    let request: Value = serde_json::from_slice(&request).unwrap();
    let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
    let error = |code: &str, message: &str| {
        let body = json!({"__type": code, "Message": message});
        (StatusCode::BAD_REQUEST, Json(body))
    };
    match request["SecretId"].as_str().unwrap() {
        "crm/missing" => error("ResourceNotFoundException", "no such secret"),
        "crm/denied" => error(
            "AccessDeniedException",
            "no identity-based policy allows it",
        ),
        "crm/deleted" => error("InvalidRequestException", "it was marked for deletion"),
        "crm/locked" => error("DecryptionFailure", "its key is disabled"),
        "crm/throttled" => error("ThrottlingException", "slower, please"),
        "crm/empty" => (StatusCode::OK, Json(json!({"SecretString": " \n"}))),
        "crm/binary" => (StatusCode::OK, Json(json!({"SecretBinary": "AAE="}))),
        _ => (
            StatusCode::OK,
            Json(json!({"SecretString": format!("{call}\n")})),
        ),
    }
}

async fn secrets() -> (SecretsManager, Arc<ManualClock>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let app = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&calls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(crate::http_client().unwrap())
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .build();
    let clock = Arc::new(ManualClock::default());
    let client = Client::from_conf(config);
    let port = Arc::clone(&clock) as Arc<dyn Clock>;
    (
        SecretsManager::new(client, "crm/".into(), port),
        clock,
        calls,
    )
}

#[tokio::test]
async fn a_rotated_secret_works_within_a_minute() {
    let (secrets, clock, _) = secrets().await;
    for expected in ["1", "1", "2", "2", "3"] {
        assert_eq!(secrets.get("hook").await.unwrap().expose(), expected);
        clock.advance(FRESH / 2);
    }
    assert!(FRESH <= Duration::from_mins(1));
}

#[tokio::test]
async fn who_notices_pays_less_and_profits_from_others() {
    let (secrets, clock, calls) = secrets().await;
    let hour = Duration::from_hours(1);
    let kept = async || {
        let secret = secrets.within("hook", hour).await.unwrap();
        secret.expose().to_owned()
    };
    for _ in 0..12 {
        assert_eq!(kept().await, "1");
        clock.advance(Duration::from_mins(5));
    }
    assert_eq!(kept().await, "2");
    clock.advance(FRESH);
    assert_eq!(kept().await, "2");
    // Somebody whom it did not serve any more has it read anew, for all.
    assert_eq!(secrets.get("hook").await.unwrap().expose(), "3");
    assert_eq!(kept().await, "3");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn all_who_want_a_secret_share_one_call() {
    let (secrets, _, calls) = secrets().await;
    let wanted = (0..50).map(|_| secrets.get("hook"));
    for secret in futures_util::future::join_all(wanted).await {
        assert_eq!(secret.unwrap().expose(), "1");
    }
    let wanted = (0..50).map(|_| secrets.get("denied"));
    for secret in futures_util::future::join_all(wanted).await {
        assert!(secret.is_err());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_error_says_what_to_do_and_is_not_kept() {
    let (secrets, clock, calls) = secrets().await;
    let cases = [
        (
            "missing",
            "aws secretsmanager create-secret --name 'crm/missing'",
        ),
        (
            "denied",
            "permission secretsmanager:GetSecretValue on `crm/denied`",
        ),
        ("denied", "no identity-based policy allows it"),
        ("binary", "the value of `crm/binary` is binary"),
        (
            "deleted",
            "`crm/deleted` is there and cannot be read: InvalidRequestException",
        ),
        (
            "locked",
            "`crm/locked` is there and cannot be read: DecryptionFailure",
        ),
    ];
    for (name, expected) in cases {
        clock.advance(Duration::from_millis(1));
        let error = secrets.get(name).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(expected), "{text}");
        let missing = matches!(error, SecretError::NotFound { .. });
        assert_eq!(missing, name == "missing", "{error:?}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), cases.len());
}

#[tokio::test]
async fn what_passes_by_itself_is_told_from_what_does_not() {
    let (secrets, ..) = secrets().await;
    assert_eq!(secrets.look("hook").await, Found::Ready);
    for name in ["missing", "denied", "deleted", "locked", "binary", "empty"] {
        let found = secrets.look(name).await;
        assert!(
            matches!(&found, Found::Unusable(why) if why.contains(name)),
            "{found:?}"
        );
    }
    let found = secrets.look("throttled").await;
    assert!(
        matches!(&found, Found::Unanswered(why) if why.contains("throttled")),
        "{found:?}"
    );
}
