//! What every failure store has to do.

use jiff::Timestamp;
use model::{AuditEntry, ErrorClass, Failure, FailureStatus, Outcome, Resolution, RunId};
use uuid::Uuid;

use super::{failure, map_name};
use crate::{CheckpointError, FailureFilter, Failures};

fn run() -> RunId {
    RunId::from_uuid(Uuid::from_u128(1))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time in range")
}

fn waiting(id: u128, due: i64) -> Failure {
    let mut failure = failure(id, &map_name("customers"), run());
    failure.cause.class = ErrorClass::Transient;
    failure.status = FailureStatus::Waiting;
    failure.due = Some(at(due));
    failure
}

/// A failure comes out as it went in, payload and error chain included.
pub async fn keeps_failures_whole<F: Failures>(store: &F) {
    let map = map_name("customers");
    let mut whole = failure(1, &map, run());
    whole.raw = "{\"name\":\"\u{1F980} \\u0000 'quoted'\"}".into();
    whole.original = Some("{}".into());
    assert_eq!(
        store
            .put_new(&[whole.clone(), failure(2, &map, run())])
            .await
            .expect("put"),
        [true, true]
    );
    let mut late = whole.clone();
    late.attempts = 9;
    assert_eq!(
        store.put_new(&[late]).await.expect("put"),
        [false],
        "a repeated report overwrote"
    );
    assert_eq!(
        store
            .get(whole.id)
            .await
            .expect("get")
            .expect("stored")
            .value,
        whole
    );
    assert_eq!(
        store.get(failure(3, &map, run()).id).await.expect("get"),
        None
    );
}

/// Of two writers on one revision the second is refused.
pub async fn fences_writers<F: Failures>(store: &F) {
    let first = failure(1, &map_name("customers"), run());
    let revision = store.put(None, &first).await.expect("put");
    let edited = Failure {
        raw: "{}".into(),
        ..first.clone()
    };
    let newer = store.put(Some(revision), &edited).await.expect("put");
    let refused = store.put(Some(revision), &first).await;
    assert!(matches!(refused, Err(CheckpointError::Conflict { .. })));
    let refused = store.put(None, &first).await;
    assert!(matches!(refused, Err(CheckpointError::Conflict { .. })));
    let stored = store.get(first.id).await.expect("get").expect("stored");
    assert_eq!((stored.revision, stored.value.raw.as_str()), (newer, "{}"));
}

/// The beginning of an identifier finds all that it may mean.
pub async fn finds_by_the_beginning_of_an_identifier<F: Failures>(store: &F) {
    let map = map_name("a");
    let ids = [0xab_u128 << 120, 0xac_u128 << 120, 0xac01_u128 << 112];
    let all: Vec<Failure> = ids.map(|id| failure(id, &map, run())).into();
    store.put_new(&all).await.expect("put");
    for (prefix, limit, expected) in [
        ("ab", 2, vec![0]),
        ("ac", 5, vec![1, 2]),
        ("ac01", 2, vec![2]),
        ("b", 2, vec![]),
    ] {
        let mut found = store.find(prefix, limit).await.expect("find");
        found.sort_by_key(|stored| stored.value.id);
        let found: Vec<Failure> = found.into_iter().map(|stored| stored.value).collect();
        let expected: Vec<Failure> = expected.iter().map(|at: &usize| all[*at].clone()).collect();
        assert_eq!(found, expected, "{prefix}");
    }
    assert_eq!(store.find("a", 2).await.expect("find").len(), 2);
}

/// Filters, pages and counts agree.
pub async fn finds_by_every_filter<F: Failures>(store: &F) {
    let (a, b) = (map_name("a"), map_name("b"));
    let mut all: Vec<Failure> = (0..7).map(|id| failure(id, &a, run())).collect();
    all.push(failure(7, &b, run()));
    all[2].status = FailureStatus::Discarded;
    all[3].cause.class = ErrorClass::Auth;
    all[4].run = RunId::from_uuid(Uuid::from_u128(2));
    for (i, failure) in all.iter_mut().enumerate() {
        failure.first = at(i64::try_from(i).expect("small"));
    }
    store.put_new(&all).await.expect("put");
    let of_a = FailureFilter {
        map: Some(a),
        ..FailureFilter::default()
    };
    for filter in [
        FailureFilter::default(),
        of_a.clone(),
        FailureFilter {
            status: vec![FailureStatus::Discarded],
            ..of_a.clone()
        },
        FailureFilter {
            class: Some(ErrorClass::Auth),
            ..of_a.clone()
        },
        FailureFilter {
            run: Some(all[4].run),
            ..of_a.clone()
        },
        FailureFilter {
            key: Some("K-5".into()),
            ..of_a.clone()
        },
        FailureFilter {
            news: Some(all[6].news()),
            ..of_a.clone()
        },
        FailureFilter {
            fingerprint: Some(all[7].fingerprint.clone()),
            ..FailureFilter::default()
        },
        FailureFilter::unresolved(),
    ] {
        let expected: Vec<_> = all
            .iter()
            .filter(|f| filter.matches(f))
            .map(|f| f.id)
            .collect();
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = store
                .query(&filter, after.as_deref(), 2)
                .await
                .expect("query");
            assert!(page.failures.len() <= 2);
            found.extend(page.failures.into_iter().map(|stored| stored.value.id));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, expected, "{filter:?}");
        assert_eq!(
            store.count(&filter).await.expect("count"),
            expected.len() as u64,
            "{filter:?}"
        );
    }
}

