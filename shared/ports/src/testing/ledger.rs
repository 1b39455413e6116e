//! What every ledger has to do.

use std::fmt::Debug;

use model::{
    Attempt, Books, Counts, FailureStatus, MapName, Outcome, PackId, PackRef, QueueName,
    Resolution, RunId, Settlement,
};
use uuid::Uuid;

use super::{failure, map_name, pack_entry};
use crate::{Consumer, Failures, Ledger, Outgoing, Queue};

/// An empty ledger with the stores it belongs to.
pub trait LedgerFixture: Debug + Send + Sync {
    /// Opens the books.
    fn queue(&self) -> &dyn Queue;
    /// Gives what was sent.
    fn consumer(&self) -> &dyn Consumer;
    /// Keeps them.
    fn ledger(&self) -> &dyn Ledger;
    /// Keeps the failures they count.
    fn failures(&self) -> &dyn Failures;
}

async fn open(fixture: &dyn LedgerFixture, map: &MapName, run: RunId, id: u128, count: u32) {
    let message = Outgoing {
        pack: Some(pack_entry(id, map, run, count)),
        ..Outgoing::new(format!("pack {id}"))
    };
    fixture
        .queue()
        .send(QueueName::Live, vec![message])
        .await
        .expect("sent");
}

async fn settle(fixture: &dyn LedgerFixture, id: u128, outcomes: &[(Outcome, u64)]) {
    settle_by(fixture, id, Attempt::default(), outcomes).await;
}

/// Settles a pack as one attempt says; says whether another one's word stands.
async fn settle_by(
    fixture: &dyn LedgerFixture,
    id: u128,
    attempt: Attempt,
    outcomes: &[(Outcome, u64)],
) -> bool {
    let mut counts = Counts::default();
    for (outcome, n) in outcomes {
        counts.add(*outcome, *n);
    }
    let pack = pack_ref(id);
    let settlement = Settlement {
        pack: pack.clone(),
        counts,
        attempt,
    };
    let overruled = fixture.ledger().settle(vec![settlement]).await;
    overruled.expect("settled").contains(&pack.id)
}

/// One of the packs of run 1 of the map `customers`.
fn pack_ref(id: u128) -> PackRef {
    PackRef {
        id: PackId::from_uuid(Uuid::from_u128(id)),
        map: map_name("customers"),
        run: run(1),
    }
}

async fn books(fixture: &dyn LedgerFixture, map: &MapName) -> Books {
    fixture.ledger().books(map).await.expect("books")
}

fn run(id: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(id))
}

/// What is sent is in flight until it is settled, and the books balance all the way.
pub async fn follows_a_pack(fixture: &dyn LedgerFixture) {
    let map = map_name("customers");
    open(fixture, &map, run(1), 10, 3).await;
    open(fixture, &map, run(1), 11, 2).await;
    let before = books(fixture, &map).await;
    assert_eq!(
        (before.read, before.in_flight, before.balanced()),
        (5, 5, true)
    );
    settle(
        fixture,
        10,
        &[(Outcome::Applied, 2), (Outcome::Unchanged, 1)],
    )
    .await;
    let after = books(fixture, &map).await;
    assert_eq!(
        (after.read, after.in_flight, after.balanced()),
        (5, 2, true)
    );
    assert_eq!((after.outcomes.applied, after.outcomes.unchanged), (2, 1));
    assert_eq!(
        fixture
            .ledger()
            .in_flight(&map, run(1))
            .await
            .expect("in flight"),
        2
    );
    assert_eq!(
        fixture
            .ledger()
            .in_flight(&map, run(2))
            .await
            .expect("in flight"),
        0
    );
}

