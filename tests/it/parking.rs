//! Parking, at its most delicate moment.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use model::{Change, Lane, Op, Origin, PackHead, PackId, QueueName, RunId, encode_pack};
use ports::{Outgoing, Queue, QueueError, Sent};
use runtime::{Outbox, Parking};
use uuid::Uuid;

use crate::support::{DEMO, Deployment, Project, name};

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

#[tokio::test]
async fn a_pack_that_is_parked_again_while_it_is_released_stays_parked() {
    let deployment = Deployment::open(Project::new(&DEMO.replace("{url}", "http://localhost")));
    let blobs = Arc::new(deployment.home.store.clone());
    let parking = Parking::new(Arc::clone(&blobs) as _);
    let map = name("accounts");
    let head = PackHead {
        id: PackId::from_uuid(Uuid::from_u128(1)),
        run: RunId::live(&map),
        map: map.clone(),
        origin: Origin::Webhook,
        generation: 0,
        created: deployment.home.clock.now(),
        trace: None,
    };
    let change = Change {
        op: Op::Upsert,
        observed: 1,
        raw: Bytes::from_static(b"{}"),
        failure: None,
    };
    let body = encode_pack(head.clone(), &[change]).body;
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
