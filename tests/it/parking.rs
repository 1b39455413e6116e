//! Parking, at its most delicate moment.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use model::{EncodedPack, FailureStatus, Lane, MapState, PackHead, QueueName, RunId};
use ports::{Blobs, Outgoing, Queue, QueueError, Sent, testing::ManualClock};
use runtime::{Outbox, Parking};
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use crate::support::{DEMO, Deployment, Project, assert_equal, name, run, small_crm};

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
            let parked = self
                .parking
                .park(Lane::Live, &self.head, "second", message.body);
            parked.await.expect("a store");
        }
        Ok(vec![Sent::Queued])
    }

    async fn defer(&self, _: QueueName, _: &str, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}

/// A queue that is so slow that a release never comes to its end, and what was sent to it.
#[derive(Debug)]
struct Slow {
    clock: Arc<ManualClock>,
    sent: Mutex<Vec<QueueName>>,
}

#[async_trait]
impl Queue for Slow {
    async fn send(
        &self,
        queue: QueueName,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Sent>, QueueError> {
        self.clock.advance(Duration::from_mins(1));
        let mut sent = self.sent.lock().expect("a lock");
        sent.extend(messages.iter().map(|_| queue));
        Ok(vec![Sent::Queued; messages.len()])
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
    parking
        .park(Lane::Live, &head, "first", body)
        .await
        .unwrap();

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
        parking
            .park(Lane::Live, &head, "first", body.clone())
            .await
            .unwrap();
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
    assert!(!parking.release(&map, Lane::Live, &outbox).await.unwrap());
    assert_eq!(parking.measure(&map).await.unwrap().0, 1, "it is not lost");
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
        let parked = operations.parking.park(Lane::Live, &head, "first", body);
        parked.await.unwrap();
    }
    let slow = Arc::new(Slow {
        clock: Arc::clone(clock),
        sent: Mutex::default(),
    });
    let retry = deployment.retry_through(Arc::clone(&slow) as _);
    for _ in 0..4 {
        retry.tick(deployment.deadline()).await.unwrap();
    }
    let sent = slow.sent.lock().unwrap().clone();
    assert_eq!(sent, [QueueName::Live; PACKS], "each once, and no jobs");
    let left = operations.parking.measure(&accounts).await.unwrap().0;
    assert_eq!(left, 0);
}
