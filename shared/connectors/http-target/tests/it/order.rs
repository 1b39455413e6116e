//! No older version over a newer one, whatever breaks in between.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use model::{ErrorClass, MapName};
use ports::{
    BoxError, Claim, ClaimBatch, Claimed, Link, Links, Revision, RowOutcome, StoreError, Stored,
};

use crate::{BATCH, Fixture, SINGLE, Write, batched::Batched, endpoint::Fault};

/// Longer than any claim lasts.
const LATER: Duration = Duration::from_mins(2);

/// A link table whose writes break: some before they are done, some after.
#[derive(Debug)]
struct Breaking {
    links: Arc<dyn Links>,
    writes: AtomicUsize,
    reads: Arc<AtomicUsize>,
    /// Which write breaks, counted from one, and whether it is done all the same.
    breaks: (usize, bool),
}

impl Breaking {
    /// Does a write, unless it is the one that breaks.
    async fn write<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (which, done) = self.breaks;
        let breaks = self.writes.fetch_add(1, Ordering::SeqCst) + 1 == which;
        if !breaks || done {
            let written = write.await?;
            if !breaks {
                return Ok(written);
            }
        }
        Err(StoreError::unavailable("writing links")(BoxError::from(
            "gone",
        )))
    }
}

#[async_trait]
impl Links for Breaking {
    async fn get(
        &self,
        map: &MapName,
        keys: &[String],
    ) -> Result<Vec<Option<Stored<Link>>>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.links.get(map, keys).await
    }

    async fn begin(&self, map: &MapName, batch: &ClaimBatch) -> Result<(), StoreError> {
        self.links.begin(map, batch).await
    }

    async fn claim(
        &self,
        map: &MapName,
        claims: Vec<(String, Claim)>,
    ) -> Result<Vec<Claimed>, StoreError> {
        self.write(self.links.claim(map, claims)).await
    }

    async fn confirm(
        &self,
        map: &MapName,
        batch: &ClaimBatch,
        links: Vec<(String, Revision, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError> {
        self.write(self.links.confirm(map, batch, links)).await
    }

    async fn put(
        &self,
        map: &MapName,
        links: Vec<(String, Option<Revision>, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError> {
        self.write(self.links.put(map, links)).await
    }

    async fn list(
        &self,
        map: &MapName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Stored<Link>)>, StoreError> {
        self.links.list(map, after, limit).await
    }
}

fn breaking(breaks: (usize, bool)) -> impl FnOnce(Arc<dyn Links>) -> Arc<dyn Links> {
    watched(breaks, Arc::default())
}

/// Links that count how often they are read.
fn watched(
    breaks: (usize, bool),
    reads: Arc<AtomicUsize>,
) -> impl FnOnce(Arc<dyn Links>) -> Arc<dyn Links> {
    move |links| {
        Arc::new(Breaking {
            links,
            writes: AtomicUsize::new(0),
            reads,
            breaks,
        })
    }
}

#[tokio::test]
async fn a_worker_that_dies_is_made_up_for_by_sending_again() {
    // The first write of the links is the claim, the second says what the endpoint has.
    for (breaks, sent) in [
        ((1, false), 0),
        ((1, true), 0),
        ((2, false), 1),
        ((2, true), 1),
    ] {
        let fixture = Fixture::with_links(SINGLE, breaking(breaks)).await;
        let row: Write<'_> = (1, 5, Some("new"));
        fixture.write(&[row]).await.unwrap_err();
        assert_eq!(fixture.endpoint.requests(), sent, "{breaks:?}");
        fixture.clock.advance(LATER);
        // An older one comes first, and must not come through.
        let settled = breaks == (2, true);
        if breaks != (1, false) {
            let older = fixture.write_one((1, 4, Some("old"))).await;
            assert_eq!(older, RowOutcome::Superseded, "{breaks:?}");
        }
        let expected = if settled {
            RowOutcome::Unchanged
        } else {
            RowOutcome::Applied
        };
        assert_eq!(fixture.write_one(row).await, expected, "{breaks:?}");
        assert_eq!(fixture.endpoint.name(1).as_deref(), Some("new"));
        let inner = fixture.endpoint.inner();
        assert!(
            inner
                .seen
                .iter()
                .all(|seen| seen.attempt == inner.seen[0].attempt),
            "{breaks:?}: a repetition has the name of what it repeats"
        );
    }
}

#[tokio::test]
async fn what_a_dead_worker_was_writing_is_waited_for_and_neighbours_are_not() {
    let fixture = Fixture::with_links(SINGLE, breaking((2, false))).await;
    fixture.write(&[(1, 5, Some("new"))]).await.unwrap_err();
    let rows = [(1, 5, Some("new")), (2, 1, Some("other"))];
    let outcomes = fixture.write(&rows).await.unwrap();
    let RowOutcome::Failed(cause) = &outcomes[0] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(
        (cause.class, cause.code.as_str()),
        (ErrorClass::Transient, "claimed")
    );
    let wait = cause.retry_after.unwrap();
    assert!(wait > Duration::from_secs(20) && wait < LATER, "{wait:?}");
    assert_eq!(outcomes[1], RowOutcome::Applied);
    fixture.clock.advance(wait);
    assert_eq!(fixture.write_one(rows[0]).await, RowOutcome::Applied);
}

#[tokio::test]
async fn a_newer_version_is_not_sent_while_an_older_one_is_under_way() {
    for http in [SINGLE, BATCH] {
        let reads = Arc::new(AtomicUsize::new(0));
        let fixture = Fixture::with_links(http, watched((0, false), Arc::clone(&reads))).await;
        fixture.endpoint.fail([Fault::Waits]);
        let older = fixture.write(&[(1, 5, Some("old"))]);
        let newer = async {
            fixture.endpoint.arrived().await;
            fixture.write_one((1, 6, Some("new"))).await
        };
        let release = async {
            // Until the newer one has looked at the link some times.
            while reads.load(Ordering::SeqCst) < 5 {
                tokio::task::yield_now().await;
            }
            assert_eq!(fixture.endpoint.requests(), 1);
            fixture.endpoint.let_go();
        };
        let (older, newer, ()) = tokio::join!(older, newer, release);
        let applied = RowOutcome::Applied;
        assert_eq!((older.unwrap(), newer), (vec![applied.clone()], applied));
        let done = fixture.endpoint.inner().done.clone();
        assert_eq!(done, [(1, Some("old".into())), (1, Some("new".into()))]);
    }
}

#[tokio::test]
async fn a_request_whose_answer_is_lost_may_still_be_under_way() {
    let fixture = Fixture::new(SINGLE).await;
    fixture.endpoint.fail([Fault::DoneAndLost]);
    let lost = fixture.write_one((1, 5, Some("x"))).await;
    let RowOutcome::Failed(cause) = lost else {
        panic!("{lost:?}")
    };
    assert_eq!(
        (cause.class, cause.code.as_str()),
        (ErrorClass::Transient, "no-answer")
    );
    fixture.clock.advance(cause.retry_after.unwrap());
    // Something else of the same version is a matter for the source, not for arrival.
    assert_eq!(fixture.write_one((1, 5, Some("y"))).await, RowOutcome::Tie);
    assert_eq!(
        fixture.write_one((1, 5, Some("x"))).await,
        RowOutcome::Applied
    );
    let inner = fixture.endpoint.inner();
    assert_eq!(inner.seen[0].attempt, inner.seen[1].attempt);
}

#[tokio::test]
async fn an_answered_attempt_is_over_and_the_next_one_is_another() {
    let fixture = Fixture::new(SINGLE).await;
    fixture
        .endpoint
        .fail([Fault::Refused(422), Fault::DoneAnd(500)]);
    let row = (1, 5, Some("x"));
    for _ in 0..2 {
        assert!(matches!(
            fixture.write_one(row).await,
            RowOutcome::Failed(_)
        ));
    }
    assert_eq!(fixture.write_one(row).await, RowOutcome::Applied);
    let inner = fixture.endpoint.inner();
    let attempts: Vec<&str> = inner
        .seen
        .iter()
        .map(|seen| seen.attempt.as_str())
        .collect();
    assert_ne!(attempts[0], attempts[1]);
    assert_ne!(attempts[1], attempts[2]);
}

#[tokio::test]
async fn what_is_not_known_is_not_taken_for_known() {
    let fixture = Fixture::new(SINGLE).await;
    fixture.write_one((1, 1, Some("a"))).await;
    // It failed, and yet it was done.
    fixture.endpoint.fail([Fault::DoneAnd(500)]);
    fixture.write_one((1, 2, Some("b"))).await;
    fixture.endpoint.fail([Fault::Refused(422)]);
    fixture.write_one((1, 3, Some("c"))).await;
    // The link's last certain content is "a", but the endpoint has "b".
    assert_eq!(
        fixture.write_one((1, 4, Some("a"))).await,
        RowOutcome::Applied
    );
    assert_eq!(fixture.endpoint.name(1).as_deref(), Some("a"));
}

/// One row has no answer, and its neighbours of the same batch have one.
#[tokio::test]
async fn what_is_confirmed_together_does_not_cover_what_is_not_known() {
    for http in [SINGLE, BATCH] {
        let fixture = Fixture::with_links(http, Batched::over).await;
        let fault = if http == SINGLE {
            Fault::DoneAndLost
        } else {
            Fault::Refused(504)
        };
        fixture.endpoint.fail([fault]);
        let rows: Vec<Write<'_>> = (1..=20).map(|no| (no, 5, Some("x"))).collect();
        let outcomes = fixture.write(&rows).await.unwrap();
        let lost: Vec<usize> = (0..rows.len())
            .filter(|at| outcomes[*at] != RowOutcome::Applied)
            .collect();
        assert!(!lost.is_empty() && lost.len() < rows.len(), "{outcomes:?}");
        fixture.clock.advance(LATER);
        let outcomes = fixture.write(&rows).await.unwrap();
        for (at, outcome) in outcomes.into_iter().enumerate() {
            let again = if lost.contains(&at) {
                RowOutcome::Applied
            } else {
                RowOutcome::Unchanged
            };
            assert_eq!(outcome, again, "row {at} of {http}");
        }
    }
}

/// A new row costs one claim, and no look at its link.
#[tokio::test]
async fn what_is_new_is_not_looked_for() {
    let reads = Arc::new(AtomicUsize::new(0));
    let fixture = Fixture::with_links(SINGLE, watched((0, false), Arc::clone(&reads))).await;
    for (version, content) in [(1, "a"), (2, "b"), (3, "b")] {
        let row = (1, version, Some(content));
        assert_eq!(fixture.write_one(row).await, RowOutcome::Applied);
        fixture.clock.advance(LATER);
    }
    assert_eq!(reads.load(Ordering::SeqCst), 0);
    assert_eq!(fixture.endpoint.requests(), 2, "the same again is not sent");
    assert_eq!(
        fixture.write_one((1, 2, Some("b"))).await,
        RowOutcome::Superseded
    );
    assert_eq!(reads.load(Ordering::SeqCst), 1);
}

fn any_fault(random: &mut fastrand::Rng) -> Option<Fault> {
    Some(match random.u8(..12) {
        0 => Fault::Refused(500),
        1 => Fault::DoneAnd(500),
        2 => Fault::DoneAnd(503),
        3 => Fault::DoneAndLost,
        4 => Fault::DoneAnd(504),
        5 => Fault::Refused(429),
        _ => return None,
    })
}

/// A fixture with each kind of link table.
async fn either(http: &str, plain: bool) -> Fixture {
    if plain {
        Fixture::new(http).await
    } else {
        Fixture::with_links(http, Batched::over).await
    }
}

/// Changes in any order, several times each, over an endpoint that fails in every way: in
/// the end it has the newest version of each row, and never went back.
#[tokio::test]
async fn the_newest_version_wins_whatever_fails() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let http = if seed % 2 == 0 { SINGLE } else { BATCH };
        let fixture = either(http, seed % 4 < 2).await;
        let names: Vec<String> = (0..=9).map(|version| format!("v{version}")).collect();
        fixture.endpoint.inner().lenient = true;
        let mut open: Vec<(i64, i64)> = Vec::new();
        let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
        for _ in 0..30 {
            let (no, version) = (random.i64(0..3), random.i64(1..=9));
            let known = newest.entry(no).or_insert(version);
            *known = version.max(*known);
            open.push((no, version));
        }
        // A version that is divided by three is a delete.
        let content = |version: i64| {
            let name = names[usize::try_from(version).unwrap()].as_str();
            (version % 3 != 0).then_some(name)
        };
        for round in 0.. {
            assert!(round < 200, "seed {seed}: {open:?}");
            if open.is_empty() {
                break;
            }
            random.shuffle(&mut open);
            let faults = if round < 15 { 6 } else { 0 };
            let faults = (0..faults).filter_map(|_| any_fault(&mut random)).collect();
            fixture.endpoint.inner().faults = faults;
            let mut batch: BTreeMap<i64, i64> = BTreeMap::new();
            for (no, version) in open.iter().take(4) {
                batch.insert(*no, *version);
            }
            let rows: Vec<Write<'_>> = batch.iter().map(|(no, v)| (*no, *v, content(*v))).collect();
            if let Ok(outcomes) = fixture.write(&rows).await {
                for ((no, version, _), outcome) in rows.iter().zip(outcomes) {
                    if matches!(outcome, RowOutcome::Failed(_)) {
                        continue;
                    }
                    assert_ne!(outcome, RowOutcome::Tie, "seed {seed}, row {no}");
                    // Some of them come once more.
                    let keeps = random.u8(..4) == 0;
                    open.retain(|other| *other != (*no, *version) || keeps && round < 15);
                }
            }
            fixture.clock.advance(LATER);
        }
        for (no, version) in newest {
            let expected = content(version).map(str::to_owned);
            assert_eq!(fixture.endpoint.name(no), expected, "seed {seed}, row {no}");
            let done = fixture.endpoint.inner().done.clone();
            let mut last = 0;
            for (_, name) in done.iter().filter(|(other, _)| *other == no) {
                if let Some(name) = name {
                    let version: i64 = name[1..].parse().unwrap();
                    assert!(version >= last, "seed {seed}, row {no}: {done:?}");
                    last = version;
                }
            }
        }
    }
}
