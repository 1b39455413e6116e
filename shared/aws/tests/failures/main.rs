//! The failure store on DynamoDB: its contract on both emulators, and attempts to break it.

#![cfg(test)]

mod proxy;
#[path = "../support/mod.rs"]
mod support;
mod table;
#[path = "../support/tables.rs"]
mod tables;
mod trouble;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use model::{AuditEntry, Counts, Failure, FailureStatus, Outcome, Resolution, RunId};
use ports::{
    CheckpointError, FailureFilter, Failures, Stored,
    testing::{failure, map_name},
};
use uuid::Uuid;

use crate::table::{Fixture, recount};

fn run(id: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(id))
}

fn customers(id: u128) -> Failure {
    failure(id, &map_name("customers"), run(1))
}

fn ended(failure: &Failure, outcome: Outcome) -> Failure {
    Failure {
        status: if outcome == Outcome::Failed {
            FailureStatus::Discarded
        } else {
            FailureStatus::Resolved
        },
        due: None,
        resolution: Some(Resolution {
            outcome,
            at: Timestamp::from_second(10).unwrap(),
            reason: None,
        }),
        ..failure.clone()
    }
}

/// Text that does not compress well.
fn noise(n: usize) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let letters = std::iter::repeat_with(|| random.alphanumeric());
    letters.take(n).collect()
}

async fn read(store: &impl Failures, id: u128) -> Stored<Failure> {
    store.get(customers(id).id).await.unwrap().unwrap()
}

mod ministack {
    use super::*;
    ports::failures_contract!(async || Fixture::on("ministack").await.store);
}

mod moto {
    use super::*;
    ports::failures_contract!(async || Fixture::on("moto").await.store);
}

#[tokio::test]
async fn what_exists_is_left_alone_and_all_else_is_written() {
    for whose in table::ALL {
        let fixture = Fixture::on(whose).await;
        let store = &fixture.store;
        let all: Vec<Failure> = (0..60).map(customers).collect();
        let known: Vec<Failure> = [3, 4, 24, 25, 26, 49, 59]
            .into_iter()
            .map(|at| Failure {
                attempts: 9,
                ..customers(at)
            })
            .collect();
        assert_eq!(store.put_new(&known).await.unwrap(), [true; 7]);
        let mut asked = all.clone();
        asked.push(customers(0));
        let new = store.put_new(&asked).await.unwrap();
        assert_eq!(new.iter().filter(|new| **new).count(), 53, "{whose}");
        assert!(
            new[0] && !new[60] && !new[3] && !new[59],
            "{whose}: {new:?}"
        );
        for failure in &known {
            let stored = store.get(failure.id).await.unwrap().unwrap();
            assert_eq!(stored.value.attempts, 9, "{whose}");
        }
        let all_failed = Counts {
            failed: 60,
            ..Counts::default()
        };
        let map = map_name("customers");
        assert_eq!(store.stored(&map, None).await.unwrap(), all_failed);
        assert_eq!(store.put_new(&all).await.unwrap(), [false; 60]);
        assert_eq!(store.stored(&map, Some(run(1))).await.unwrap(), all_failed);
        assert_eq!(store.stored(&map, Some(run(2))).await.unwrap().total(), 0);
    }
}

#[tokio::test]
async fn a_large_record_is_kept_whole_and_leaves_nothing_behind() {
    for whose in table::ALL {
        let fixture = Fixture::on(whose).await;
        let (store, blobs) = (&fixture.store, &fixture.blobs);
        let large = Failure {
            raw: noise(2_000_000),
            key: Some("k".repeat(5_000)),
            ..customers(1)
        };
        assert_eq!(
            store.put_new(std::slice::from_ref(&large)).await.unwrap(),
            [true]
        );
        assert_eq!(
            store.put_new(std::slice::from_ref(&large)).await.unwrap(),
            [false]
        );
        assert_eq!(blobs.names().len(), 1, "{whose}");
        let Stored { value, revision } = read(store, 1).await;
        assert_eq!(value, large, "{whose}");
        let edited = Failure {
            raw: noise(2_500_000),
            ..large.clone()
        };
        let next = store.put(Some(revision), &edited).await.unwrap();
        let refused = store.put(Some(revision), &large).await;
        assert!(matches!(refused, Err(CheckpointError::Conflict { .. })));
        assert_eq!(blobs.names().len(), 1, "{whose}");
        let of_key = FailureFilter {
            key: large.key.clone(),
            ..FailureFilter::default()
        };
        let page = store.query(&of_key, None, 10).await.unwrap();
        assert_eq!(page.failures[0].value, edited, "{whose}");
        store
            .put(Some(next), &ended(&edited, Outcome::Applied))
            .await
            .unwrap();
        let later = Timestamp::from_second(11).unwrap();
        assert_eq!(store.expire(later, usize::MAX).await.unwrap(), 1);
        assert_eq!(blobs.names(), [""; 0], "{whose}");
        // Of the largest that are in their items as many as go together.
        let many: Vec<Failure> = (10..70)
            .map(|id| Failure {
                raw: noise(78_000),
                ..customers(id)
            })
            .collect();
        assert_eq!(store.put_new(&many).await.unwrap(), [true; 60], "{whose}");
        assert_eq!(store.put_new(&many).await.unwrap(), [false; 60], "{whose}");
        assert_eq!(blobs.names(), [""; 0], "{whose}");
        let page = store.query(&FailureFilter::default(), None, 100).await;
        assert_eq!(page.unwrap().failures.len(), 60, "{whose}");
    }
}

