//! The books on DynamoDB.

#![cfg(test)]

#[path = "ledger/fixture.rs"]
mod fixture;
#[path = "failures/proxy.rs"]
mod proxy;
mod support;
#[path = "support/tables.rs"]
mod tables;
#[path = "ledger/webhooks.rs"]
mod webhooks;

use std::time::Duration;

use fixture::{Fixture, pack_ref, run, settlements};
use jiff::Timestamp;
use model::{Counts, MapName, Outcome, RunId};
use ports::{Ledger, PackEntry, testing::map_name};
use proxy::Trouble;

ports::ledger_contract!(async || Fixture::new().await);

/// What `books` says of two packs, one settled, must stay through all that time does to them.
#[tokio::test]
async fn books_stay_the_same_while_they_are_added_up_and_put_away() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    let packs = [fixture.pack(&map, run(1), 3), fixture.pack(&map, run(1), 4)];
    fixture.send(&packs).await;
    fixture.settle(&packs[..1], Outcome::Applied).await;
    let expected = fixture.books(&map).await;
    assert_eq!(
        (expected.read, expected.outcomes.applied, expected.in_flight),
        (7, 3, 4)
    );
    for minutes in [1, 15, 30, 90] {
        fixture.clock.advance(Duration::from_mins(minutes));
        fixture.state.fold(&map).await.unwrap();
        assert_eq!(
            fixture.books(&map).await,
            expected,
            "{minutes} minutes more"
        );
    }
    // Late news counts once, wherever the rest has gone.
    for _ in 0..2 {
        fixture.settle(&packs, Outcome::Unchanged).await;
        fixture.send(&packs).await;
    }
    let mut done = expected;
    done.in_flight = 0;
    done.outcomes.unchanged = 4;
    assert_eq!(fixture.books(&map).await, done);
    // A run that is over is put away, and comes back when it has news.
    fixture.clock.advance(Duration::from_hours(2));
    fixture.state.fold(&map).await.unwrap();
    assert_eq!(fixture.books(&map).await, done);
    assert_eq!(
        fixture.ledger.runs(&map, 5).await.unwrap(),
        [(run(1), done)]
    );
    fixture.settle(&packs, Outcome::Applied).await;
    let one_more = [fixture.pack(&map, run(1), 5)];
    fixture.send(&one_more).await;
    done.read += 5;
    done.in_flight += 5;
    assert_eq!(fixture.books(&map).await, done);
    for _ in 0..2 {
        fixture.settle(&one_more, Outcome::Applied).await;
        fixture.clock.advance(Duration::from_hours(2));
        fixture.state.fold(&map).await.unwrap();
        fixture.state.fold(&map).await.unwrap();
    }
    done.in_flight = 0;
    done.outcomes.applied += 5;
    assert_eq!(fixture.books(&map).await, done);
    assert_eq!(
        fixture.ledger.runs(&map, 5).await.unwrap(),
        [(run(1), done)]
    );
}

/// Workers that settle at the same time lose nothing of each other and count nothing twice.
#[tokio::test]
async fn workers_do_not_disturb_each_other() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    for age in [Duration::ZERO, Duration::from_mins(11)] {
        let before = fixture.books(&map).await;
        let packs: Vec<_> = (0..24).map(|_| fixture.pack(&map, run(1), 2)).collect();
        fixture.send(&packs).await;
        fixture.clock.advance(age);
        // Each is settled by two of six workers.
        let workers = (0..6).map(|worker| {
            let mine: Vec<_> = packs
                .iter()
                .cycle()
                .skip(worker * 4)
                .take(8)
                .cloned()
                .collect();
            let fixture = &fixture;
            async move { fixture.settle(&mine, Outcome::Applied).await }
        });
        futures_util::future::join_all(workers).await;
        let books = fixture.books(&map).await;
        assert_eq!(books.read, before.read + 48, "{age:?}");
        assert_eq!(
            books.outcomes.applied,
            before.outcomes.applied + 48,
            "{age:?}"
        );
        assert!(books.balanced(), "{age:?}: {books:?}");
    }
}

