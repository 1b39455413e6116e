//! What is particular to the store in one file.

#![cfg(test)]

use std::{sync::Arc, time::Duration};

use embedded::{OpenError, Store};
use futures_util::FutureExt;
use model::{QueueName, RunId};
use ports::{
    Checkpoints, Clock, Consumer, Dedupe, Ledger, Outgoing, Queue, Sent,
    testing::{ManualClock, failure, map_name, pack_entry},
};

fn open(folder: &std::path::Path, clock: &Arc<ManualClock>) -> Store {
    Store::open(folder, Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

#[tokio::test]
async fn all_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let map = map_name("customers");
    {
        let store = open(folder.path(), &clock);
        store
            .put("map/customers/state", None, "running".into())
            .await
            .unwrap();
        let pack = pack_entry(1, &map, RunId::live(&map), 5);
        let message = Outgoing {
            pack: Some(pack),
            ..Outgoing::new("pack".into())
        };
        store.send(QueueName::Live, vec![message]).await.unwrap();
    }
    let store = open(folder.path(), &clock);
    assert!(store.get("map/customers/state").await.unwrap().is_some());
    assert_eq!(store.books(&map).await.unwrap().in_flight, 5);
    let received = store
        .receive(QueueName::Live, 1, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(received[0].body, "pack");
}

#[tokio::test]
async fn many_senders_share_commits_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(ManualClock::default()));
    let senders = (0..64).map(|sender| {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..20 {
                let message = Outgoing::new(format!("{sender}/{i}"));
                assert_eq!(
                    store.send(QueueName::Live, vec![message]).await.unwrap(),
                    [Sent::Queued]
                );
            }
        })
    });
    for sender in senders {
        sender.await.unwrap();
    }
    let mut bodies = std::collections::HashSet::new();
    loop {
        let received = store
            .receive(QueueName::Live, 100, Duration::from_mins(1))
            .await
            .unwrap();
        if received.is_empty() {
            break;
        }
        bodies.extend(received.into_iter().map(|message| message.body));
    }
    assert_eq!(bodies.len(), 64 * 20);
}

#[tokio::test]
async fn a_name_is_forgotten_after_its_time_only() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store = open(folder.path(), &clock);
    let send = async || {
        let until = clock.now() + Duration::from_hours(1);
        let dedupe = Some(Dedupe {
            name: "shopify/1".into(),
            until,
        });
        let message = Outgoing {
            dedupe,
            ..Outgoing::new("x".into())
        };
        store.send(QueueName::Live, vec![message]).await.unwrap()[0]
    };
    assert_eq!(send().await, Sent::Queued);
    clock.advance(Duration::from_mins(59));
    store.tidy().await.unwrap();
    assert_eq!(send().await, Sent::Duplicate);
    clock.advance(Duration::from_mins(1));
    assert_eq!(send().await, Sent::Queued, "the name outlived its time");
    clock.advance(Duration::from_hours(2));
    assert_eq!(store.tidy().await.unwrap(), 1);
}

#[tokio::test]
async fn another_process_sees_and_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let (host, tool) = (open(folder.path(), &clock), open(folder.path(), &clock));
    let live = || host.arrival(QueueName::Live).now_or_never();
    host.look().await.unwrap();
    assert!(live().is_some(), "nobody knows what was before");
    host.put("a", None, "1".into()).await.unwrap();
    host.look().await.unwrap();
    assert!(live().is_none(), "its own write is no foreign one");
    tool.put("b", None, "2".into()).await.unwrap();
    host.look().await.unwrap();
    assert!(live().is_some());
    assert!(host.get("b").await.unwrap().is_some());
}

#[tokio::test]
async fn a_queue_is_woken_when_a_message_of_it_becomes_visible() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store = open(folder.path(), &clock);
    let queue = QueueName::Loads;
    let woken = || store.arrival(queue).now_or_never().is_some();
    let delay = Duration::from_secs(3);
    let message = Outgoing {
        delay,
        ..Outgoing::new("later".into())
    };
    store.send(queue, vec![message]).await.unwrap();
    store.look().await.unwrap();
    assert!(woken(), "it was sent");
    store.look().await.unwrap();
    assert!(!woken());
    clock.advance(delay + Duration::from_millis(50));
    store.look().await.unwrap();
    assert!(woken());
    let received = store.receive(queue, 10, delay).await.unwrap();
    assert_eq!(received.len(), 1);
    store
        .defer(queue, &received[0].receipt, delay)
        .await
        .unwrap();
    store.look().await.unwrap();
    assert!(!woken());
    clock.advance(delay + Duration::from_millis(50));
    store.look().await.unwrap();
    assert!(woken());
    assert_eq!(store.receive(queue, 1, delay).await.unwrap().len(), 1);
    assert!(woken(), "there may be more for another worker");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    drop(open(folder.path(), &clock));
    let db = rusqlite::Connection::open(folder.path().join("syncline.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    let refused = Store::open(folder.path(), clock).unwrap_err();
    assert!(
        matches!(refused, OpenError::Newer { found: 99, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn a_file_of_an_older_version_is_brought_up_to_date_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let map = map_name("customers");
    let known = failure(1, &map, RunId::live(&map));
    let failures = || -> Arc<dyn ports::Failures> { Arc::new(open(folder.path(), &clock)) };
    let first = failures().put_new(std::slice::from_ref(&known)).await;
    assert_eq!(first.unwrap(), [true]);
    let db = rusqlite::Connection::open(folder.path().join("syncline.db")).unwrap();
    db.execute_batch(
        "DROP TABLE alerts; ALTER TABLE packs DROP COLUMN attempt;
         DROP INDEX failures_by_news; ALTER TABLE failures DROP COLUMN news;
         PRAGMA user_version = 1;",
    )
    .unwrap();
    let failures = failures();
    let newer = failure(2, &map, RunId::live(&map));
    let new = failures.put_new(&[known.clone(), newer]).await.unwrap();
    assert_eq!(new, [false, true]);
    let stored = failures.get(known.id).await.unwrap().unwrap();
    assert_eq!(stored.value, known);
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_says_so_and_the_store_works_on_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Arc::new(ManualClock::default()));
    store
        .send(QueueName::Live, vec![Outgoing::new("before".into())])
        .await
        .unwrap();
    store.limit_size(40).await.unwrap();
    let large = || Outgoing::new("x".repeat(500_000));
    let refused = store
        .send(QueueName::Live, vec![large()])
        .await
        .unwrap_err();
    assert!(
        format!("{refused}").contains("free some space"),
        "{refused}"
    );
    store.limit_size(1_000_000).await.unwrap();
    store.send(QueueName::Live, vec![large()]).await.unwrap();
    let received = store
        .receive(QueueName::Live, 10, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(
        received.len(),
        2,
        "a refused message must not be there by half"
    );
}
