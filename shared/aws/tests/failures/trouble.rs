//! Writers that meet, and answers that get lost. One emulator is enough for what the adapter does
//! about them; moto mixes up transactions that overlap.

use std::sync::Arc;

use jiff::Timestamp;
use model::{Counts, Failure, FailureStatus, Outcome};
use ports::{CheckpointError, FailureFilter, Failures, StoreError, Stored, testing::map_name};

use crate::{
    customers, ended,
    proxy::{Proxy, Trouble},
    read,
    table::{self, Fixture, recount},
};

async fn behind_proxy() -> (Fixture, Proxy) {
    let upstream = runtime::env::optional("SYNCLINE_TEST_AWS").unwrap();
    let proxy = Proxy::to(&upstream).await;
    let fixture = Fixture::on("ministack").await;
    (fixture.through(proxy.endpoint()), proxy)
}

/// The books, and what they should be.
async fn assert_books(fixture: &Fixture) -> Counts {
    let map = map_name("customers");
    let books = fixture.store.stored(&map, None).await.unwrap();
    assert_eq!(books, recount(fixture, &map, None).await);
    books
}

#[tokio::test]
async fn of_many_writers_on_one_failure_one_wins_each_time() {
    let fixture = Fixture::on("ministack").await;
    let store = &fixture.store;
    store.put_new(&[customers(1)]).await.unwrap();
    for _ in 0..5 {
        let Stored { value, revision } = read(store, 1).await;
        let mut tasks = tokio::task::JoinSet::new();
        for at in 0..8 {
            let store = store.clone();
            let next = Failure {
                attempts: value.attempts + at,
                ..value.clone()
            };
            // Half of them move the books.
            let next = if at % 2 == 0 {
                ended(&next, Outcome::Applied)
            } else {
                Failure {
                    resolution: None,
                    ..next
                }
            };
            tasks.spawn(async move { store.put(Some(revision), &next).await });
        }
        let answers = tasks.join_all().await;
        let won = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(won, 1, "{answers:?}");
        for lost in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert!(matches!(lost, CheckpointError::Conflict { .. }), "{lost}");
        }
        assert_books(&fixture).await;
    }
}

#[tokio::test]
async fn writers_of_one_map_do_not_lose_anything() {
    let fixture = Fixture::on("ministack").await;
    let store = Arc::new(fixture.store.clone());
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_u128 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            // Each writes some that its neighbour writes too.
            let all: Vec<Failure> = (writer * 20..writer * 20 + 30).map(customers).collect();
            let new = store.put_new(&all).await.unwrap();
            for failure in all.iter().take(5) {
                let stored = store.get(failure.id).await.unwrap().unwrap();
                let next = ended(&stored.value, Outcome::Applied);
                match store.put(Some(stored.revision), &next).await {
                    Ok(_) | Err(CheckpointError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            new.into_iter().filter(|new| *new).count()
        });
    }
    let new: usize = tasks.join_all().await.iter().sum();
    assert_eq!(new, 170);
    let books = assert_books(&fixture).await;
    assert_eq!((books.total(), books.applied), (170, 40));
}

#[tokio::test]
async fn a_conflict_with_another_transaction_passes() {
    let (fixture, proxy) = behind_proxy().await;
    let store = &fixture.store;
    proxy.expect([Trouble::Conflict; 3]);
    let all: Vec<Failure> = (0..30).map(customers).collect();
    assert_eq!(store.put_new(&all).await.unwrap(), [true; 30]);
    let Stored { value, revision } = read(store, 1).await;
    proxy.expect([Trouble::Conflict; 2]);
    let again = Failure {
        attempts: 2,
        ..value
    };
    let revision = store.put(Some(revision), &again).await.unwrap();
    proxy.expect([Trouble::Conflict; 2]);
    let next = ended(&again, Outcome::Failed);
    store.put(Some(revision), &next).await.unwrap();
    proxy.expect([Trouble::Conflict; 2]);
    let later = Timestamp::from_second(11).unwrap();
    assert_eq!(store.expire(later, usize::MAX).await.unwrap(), 1);
    assert_eq!(proxy.left(), 0);
    let books = store.stored(&map_name("customers"), None).await.unwrap();
    assert_eq!((books.failed, books.filtered), (29, 1));
}

