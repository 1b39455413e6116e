//! What the blobs make of answers that no emulator gives.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use axum::{
    Router,
    http::{Method, StatusCode, header},
    response::IntoResponse,
};
use ports::testing::{Captured, ManualClock};
use tracing::instrument::WithSubscriber;

use super::*;
use crate::client::retries;

/// How S3 says that another write of the name is under way, that it has failed, that it has too much
/// to do, and that it has failed after it had begun to answer.
const CONFLICT: (StatusCode, &str) = (StatusCode::CONFLICT, "ConditionalRequestConflict");
const BROKEN: (StatusCode, &str) = (StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
const TOO_MUCH: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
const TOO_LATE: (StatusCode, &str) = (StatusCode::OK, "InternalError");

/// Blobs over a server that stores at the call `stores` only, refusing until then, and deletes
/// nothing of what it is told to; with the number of its calls.
async fn blobs(stores: u32, refusal: (StatusCode, &'static str)) -> (S3Blobs, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let answer = async move |method: Method| {
        let call = counted.fetch_add(1, Ordering::SeqCst) + 1;
        if method == Method::POST {
            let error = "<Key>a/1</Key><Code>InternalError</Code><Message>try again</Message>";
            let body = format!("<DeleteResult><Error>{error}</Error></DeleteResult>");
            (StatusCode::OK, body).into_response()
        } else if call < stores {
            let (status, code) = refusal;
            let error = format!("<Code>{code}</Code><Message>busy</Message>");
            let kind = [(header::CONTENT_TYPE, "application/xml")];
            (status, kind, format!("<Error>{error}</Error>")).into_response()
        } else {
            StatusCode::OK.into_response()
        }
    };
    let app = Router::new().fallback(answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let credentials = Credentials::new("test", "test", None, None, "tests");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(crate::http_client().unwrap())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::from_static("us-east-1"))
        .retry_config(retries().with_initial_backoff(Duration::from_millis(1)))
        .endpoint_url(endpoint)
        .build();
    let clock = Arc::new(ManualClock::default());
    let blobs = S3Blobs::new(&S3::new(&config), "bucket".into(), "a/".into(), clock);
    (blobs, calls)
}

#[tokio::test]
async fn a_write_that_another_gets_in_the_way_of_is_tried_again() {
    let (blobs, calls) = blobs(3, CONFLICT).await;
    assert!(blobs.put_new("1", Bytes::new()).await.unwrap());
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert!(blobs.clock.now() > ManualClock::default().now());
}

#[tokio::test]
async fn a_write_that_another_never_lets_through_is_an_error() {
    let (blobs, calls) = blobs(u32::MAX, CONFLICT).await;
    let failed = blobs.put_new("1", Bytes::new()).await.unwrap_err();
    let text = failed.to_string();
    assert!(
        text.contains("s3://bucket/a/1") && text.contains("busy"),
        "{text}"
    );
    assert_eq!(calls.load(Ordering::SeqCst), ATTEMPTS);
}

#[tokio::test]
async fn a_write_that_s3_fails_at_is_tried_again() {
    for refusal in [TOO_MUCH, BROKEN, TOO_LATE] {
        let logged = Captured::default();
        let writer = logged.clone();
        let (blobs, calls) = blobs(3, refusal).await;
        let stored = blobs.put_new("1", Bytes::new());
        let lines = runtime::json_lines("info", move || writer.clone());
        assert!(stored.with_subscriber(lines).await.unwrap());
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        assert_eq!(
            logged.text(),
            "",
            "what passes by itself is nobody's business"
        );
    }
}

#[tokio::test]
async fn a_deletion_that_fails_in_part_is_an_error() {
    let (blobs, _) = blobs(0, CONFLICT).await;
    let failed = blobs.delete(&["1".into(), "2".into()]).await;
    let text = failed.unwrap_err().to_string();
    let expected = "1 of 2 could not be deleted, `a/1` among them: InternalError: try again";
    assert!(text.contains(expected), "{text}");
}
