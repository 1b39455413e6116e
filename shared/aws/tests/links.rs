//! Claims of links, where somebody else is faster and where answers are lost.

#![cfg(test)]

mod support;
#[path = "support/tables.rs"]
mod tables;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aws::StateTable;
use jiff::Timestamp;
use model::{MapName, Version};
use ports::{Claim, ClaimBatch, Claimed, Link, Links, Revision, SystemClock, testing::map_name};
use test_proxy::{Between, Call, Fate, Proxy};

const KEY: &str = "1";

async fn table() -> StateTable {
    let clients = support::clients().await;
    let name = support::unique("state");
    tables::create(&clients.dynamodb, &name, false).await;
    StateTable::new(clients.dynamodb, name, Arc::new(SystemClock))
}

fn map() -> MapName {
    map_name("a")
}

async fn begun(table: &StateTable) -> ClaimBatch {
    let batch = ClaimBatch::new(Timestamp::MAX);
    table.begin(&map(), &batch).await.unwrap();
    batch
}

fn claim(version: i64, batch: &ClaimBatch) -> Claim {
    Claim {
        version: Some(Version(version)),
        hash: Some(format!("h{version}")),
        until: Timestamp::MAX,
        attempt: 1,
        batch: Some(Arc::clone(&batch.name)),
    }
}

async fn ours(table: &StateTable, claim: &Claim) -> (Option<Link>, Revision) {
    let claims = vec![(KEY.to_owned(), claim.clone())];
    match table.claim(&map(), claims).await.unwrap().remove(0) {
        Claimed::Ours { before, revision } => (before, revision),
        Claimed::Look => panic!("it cannot be claimed"),
    }
}

/// Reads the link of a row that is claimed, and whose batch is ended by `end` between the reading
/// of the link and that of the batch.
async fn read_before<F, E>(end: E) -> Link
where
    F: Future<Output = ()> + Send,
    E: FnOnce(StateTable, ClaimBatch, Claim, Revision) -> F,
{
    let table = table().await;
    let batch = begun(&table).await;
    let claim = claim(1, &batch);
    let (_, revision) = ours(&table, &claim).await;
    let end = end(table.clone(), batch, claim, revision);
    let link = table.link_read_before(&map(), KEY, end).await;
    link.unwrap().unwrap()
}

#[tokio::test]
async fn what_was_read_before_its_batch_ended_is_not_taken_for_true() {
    let link = read_before(|table, batch, _, revision| async move {
        let undone = vec![(KEY.to_owned(), Some(revision), Link::default())];
        assert!(table.put(&map(), undone).await.unwrap()[0].is_some());
        table.confirm(&map(), &batch, Vec::new()).await.unwrap();
    });
    let link = link.await;
    assert_eq!(link.applied, None);
    assert!(link.claim.is_some(), "it is still taken for claimed");
}

#[tokio::test]
async fn what_its_batch_confirmed_meanwhile_is_true() {
    let link = read_before(|table, batch, claim, revision| async move {
        let done = Link::default().claimed(claim.clone()).came_true(&claim);
        let done = vec![(KEY.to_owned(), revision, done)];
        table.confirm(&map(), &batch, done).await.unwrap();
    });
    let link = link.await;
    assert_eq!((link.applied, link.claim), (Some(Version(1)), None));
}

/// Makes each claim, and says so only when it is made again.
#[derive(Debug, Default)]
struct Deaf(AtomicBool);

impl Between for Deaf {
    fn fate(&self, call: &Call) -> Fate {
        if call.action() == "UpdateItem" && !self.0.fetch_xor(true, Ordering::Relaxed) {
            return Fate::Lost;
        }
        Fate::Pass
    }
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_ours_all_the_same() {
    let direct = support::clients().await;
    let name = support::unique("state");
    tables::create(&direct.dynamodb, &name, false).await;
    let upstream = runtime::env::optional("SYNCLINE_TEST_AWS").unwrap();
    let proxy = Proxy::to(&upstream, Arc::new(Deaf::default()))
        .await
        .unwrap();
    let clients = support::connect_to(proxy.endpoint()).await;
    let table = StateTable::new(clients.dynamodb, name, Arc::new(SystemClock));
    let batch = begun(&table).await;
    let ended = |version| Claim {
        until: Timestamp::UNIX_EPOCH,
        ..claim(version, &batch)
    };
    let (before, _) = ours(&table, &ended(1)).await;
    assert_eq!(before, None);
    let (before, _) = ours(&table, &ended(2)).await;
    assert_eq!(before.unwrap().claim, Some(ended(1)));
    let (before, revision) = ours(&table, &claim(3, &batch)).await;
    let before = before.unwrap();
    assert_eq!(before.claim, Some(ended(2)));
    let last = before.claimed(claim(3, &batch));
    let found = table
        .get(&map(), &[KEY.to_owned()])
        .await
        .unwrap()
        .remove(0);
    let found = found.unwrap();
    assert_eq!((found.value.claim, found.revision), (last.claim, revision));
    assert_eq!(found.value.writes, last.writes);
}