#[tokio::test]
async fn the_books_agree_with_the_failures_whatever_happens() {
    for whose in table::ALL {
        let fixture = Fixture::on(whose).await;
        let store = &fixture.store;
        let map = map_name("customers");
        let of = |id: u128| Failure {
            weight: u32::try_from(id % 4).unwrap(),
            ..failure(id, &map, run(id % 3))
        };
        let all: Vec<Failure> = (0..40).map(of).collect();
        store.put_new(&all).await.unwrap();
        store.put_new(&all).await.unwrap();
        let outcomes = [
            Outcome::Applied,
            Outcome::Unchanged,
            Outcome::Superseded,
            Outcome::Filtered,
            Outcome::Failed,
        ];
        for (failure, outcome) in all.iter().zip(outcomes.into_iter().cycle()).take(30) {
            let stored = store.get(failure.id).await.unwrap().unwrap();
            let next = ended(&stored.value, outcome);
            let revision = store.put(Some(stored.revision), &next).await.unwrap();
            let refused = store.put(Some(stored.revision), failure).await;
            assert!(refused.is_err());
            let again = Failure {
                attempts: 7,
                ..next
            };
            store.put(Some(revision), &again).await.unwrap();
        }
        let books = store.stored(&map, None).await.unwrap();
        assert_eq!(books, recount(&fixture, &map, None).await, "{whose}");
        for id in 0..3 {
            let books = store.stored(&map, Some(run(id))).await.unwrap();
            let counted = recount(&fixture, &map, Some(run(id))).await;
            assert_eq!(books, counted, "{whose}");
        }
        let later = Timestamp::from_second(11).unwrap();
        assert_eq!(
            store.expire(later, usize::MAX).await.unwrap(),
            30,
            "{whose}"
        );
        assert_eq!(store.expire(later, usize::MAX).await.unwrap(), 0, "{whose}");
        let left = recount(&fixture, &map, None).await;
        let after = store.stored(&map, None).await.unwrap();
        assert_eq!(after.total(), books.total(), "{whose}");
        assert_eq!(after.failed, left.failed, "{whose}: discarded is filtered");
        assert_eq!(
            after.filtered - books.filtered,
            books.failed - after.failed,
            "{whose}"
        );
        assert_eq!(after.applied, books.applied, "{whose}");
    }
}

