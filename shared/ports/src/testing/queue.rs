//! What every queue has to do.

use std::{collections::HashSet, fmt::Debug, time::Duration};

use async_trait::async_trait;
use model::{MAX_MESSAGE_BYTES, MAX_RECEIVES, QueueName, RunId};

use super::{map_name, pack_entry};
use crate::{Consumer, Dedupe, Outgoing, Queue, QueueError, Received, Sent};

/// An empty set of queues and a way to let time pass for them.
#[async_trait]
pub trait QueueFixture: Debug + Send + Sync {
    /// The sending side.
    fn queue(&self) -> &dyn Queue;
    /// The receiving side.
    fn consumer(&self) -> &dyn Consumer;
    /// The time as the queue sees it.
    fn now(&self) -> jiff::Timestamp;
    /// Lets time pass, by moving a clock or by waiting.
    async fn pass(&self, time: Duration);
}

const VISIBILITY: Duration = Duration::from_secs(2);

async fn send(fixture: &dyn QueueFixture, body: &str) {
    let sent = fixture
        .queue()
        .send(QueueName::Live, vec![Outgoing::new(body.into())])
        .await;
    assert_eq!(sent.expect("sent"), [Sent::Queued]);
}

async fn receive(fixture: &dyn QueueFixture, max: usize) -> Vec<Received> {
    fixture
        .consumer()
        .receive(QueueName::Live, max, VISIBILITY)
        .await
        .expect("received")
}

async fn delete(fixture: &dyn QueueFixture, receipt: &str) {
    fixture
        .consumer()
        .delete(QueueName::Live, &[receipt.to_owned()])
        .await
        .expect("deleted");
}

/// A message comes out as it went in, any text included, and to its own queue only.
pub async fn carries_any_text(fixture: &dyn QueueFixture) {
    let body = "{\"a\":\"ä\u{1F980}\\u0000\"}\n\t'";
    send(fixture, body).await;
    let other = fixture
        .consumer()
        .receive(QueueName::Load, 10, VISIBILITY)
        .await;
    assert_eq!(other.expect("received"), []);
    let received = receive(fixture, 10).await;
    assert_eq!(received.len(), 1);
    assert_eq!((received[0].body.as_str(), received[0].receives), (body, 1));
}

/// Many messages in one call are all there, in any order, more than one batch of SQS holds.
pub async fn takes_many_at_once(fixture: &dyn QueueFixture) {
    let bodies: HashSet<String> = (0..57).map(|i| format!("message {i}")).collect();
    let messages = bodies
        .iter()
        .map(|body| Outgoing::new(body.clone()))
        .collect();
    let sent = fixture
        .queue()
        .send(QueueName::Live, messages)
        .await
        .expect("sent");
    assert_eq!(sent.len(), 57);
    let mut found = HashSet::new();
    loop {
        let received = receive(fixture, 10).await;
        if received.is_empty() {
            break;
        }
        assert!(received.len() <= 10);
        found.extend(received.into_iter().map(|message| message.body));
    }
    assert_eq!(found, bodies);
}

/// A received message is invisible, comes back when its visibility ends, and counts receipts.
pub async fn an_unfinished_message_comes_back(fixture: &dyn QueueFixture) {
    send(fixture, "once").await;
    let first = receive(fixture, 1).await;
    assert_eq!(
        receive(fixture, 1).await,
        [],
        "it was visible while being worked on"
    );
    fixture.pass(VISIBILITY).await;
    let second = receive(fixture, 1).await;
    assert_eq!((second[0].receives, &second[0].id), (2, &first[0].id));
    assert_ne!(second[0].receipt, first[0].receipt);
}

/// A deleted message never comes back.
pub async fn a_deleted_message_is_gone(fixture: &dyn QueueFixture) {
    send(fixture, "gone").await;
    let received = receive(fixture, 1).await;
    delete(fixture, &received[0].receipt).await;
    fixture.pass(VISIBILITY * 2).await;
    assert_eq!(receive(fixture, 1).await, []);
}

/// Who was too slow must not delete what another is working on.
pub async fn a_late_receipt_does_not_delete(fixture: &dyn QueueFixture) {
    send(fixture, "slow").await;
    let slow = receive(fixture, 1).await;
    fixture.pass(VISIBILITY).await;
    assert_eq!(receive(fixture, 1).await.len(), 1);
    delete(fixture, &slow[0].receipt).await;
    fixture.pass(VISIBILITY).await;
    assert_eq!(
        receive(fixture, 1).await.len(),
        1,
        "a late receipt deleted the message"
    );
}

/// A delayed message is invisible until its time.
pub async fn a_delay_is_kept(fixture: &dyn QueueFixture) {
    let delayed = Outgoing {
        delay: Duration::from_secs(3),
        ..Outgoing::new("later".into())
    };
    fixture
        .queue()
        .send(QueueName::Live, vec![delayed])
        .await
        .expect("sent");
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(receive(fixture, 1).await, []);
    fixture.pass(Duration::from_secs(3)).await;
    assert_eq!(receive(fixture, 1).await.len(), 1);
}

/// A deferred message comes back at its new time, not at the old one.
pub async fn a_deferred_message_waits_longer(fixture: &dyn QueueFixture) {
    send(fixture, "target down").await;
    let received = receive(fixture, 1).await;
    let wait = VISIBILITY * 3;
    fixture
        .queue()
        .defer(QueueName::Live, &received[0].receipt, wait)
        .await
        .expect("deferred");
    fixture.pass(VISIBILITY * 2).await;
    assert_eq!(receive(fixture, 1).await, []);
    fixture.pass(VISIBILITY * 2).await;
    assert_eq!(receive(fixture, 1).await.len(), 1);
}

