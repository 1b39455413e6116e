//! Parking, at its most delicate moment.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use model::{
    EncodedPack, FailureStatus, Lane, MapState, PackHead, QueueName, RetryJob, RunId, decode_pack,
};
use ports::{Blobs, Outgoing, Queue, QueueError, Sent};
use runtime::{Arrival, Outbox, Parking};
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use crate::support::{
    DEMO, Deployment, Gate, Project, Slow, assert_equal, message, name, park_one, run, small_crm,
};

/// A queue whose consumer is so quick that it has parked a message again before its sender
/// goes on.
#[derive(Debug)]
struct Quick {
    parking: Parking,
    head: PackHead,
}

#[async_trait]
impl Queue for Quick {
    async fn send(&self, _: QueueName, messages: Vec<Outgoing>) -> Result<Vec<Sent>, QueueError> {
        for message in messages {
            park_one(&self.parking, &self.head, "second", &message.body).await;
        }
        Ok(vec![Sent::Queued])
    }

    async fn defer(&self, _: QueueName, _: &str, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}

/// The demo without its orders.
fn without_orders(crm: &SampleCrm) -> String {
    let text = DEMO.replace("{url}", &crm.url());
    let (before, _) = text.split_once("  orders:").expect("orders");
    before.to_owned()
}

#[tokio::test]
async fn what_is_kept_of_a_map_that_is_gone_stays_where_it_is_until_the_map_is_back() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    crm.write(Set::Orders, "100001", &json!({ "Status": "late" }));
    let row = crm.row(Set::Orders, "100001").unwrap().to_string();
    let outbox = &deployment.home.operations.outbox;
    let pack = deployment.packed("orders", row);
    outbox.send_packs(Lane::Live, vec![pack]).await.unwrap();
    let mut failure = ports::testing::failure(1, &name("orders"), RunId::live(&name("orders")));
    failure.status = FailureStatus::Waiting;
    failure.due = Some(deployment.home.clock.now());
    let failures = &deployment.home.operations.failures;
    failures
        .put_new(std::slice::from_ref(&failure))
        .await
        .unwrap();

    let project = deployment.project;
    project.define(&without_orders(&crm));
    let deployment = Deployment::open(project);
    deployment.settle().await;
    for _ in 0..3 {
        deployment.clock.advance(Duration::from_secs(31));
        deployment
            .home
            .functions
            .retry
            .tick(deployment.deadline())
            .await
            .unwrap();
        assert_eq!(local::deliver_visible(&deployment.home).await, 0);
    }
    let status = deployment.home.operations.status().await.unwrap();
    let undefined: Vec<_> = status.undefined.iter().map(|kept| &kept.map).collect();
    assert_eq!(undefined, [&name("orders")]);
    assert_eq!(status.undefined[0].parked.packs, 1);
    let said = run(&deployment.project, &["status"]).await.out;
    assert!(said.contains("orders is not in syncline.yaml"), "{said}");

    let project = deployment.project;
    project.define(&DEMO.replace("{url}", &crm.url()));
    let deployment = Deployment::open(project);
    deployment.pass(Duration::from_mins(11)).await;
    assert_equal(&crm, &deployment.project.warehouse());
    let status = deployment.home.operations.status().await.unwrap();
    assert!(status.undefined.is_empty());
    let left = deployment.failures("orders").await;
    assert!(left.iter().all(|left| left.attempts > failure.attempts));
}

#[tokio::test]
async fn a_parked_pack_that_cannot_be_read_stops_no_other_map() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let home = &deployment.home;
    home.operations
        .pause(&name("accounts"), "a test")
        .await
        .unwrap();
    let damaged = "parked/accounts/live/0000000000000001-x-y";
    let blobs: &dyn Blobs = &home.store;
    let put = blobs.put_new(damaged, Bytes::from_static(b"no pack")).await;
    put.unwrap();
    home.operations.resume(&name("accounts")).await.unwrap();
    crm.write(Set::Orders, "100001", &json!({ "Status": "parked" }));
    let row = crm.row(Set::Orders, "100001").unwrap().to_string();
    let EncodedPack { head, body, .. } = deployment.packed("orders", row);
    let parking = Parking::new(Arc::new(home.store.clone()));
    park_one(&parking, &head, "first", &body).await;

    home.functions
        .retry
        .tick(deployment.deadline())
        .await
        .unwrap();
    for _ in 0..5 {
        local::deliver_visible(home).await;
    }
    assert_equal(&crm, &deployment.project.warehouse());
    home.functions
        .retry
        .tidy(deployment.deadline())
        .await
        .unwrap();
    // It is not passed over in silence.
    assert_eq!(deployment.state("accounts").await, MapState::Resuming);
    assert_eq!(deployment.status("accounts").await.parked.packs, 1);
}

