//! News that fails and comes again: what says the same is kept once, and what does not is never
//! taken for it.

use std::time::Duration;

use model::{Failure, FailureReport, FailureStatus, Lane, Op, QueueName, RetryJob};
use ports::FailureFilter;
use sample_crm::SampleCrm;
use serde_json::json;

use crate::support::{Deployment, Project, all, message, name, small_crm};

/// Webhooks without a version, so that a row is as new as its arrival.
const MAP: &str = "\
connections:
  crm: { kind: odata, url: {url} }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  orders:
    from: { stream: crm.Orders, key: OrderNo }
    to: { stream: warehouse.orders, key: order_no }
    fields: { order_no: OrderNo, status: Status }
    webhook:
      endpoint: crm
      scheme: unsigned
      allow_unsigned: true
      event: type
      ops: { thin: touch, full: upsert }
      record: data
";

/// The target refuses rows in the state `A`.
const REFUSING: &str = "
CREATE TRIGGER inserted BEFORE INSERT ON orders WHEN NEW.status = 'A'
BEGIN SELECT RAISE(ABORT, 'not now'); END;
CREATE TRIGGER updated BEFORE UPDATE ON orders WHEN NEW.status = 'A'
BEGIN SELECT RAISE(ABORT, 'not now'); END;";

async fn refusing() -> (SampleCrm, Deployment) {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::new(&MAP.replace("{url}", &crm.url())));
    let map = name("orders");
    let operations = &deployment.home.operations;
    operations.start_without_load(&map).await.unwrap();
    deployment.prepare_target(&map).await;
    deployment
        .project
        .warehouse()
        .execute_batch(REFUSING)
        .unwrap();
    (crm, deployment)
}

/// Sends an event a second after the last one.
async fn send(deployment: &Deployment, kind: &str, data: serde_json::Value) {
    deployment.clock.advance(Duration::from_secs(1));
    let event = json!({ "type": kind, "data": data }).to_string();
    let (status, answer) = deployment.post("crm", &[], event.as_bytes()).await;
    assert_eq!(status, 202, "{answer}");
}

async fn order(deployment: &Deployment, state: &str) {
    let row = json!({ "OrderNo": 700_001, "Status": state });
    send(deployment, "full", row).await;
    deployment.settle().await;
}

/// Reports a failure as `apply` does.
async fn report(deployment: &Deployment, failure: Failure) {
    let (map, id) = (failure.map.clone(), failure.id.to_string());
    let failed = FailureReport::Failed {
        failures: vec![failure],
        settles: Vec::new(),
    };
    let outbox = &deployment.home.operations.outbox;
    let sent = outbox.send(
        QueueName::Failures,
        Some(&map),
        &id,
        &failed,
        Duration::ZERO,
    );
    sent.await.unwrap();
    deployment.settle().await;
}