/// A pack that is delivered again and settles again counts once, with its first outcome.
pub async fn settles_once(fixture: &dyn LedgerFixture) {
    let map = map_name("customers");
    open(fixture, &map, run(1), 10, 3).await;
    settle(fixture, 10, &[(Outcome::Applied, 3)]).await;
    settle(fixture, 10, &[(Outcome::Unchanged, 3)]).await;
    let books = books(fixture, &map).await;
    assert_eq!(
        (
            books.outcomes.applied,
            books.outcomes.unchanged,
            books.balanced()
        ),
        (3, 0, true)
    );
}

/// Of two attempts at a pack that come to different ends, the first to say so is believed, and
/// the other one is told.
pub async fn tells_whose_word_stands(fixture: &dyn LedgerFixture) {
    let map = map_name("customers");
    let (first, second) = (Attempt(1), Attempt(2));
    let failed = [(Outcome::Applied, 2), (Outcome::Failed, 1)];
    let well = [(Outcome::Applied, 3)];
    for id in [10, 11, 12] {
        open(fixture, &map, run(1), id, 3).await;
    }
    assert!(!settle_by(fixture, 10, first, &failed).await);
    assert!(
        !settle_by(fixture, 10, first, &failed).await,
        "its own word"
    );
    assert!(
        !settle_by(fixture, 10, first, &well).await,
        "its own, and later"
    );
    assert!(settle_by(fixture, 10, second, &failed).await);
    assert!(settle_by(fixture, 10, second, &well).await);
    assert!(!settle_by(fixture, 10, first, &failed).await, "still");
    assert!(!settle_by(fixture, 11, first, &well).await);
    assert!(settle_by(fixture, 11, second, &failed).await);
    // A word that came with a message stands as well.
    let mut counts = Counts::default();
    counts.add(Outcome::Failed, 3);
    let message = Outgoing {
        settles: vec![Settlement {
            pack: pack_ref(12),
            counts,
            attempt: second,
        }],
        ..Outgoing::new("report".to_owned())
    };
    let sent = fixture.queue().send(QueueName::Failures, vec![message]);
    sent.await.expect("sent");
    assert!(settle_by(fixture, 12, first, &failed).await);
    assert!(!settle_by(fixture, 12, second, &[(Outcome::Failed, 3)]).await);
    let books = books(fixture, &map).await;
    assert_eq!((books.outcomes.applied, books.read), (5, 9));
}

/// A message can settle packs when it is sent, as if they were settled by themselves; and it
/// can be asked which are.
pub async fn is_settled_by_a_message(fixture: &dyn LedgerFixture) {
    let map = map_name("customers");
    open(fixture, &map, run(1), 10, 3).await;
    open(fixture, &map, run(1), 11, 2).await;
    let mut counts = Counts::default();
    counts.add(Outcome::Applied, 3);
    for body in ["report", "the report of a worker that came later"] {
        let message = Outgoing {
            settles: vec![Settlement {
                pack: pack_ref(10),
                counts,
                attempt: Attempt::default(),
            }],
            ..Outgoing::new(body.to_owned())
        };
        let sent = fixture.queue().send(QueueName::Failures, vec![message]);
        sent.await.expect("sent");
        counts = Counts::default();
        counts.add(Outcome::Unchanged, 3);
    }
    let books = books(fixture, &map).await;
    assert_eq!(
        (books.outcomes.applied, books.in_flight, books.balanced()),
        (3, 2, true)
    );
    let asked = [pack_ref(10), pack_ref(11), pack_ref(12)];
    let settled = fixture.ledger().settled(&asked).await.expect("settled");
    assert_eq!(settled, [asked[0].id].into());
}

/// A pack that is sent twice is read once, and settled once.
pub async fn opens_once(fixture: &dyn LedgerFixture) {
    let map = map_name("customers");
    open(fixture, &map, run(1), 10, 3).await;
    open(fixture, &map, run(1), 10, 3).await;
    settle(fixture, 10, &[(Outcome::Applied, 3)]).await;
    let books = books(fixture, &map).await;
    assert_eq!(
        (books.read, books.in_flight, books.balanced()),
        (3, 0, true)
    );
}