/// Groups hold all failures of a cause, the largest first.
pub async fn groups_by_cause<F: Failures>(store: &F) {
    let map = map_name("customers");
    let mut all: Vec<Failure> = (0..5).map(|id| failure(id, &map, run())).collect();
    all[4] = waiting(4, 10);
    all[4].fingerprint = model::Fingerprint::of(&map, &all[4].cause);
    all[2].first = at(-5);
    all[3].last = at(5);
    store.put_new(&all).await.expect("put");
    let groups = store
        .groups(&FailureFilter::default(), 10)
        .await
        .expect("groups");
    let counts: Vec<_> = groups
        .iter()
        .map(|group| (group.count, group.fingerprint.clone()))
        .collect();
    assert_eq!(
        counts,
        [
            (4, all[0].fingerprint.clone()),
            (1, all[4].fingerprint.clone())
        ]
    );
    assert_eq!((groups[0].first, groups[0].last), (at(-5), at(5)));
    assert_eq!(groups[0].sample.fingerprint, groups[0].fingerprint);
    assert_eq!(
        store
            .groups(&FailureFilter::default(), 1)
            .await
            .expect("groups")
            .len(),
        1
    );
}

/// What is due is found, longest due first, and what waits for a person is not.
pub async fn knows_what_is_due<F: Failures>(store: &F) {
    let map = map_name("customers");
    let mut lost = waiting(4, 15);
    lost.status = FailureStatus::Retrying;
    let all = [
        waiting(1, 20),
        waiting(2, 10),
        waiting(3, 30),
        lost,
        failure(5, &map, run()),
    ];
    store.put_new(&all).await.expect("put");
    let due = async |now: i64, limit: usize| -> Vec<_> {
        let found = store.due(at(now), limit).await.expect("due");
        found
            .into_iter()
            .map(|stored| stored.value.id.as_uuid().as_u128())
            .collect()
    };
    assert_eq!(due(9, 10).await, [0_u128; 0]);
    assert_eq!(due(20, 10).await, [2, 4, 1]);
    assert_eq!(due(99, 2).await, [2, 4]);
}

/// What has ended expires; what has not stays for ever.
pub async fn expires_what_has_ended<F: Failures>(store: &F) {
    let map = map_name("customers");
    let ended = |id: u128, second: i64| {
        let mut failure = failure(id, &map, run());
        failure.status = FailureStatus::Resolved;
        failure.resolution = Some(Resolution {
            outcome: Outcome::Applied,
            at: at(second),
            reason: None,
        });
        failure
    };
    let all = [
        ended(1, 10),
        ended(2, 20),
        failure(3, &map, run()),
        waiting(4, 1),
    ];
    store.put_new(&all).await.expect("put");
    let expire = async |before, limit| store.expire(at(before), limit).await.expect("expired");
    assert_eq!(expire(20, 10).await, 1);
    assert_eq!(
        store.count(&FailureFilter::default()).await.expect("count"),
        3
    );
    assert_eq!(store.get(all[0].id).await.expect("get"), None);
    store.put_new(&[ended(5, 15)]).await.expect("put");
    assert_eq!(expire(30, 0).await, 0);
    assert_eq!(expire(30, 1).await, 1);
    assert_eq!(expire(30, 2).await, 1);
    assert_eq!(expire(30, 1).await, 0);
}

/// The audit log keeps every entry, newest first.
pub async fn keeps_an_audit_log<F: Failures>(store: &F) {
    let entry = |second: i64, action: &str| AuditEntry {
        at: at(second),
        who: "ann".into(),
        action: action.into(),
        subject: "customers".into(),
        detail: serde_json::json!({"reason": "duplicate of K-2"}),
    };
    for second in 0..3 {
        store
            .audit(&entry(second, "failures.discard"))
            .await
            .expect("audited");
    }
    // Two entries of one moment are two entries.
    store.audit(&entry(2, "map.pause")).await.expect("audited");
    let log = store.audit_log(3).await.expect("log");
    let seen: Vec<_> = log
        .iter()
        .map(|e| (e.at.as_second(), e.action.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (2, "map.pause"),
            (2, "failures.discard"),
            (1, "failures.discard")
        ]
    );
    assert_eq!(log[0], entry(2, "map.pause"));
}

/// Tests of the contract of [`Failures`].
#[macro_export]
macro_rules! failures_contract {
    ($make:expr) => {
        $crate::contract!(
            failures,
            $make,
            [
                keeps_failures_whole,
                fences_writers,
                finds_by_every_filter,
                finds_by_the_beginning_of_an_identifier,
                groups_by_cause,
                knows_what_is_due,
                expires_what_has_ended,
                keeps_an_audit_log,
            ]
        );
    };
}