/// A message deferred by nothing comes back at once.
pub async fn a_message_can_be_given_back(fixture: &dyn QueueFixture) {
    send(fixture, "given back").await;
    let received = receive(fixture, 1).await;
    fixture
        .queue()
        .defer(QueueName::Live, &received[0].receipt, Duration::ZERO)
        .await
        .expect("deferred");
    assert_eq!(receive(fixture, 1).await.len(), 1);
}

/// A name is let through once while it is remembered, also within one call.
pub async fn a_name_passes_once(fixture: &dyn QueueFixture) {
    let until = fixture.now() + Duration::from_secs(4);
    let named = |name: &str| Outgoing {
        dedupe: Some(Dedupe {
            name: name.into(),
            until,
        }),
        ..Outgoing::new(name.into())
    };
    let both = vec![named("crm/1"), named("crm/1"), named("crm/2")];
    let sent = fixture
        .queue()
        .send(QueueName::Live, both)
        .await
        .expect("sent");
    assert_eq!(sent, [Sent::Queued, Sent::Duplicate, Sent::Queued]);
    for message in receive(fixture, 10).await {
        delete(fixture, &message.receipt).await;
    }
    let again = fixture
        .queue()
        .send(QueueName::Live, vec![named("crm/1")])
        .await
        .expect("sent");
    assert_eq!(
        again,
        [Sent::Duplicate],
        "a finished message was forgotten too early"
    );
    assert_eq!(receive(fixture, 10).await, []);
}

/// A message that no queue takes is an error that says so; nothing of the call is lost.
pub async fn a_message_too_large_is_refused(fixture: &dyn QueueFixture) {
    let large = Outgoing::new("x".repeat(MAX_MESSAGE_BYTES + 1));
    let refused = fixture.queue().send(QueueName::Live, vec![large]).await;
    assert!(
        matches!(refused, Err(QueueError::TooLarge { .. })),
        "{refused:?}"
    );
    let largest = Outgoing::new("x".repeat(MAX_MESSAGE_BYTES));
    fixture
        .queue()
        .send(QueueName::Live, vec![largest])
        .await
        .expect("sent");
    assert_eq!(receive(fixture, 1).await[0].body.len(), MAX_MESSAGE_BYTES);
}

/// The books of a pack are open when it can be received. (Its ledger is tested elsewhere.)
pub async fn a_pack_can_be_sent_twice(fixture: &dyn QueueFixture) {
    let map = map_name("customers");
    let pack = pack_entry(1, &map, RunId::live(&map), 3);
    let message = Outgoing {
        pack: Some(pack),
        group: Some(map),
        ..Outgoing::new("pack".into())
    };
    let sent = fixture
        .queue()
        .send(QueueName::Live, vec![message.clone(), message])
        .await
        .expect("sent");
    assert_eq!(sent, [Sent::Queued, Sent::Queued]);
    assert_eq!(receive(fixture, 10).await.len(), 2);
}

/// One map's backlog does not keep another map's message waiting for its end.
pub async fn a_busy_group_does_not_starve_the_others(fixture: &dyn QueueFixture) {
    let in_group = |group: &str, body: String| Outgoing {
        group: Some(map_name(group)),
        ..Outgoing::new(body)
    };
    let backlog = (0..200)
        .map(|i| in_group("busy", format!("busy {i}")))
        .collect();
    fixture
        .queue()
        .send(QueueName::Live, backlog)
        .await
        .expect("sent");
    fixture
        .queue()
        .send(QueueName::Live, vec![in_group("quiet", "quiet".into())])
        .await
        .expect("sent");
    let mut before = 0;
    loop {
        let received = receive(fixture, 10).await;
        assert!(!received.is_empty(), "the quiet map's message never came");
        if received.iter().any(|message| message.body == "quiet") {
            break;
        }
        before += received.len();
    }
    assert!(before < 100, "{before} messages of the busy map came first");
}

/// A message that nobody finishes ends among the dead letters, as it was, and not before.
pub async fn an_endless_message_becomes_a_dead_letter(fixture: &dyn QueueFixture) {
    send(fixture, "endless").await;
    for receive_count in 1..=MAX_RECEIVES {
        let received = receive(fixture, 1).await;
        assert_eq!(
            received.len(),
            1,
            "it was gone after {receive_count} receives"
        );
        let receipt = &received[0].receipt;
        fixture
            .queue()
            .defer(QueueName::Live, receipt, Duration::ZERO)
            .await
            .expect("deferred");
    }
    assert_eq!(receive(fixture, 1).await, []);
    let dead = fixture
        .consumer()
        .receive(QueueName::Dead, 1, VISIBILITY)
        .await
        .expect("received");
    assert_eq!(dead[0].body, "endless");
}

/// Tests of the contract of [`Queue`] and [`Consumer`].
#[macro_export]
macro_rules! queue_contract {
    ($make:expr) => {
        $crate::contract!(
            queue,
            $make,
            [
                carries_any_text,
                takes_many_at_once,
                an_unfinished_message_comes_back,
                a_deleted_message_is_gone,
                a_late_receipt_does_not_delete,
                a_delay_is_kept,
                a_deferred_message_waits_longer,
                a_message_can_be_given_back,
                a_name_passes_once,
                a_message_too_large_is_refused,
                a_pack_can_be_sent_twice,
                a_busy_group_does_not_starve_the_others,
                an_endless_message_becomes_a_dead_letter,
            ]
        );
    };
}