/// A pack that is sent again after it was settled and its message was deleted does not count
/// again: it may have been parked by a worker that died before it could say so.
pub async fn a_settled_pack_does_not_open_again(fixture: &dyn LedgerFixture) {
    let map = map_name("customers");
    open(fixture, &map, run(1), 10, 3).await;
    let visibility = std::time::Duration::from_secs(30);
    let received = fixture
        .consumer()
        .receive(QueueName::Live, 10, visibility)
        .await
        .expect("received");
    settle(fixture, 10, &[(Outcome::Applied, 2), (Outcome::Failed, 1)]).await;
    let receipts: Vec<String> = received.into_iter().map(|one| one.receipt).collect();
    fixture
        .consumer()
        .delete(QueueName::Live, &receipts)
        .await
        .expect("deleted");
    open(fixture, &map, run(1), 10, 3).await;
    settle(
        fixture,
        10,
        &[(Outcome::Unchanged, 2), (Outcome::Failed, 1)],
    )
    .await;
    let failed = failure(1, &map, run(1));
    fixture.failures().put_new(&[failed]).await.expect("put");
    let books = books(fixture, &map).await;
    assert_eq!(
        (books.read, books.outcomes.applied, books.balanced()),
        (3, 2, true),
        "{books:?}"
    );
}

/// Failures are counted as they stand in the failure store; one that was reported and never
/// stored unbalances the books.
pub async fn counts_failures_where_they_are(fixture: &dyn LedgerFixture) {
    let map = map_name("customers");
    open(fixture, &map, run(1), 10, 3).await;
    settle(fixture, 10, &[(Outcome::Applied, 1), (Outcome::Failed, 2)]).await;
    assert!(
        !books(fixture, &map).await.balanced(),
        "two failures are nowhere"
    );
    fixture
        .failures()
        .put_new(&[failure(1, &map, run(1)), failure(2, &map, run(1))])
        .await
        .expect("put");
    let stored = books(fixture, &map).await;
    assert_eq!((stored.outcomes.failed, stored.balanced()), (2, true));

    let read = fixture
        .failures()
        .get(failure(1, &map, run(1)).id)
        .await
        .expect("get")
        .expect("stored");
    let mut repaired = read.value;
    repaired.status = FailureStatus::Resolved;
    repaired.resolution = Some(Resolution {
        outcome: Outcome::Applied,
        at: repaired.last,
        reason: None,
    });
    fixture
        .failures()
        .put(Some(read.revision), &repaired)
        .await
        .expect("put");
    let after = books(fixture, &map).await;
    assert_eq!(
        (
            after.outcomes.applied,
            after.outcomes.failed,
            after.balanced()
        ),
        (2, 1, true)
    );

    let later = repaired.last + std::time::Duration::from_secs(1);
    assert_eq!(
        fixture
            .failures()
            .expire(later, usize::MAX)
            .await
            .expect("expired"),
        1
    );
    assert_eq!(
        books(fixture, &map).await,
        after,
        "expiry changed the books"
    );
}

/// Each run has its own books; a map's are the sum.
pub async fn keeps_runs_apart(fixture: &dyn LedgerFixture) {
    let (map, other) = (map_name("customers"), map_name("orders"));
    open(fixture, &map, run(1), 10, 3).await;
    open(fixture, &map, run(2), 11, 4).await;
    open(fixture, &other, run(3), 12, 5).await;
    let mut filtered = Counts::default();
    filtered.add(Outcome::Filtered, 4);
    let settlement = Settlement {
        pack: PackRef {
            run: run(2),
            ..pack_ref(11)
        },
        counts: filtered,
        attempt: Attempt::default(),
    };
    fixture
        .ledger()
        .settle(vec![settlement])
        .await
        .expect("settled");
    let runs = fixture.ledger().runs(&map, 10).await.expect("runs");
    let read: Vec<_> = runs
        .iter()
        .map(|(id, books)| (*id, books.read, books.in_flight))
        .collect();
    assert_eq!(read, [(run(2), 4, 0), (run(1), 3, 3)]);
    assert_eq!(books(fixture, &map).await.read, 7);
}