/// Packs of one second: most in its first eighth, so that its time is divided thrice.
fn busy_second(fixture: &Fixture, map: &MapName, run: RunId) -> Vec<PackEntry> {
    let mut packs = Vec::new();
    for millis in 0..1_000 {
        let count = if millis < 125 { 45 } else { 1 };
        packs.extend((0..count).map(|_| fixture.pack(map, run, 1)));
        fixture
            .clock
            .advance(Duration::from_millis(u64::from(millis < 999)));
    }
    fastrand::Rng::with_seed(1).shuffle(&mut packs);
    packs
}

/// However many packs a second has, and whoever enters them when, each counts once.
#[tokio::test]
async fn a_second_with_thousands_of_packs_counts_each_once() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    let packs = busy_second(&fixture, &map, run(1));
    let all = packs.len() as u64;
    assert_eq!(all, 6_500);
    // Some are opened before they are settled, some are not.
    aws::Books::open(&fixture.state, &packs[..3_000])
        .await
        .unwrap();
    assert_eq!(fixture.books(&map).await.in_flight, 3_000);
    let mut settled = 0;
    for (age, until) in [(0, 2_000), (1, 5_000), (11, 5_500), (30, packs.len())] {
        fixture.clock.advance(Duration::from_mins(age));
        // Each pack by two workers, who know nothing of each other.
        let workers = (0..2).map(|skipped| {
            let ledger = fixture.worker();
            let packs = &packs[..until];
            async move {
                for batch in packs[skipped * 250..].chunks(500) {
                    ledger
                        .settle(settlements(batch, Outcome::Applied))
                        .await
                        .unwrap();
                }
            }
        });
        futures_util::future::join_all(workers).await;
        settled = until as u64;
        let books = fixture.books(&map).await;
        assert_eq!(books.outcomes.applied, settled, "{age} minutes later");
        assert_eq!(books.read, settled.max(3_000), "{age} minutes later");
        assert!(books.balanced(), "{age} minutes later: {books:?}");
        let refs: Vec<_> = packs.iter().map(pack_ref).collect();
        let known = fixture.ledger.settled(&refs).await.unwrap();
        assert_eq!(known.len() as u64, settled);
        fixture.state.fold(&map).await.unwrap();
        assert_eq!(fixture.books(&map).await, books, "{age} minutes later");
    }
    assert_eq!(settled, all);
    fixture.clock.advance(Duration::from_hours(2));
    for _ in 0..2 {
        fixture.state.fold(&map).await.unwrap();
    }
    let books = fixture.books(&map).await;
    assert_eq!(
        (books.read, books.outcomes.applied, books.in_flight),
        (all, all, 0)
    );
}

/// After a long outage a batch has packs of very many seconds, and so have those of the others.
#[tokio::test]
async fn a_backlog_of_many_old_seconds_is_settled_by_many_workers() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    let mut packs = Vec::new();
    for second in 0..120 {
        let run = if second % 2 == 0 {
            RunId::live(&map)
        } else {
            run(1)
        };
        packs.push(fixture.pack(&map, run, 1));
        fixture.clock.advance(Duration::from_secs(1));
    }
    fixture.send(&packs).await;
    fixture.clock.advance(Duration::from_mins(30));
    let workers = (0..6).map(|worker| {
        let mine: Vec<_> = packs
            .iter()
            .cycle()
            .skip(worker * 20)
            .take(40)
            .cloned()
            .collect();
        let fixture = &fixture;
        async move { fixture.settle(&mine, Outcome::Applied).await }
    });
    futures_util::future::join_all(workers).await;
    let books = fixture.books(&map).await;
    assert_eq!(
        (books.read, books.outcomes.applied, books.in_flight),
        (120, 120, 0)
    );
    fixture.clock.advance(Duration::from_hours(2));
    fixture.state.fold(&map).await.unwrap();
    assert_eq!(fixture.books(&map).await, books);
}

