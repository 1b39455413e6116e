//! Clients of the emulators that `tests/run` starts, or `bash tests/emulator.sh` while developing.

use aws::Clients;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::config::Credentials;

/// Clients of the emulator of all services.
pub(crate) async fn clients() -> Clients {
    connect("SYNCLINE_TEST_AWS").await
}

/// Clients of every DynamoDB that there is to test with, and whose it is. Only `dynamodb` of them
/// is for use.
pub(crate) async fn dynamodb_clients() -> Vec<(&'static str, Clients)> {
    vec![
        ("ministack", clients().await),
        ("moto", connect("SYNCLINE_TEST_DYNAMODB").await),
    ]
}

/// A name for a queue, table or bucket that no other test has: a bucket's may have lower-case
/// letters, digits and hyphens only.
pub(crate) fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4().simple())
}

async fn connect(variable: &str) -> Clients {
    let Some(endpoint) = runtime::env::optional(variable) else {
        panic!("this test needs an emulator at {variable}: run tests/run");
    };
    connect_to(&endpoint).await
}

/// Clients of an emulator, or of what stands before it.
pub(crate) async fn connect_to(endpoint: &str) -> Clients {
    let http = aws::http_client().unwrap();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .load()
        .await;
    Clients::new(&config)
}

/// Every binary of tests has this one, which makes plain what is missing when all others fail.
#[tokio::test]
async fn the_emulators_answer() {
    assert_ne!(unique("table"), unique("table"));
    for (whose, clients) in dynamodb_clients().await {
        let listed = clients.dynamodb.list_tables().send().await;
        assert!(listed.is_ok(), "{whose}: {listed:?}");
    }
}