#[tokio::test]
async fn a_conflict_that_does_not_pass_is_an_error_that_may() {
    let (fixture, proxy) = behind_proxy().await;
    proxy.expect([Trouble::Conflict; 100]);
    let error = fixture.store.put_new(&[customers(1)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    let left = proxy.left();
    assert!((85..95).contains(&left), "{left} left");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_one_write() {
    let (fixture, proxy) = behind_proxy().await;
    let store = &fixture.store;
    proxy.expect([Trouble::Lost]);
    let all: Vec<Failure> = (0..20).map(customers).collect();
    assert_eq!(store.put_new(&all).await.unwrap(), [true; 20]);
    assert_eq!(assert_books(&fixture).await.failed, 20);

    let Stored { value, revision } = read(store, 1).await;
    proxy.expect([Trouble::Lost]);
    let again = Failure {
        attempts: 2,
        ..value
    };
    let revision = store.put(Some(revision), &again).await.unwrap();
    assert_eq!(read(store, 1).await.revision, revision);

    proxy.expect([Trouble::Lost]);
    let next = ended(&again, Outcome::Failed);
    let revision = store.put(Some(revision), &next).await.unwrap();
    assert_eq!(read(store, 1).await.revision, revision);
    assert_books(&fixture).await;

    proxy.expect([Trouble::Lost]);
    let later = Timestamp::from_second(11).unwrap();
    assert_eq!(store.expire(later, usize::MAX).await.unwrap(), 1);
    assert_eq!(proxy.left(), 0);
    let books = store.stored(&map_name("customers"), None).await.unwrap();
    assert_eq!((books.failed, books.filtered), (19, 1));
}

#[tokio::test]
async fn what_could_not_be_read_is_asked_for_again() {
    let (fixture, proxy) = behind_proxy().await;
    let all: Vec<Failure> = (0..120).map(customers).collect();
    fixture.store.put_new(&all).await.unwrap();
    proxy.expect([Trouble::Unread; 3]);
    let any = FailureFilter::default();
    let page = fixture.store.query(&any, None, 120).await.unwrap();
    assert_eq!((page.failures.len(), proxy.left()), (120, 0));
    proxy.expect([Trouble::Unread; 100]);
    let error = fixture.store.query(&any, None, 120).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn what_an_index_says_is_checked() {
    for whose in table::ALL {
        let fixture = Fixture::on(whose).await;
        let store = &fixture.store;
        let gone = |id| ended(&customers(id), Outcome::Applied);
        let all: Vec<Failure> = (0..4).map(gone).chain((4..9).map(customers)).collect();
        store.put_new(&all).await.unwrap();
        for failure in &all[..4] {
            let says = [
                ("shard", "o#0"),
                ("map_shard", "customers#o#0"),
                ("status", "open"),
                ("due_shard", "D#0"),
            ];
            let says = says.map(|(name, value)| (name, value.to_owned()));
            fixture.pretend(failure, &says).await;
        }
        for map in [None, Some(map_name("customers"))] {
            let filter = FailureFilter {
                map,
                ..FailureFilter::unresolved()
            };
            let page = store.query(&filter, None, 3).await.unwrap();
            let found: Vec<_> = page.failures.iter().map(|one| one.value.id).collect();
            assert_eq!(found, [all[4].id, all[5].id, all[6].id], "{whose}");
            let rest = store.query(&filter, page.next.as_deref(), 3).await.unwrap();
            assert_eq!((rest.failures.len(), rest.next), (2, None), "{whose}");
            // The first of a group is one that is none any more.
            let groups = store.groups(&filter, 5).await.unwrap();
            assert_eq!(groups[0].sample.status, FailureStatus::Open, "{whose}");
        }
        let due = store.due(Timestamp::from_second(99).unwrap(), 9).await;
        assert_eq!(due.unwrap(), [], "{whose}");
    }
}

#[tokio::test]
async fn two_that_expire_the_same_enter_it_once() {
    let fixture = Fixture::on("ministack").await;
    let store = &fixture.store;
    let gone = |id| ended(&customers(id), Outcome::Failed);
    let all: Vec<Failure> = (0..60).map(gone).collect();
    store.put_new(&all).await.unwrap();
    let later = Timestamp::from_second(11).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let store = store.clone();
        tasks.spawn(async move { store.expire(later, usize::MAX).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.iter().sum::<u64>(), 60);
    let books = store.stored(&map_name("customers"), None).await.unwrap();
    assert_eq!((books.failed, books.filtered), (0, 60));
}