/// What turns out otherwise is moved once, however often it is said.
pub async fn amends_once(fixture: &dyn LedgerFixture) {
    let map = map_name("customers");
    open(fixture, &map, run(1), 10, 5).await;
    settle(fixture, 10, &[(Outcome::Applied, 5)]).await;
    let (from, to) = (
        Counts {
            applied: 2,
            ..Counts::default()
        },
        Counts {
            superseded: 2,
            ..Counts::default()
        },
    );
    for _ in 0..2 {
        fixture
            .ledger()
            .amend(&map, run(1), "doubles", from, to)
            .await
            .expect("amended");
    }
    let books = books(fixture, &map).await;
    assert_eq!(
        (
            books.outcomes.applied,
            books.outcomes.superseded,
            books.balanced()
        ),
        (3, 2, true)
    );
}

/// Packs of webhooks, whose identifiers tell when they were made, count once as well; and failures of
/// one are the word of the first attempt that says so.
pub async fn settles_webhooks_once(fixture: &dyn LedgerFixture) {
    let map = map_name("customers");
    let live = RunId::live(&map);
    let made = |nanos| uuid::Timestamp::from_unix(uuid::NoContext, 1_795_608_000, nanos);
    let ids = [1, 2, 3].map(|n| Uuid::new_v7(made(n)).as_u128());
    for id in ids {
        open(fixture, &map, live, id, 1).await;
    }
    let settle = async |id, attempt, outcome| {
        let mut counts = Counts::default();
        counts.add(outcome, 1);
        let pack = PackRef {
            run: live,
            ..pack_ref(id)
        };
        let settlement = Settlement {
            pack: pack.clone(),
            counts,
            attempt: Attempt(attempt),
        };
        let overruled = fixture.ledger().settle(vec![settlement]).await;
        overruled.expect("settled").contains(&pack.id)
    };
    let [well, failed, open] = ids;
    assert!(!settle(well, 1, Outcome::Applied).await);
    settle(well, 2, Outcome::Unchanged).await;
    assert!(settle(well, 3, Outcome::Failed).await);
    assert!(!settle(failed, 1, Outcome::Failed).await);
    assert!(settle(failed, 2, Outcome::Failed).await);
    assert!(!settle(failed, 1, Outcome::Failed).await, "its own word");
    settle(failed, 3, Outcome::Applied).await;
    let one = failure(1, &map, live);
    fixture.failures().put_new(&[one]).await.expect("put");
    let books = books(fixture, &map).await;
    // Both were said at the same moment.
    assert_eq!(books.outcomes.applied + books.outcomes.unchanged, 1);
    assert_eq!((books.outcomes.failed, books.balanced()), (1, true));
    let refs = [well, failed, open].map(|id| PackRef {
        run: live,
        ..pack_ref(id)
    });
    let settled = fixture.ledger().settled(&refs).await.expect("settled");
    assert_eq!(settled, [refs[0].id, refs[1].id].into());
    let of = fixture.ledger().books_of(&[&map, &map]).await;
    assert_eq!(of.expect("books"), [books, books]);
}

/// Tests of the contract of [`Ledger`].
#[macro_export]
macro_rules! ledger_contract {
    ($make:expr) => {
        $crate::contract!(
            ledger,
            $make,
            [
                follows_a_pack,
                settles_once,
                tells_whose_word_stands,
                is_settled_by_a_message,
                opens_once,
                a_settled_pack_does_not_open_again,
                counts_failures_where_they_are,
                keeps_runs_apart,
                amends_once,
                settles_webhooks_once,
            ]
        );
    };
}