#[tokio::test]
async fn a_state_that_comes_back_while_its_failure_waits_wins_over_what_was_between() {
    let (_crm, deployment) = refusing().await;
    for state in ["A", "B", "A"] {
        order(&deployment, state).await;
    }
    let failures = deployment.failures("orders").await;
    assert_eq!(failures.len(), 1, "both say the same");
    let landed = deployment.query("SELECT status FROM orders");
    assert_eq!(landed, [["B"]]);
    deployment.assert_balanced().await;

    accept(&deployment);
    deployment.retry_all().await;
    let landed = deployment.query("SELECT status FROM orders");
    assert_eq!(landed, [["A"]], "it is what the source said last");
    assert_eq!(deployment.failures("orders").await, []);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn what_fails_while_the_same_is_being_tried_stands_for_itself() {
    let (crm, deployment) = refusing().await;
    crm.write(sample_crm::Set::Orders, "100001", &json!({ "Status": "A" }));
    send(&deployment, "thin", json!({ "OrderNo": 100_001 })).await;
    deployment.settle().await;
    let first = deployment.failures("orders").await.remove(0);
    assert_eq!((first.op, first.status), (Op::Touch, FailureStatus::Open));
    let operations = &deployment.home.operations;
    operations.retry_failures(&all()).await.unwrap();
    // The job is done, and the attempt is on its way: it may have read the source already.
    local::deliver_visible(&deployment.home).await;
    let tried = deployment.failures("orders").await.remove(0);
    assert_eq!(tried.status, FailureStatus::Retrying);

    let mut second = first.clone();
    second.id = model::FailureId::of_message("the next touch");
    second.observed += 1_000_000;
    report(&deployment, second.clone()).await;
    let ids: Vec<_> = deployment.failures("orders").await;
    assert!(
        ids.iter().any(|failure| failure.id == second.id),
        "the second touch is gone: {ids:#?}"
    );
}

/// Lets the target take all rows.
fn accept(deployment: &Deployment) {
    let warehouse = deployment.project.warehouse();
    let accepts = warehouse.execute_batch("DROP TRIGGER inserted; DROP TRIGGER updated;");
    accepts.unwrap();
}

#[tokio::test]
async fn a_failure_that_is_tried_twice_at_once_and_fails_is_not_taken_for_done() {
    let (_crm, deployment) = refusing().await;
    order(&deployment, "A").await;
    let failures: Vec<_> = deployment.failures("orders").await;
    let failures = failures.iter().map(|failure| failure.id).collect();
    let operations = &deployment.home.operations;
    operations.retry_failures(&all()).await.unwrap();
    local::deliver_visible(&deployment.home).await;
    // The job comes again, before anybody has heard of the attempt.
    let mut again = message(&RetryJob::Replay { failures });
    let receives = ("ApproximateReceiveCount".into(), "2".into());
    again.records[0].attributes.extend([receives]);
    let retry = &deployment.home.functions.retry;
    let answer = retry.handle_jobs(again, deployment.deadline()).await;
    assert!(answer.batch_item_failures.is_empty());
    deployment.settle().await;
    let failures = deployment.failures("orders").await;
    assert_eq!(failures.len(), 1, "it is not in the target");
    deployment.assert_balanced().await;

    accept(&deployment);
    deployment.retry_all().await;
    assert_eq!(deployment.query("SELECT status FROM orders"), [["A"]]);
    assert_eq!(deployment.failures("orders").await, []);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_pack_that_comes_twice_at_once_and_fails_is_counted_and_kept_once() {
    let (_crm, deployment) = refusing().await;
    let row = json!({ "OrderNo": 700_001, "Status": "A" });
    let packs = [(); 2].map(|()| deployment.packed("orders", row.to_string()));
    // Two that say the same; and each of them as a queue brings it that brings it twice.
    for pack in packs.iter().chain(&packs) {
        let outbox = &deployment.home.operations.outbox;
        let sent = outbox.send_packs(Lane::Live, vec![pack.clone()]);
        sent.await.unwrap();
    }
    deployment.settle().await;
    assert_eq!(deployment.failures("orders").await.len(), 1);
    let books = deployment.books("orders").await;
    let ended = (books.outcomes.failed, books.outcomes.unchanged);
    assert_eq!((books.read, ended), (2, (1, 1)), "{books:?}");
    deployment.assert_balanced().await;

    accept(&deployment);
    deployment.retry_all().await;
    assert_eq!(deployment.query("SELECT status FROM orders"), [["A"]]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_system_that_asks_to_wait_for_ever_is_tried_again_after_a_day() {
    let (_crm, deployment) = refusing().await;
    let map = name("orders");
    let mut failure = ports::testing::failure(1, &map, model::RunId::live(&map));
    failure.cause.class = model::ErrorClass::Throttled;
    failure.cause.retry_after = Some(Duration::MAX);
    report(&deployment, failure).await;
    let kept = deployment.failures("orders").await.remove(0);
    let now = deployment.home.clock.now();
    let day = now + Duration::from_hours(24)..now + Duration::from_hours(25);
    assert!(day.contains(&kept.due.unwrap()), "{:?}", kept.due);
}

#[tokio::test]
async fn trace_sees_an_open_failure_behind_all_that_have_ended() {
    let (_crm, deployment) = refusing().await;
    let map = name("orders");
    let failure = |id: u128| Failure {
        key: Some("100001".into()),
        first: jiff::Timestamp::from_second(id.try_into().unwrap()).unwrap(),
        ..ports::testing::failure(id, &map, model::RunId::live(&map))
    };
    let ended = |id: u128| Failure {
        status: FailureStatus::Resolved,
        ..failure(id)
    };
    let operations = &deployment.home.operations;
    let all: Vec<Failure> = (1..30).map(ended).chain([failure(30)]).collect();
    operations.failures.put_new(&all).await.unwrap();
    let trace = operations.trace(&map, "100001").await.unwrap();
    let open = all.last().unwrap().id;
    assert_eq!((trace.failures.len(), trace.failures[0].id), (20, open));
    assert!(trace.answer.contains(&open.to_string()), "{}", trace.answer);
}

#[tokio::test]
async fn what_comes_again_is_known_among_however_many_failures_without_a_key() {
    let (_crm, deployment) = refusing().await;
    for number in 0..200 {
        send(&deployment, "full", json!(number.to_string())).await;
    }
    deployment.settle().await;
    send(&deployment, "full", json!("200")).await;
    deployment.settle().await;
    assert_eq!(deployment.failures("orders").await.len(), 201);
    send(&deployment, "full", json!("200")).await;
    deployment.settle().await;
    assert_eq!(deployment.failures("orders").await.len(), 201);
    deployment.assert_balanced().await;
    // What says nothing new needs no second copy of the record.
    let ended = FailureFilter {
        status: vec![FailureStatus::Resolved],
        ..FailureFilter::default()
    };
    let failures = &deployment.home.operations.failures;
    let ended = failures.query(&ended, None, 10).await.unwrap().failures;
    let raw: Vec<&str> = ended.iter().map(|one| one.value.raw.as_str()).collect();
    assert_eq!(raw, [""]);
}
