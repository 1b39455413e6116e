//! The books of webhooks.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use http::StatusCode;
use model::{Attempt, Books, Counts, MapName, Outcome, RunId, Settlement};
use ports::{Failures, Ledger, PackEntry, StoreError, testing::map_name};

use test_proxy::{Answer, Between, Call, Fate};

use crate::fixture::{Fixture, pack_ref, settlements, upstream};

/// Refuses one call for good: of such an action, after so many.
#[derive(Debug, Default)]
struct Refuses(Mutex<Option<(&'static str, usize)>>);

impl Between for Refuses {
    fn fate(&self, call: &Call) -> Fate {
        let mut next = self.0.lock().unwrap();
        match &mut *next {
            Some((action, after)) if *action == call.action() => {
                let Some(less) = after.checked_sub(1) else {
                    *next = None;
                    let denied = r#"{"__type":"com.amazon.coral.service#AccessDeniedException"}"#;
                    return Fate::Refused(Answer::error(StatusCode::BAD_REQUEST, denied));
                };
                *after = less;
                Fate::Pass
            }
            _ => Fate::Pass,
        }
    }
}

fn webhooks(fixture: &Fixture, map: &MapName, n: usize) -> Vec<PackEntry> {
    let pack = || fixture.pack(map, RunId::live(map), 1);
    (0..n).map(|_| pack()).collect()
}

/// The same packs, settled by an attempt of its own.
fn by(attempt: u32, packs: &[PackEntry], outcome: Outcome) -> Vec<Settlement> {
    let settled = settlements(packs, outcome).into_iter();
    let attempt = Attempt(attempt);
    settled.map(|one| Settlement { attempt, ..one }).collect()
}

/// Adds the journal up until nothing is left to add.
async fn try_fold(fixture: &Fixture) -> Result<(), StoreError> {
    while fixture.state.fold_journal().await? {}
    Ok(())
}

async fn fold(fixture: &Fixture) {
    try_fold(fixture).await.unwrap();
}

/// What is asked must be the same before and after it is added up, by a process that knows nothing.
async fn assert_books(fixture: &Fixture, map: &MapName, expected: (u64, u64, u64), when: &str) {
    for (minutes, folded) in [(0, "fresh"), (9, "added up"), (30, "long ago")] {
        fixture.clock.advance(Duration::from_mins(minutes));
        fold(fixture).await;
        let books = fixture.worker().books(map).await.unwrap();
        let outcomes = books.outcomes;
        let told = (books.read, outcomes.applied, outcomes.unchanged);
        assert_eq!(told, expected, "{when}, {folded}: {books:?}");
        assert!(books.balanced(), "{when}, {folded}: {books:?}");
    }
}

#[tokio::test]
async fn webhooks_are_counted_when_they_are_settled() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    let packs = webhooks(&fixture, &map, 40);
    fixture.send(&packs).await;
    assert_eq!(fixture.books(&map).await, Books::default());
    for part in packs.chunks(15) {
        fixture.settle(part, Outcome::Applied).await;
        fixture.clock.advance(Duration::from_secs(1));
    }
    fixture.settle(&packs, Outcome::Unchanged).await;
    let books = fixture.books(&map).await;
    assert_eq!((books.read, books.outcomes.applied), (40, 40));
    let refs: Vec<_> = packs.iter().map(pack_ref).collect();
    assert_eq!(fixture.ledger.settled(&refs).await.unwrap().len(), 40);
    assert_eq!(
        fixture.ledger.runs(&map, 5).await.unwrap(),
        [(RunId::live(&map), books)]
    );
    assert_books(&fixture, &map, (40, 40, 0), "all of them twice").await;
}

/// Webhooks of many maps are entered together, and are each map's own.
#[tokio::test]
async fn maps_share_the_journal_and_nothing_else() {
    let fixture = Fixture::new().await;
    let maps: Vec<MapName> = (0..30).map(|n| map_name(&format!("map-{n}"))).collect();
    let mut packs = Vec::new();
    for (n, map) in maps.iter().enumerate() {
        packs.extend(webhooks(&fixture, map, n + 1));
    }
    fastrand::Rng::with_seed(5).shuffle(&mut packs);
    for batch in packs.chunks(100) {
        fixture.settle(batch, Outcome::Applied).await;
    }
    for minutes in [0, 9] {
        fixture.clock.advance(Duration::from_mins(minutes));
        fold(&fixture).await;
        let names: Vec<&MapName> = maps.iter().collect();
        let all = fixture.worker().books_of(&names).await.unwrap();
        for (n, (map, books)) in maps.iter().zip(all).enumerate() {
            assert_eq!(books, fixture.books(map).await);
            assert_eq!(books.outcomes.applied, n as u64 + 1, "{map}");
        }
    }
}

/// Packs that two workers settle at the same time, at any age, count once.
#[tokio::test]
async fn workers_that_meet_count_each_pack_once() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    let mut all = 0;
    for age in [0, 3, 5, 20] {
        let mut packs = Vec::new();
        for _ in 0..40 {
            packs.extend(webhooks(&fixture, &map, 3));
            fixture.clock.advance(Duration::from_millis(900));
        }
        fixture.clock.advance(Duration::from_mins(age));
        let workers = (0..6).map(|worker| {
            let ledger = fixture.worker();
            let mine = packs.iter().cycle().skip(worker * 20).take(40);
            let settled = settlements(&mine.cloned().collect::<Vec<_>>(), Outcome::Applied);
            async move { ledger.settle(settled).await.unwrap() }
        });
        join_all(workers).await;
        all += 120;
        // Once more, and much later.
        fixture.clock.advance(Duration::from_millis(1));
        fixture.settle(&packs, Outcome::Unchanged).await;
        let when = format!("settled after {age} minutes");
        assert_books(&fixture, &map, (all, all, 0), &when).await;
        fixture.settle(&packs, Outcome::Unchanged).await;
        assert_books(&fixture, &map, (all, all, 0), &when).await;
    }
}

