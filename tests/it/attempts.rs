//! Two workers with the same pack, of which one is lost before it has said all it had to say.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use model::{
    Attempt, Counts, EncodedPack, Failure, FailureId, FailureReport, Lane, MapName, Outcome,
    PackHead, PullJob, QueueName, Settlement,
};
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use crate::support::{Deployment, Project, assert_equal, message, name, small_crm};

/// What a worker says of a pack that it could not apply.
fn report(head: &PackHead, raw: &str) -> FailureReport {
    let cause = model::Cause::new(model::ErrorClass::Transient, "lost", "it was not answered");
    let id = FailureId::of(head.id, 0);
    let mut counts = Counts::default();
    counts.add(Outcome::Failed, 1);
    FailureReport::Failed {
        failures: vec![Failure {
            run: head.run,
            raw: raw.to_owned(),
            ..Failure::new(id, head.map.clone(), cause, head.created)
        }],
        settles: vec![Settlement {
            pack: head.into(),
            counts,
            attempt: Attempt(7),
        }],
    }
}

/// A deployment with a pack of an account that is not queued yet.
async fn with_pack() -> (SampleCrm, Deployment, EncodedPack, String) {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let key = crm.keys(Set::Accounts).remove(0);
    crm.write(Set::Accounts, &key, &json!({ "Name": "Changed" }));
    let raw = crm.row(Set::Accounts, &key).unwrap().to_string();
    let pack = deployment.packed("accounts", raw.clone());
    (crm, deployment, pack, raw)
}

async fn queue(deployment: &Deployment, pack: &EncodedPack) {
    let outbox = &deployment.home.operations.outbox;
    let sent = outbox.send_packs(Lane::Live, vec![pack.clone()]);
    sent.await.unwrap();
}

/// Sends the report, and leaves the settling of its packs to whoever reads it.
async fn tell(deployment: &Deployment, head: &PackHead, raw: &str) {
    let outbox = &deployment.home.operations.outbox;
    let (map, said) = (Some(&head.map), report(head, raw));
    let sent = outbox.send(QueueName::Failures, map, "lost", &said, Duration::ZERO);
    sent.await.unwrap();
}

#[tokio::test]
async fn what_another_worker_has_finished_is_no_failure_any_more() {
    let (crm, deployment, pack, raw) = with_pack().await;
    queue(&deployment, &pack).await;
    deployment.settle().await;
    for _ in 0..2 {
        tell(&deployment, &pack.head, &raw).await;
        deployment.settle().await;
    }
    assert_eq!(deployment.failures("accounts").await, []);
    deployment.assert_balanced().await;
    assert_equal(&crm, &deployment.project.warehouse());
}

#[tokio::test]
async fn who_reads_a_report_settles_what_its_worker_could_not() {
    let (crm, deployment, pack, raw) = with_pack().await;
    queue(&deployment, &pack).await;
    // The report is read before the pack comes again.
    let mut message = SqsMessage::default();
    message.body = Some(serde_json::to_string(&report(&pack.head, &raw)).unwrap());
    let mut event = SqsEvent::default();
    event.records = vec![message];
    let retry = &deployment.home.functions.retry;
    // One who has no time for it begins with nothing.
    let late = deployment.home.clock.now();
    let answer = retry.handle_reports(event.clone(), late).await;
    assert_eq!(answer.batch_item_failures.len(), 1);
    assert_eq!(deployment.failures("accounts").await, []);
    let answer = retry.handle_reports(event, deployment.deadline()).await;
    assert!(answer.batch_item_failures.is_empty());
    deployment.settle().await;
    deployment.assert_balanced().await;
    assert_eq!(deployment.failures("accounts").await.len(), 1);
    deployment.retry_all().await;
    assert_eq!(deployment.failures("accounts").await, []);
    deployment.assert_balanced().await;
    assert_equal(&crm, &deployment.project.warehouse());
}

#[tokio::test]
async fn a_job_that_cannot_be_read_is_kept_and_done_once_it_can() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let newer = json!({ "type": "load-start.v9", "map": "orders" });
    let functions = &deployment.home.functions;
    // Nobody drops it, and in the end it is a dead letter.
    for answer in [
        functions
            .load
            .handle(message(&newer), deployment.deadline())
            .await,
        functions
            .pull
            .handle(message(&newer), deployment.deadline())
            .await,
        functions
            .retry
            .handle_jobs(message(&newer), deployment.deadline())
            .await,
    ] {
        assert_eq!(answer.batch_item_failures.len(), 1, "{answer:?}");
    }
    let pull = PullJob::Pull {
        map: name("orders"),
        wanted: true,
        asked: None,
    };
    for job in [newer, json!(pull)] {
        let buried = functions
            .retry
            .handle_dead(message(&job), deployment.deadline());
        assert!(buried.await.batch_item_failures.is_empty());
    }
    let unread = || async { deployment.failures(MapName::unknown().as_str()).await };
    assert_eq!(unread().await.len(), 2);
    // This version can read one of them.
    let key = crm.keys(Set::Orders).remove(0);
    crm.write(Set::Orders, &key, &json!({ "Status": "pulled" }));
    deployment.retry_all().await;
    let left = unread().await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].raw.contains("load-start.v9") && left[0].cause.message.contains("still"));
    assert_equal(&crm, &deployment.project.warehouse());
}
