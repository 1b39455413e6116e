//! What a function finds of its deployment before its first event.

#![cfg(test)]

#[path = "support/buckets.rs"]
mod buckets;
mod support;
#[path = "support/tables.rs"]
mod tables;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use aws::{Clients, S3Blobs, Stack};
use aws_config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_sdk_sqs::config::Credentials;
use definition::Definition;
use http::StatusCode;
use model::QueueName;
use ports::{Blobs, SystemClock, testing::Captured};
use runtime::{Environment, Needs, SecretsOf};
use test_proxy::{Answer, Between, Call, Fate, Proxy};
use tracing::instrument::WithSubscriber;

const QUEUES: [QueueName; 3] = [QueueName::Live, QueueName::Failures, QueueName::Dead];

/// A function that uses everything.
const ALL: Needs = Needs {
    queues: &QUEUES,
    failures: true,
    blobs: true,
    secrets: SecretsOf::Connections,
    alerts: false,
};

const DEFINITION: &str = "
connections:
  crm: { kind: odata, url: https://crm.example.com, auth: { bearer: secret://crm-token } }
  warehouse: { kind: postgres, url: secret://warehouse }
maps:
  customers:
    from: { stream: crm.Accounts, key: Id }
    to: { stream: warehouse.public.customers, key: id }
    fields: { id: Id }
    webhook: { scheme: standard, secret: secret://crm-hook }
";

/// The same map, and one that has no secret but in its target.
const WITH_ANOTHER: &str = "
  orders:
    from: { stream: shop.orders, key: Id }
    to: { stream: warehouse.public.orders, key: id }
    fields: { id: Id }
    webhook: { scheme: standard, secret: [secret://old-hook, secret://crm-hook] }
";

/// Refuses what is asked of one service, and remembers what is asked of all.
#[derive(Debug, Default)]
struct Refusing {
    /// The service, and the code and text of the refusal.
    refused: Mutex<Option<(&'static str, &'static str)>>,
    asked: Mutex<Vec<String>>,
}

impl Between for Refusing {
    fn fate(&self, call: &Call) -> Fate {
        let asked = format!("{} {}", call.service(), call.action());
        self.asked.lock().unwrap().push(asked);
        match *self.refused.lock().unwrap() {
            Some((service, code)) if service == call.service() => {
                let body = if service == "s3" {
                    format!("<Error><Code>{code}</Code><Message>no\nreally</Message></Error>")
                } else {
                    format!(r#"{{"__type":"com.amazonaws#{code}","message":"no\nreally"}}"#)
                };
                Fate::Refused(Answer::error(StatusCode::BAD_REQUEST, body))
            }
            _ => Fate::Pass,
        }
    }
}

/// A deployment with all its parts, and one who stands before it.
struct Deployed {
    clients: Clients,
    environment: Environment,
    definition: Definition,
    between: Arc<Refusing>,
    _proxy: Proxy,
}

/// Clients that ask once.
async fn clients(endpoint: &str) -> Clients {
    let http = aws::http_client().unwrap();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .region(Region::from_static("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .load()
        .await;
    Clients::new(&config)
}

async fn deployed() -> Deployed {
    let between = Arc::new(Refusing::default());
    let upstream = runtime::env::required("SYNCLINE_TEST_AWS").expect("run tests/run");
    let proxy = Proxy::to(&upstream, Arc::clone(&between) as Arc<dyn Between>);
    let proxy = proxy.await.unwrap();
    let clients = clients(proxy.endpoint()).await;
    let name = support::unique("ready");
    let mut queues = HashMap::new();
    for queue in QUEUES {
        let made = clients
            .sqs
            .create_queue()
            .queue_name(format!("{name}-{queue}"));
        queues.insert(queue, made.send().await.unwrap().queue_url.unwrap());
    }
    let environment = Environment {
        stack: name.clone(),
        state_table: format!("{name}-state"),
        failures_table: format!("{name}-failures"),
        bucket: name.clone(),
        secrets_prefix: format!("{name}/"),
        alert_topic: String::new(),
        queues,
        definition: PathBuf::new(),
    };
    tables::create(&clients.dynamodb, &environment.state_table, false).await;
    tables::create(&clients.dynamodb, &environment.failures_table, true).await;
    buckets::create(&name).await;
    for secret in ["crm-token", "warehouse", "crm-hook"] {
        let made = clients
            .secrets
            .create_secret()
            .name(format!("{name}/{secret}"));
        made.secret_string("x").send().await.unwrap();
    }
    let definition = Definition::read(DEFINITION).definition.unwrap();
    between.asked.lock().unwrap().clear();
    Deployed {
        clients,
        environment,
        definition,
        between,
        _proxy: proxy,
    }
}

impl Deployed {
    /// What a function finds: the error, and what it logs.
    async fn look(&self, needs: &Needs) -> (Option<String>, String) {
        let logged = Captured::default();
        let writer = logged.clone();
        let lines = runtime::json_lines("info", move || writer.clone());
        let stack = Stack::new(self.environment.clone(), self.clients.clone());
        let found = stack.ready(needs, &self.definition);
        let found = found.with_subscriber(lines).await;
        (found.err().map(|error| error.to_string()), logged.text())
    }

    fn refuse(&self, service: &'static str, code: &'static str) {
        *self.between.refused.lock().unwrap() = Some((service, code));
    }
}

#[tokio::test]
async fn what_is_there_is_looked_at_and_left_as_it_was() {
    let deployed = deployed().await;
    assert_eq!(deployed.look(&ALL).await, (None, String::new()));
    let mut asked = deployed.between.asked.lock().unwrap().clone();
    asked.sort();
    let expected = [
        "dynamodb GetItem",
        "dynamodb GetItem",
        "s3 PUT",
        "secretsmanager GetSecretValue",
        "secretsmanager GetSecretValue",
        "sqs ChangeMessageVisibility",
        "sqs SendMessageBatch",
        "sqs SendMessageBatch",
    ];
    assert_eq!(asked, expected);
    for url in deployed.environment.queues.values() {
        let received = deployed.clients.sqs.receive_message().queue_url(url);
        assert!(received.send().await.unwrap().messages().is_empty());
    }
    let bucket = deployed.environment.bucket.clone();
    let clock = Arc::new(SystemClock);
    let blobs = S3Blobs::new(&deployed.clients.s3, bucket, String::new(), clock);
    assert!(blobs.list("", None, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_what_is_needed_is_asked() {
    let deployed = deployed().await;
    let little = Needs {
        queues: &[QueueName::Live],
        failures: false,
        blobs: false,
        secrets: SecretsOf::Webhooks,
        alerts: false,
    };
    assert_eq!(deployed.look(&little).await, (None, String::new()));
    let mut asked = deployed.between.asked.lock().unwrap().clone();
    asked.sort();
    let expected = [
        "dynamodb GetItem",
        "secretsmanager GetSecretValue",
        "sqs SendMessageBatch",
    ];
    assert_eq!(asked, expected);
}

type Change = fn(&mut Environment);

#[tokio::test]
async fn what_is_not_there_is_named_in_one_line() {
    let mut deployed = deployed().await;
    let right = deployed.environment.clone();
    let cases: [(Change, &[&str]); 6] = [
        (
            |e| {
                e.queues
                    .insert(QueueName::Live, "http://q/1/nowhere".into());
            },
            &[
                "queue `live` (http://q/1/nowhere)",
                "NonExistentQueue",
                "sqs:SendMessage",
            ],
        ),
        (
            |e| drop(e.queues.remove(&QueueName::Live)),
            &["queue `live`", "URL is not configured"],
        ),
        (
            |e| {
                e.queues
                    .insert(QueueName::Dead, "http://q/1/nowhere".into());
            },
            &[
                "queue `dead`",
                "NonExistentQueue",
                "sqs:ChangeMessageVisibility",
            ],
        ),
        (
            |e| e.state_table = "no-such-table".into(),
            &[
                "table `no-such-table`",
                "ResourceNotFound",
                "dynamodb:GetItem",
            ],
        ),
        (
            |e| e.failures_table = "no-such-table".into(),
            &["table `no-such-table`", "ResourceNotFound"],
        ),
        (
            |e| e.bucket = "no-such-bucket".into(),
            &["bucket `no-such-bucket`", "NoSuchBucket", "s3:PutObject"],
        ),
    ];
    for (change, named) in cases {
        deployed.environment = right.clone();
        change(&mut deployed.environment);
        let (error, logged) = deployed.look(&ALL).await;
        let error = error.expect(named[0]);
        assert!(named.iter().all(|text| error.contains(text)), "{error}");
        assert!(error.contains("infra/aws"), "it says what to do: {error}");
        assert_eq!((error.lines().count(), logged), (1, String::new()));
    }
}

#[tokio::test]
async fn all_that_is_not_allowed_is_named() {
    let deployed = deployed().await;
    let cases: [(_, _, &[&str]); 3] = [
        (
            "sqs",
            "AccessDeniedException",
            &["queue `live`", "queue `failures`", "queue `dead`"],
        ),
        (
            "dynamodb",
            "AccessDeniedException",
            &["-state`", "-failures`"],
        ),
        ("s3", "AccessDenied", &["the bucket `"]),
    ];
    for (service, code, parts) in cases {
        deployed.refuse(service, code);
        let error = deployed.look(&ALL).await.0.expect(service);
        let named = parts.iter().all(|part| error.contains(part));
        assert!(named && error.contains("no really"), "{error}");
        let denied = error.matches("cannot be used: AccessDenied").count();
        assert_eq!((denied, error.lines().count()), (parts.len(), 1), "{error}");
    }
}

/// A service that is busy for a moment must not keep a function from beginning.
#[tokio::test]
async fn what_passes_is_only_told() {
    let deployed = deployed().await;
    let cases = [
        ("sqs", "RequestThrottled", "queue `live`"),
        (
            "dynamodb",
            "ProvisionedThroughputExceededException",
            "-state`",
        ),
        ("s3", "SlowDown", "the bucket `"),
    ];
    for (service, code, part) in cases {
        deployed.refuse(service, code);
        let (error, logged) = deployed.look(&ALL).await;
        assert_eq!(error, None);
        let told = logged.contains("WARN") && logged.contains(part) && logged.contains(code);
        assert!(told, "{logged}");
    }
}

impl Deployed {
    async fn delete_secret(&self, name: &str) {
        let name = format!("{}/{name}", self.environment.stack);
        let delete = self.clients.secrets.delete_secret().secret_id(&name);
        let delete = delete.force_delete_without_recovery(true);
        delete.send().await.unwrap();
    }
}

#[tokio::test]
async fn a_function_whose_maps_all_lack_their_secrets_does_not_begin() {
    let deployed = deployed().await;
    deployed.delete_secret("crm-token").await;
    for (secrets, ends) in [
        (SecretsOf::Connections, true),
        (SecretsOf::Sources, true),
        (SecretsOf::Webhooks, false),
        (SecretsOf::Nobody, false),
    ] {
        let (error, logged) = deployed.look(&Needs { secrets, ..ALL }).await;
        assert_eq!((error.is_some(), logged), (ends, String::new()));
        let error = error.unwrap_or_default();
        assert!(!ends || error.contains("`crm-token` is not set"), "{error}");
        assert!(
            !ends || error.contains("create-secret"),
            "it says what to do: {error}"
        );
        assert!(error.lines().count() <= 1, "{error}");
    }
    let empty = deployed.clients.secrets.create_secret();
    let empty = empty.name(format!("{}/crm-token", deployed.environment.stack));
    empty.secret_string(" \n").send().await.unwrap();
    let error = deployed.look(&ALL).await.0.expect("nobody signs with that");
    assert!(error.contains("`crm-token` is empty"), "{error}");
    deployed.refuse("secretsmanager", "AccessDeniedException");
    let (error, logged) = deployed.look(&ALL).await;
    let error = error.expect("no map can work");
    let named = [
        "`crm-token`",
        "`warehouse`",
        "secretsmanager:GetSecretValue",
    ];
    assert!(named.iter().all(|name| error.contains(name)), "{error}");
    assert_eq!((error.lines().count(), logged), (1, String::new()));
    // What passes by itself is no reason.
    deployed.refuse("secretsmanager", "InternalServiceError");
    let (error, logged) = deployed.look(&ALL).await;
    assert_eq!(
        (error, logged.matches("WARN").count()),
        (None, 2),
        "{logged}"
    );
}

/// One bad secret must not stop the maps that do not have it.
#[tokio::test]
async fn a_secret_that_one_map_lacks_is_told_and_stops_no_other() {
    let mut deployed = deployed().await;
    let more = "  shop: { kind: odata, url: https://shop.example.com }\nmaps:";
    let text = DEFINITION.replace("maps:", more) + WITH_ANOTHER.trim_start_matches('\n');
    let reading = Definition::read(&text);
    let problems = reading.problems;
    deployed.definition = reading
        .definition
        .unwrap_or_else(|| panic!("{problems:#?}"));
    deployed.delete_secret("crm-token").await;
    for (secrets, missing) in [
        (SecretsOf::Connections, "`crm-token` is not set"),
        (SecretsOf::Sources, "`crm-token` is not set"),
        // The other one of a rotation is there.
        (SecretsOf::Webhooks, "`old-hook` is not set"),
    ] {
        let (error, logged) = deployed.look(&Needs { secrets, ..ALL }).await;
        assert_eq!(
            (error, logged.matches("ERROR").count()),
            (None, 1),
            "{logged}"
        );
        assert!(logged.contains(missing), "{logged}");
    }
    deployed.delete_secret("crm-hook").await;
    let needs = Needs {
        secrets: SecretsOf::Webhooks,
        ..ALL
    };
    let error = deployed
        .look(&needs)
        .await
        .0
        .expect("no webhook can be verified");
    assert!(
        error.contains("`crm-hook`") && error.contains("`old-hook`"),
        "{error}"
    );
}
