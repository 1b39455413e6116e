//! Corrections by people, while others work on the same failures.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use model::{AuditEntry, Failure, FailureStatus, RetryJob};
use operations::{Changed, Edit, OperationError, Selection};
use ports::{FailureFilter, Stored};
use serde_json::json;

use crate::support::{Deployment, Project, all, crm};

/// A deployment with nine failures. The SQL is run on their store, where it can do what
/// another worker would.
async fn with_failures(sql: &str) -> Deployment {
    let crm = crm(90, 9).await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let store = deployment.project.database(".syncline/syncline.db");
    store.execute_batch(sql).unwrap();
    deployment
}

async fn count(deployment: &Deployment, status: FailureStatus) -> u64 {
    let filter = FailureFilter {
        status: vec![status],
        ..FailureFilter::default()
    };
    let operations = &deployment.home.operations;
    operations.count_failures(&filter).await.unwrap()
}

async fn last_entry(deployment: &Deployment) -> AuditEntry {
    let log = deployment.home.operations.audit_log(1).await.unwrap();
    log.into_iter().next().expect("an entry")
}

/// Somebody else is quicker with the second and the seventh failure.
const CONTENDED: &str = "
CREATE TABLE quick AS SELECT id FROM failures ORDER BY first, id LIMIT 1 OFFSET 1;
INSERT INTO quick SELECT id FROM failures ORDER BY first, id LIMIT 1 OFFSET 6;
CREATE TRIGGER quicker BEFORE UPDATE ON failures WHEN NEW.id IN (SELECT id FROM quick)
BEGIN SELECT RAISE(IGNORE); END;";

#[tokio::test]
async fn failures_that_others_change_are_left_to_them_and_the_rest_is_done() {
    let deployment = with_failures(CONTENDED).await;
    let operations = &deployment.home.operations;
    let done = Changed {
        count: 7,
        skipped: 2,
    };
    let edit = Edit::merge(r#"{"Currency":"EUR"}"#).unwrap();
    let edited = operations.edit_failures(&all(), &edit).await.unwrap();
    assert_eq!(edited, done);
    let entry = last_entry(&deployment).await;
    assert_eq!(entry.action, "failures.edit");
    let merge = json!({ "Currency": "EUR" });
    assert_eq!(
        entry.detail,
        json!({ "merge": merge, "count": 7, "skipped": 2 })
    );

    let discarded = operations.discard_failures(&all(), "agreed").await.unwrap();
    assert_eq!(discarded, done);
    let entry = last_entry(&deployment).await;
    assert_eq!(
        entry.detail,
        json!({ "reason": "agreed", "count": 7, "skipped": 2 })
    );
    assert_eq!(count(&deployment, FailureStatus::Discarded).await, 7);
    assert_eq!(count(&deployment, FailureStatus::Open).await, 2);
    deployment.assert_balanced().await;
    // Who asks for one is told about it.
    let left = operations.failures(&FailureFilter::unresolved(), 1).await;
    let one = Selection::One(left.unwrap()[0].id.to_string());
    let refused = operations.discard_failures(&one, "agreed").await;
    assert!(matches!(refused, Err(OperationError::Contended(_))));
}

/// The store stops working at the fifth failure.
const BROKEN: &str = "
CREATE TABLE bad AS SELECT id FROM failures ORDER BY first, id LIMIT 1 OFFSET 4;
CREATE TRIGGER broken BEFORE UPDATE ON failures WHEN NEW.id IN (SELECT id FROM bad)
BEGIN SELECT RAISE(ABORT, 'the disk is on fire'); END;";

#[tokio::test]
async fn what_was_done_before_an_error_is_in_the_audit_log() {
    let deployment = with_failures(BROKEN).await;
    let operations = &deployment.home.operations;
    let failed = operations.discard_failures(&all(), "agreed").await;
    assert!(matches!(failed, Err(OperationError::Store(_))));
    assert_eq!(count(&deployment, FailureStatus::Discarded).await, 4);
    let entry = last_entry(&deployment).await;
    assert_eq!(entry.action, "failures.discard");
    assert_eq!(entry.detail, json!({ "reason": "agreed", "count": 4 }));
}

#[tokio::test]
async fn a_correction_leaves_the_digits_of_other_fields_alone() {
    let deployment = with_failures("").await;
    let operations = &deployment.home.operations;
    let exact = r#"{"Total":12345678901234567.89,"Rate":1.50}"#;
    let failure = deployment.failures("orders").await.remove(0);
    let one = Selection::One(failure.id.to_string());
    for text in [exact, r#"{"Currency":"EUR"}"#] {
        let edit = Edit::merge(text).unwrap();
        operations.edit_failures(&one, &edit).await.unwrap();
    }
    let edited = operations.failure(&failure.id.to_string()).await.unwrap();
    for kept in [r#""Total":12345678901234567.89"#, r#""Rate":1.50"#] {
        assert!(edited.raw.contains(kept), "{}", edited.raw);
    }
    assert_eq!(edited.original, Some(failure.raw));
    let log = operations.audit_log(2).await.unwrap();
    assert_eq!(log[1].detail, json!({ "merge": exact, "count": 1 }));
}

async fn all_failures(deployment: &Deployment) -> Vec<Stored<Failure>> {
    let failures = &deployment.home.operations.failures;
    let unresolved = FailureFilter::unresolved();
    let page = failures.query(&unresolved, None, 100);
    page.await.unwrap().failures
}

/// A job of `retry` as it is received for the `receives`-th time.
fn job(job: &RetryJob, receives: u32) -> SqsEvent {
    let mut message = SqsMessage::default();
    message.message_id = Some("one".into());
    message.body = Some(serde_json::to_string(job).unwrap());
    let count = ("ApproximateReceiveCount".into(), receives.to_string());
    message.attributes.extend([count]);
    let mut event = SqsEvent::default();
    event.records.push(message);
    event
}

#[tokio::test]
async fn failures_whose_worker_died_before_it_sent_them_are_sent_when_the_job_comes_again() {
    let deployment = with_failures("").await;
    let retry = &deployment.home.functions.retry;
    let all = all_failures(&deployment).await;
    let failures = all.iter().map(|stored| stored.value.id).collect();
    let replay = RetryJob::Replay { failures };
    for (receives, attempts) in [(1, 1), (2, 2), (3, 3)] {
        // As a worker leaves them that dies now.
        for Stored { value, revision } in all_failures(&deployment).await {
            let marked = Failure {
                status: FailureStatus::Retrying,
                due: Some(deployment.home.clock.now() + Duration::from_mins(15)),
                ..value
            };
            let failures = &deployment.home.operations.failures;
            failures.put(Some(revision), &marked).await.unwrap();
        }
        let answer = retry
            .handle_jobs(job(&replay, receives), deployment.deadline())
            .await;
        assert!(answer.batch_item_failures.is_empty());
        deployment.settle().await;
        for stored in all_failures(&deployment).await {
            assert_eq!(stored.value.attempts, attempts, "{stored:#?}");
        }
    }
}