#[tokio::test]
async fn a_pack_that_is_parked_again_while_it_is_released_stays_parked() {
    let deployment = Deployment::open(Project::new(&DEMO.replace("{url}", "http://localhost")));
    let blobs = Arc::new(deployment.home.store.clone());
    let parking = Parking::new(Arc::clone(&blobs) as _);
    let map = name("accounts");
    let EncodedPack { head, body, .. } = deployment.packed("accounts", "{}".into());
    for _ in 0..2 {
        park_one(&parking, &head, "first", &body).await;
    }
    assert_eq!(
        parking.measure(&map).await.unwrap().0,
        1,
        "one message is parked once"
    );
    let quick = Quick {
        parking: parking.clone(),
        head,
    };
    let outbox = Outbox::new(Arc::new(quick), blobs as _);
    assert!(
        !parking
            .release(&map, Lane::Live, 100, &outbox)
            .await
            .unwrap()
    );
    assert_eq!(parking.measure(&map).await.unwrap().0, 1, "it is not lost");
}

#[tokio::test]
async fn packs_that_are_parked_together_are_few_blobs_and_each_is_released_once() {
    const PACKS: usize = 250;
    const LARGE: usize = 3;
    let deployment = Deployment::open(Project::new(&DEMO.replace("{url}", "http://localhost")));
    let (home, clock) = (&deployment.home, &deployment.clock);
    let (map, parking) = (name("accounts"), &home.operations.parking);
    let mut packs = Vec::new();
    for number in 0..PACKS + LARGE {
        clock.advance(Duration::from_millis(1));
        // What cannot be compressed stays as large as it is.
        let bytes = if number < PACKS { 10 } else { 300_000 };
        let text: String = (0..bytes).map(|_| fastrand::alphanumeric()).collect();
        let raw = format!(r#"{{"AccountId":"{number}","Name":"{text}"}}"#);
        packs.push(deployment.packed("accounts", raw));
    }
    let made: Vec<_> = packs.iter().map(|pack| pack.head.id).collect();
    fastrand::shuffle(&mut packs);
    let arrivals = packs.iter().map(|pack| Arrival {
        head: &pack.head,
        message: "a message",
        body: &pack.body,
    });
    let arrivals: Vec<_> = arrivals.collect();
    for _ in 0..2 {
        let parked = parking.park(&map, Lane::Live, arrivals.clone());
        parked.await.unwrap();
    }
    let blobs: &dyn Blobs = &home.store;
    let (number, _) = blobs.measure("parked/").await.unwrap();
    assert_eq!(number, 3 + LARGE as u64);
    let left = async || parking.measure(&map).await.unwrap().0;
    assert_eq!(left().await, (PACKS + LARGE) as u64);
    let third = |change: &model::Change| change.raw.starts_with(br#"{"AccountId":"2","#);
    let found = parking.find(&map, 1_000, third).await.unwrap();
    assert_eq!(found.len(), 1);
    let slow = Slow::new(clock, Duration::ZERO);
    let outbox = Outbox::new(Arc::clone(&slow) as _, Arc::new(home.store.clone()));
    let mut steps = Vec::new();
    loop {
        let more = parking
            .release(&map, Lane::Live, 100, &outbox)
            .await
            .unwrap();
        steps.push(left().await);
        if !more {
            break;
        }
    }
    assert_eq!(steps, [153, 53, 0]);
    let taken = slow.taken().into_iter();
    let taken: Vec<_> = taken
        .map(|(_, body)| decode_pack(&body).unwrap().head.id)
        .collect();
    assert_eq!(taken, made, "each once, the oldest first");
}

#[tokio::test]
async fn who_is_parked_again_in_other_company_takes_nobodys_place() {
    let deployment = Deployment::open(Project::new(&DEMO.replace("{url}", "http://localhost")));
    let (map, parking) = (name("accounts"), &deployment.home.operations.parking);
    let packs: Vec<_> = (0..3)
        .map(|_| {
            deployment.clock.advance(Duration::from_millis(1));
            deployment.packed("accounts", "{}".into())
        })
        .collect();
    let park = async |which: [usize; 2]| {
        let messages = ["first", "second", "third"];
        let arrivals = which.map(|at| Arrival {
            head: &packs[at].head,
            message: messages[at],
            body: &packs[at].body,
        });
        let parked = parking.park(&map, Lane::Live, arrivals.into()).await;
        parked.unwrap();
    };
    park([0, 1]).await;
    park([0, 2]).await;
    park([1, 0]).await;
    assert_eq!(parking.measure(&map).await.unwrap().0, 4);
    let slow = Slow::new(&deployment.clock, Duration::ZERO);
    let blobs = Arc::new(deployment.home.store.clone());
    let outbox = Outbox::new(Arc::clone(&slow) as _, blobs);
    let released = parking.release(&map, Lane::Live, 100, &outbox).await;
    assert!(!released.unwrap());
    let taken = slow.taken().into_iter();
    let taken: HashSet<_> = taken
        .map(|(_, body)| decode_pack(&body).unwrap().head.id)
        .collect();
    assert_eq!(taken, packs.iter().map(|pack| pack.head.id).collect());
}

#[tokio::test]
async fn a_release_that_takes_long_is_not_begun_anew_by_every_tick() {
    const PACKS: usize = 350;
    let deployment = Deployment::open(Project::new(&DEMO.replace("{url}", "http://localhost")));
    let (home, clock) = (&deployment.home, &deployment.clock);
    let accounts = name("accounts");
    let operations = &home.operations;
    operations.start_without_load(&accounts).await.unwrap();
    for _ in 0..PACKS {
        let EncodedPack { head, body, .. } = deployment.packed("accounts", "{}".into());
        park_one(&operations.parking, &head, "first", &body).await;
    }
    let slow = Slow::new(clock, Duration::from_mins(1));
    let retry = deployment.retry_through(Arc::clone(&slow) as _);
    for _ in 0..4 {
        retry.tick(deployment.deadline()).await.unwrap();
    }
    assert_eq!(
        queues(slow.taken()),
        [QueueName::Live; PACKS],
        "each once, and no jobs"
    );
    let left = operations.parking.measure(&accounts).await.unwrap().0;
    assert_eq!(left, 0);
}

/// Where messages were sent to.
fn queues(taken: Vec<(QueueName, String)>) -> Vec<QueueName> {
    taken.into_iter().map(|(queue, _)| queue).collect()
}

/// Accounts that run, and so many packs of them that are parked.
async fn with_parked(packs: usize) -> Deployment {
    let deployment = Deployment::open(Project::new(&DEMO.replace("{url}", "http://localhost")));
    let operations = &deployment.home.operations;
    let accounts = name("accounts");
    operations.start_without_load(&accounts).await.unwrap();
    for _ in 0..packs {
        park(&deployment).await;
    }
    deployment
}

async fn park(deployment: &Deployment) {
    let EncodedPack { head, body, .. } = deployment.packed("accounts", "{}".into());
    let parking = &deployment.home.operations.parking;
    park_one(parking, &head, "first", &body).await;
}

fn release() -> RetryJob {
    let map = name("accounts");
    RetryJob::Release { map }
}

#[tokio::test]
async fn jobs_that_come_together_for_one_map_release_each_pack_once() {
    const PACKS: usize = 250;
    let deployment = with_parked(PACKS).await;
    let slow = Slow::new(&deployment.clock, Duration::ZERO);
    let retry = deployment.retry_through(Arc::clone(&slow) as _);
    let mut jobs = message(&release());
    jobs.records = vec![jobs.records.remove(0); 4];
    let answer = retry.handle_jobs(jobs, deployment.deadline()).await;
    assert!(answer.batch_item_failures.is_empty());
    let mut sent = queues(slow.taken());
    sent.retain(|queue| *queue != QueueName::Retries);
    assert_eq!(sent, [QueueName::Live; PACKS]);
    let parking = &deployment.home.operations.parking;
    assert_eq!(parking.measure(&name("accounts")).await.unwrap().0, 0);
}

#[tokio::test]
async fn a_release_that_finds_another_under_way_is_not_lost() {
    let deployment = with_parked(1).await;
    let gate = Gate::new();
    let retry = deployment.retry_through(Arc::clone(&gate) as _);
    let deadline = deployment.deadline();
    let second = async {
        // The first one has looked what there is: this it does not know of.
        gate.reached().await;
        park(&deployment).await;
        let answer = tokio::select! {
            answer = retry.handle_jobs(message(&release()), deadline) => answer,
            () = gate.reached() => panic!("it leaves the map to the first"),
        };
        assert!(answer.batch_item_failures.is_empty());
        gate.open();
    };
    let (answer, ()) = tokio::join!(retry.handle_jobs(message(&release()), deadline), second);
    assert!(answer.batch_item_failures.is_empty());
    let sent = gate.taken();
    assert_eq!(
        queues(sent.clone()),
        [QueueName::Live, QueueName::Retries],
        "it asks for what has come meanwhile"
    );
    let again: RetryJob = serde_json::from_str(&sent[1].1).unwrap();
    retry.handle_jobs(message(&again), deadline).await;
    assert_eq!(queues(gate.taken()), [QueueName::Live]);
    let parking = &deployment.home.operations.parking;
    assert_eq!(parking.measure(&name("accounts")).await.unwrap().0, 0);
}

#[tokio::test]
async fn what_a_worker_was_releasing_when_it_died_is_released_soon_after() {
    let deployment = with_parked(1).await;
    let gate = Gate::new();
    let dying = deployment.retry_through(Arc::clone(&gate) as _);
    tokio::select! {
        ticked = dying.tick(deployment.deadline()) => panic!("it came to its end: {ticked:?}"),
        () = gate.reached() => {}
    }
    let slow = Slow::new(&deployment.clock, Duration::ZERO);
    let retry = deployment.retry_through(Arc::clone(&slow) as _);
    // It had a minute, and may be at work on what it has begun for another one.
    for _ in 0..11 {
        deployment.clock.advance(Duration::from_secs(10));
        retry.tick(deployment.deadline()).await.unwrap();
        assert_eq!(queues(slow.taken()), []);
    }
    deployment.clock.advance(Duration::from_secs(10));
    retry.tick(deployment.deadline()).await.unwrap();
    assert_eq!(queues(slow.taken()), [QueueName::Live]);
}