/// Of two attempts the first to say that a pack had failures is believed, and one that comes after
/// an attempt without any is told that it has no say.
#[tokio::test]
async fn failures_of_webhooks_are_somebodys_word() {
    for age in [0, 5] {
        let fixture = Fixture::new().await;
        let map = map_name("customers");
        let packs = webhooks(&fixture, &map, 3);
        let [failed, well, both] = [0, 1, 2].map(|n| &packs[n..=n]);
        fixture.clock.advance(Duration::from_mins(age));
        let settle = async |attempt, packs: &[PackEntry], outcome| {
            let settled = by(attempt, packs, outcome);
            let overruled = fixture.worker().settle(settled).await.unwrap();
            overruled.contains(&packs[0].id)
        };
        assert!(!settle(1, failed, Outcome::Failed).await);
        assert!(!settle(1, failed, Outcome::Failed).await, "its own word");
        assert!(settle(2, failed, Outcome::Failed).await);
        assert!(!settle(2, failed, Outcome::Applied).await, "it has none");
        assert!(!settle(1, well, Outcome::Applied).await);
        assert!(settle(2, well, Outcome::Failed).await);
        // Two at once: one of them.
        let attempts = [1, 2, 3, 4].map(|attempt| settle(attempt, both, Outcome::Failed));
        let overruled = join_all(attempts).await;
        assert_eq!(overruled.iter().filter(|one| **one).count(), 3, "{age}");
        let mut expected = Counts::default();
        expected.add(Outcome::Applied, 1);
        let failure = |n| ports::testing::failure(n, &map, RunId::live(&map));
        fixture
            .failures
            .put_new(&[failure(1), failure(2)])
            .await
            .unwrap();
        expected.add(Outcome::Failed, 2);
        for minutes in [0, 9, 30] {
            fixture.clock.advance(Duration::from_mins(minutes));
            fold(&fixture).await;
            let books = fixture.books(&map).await;
            assert_eq!(
                (books.read, books.outcomes),
                (3, expected),
                "{age}, {minutes}"
            );
            // However late: it stands.
            assert!(settle(2, failed, Outcome::Failed).await);
            assert!(settle(2, well, Outcome::Failed).await);
            assert!(!settle(2, failed, Outcome::Applied).await);
        }
    }
}

/// Who adds up and ends in the middle leaves it to the next one, and nothing is added twice.
#[tokio::test]
async fn adding_up_goes_on_where_it_ended() {
    let refuses = Arc::new(Refuses::default());
    let between = Arc::clone(&refuses) as Arc<dyn Between>;
    let proxy = test_proxy::Proxy::to(&upstream(), between).await.unwrap();
    let fixture = Fixture::through(proxy.endpoint()).await;
    let maps = [map_name("customers"), map_name("orders")];
    let mut expected = 0;
    // Before the totals of all maps are written; and when they are, before that is noted.
    for refused in [("UpdateItem", 0), ("UpdateItem", 1), ("PutItem", 2)] {
        fold(&fixture).await;
        for map in &maps {
            let packs = webhooks(&fixture, map, 7);
            fixture.settle(&packs, Outcome::Applied).await;
        }
        expected += 7;
        fixture.clock.advance(Duration::from_mins(10));
        *refuses.0.lock().unwrap() = Some(refused);
        assert!(try_fold(&fixture).await.is_err(), "{refused:?}");
        assert_eq!(*refuses.0.lock().unwrap(), None);
        for minutes in [0, 3, 30] {
            for map in &maps {
                let applied = fixture.books(map).await.outcomes.applied;
                assert_eq!(applied, expected, "{map} after {minutes} minutes");
            }
            fixture.clock.advance(Duration::from_mins(minutes));
            // What comes now must not be taken for what was added up.
            let packs = webhooks(&fixture, &maps[0], 2);
            fixture.settle(&packs, Outcome::Applied).await;
            let packs = webhooks(&fixture, &maps[1], 2);
            fixture.settle(&packs, Outcome::Applied).await;
            expected += 2;
            fold(&fixture).await;
        }
    }
    for map in &maps {
        assert_books(&fixture, map, (expected, expected, 0), "in the end").await;
    }
}

/// After a long outage a batch has packs of very many seconds, and so have those of the others.
#[tokio::test]
async fn a_backlog_of_old_webhooks_is_settled_by_many_workers() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    let mut packs = Vec::new();
    for _ in 0..150 {
        packs.extend(webhooks(&fixture, &map, 1));
        fixture.clock.advance(Duration::from_secs(20));
    }
    let workers = (0..6).map(|worker| {
        let ledger = fixture.worker();
        let mine = packs.iter().cycle().skip(worker * 25).take(130);
        let mine: Vec<_> = mine.cloned().collect();
        async move {
            ledger
                .settle(settlements(&mine, Outcome::Applied))
                .await
                .unwrap();
        }
    });
    join_all(workers).await;
    assert_books(&fixture, &map, (150, 150, 0), "a backlog").await;
}

/// What is more than one entry takes is in several, fresh and late.
#[tokio::test]
async fn very_many_webhooks_of_one_call_all_count() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    let mut all = 0;
    for age in [0, 5] {
        let mut packs = webhooks(&fixture, &map, 2_300);
        fixture.clock.advance(Duration::from_secs(20));
        packs.extend(webhooks(&fixture, &map, 1_700));
        fixture.clock.advance(Duration::from_mins(age));
        fixture.settle(&packs, Outcome::Applied).await;
        all += 4_000;
        assert_books(&fixture, &map, (all, all, 0), "very many").await;
    }
}