#[tokio::test]
async fn pages_hold_what_is_there_while_failures_end() {
    for whose in table::ALL {
        let store = Fixture::on(whose).await.store;
        let all: Vec<Failure> = (0..50)
            .map(|id| Failure {
                first: Timestamp::from_microsecond(i64::try_from(id).unwrap() / 3 - 5).unwrap(),
                ..customers(id)
            })
            .collect();
        store.put_new(&all).await.unwrap();
        let filter = FailureFilter::unresolved();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = store.query(&filter, after.as_deref(), 4).await.unwrap();
            seen.extend(page.failures.iter().map(|one| one.value.id));
            // Of each page one ends; so does one that nobody has seen yet.
            let unseen = all.iter().rev().find(|one| !seen.contains(&one.id));
            let shown = page.failures.first().map(|one| &one.value);
            for failure in shown.into_iter().chain(unseen) {
                let stored = store.get(failure.id).await.unwrap().unwrap();
                let next = ended(&stored.value, Outcome::Applied);
                if stored.value.status.is_unresolved() {
                    store.put(Some(stored.revision), &next).await.unwrap();
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let once: BTreeSet<_> = seen.iter().collect();
        assert_eq!(once.len(), seen.len(), "{whose}: seen twice");
        let order: Vec<_> = all.iter().map(|one| one.id).collect();
        let expected: Vec<_> = order.into_iter().filter(|id| once.contains(id)).collect();
        assert_eq!(seen, expected, "{whose}: out of order");
        let nowhere = store.query(&filter, Some("nowhere"), 100).await.unwrap();
        let left = store.query(&filter, None, 100).await.unwrap().failures;
        assert_eq!(nowhere.failures, left, "{whose}: begins at the beginning");
        let missed = left.iter().filter(|one| !once.contains(&one.value.id));
        assert_eq!(missed.count(), 0, "{whose}: open and not shown");
    }
}

#[tokio::test]
async fn news_is_found_among_what_asks_for_something() {
    for whose in table::ALL {
        let store = Fixture::on(whose).await.store;
        let twin = Failure {
            key: customers(1).key,
            raw: customers(1).raw,
            ..customers(2)
        };
        let all = [customers(1), twin.clone(), customers(3)];
        store.put_new(&all).await.unwrap();
        let filter = FailureFilter {
            map: Some(map_name("customers")),
            news: Some(twin.news()),
            status: vec![FailureStatus::Open, FailureStatus::Waiting],
            ..FailureFilter::default()
        };
        assert_eq!(store.count(&filter).await.unwrap(), 2, "{whose}");
        let stored = read(&store, 1).await;
        let next = ended(&stored.value, Outcome::Applied);
        store.put(Some(stored.revision), &next).await.unwrap();
        let found = store.query(&filter, None, 2).await.unwrap().failures;
        let ids: Vec<_> = found.iter().map(|one| one.value.id).collect();
        assert_eq!(ids, [twin.id], "{whose}");
        let any = FailureFilter {
            status: Vec::new(),
            ..filter
        };
        assert_eq!(store.count(&any).await.unwrap(), 2, "{whose}");
    }
}

#[tokio::test]
async fn a_table_that_is_missing_is_named() {
    let fixture = Fixture::on("ministack").await;
    let store = fixture.elsewhere("no-such-table");
    let error = store.get(customers(1).id).await.unwrap_err().to_string();
    assert!(error.contains("ResourceNotFoundException"), "{error}");
    let error = store.put_new(&[customers(1)]).await.unwrap_err();
    assert!(error.to_string().contains("ResourceNotFound"), "{error}");
}

#[tokio::test]
async fn due_failures_come_from_all_shards_in_order() {
    for whose in table::ALL {
        let store = Fixture::on(whose).await.store;
        let all: Vec<Failure> = (0..130_u64)
            .map(|id| Failure {
                status: FailureStatus::Waiting,
                due: Some(Timestamp::UNIX_EPOCH + Duration::from_micros(id * 37 % 130)),
                ..customers(id.into())
            })
            .collect();
        store.put_new(&all).await.unwrap();
        let due = store.due(Timestamp::from_microsecond(119).unwrap(), 110);
        let due: Vec<_> = due.await.unwrap();
        let times: Vec<_> = due.iter().map(|one| one.value.due).collect();
        assert_eq!((times.len(), times.is_sorted()), (110, true), "{whose}");
        let exact = store.due(Timestamp::from_microsecond(4).unwrap(), 10);
        assert_eq!(exact.await.unwrap().len(), 5, "{whose}");
    }
}

#[tokio::test]
async fn thousands_are_read_page_by_page() {
    let store = Fixture::on("ministack").await.store;
    let all: Vec<Failure> = (0..2_500)
        .map(|id| Failure {
            first: Timestamp::from_second(i64::try_from(id).unwrap() / 7).unwrap(),
            ..customers(id)
        })
        .collect();
    for some in all.chunks(500) {
        store.put_new(some).await.unwrap();
    }
    for map in [None, Some(map_name("customers"))] {
        let mut filter = FailureFilter {
            map,
            ..FailureFilter::unresolved()
        };
        let page = store.query(&filter, None, 5_000).await.unwrap();
        let found: Vec<_> = page.failures.iter().map(|one| one.value.id).collect();
        assert_eq!(found, all.iter().map(|one| one.id).collect::<Vec<_>>());
        assert_eq!(store.count(&filter).await.unwrap(), 2_500);
        let groups = store.groups(&filter, 10).await.unwrap();
        assert_eq!((groups.len(), groups[0].count), (1, 2_500));
        filter.key = Some("K-2400".into());
        let page = store.query(&filter, None, 5).await.unwrap();
        assert_eq!((page.failures.len(), page.next), (1, None));
    }
}

#[tokio::test]
async fn an_audit_entry_may_be_large() {
    for whose in table::ALL {
        let store = Fixture::on(whose).await.store;
        let entry = AuditEntry {
            at: Timestamp::from_microsecond(-1).unwrap(),
            who: "ann".into(),
            action: "failures.edit".into(),
            subject: "customers".into(),
            detail: serde_json::json!({ "patch": noise(1_000_000) }),
        };
        let later = AuditEntry {
            at: Timestamp::from_microsecond(1).unwrap(),
            ..entry.clone()
        };
        for entry in [&entry, &later] {
            store.audit(entry).await.unwrap();
        }
        assert_eq!(store.audit_log(5).await.unwrap(), [later, entry], "{whose}");
        assert_eq!(store.audit_log(0).await.unwrap(), [], "{whose}");
    }
}