/// What is moved is moved wherever the run stands: with its news fresh, added up, or put away.
#[tokio::test]
async fn outcomes_move_once_at_any_time() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    let pack = [fixture.pack(&map, run(1), 5)];
    fixture.send(&pack).await;
    fixture.settle(&pack, Outcome::Applied).await;
    let mut expected = fixture.books(&map).await;
    for (hours, reason) in [(0, "young"), (1, "old"), (3, "over")] {
        fixture.clock.advance(Duration::from_hours(hours));
        for _ in 0..2 {
            fixture.state.fold(&map).await.unwrap();
        }
        let one = |outcome| {
            let mut counts = Counts::default();
            counts.add(outcome, 1);
            counts
        };
        for _ in 0..2 {
            let (from, to) = (one(Outcome::Applied), one(Outcome::Superseded));
            let amended = fixture.ledger.amend(&map, run(1), reason, from, to);
            amended.await.unwrap();
        }
        expected.outcomes.applied -= 1;
        expected.outcomes.superseded += 1;
        assert_eq!(fixture.books(&map).await, expected, "{reason}");
    }
    for _ in 0..3 {
        fixture.clock.advance(Duration::from_hours(2));
        fixture.state.fold(&map).await.unwrap();
        assert_eq!(fixture.books(&map).await, expected);
    }
}

/// What a worker could not enter it has not entered: when it tries again, it counts, and once.
#[tokio::test]
async fn what_could_not_be_entered_is_entered_the_next_time() {
    let (fixture, proxy) = Fixture::through_proxy().await;
    let map = map_name("customers");
    let old = [fixture.pack(&map, run(1), 3)];
    fixture.send(&old).await;
    fixture.clock.advance(Duration::from_mins(11));
    let young = [fixture.pack(&map, run(1), 2)];
    fixture.send(&young).await;
    let settled = settlements(&old, Outcome::Applied);
    proxy.expect([Trouble::Conflict; 10]);
    let refused = fixture.ledger.settle(settled.clone()).await;
    assert!(refused.is_err(), "others write the same items all the time");
    assert_eq!(proxy.left(), 0);
    assert_eq!(fixture.books(&map).await.in_flight, 5);
    proxy.expect([Trouble::Lost]);
    for _ in 0..2 {
        let overruled = fixture.ledger.settle(settled.clone()).await;
        assert_eq!(overruled.unwrap(), [].into(), "its own word");
        let books = fixture.books(&map).await;
        let told = (books.read, books.outcomes.applied, books.in_flight);
        assert_eq!(told, (5, 3, 2));
    }
    proxy.expect([Trouble::Unread]);
    let asked = [&old[0], &young[0]].map(pack_ref);
    let known = fixture.ledger.settled(&asked).await;
    assert_eq!(known.unwrap(), [old[0].id].into());
    // A second of which the packs are old remembers as well whose word it was.
    let late = fixture.ledger.settle(settlements(&old, Outcome::Failed));
    assert_eq!(late.await.unwrap(), [old[0].id].into());
}

#[tokio::test]
async fn a_time_far_away_is_only_a_time() {
    let fixture = Fixture::new().await;
    let map = map_name("customers");
    fixture.clock.set(Timestamp::UNIX_EPOCH);
    let packs = [fixture.pack(&map, run(1), 3)];
    fixture.clock.set("2999-01-01T00:00:00Z".parse().unwrap());
    fixture.send(&packs).await;
    fixture.settle(&packs, Outcome::Filtered).await;
    fixture.state.fold(&map).await.unwrap();
    let books = fixture.books(&map).await;
    assert_eq!((books.read, books.outcomes.filtered), (3, 3));
}
