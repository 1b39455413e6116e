//! What every target with tables has to do.
//!
//! The guard is compared with a model of it, outcome by outcome, over random sequences of
//! writes; what a random sequence would hit too seldom has a case of its own.

use std::{collections::BTreeMap, fmt::Debug};

use model::{DataType, LoadMode, PackId, Rows, Value, Version};
use uuid::Uuid;

use crate::{
    ColumnSpec, Deletes, Ownership, RowOp, RowOutcome, Seen, TableSpec, Target, TargetRow,
    WriteBatch,
};

/// A target with one empty table of [`standard_spec`]'s shape.
pub trait TargetFixture: Debug + Send + Sync {
    /// The target.
    fn target(&self) -> &dyn Target;
    /// The table.
    fn spec(&self) -> &TableSpec;
}

/// The table that the suite writes: a key of two columns, a required column, and one each of
/// the types that tend to go wrong.
#[must_use]
pub fn standard_spec(name: &str, ownership: Ownership, deletes: Deletes) -> TableSpec {
    let column = |name: &str, ty, required| ColumnSpec {
        name: name.into(),
        ty,
        required,
    };
    TableSpec {
        name: name.into(),
        columns: vec![
            column("company", DataType::Text { max: None }, true),
            column("no", DataType::Int64, true),
            column("name", DataType::Text { max: None }, true),
            column(
                "amount",
                DataType::Decimal {
                    digits: Some((12, 2)),
                },
                false,
            ),
            column("at", DataType::Timestamp, false),
        ],
        key: vec![0, 1],
        ownership,
        deletes,
    }
}

type Key = (String, i64);

#[derive(Debug, Clone, PartialEq)]
enum State {
    Row(i64, String),
    /// Without a version where nobody knows that of the deletion.
    Tombstone(Option<i64>),
}

#[derive(Debug, Clone)]
enum Op {
    Upsert(i64, String),
    Delete(i64),
    SettleUpsert(i64, String, Seen, bool),
    SettleDelete(Seen, bool),
}

/// The guard, written down once more and as simply as possible.
fn model_guard(state: Option<&State>, op: &Op) -> (Option<State>, RowOutcome) {
    use RowOutcome::{Applied, Superseded, Tie, Unchanged};
    let row = |version: &i64, content: &String| Some(State::Row(*version, content.clone()));
    let undated = Some(State::Tombstone(None));
    match (op, state) {
        (Op::Upsert(v, c) | Op::SettleUpsert(v, c, ..), None)
        | (Op::SettleUpsert(v, c, _, true), Some(State::Tombstone(None))) => (row(v, c), Applied),
        (Op::Upsert(v, c) | Op::SettleUpsert(v, c, ..), Some(State::Row(v0, c0))) => {
            let settles = matches!(op, Op::SettleUpsert(_, _, _, true));
            match v.cmp(v0) {
                std::cmp::Ordering::Greater => (row(v, c), Applied),
                std::cmp::Ordering::Equal if c == c0 => (row(v0, c0), Unchanged),
                std::cmp::Ordering::Equal if settles => (row(v, c), Applied),
                std::cmp::Ordering::Equal => (row(v0, c0), Tie),
                std::cmp::Ordering::Less => (row(v0, c0), Superseded),
            }
        }
        (Op::Upsert(..) | Op::SettleUpsert(_, _, _, false), Some(State::Tombstone(None))) => {
            (undated, Tie)
        }
        (Op::Upsert(v, c) | Op::SettleUpsert(v, c, ..), Some(State::Tombstone(Some(t)))) => {
            let settles = matches!(op, Op::SettleUpsert(_, _, _, true));
            match v.cmp(t) {
                std::cmp::Ordering::Greater => (row(v, c), Applied),
                std::cmp::Ordering::Equal if settles => (row(v, c), Applied),
                std::cmp::Ordering::Equal => (Some(State::Tombstone(Some(*t))), Tie),
                std::cmp::Ordering::Less => (Some(State::Tombstone(Some(*t))), Superseded),
            }
        }
        (Op::Delete(v), None) => (Some(State::Tombstone(Some(*v))), Unchanged),
        (Op::Delete(v), Some(State::Row(v0, c0))) => match v.cmp(v0) {
            std::cmp::Ordering::Greater => (Some(State::Tombstone(Some(*v))), Applied),
            std::cmp::Ordering::Equal => (row(v0, c0), Tie),
            std::cmp::Ordering::Less => (row(v0, c0), Superseded),
        },
        (Op::Delete(v), Some(State::Tombstone(Some(t)))) => {
            let outcome = if v < t { Superseded } else { Unchanged };
            (Some(State::Tombstone(Some(*v.max(t)))), outcome)
        }
        (Op::SettleDelete(_, true), Some(State::Row(..))) => (undated, Applied),
        (Op::SettleDelete(_, false), Some(State::Row(v0, c0))) => (row(v0, c0), Tie),
        (Op::Delete(_), Some(State::Tombstone(None))) | (Op::SettleDelete(..), _) => {
            (undated, Unchanged)
        }
    }
}

fn fill(cells: &mut [Value<'_>], key: &Key, content: &str) {
    cells[0] = Value::Text(key.0.clone().into());
    cells[1] = Value::Int(key.1);
    cells[2] = Value::Text(content.to_owned().into());
    cells[3] = Value::Decimal("12.50".into());
    cells[4] = Value::Timestamp(1_767_225_600_123_456);
}

fn batch(writes: &[(Key, Op)]) -> WriteBatch<'static> {
    let mut rows = Rows::new(5);
    let mut ops = Vec::new();
    for (key, op) in writes {
        let cells = rows.push_empty();
        let (content, op) = match op {
            Op::Upsert(v, c) => (
                c.as_str(),
                RowOp::Upsert {
                    version: Version(*v),
                },
            ),
            Op::Delete(v) => (
                "",
                RowOp::Delete {
                    version: Version(*v),
                },
            ),
            Op::SettleUpsert(v, c, seen, _) => (
                c.as_str(),
                RowOp::SettleUpsert {
                    version: Version(*v),
                    seen: seen.clone(),
                },
            ),
            Op::SettleDelete(seen, _) => ("", RowOp::SettleDelete { seen: seen.clone() }),
        };
        fill(cells, key, content);
        if matches!(op, RowOp::Delete { .. } | RowOp::SettleDelete { .. }) {
            cells[2..].fill(Value::Missing);
        }
        ops.push(op);
    }
    WriteBatch {
        rows,
        ops,
        bulk: None,
        found_in: None,
        lane: model::Lane::Live,
    }
}

async fn write(fixture: &dyn TargetFixture, writes: &[(Key, Op)]) -> Vec<RowOutcome> {
    fixture
        .target()
        .write(fixture.spec(), &batch(writes))
        .await
        .expect("written")
}

async fn look(fixture: &dyn TargetFixture, keys: &[Key]) -> Vec<TargetRow> {
    let mut rows = Rows::new(5);
    for key in keys {
        fill(rows.push_empty(), key, "");
    }
    fixture
        .target()
        .look(fixture.spec(), &rows)
        .await
        .expect("looked")
}

/// The row's `name` and whether it stands as not deleted.
async fn content(fixture: &dyn TargetFixture, key: &Key) -> Option<String> {
    let state = look(fixture, std::slice::from_ref(key)).await.remove(0);
    let mut rows = Rows::new(5);
    fill(rows.push_empty(), key, "");
    let shown = fixture
        .target()
        .show(fixture.spec(), &rows)
        .await
        .expect("shown");
    if !state.exists {
        let marks = fixture.spec().deletes == Deletes::Mark;
        assert!(
            shown.is_none() || marks,
            "a deleted row is still there: {shown:?}"
        );
        return None;
    }
    let row: serde_json::Value =
        serde_json::from_str(&shown.expect("a row that exists")).expect("JSON");
    Some(row["name"].as_str().expect("a name").to_owned())
}

fn key(company: &str, no: i64) -> Key {
    (company.to_owned(), no)
}

fn upsert(company: &str, no: i64, version: i64, content: &str) -> (Key, Op) {
    (key(company, no), Op::Upsert(version, content.to_owned()))
}

async fn prepare(fixture: &dyn TargetFixture) {
    fixture
        .target()
        .prepare(fixture.spec())
        .await
        .expect("prepared");
}

/// Random writes: every outcome and every final row is as the model of the guard says.
pub async fn guard_follows_the_model(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let company = format!("C{seed}");
        let mut states: BTreeMap<Key, State> = BTreeMap::new();
        let keys: Vec<Key> = (0..4).map(|no| key(&company, no)).collect();
        for step in 0..25 {
            let chosen: Vec<Key> = keys.iter().filter(|_| random.bool()).cloned().collect();
            let seen = look(fixture, &chosen).await;
            let mut writes = Vec::new();
            for (key, row) in chosen.into_iter().zip(seen) {
                if random.u8(..5) == 0 {
                    // Somebody else writes between the look and the write.
                    let (_, newer) = upsert("", 0, random.i64(1..8), "between");
                    let outcome = write(fixture, &[(key.clone(), newer.clone())])
                        .await
                        .remove(0);
                    let (next, expected) = model_guard(states.get(&key), &newer);
                    assert_eq!(
                        outcome, expected,
                        "seed {seed}, step {step}, between, {key:?}"
                    );
                    let touched = outcome == RowOutcome::Applied;
                    if let Some(next) = next {
                        states.insert(key.clone(), next);
                    }
                    writes.push((key, settle(&mut random, row.seen, !touched)));
                } else {
                    writes.push((key, any_op(&mut random, row.seen)));
                }
            }
            let outcomes = write(fixture, &writes).await;
            assert_eq!(outcomes.len(), writes.len());
            for ((key, op), outcome) in writes.iter().zip(outcomes) {
                let (next, expected) = model_guard(states.get(key), op);
                assert_eq!(
                    outcome,
                    expected,
                    "seed {seed}, step {step}, {key:?}, {op:?}, {:?}",
                    states.get(key)
                );
                if let Some(next) = next {
                    states.insert(key.clone(), next);
                }
            }
        }
        for key in &keys {
            let expected = match states.get(key) {
                Some(State::Row(_, content)) => Some(content.clone()),
                _ => None,
            };
            assert_eq!(
                content(fixture, key).await,
                expected,
                "seed {seed}, {key:?}"
            );
        }
    }
}

fn any_op(random: &mut fastrand::Rng, seen: Seen) -> Op {
    match random.u8(..4) {
        0 | 1 => Op::Upsert(random.i64(1..8), any_content(random)),
        2 => Op::Delete(random.i64(1..8)),
        _ => settle(random, seen, true),
    }
}

fn settle(random: &mut fastrand::Rng, seen: Seen, holds: bool) -> Op {
    if random.bool() {
        Op::SettleUpsert(random.i64(1..8), any_content(random), seen, holds)
    } else {
        Op::SettleDelete(seen, holds)
    }
}

fn any_content(random: &mut fastrand::Rng) -> String {
    random
        .choice(["a", "b", "it's \"quoted\"\t\\N\n\u{1F980}"])
        .unwrap_or_default()
        .to_owned()
}

/// Writers side by side: whatever the order, the newest version stays.
pub async fn the_newest_of_many_writers_stays(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    let writer = async |seed: i64| {
        for round in 0..8 {
            let version = (round * 7 + seed * 3) % 41;
            let writes: Vec<_> = (0..3)
                .map(|no| upsert("race", no, version, &format!("v{version}")))
                .collect();
            write(fixture, &writes).await;
        }
    };
    futures_util::future::join_all((0..6).map(writer)).await;
    let newest = (0..6)
        .flat_map(|seed| (0..8).map(move |round| (round * 7 + seed * 3) % 41))
        .max();
    let newest = format!("v{}", newest.expect("a version"));
    for no in 0..3 {
        assert_eq!(
            content(fixture, &key("race", no)).await.as_ref(),
            Some(&newest)
        );
    }
}

/// A row that the target refuses fails alone and says which column; the others are written.
pub async fn a_bad_row_fails_alone(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    for bad_at in [0, 3, 6] {
        let company = format!("bad{bad_at}");
        let writes: Vec<_> = (0..7).map(|no| upsert(&company, no, 1, "fine")).collect();
        let mut batch = batch(&writes);
        let mut rows = Rows::new(5);
        for (at, row) in batch.rows.iter().enumerate() {
            let cells = rows.push_empty();
            cells.clone_from_slice(row);
            if at == bad_at {
                cells[2] = Value::Null;
            }
        }
        batch.rows = rows;
        let outcomes = fixture
            .target()
            .write(fixture.spec(), &batch)
            .await
            .expect("written");
        for (at, outcome) in outcomes.iter().enumerate() {
            if at == bad_at {
                let RowOutcome::Failed(cause) = outcome else {
                    panic!("{outcome:?}")
                };
                assert_eq!(cause.field.as_deref(), Some("name"), "{cause:?}");
                assert_eq!(cause.class, model::ErrorClass::Invalid, "{cause:?}");
            } else {
                assert_eq!(*outcome, RowOutcome::Applied, "row {at}");
            }
        }
        let fine = i64::try_from(bad_at).expect("small") + 1;
        assert_eq!(
            content(fixture, &key(&company, fine % 7)).await.as_deref(),
            Some("fine")
        );
    }
}

/// A missing cell leaves the column as it is; a null empties it.
pub async fn missing_is_not_null(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    write(
        fixture,
        &[upsert("m", 1, 1, "first"), upsert("m", 2, 1, "first")],
    )
    .await;
    let mut second = batch(&[upsert("m", 1, 2, "second"), upsert("m", 2, 2, "second")]);
    let mut rows = Rows::new(5);
    for (at, row) in second.rows.iter().enumerate() {
        let cells = rows.push_empty();
        cells.clone_from_slice(row);
        cells[3] = if at == 0 { Value::Missing } else { Value::Null };
    }
    second.rows = rows;
    let outcomes = fixture
        .target()
        .write(fixture.spec(), &second)
        .await
        .expect("written");
    assert_eq!(outcomes, [RowOutcome::Applied, RowOutcome::Applied]);
    let amount = async |no: i64| {
        let mut rows = Rows::new(5);
        fill(rows.push_empty(), &key("m", no), "");
        let shown = fixture
            .target()
            .show(fixture.spec(), &rows)
            .await
            .expect("shown")
            .expect("a row");
        let row: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        row["amount"].clone()
    };
    assert!(
        !amount(1).await.is_null(),
        "a missing cell emptied the column"
    );
    assert!(amount(2).await.is_null(), "a null did not empty the column");
}

/// An equal row of an equal version is not written, so that a re-load rewrites nothing.
pub async fn an_equal_row_is_left_alone(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    write(fixture, &[upsert("same", 1, 5, "x")]).await;
    let before = look(fixture, &[key("same", 1)]).await;
    assert_eq!(
        write(fixture, &[upsert("same", 1, 5, "x")]).await,
        [RowOutcome::Unchanged]
    );
    assert_eq!(
        look(fixture, &[key("same", 1)]).await,
        before,
        "the row was rewritten"
    );
}

fn pack(id: u128) -> PackId {
    PackId::from_uuid(Uuid::from_u128(id))
}

async fn write_bulk(
    fixture: &dyn TargetFixture,
    id: u128,
    writes: &[(Key, Op)],
) -> Vec<RowOutcome> {
    let bulk = WriteBatch {
        bulk: Some(vec![(pack(id), writes.len())]),
        found_in: Some(1),
        ..batch(writes)
    };
    fixture
        .target()
        .write(fixture.spec(), &bulk)
        .await
        .expect("written")
}

/// A load into an empty table of Syncline's own may write in bulk, each pack once, and ends
/// with one row per key: the newest.
pub async fn a_bulk_load_ends_with_the_newest_row(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    let target = fixture.target();
    let mode = target.begin_load(fixture.spec(), 1).await.expect("begun");
    if fixture.spec().ownership == Ownership::Existing {
        assert_eq!(
            mode,
            LoadMode::Guarded,
            "an existing table must not lose its key"
        );
        return;
    }
    assert_eq!(mode, LoadMode::Bulk);
    assert_eq!(
        target
            .begin_load(fixture.spec(), 1)
            .await
            .expect("begun again"),
        LoadMode::Bulk
    );
    let first = [
        upsert("b", 1, 1, "old"),
        upsert("b", 2, 1, "same"),
        upsert("b", 3, 1, "x"),
    ];
    let second = [
        upsert("b", 1, 2, "new"),
        upsert("b", 2, 1, "same"),
        upsert("b", 3, 1, "y"),
    ];
    for _ in 0..2 {
        assert_eq!(
            write_bulk(fixture, 1, &first).await,
            vec![RowOutcome::Applied; 3]
        );
    }
    assert_eq!(
        write_bulk(fixture, 2, &second).await,
        vec![RowOutcome::Applied; 3]
    );
    let end = target.end_bulk(fixture.spec()).await.expect("ended");
    assert_eq!((end.superseded, end.unchanged), (1, 2), "{end:?}");
    assert_eq!(end.ties, [[Value::Text("b".into()), Value::Int(3)]]);
    assert_eq!(
        target
            .end_bulk(fixture.spec())
            .await
            .expect("ended again")
            .superseded,
        0
    );
    assert_eq!(content(fixture, &key("b", 1)).await.as_deref(), Some("new"));
    assert_eq!(
        content(fixture, &key("b", 2)).await.as_deref(),
        Some("same")
    );
    // From here on the guard holds, for packs of the load that arrive late too.
    assert_eq!(
        write_bulk(fixture, 3, &[upsert("b", 1, 1, "late")]).await,
        [RowOutcome::Superseded]
    );
    assert_eq!(
        write(fixture, &[upsert("b", 1, 3, "live")]).await,
        [RowOutcome::Applied]
    );
    target.end_load(fixture.spec(), 1).await.expect("ended");
    let again = target.begin_load(fixture.spec(), 2).await.expect("begun");
    assert_eq!(
        again,
        LoadMode::Guarded,
        "a table with rows must not lose its key"
    );
}

/// A bad row in a bulk load fails alone.
pub async fn a_bad_row_in_a_bulk_load_fails_alone(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    fixture
        .target()
        .begin_load(fixture.spec(), 1)
        .await
        .expect("begun");
    let writes: Vec<_> = (0..5).map(|no| upsert("bulkbad", no, 1, "fine")).collect();
    let mut batch = batch(&writes);
    batch.bulk = Some(vec![(pack(9), 5)]);
    let mut rows = Rows::new(5);
    for (at, row) in batch.rows.iter().enumerate() {
        let cells = rows.push_empty();
        cells.clone_from_slice(row);
        if at == 2 {
            cells[2] = Value::Null;
        }
    }
    batch.rows = rows;
    for _ in 0..2 {
        let outcomes = fixture
            .target()
            .write(fixture.spec(), &batch)
            .await
            .expect("written");
        let failed: Vec<_> = outcomes
            .iter()
            .map(|o| matches!(o, RowOutcome::Failed(_)))
            .collect();
        assert_eq!(failed, [false, false, true, false, false], "{outcomes:?}");
    }
    fixture
        .target()
        .end_bulk(fixture.spec())
        .await
        .expect("ended");
    assert_eq!(
        content(fixture, &key("bulkbad", 1)).await.as_deref(),
        Some("fine")
    );
    assert_eq!(content(fixture, &key("bulkbad", 2)).await, None);
}

/// What a load did not bring is found, in order and page by page; what it brought is not,
/// even where nothing had to be written.
pub async fn a_load_finds_what_is_missing(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    let target = fixture.target();
    let all: Vec<_> = (0..6).map(|no| upsert("sweep", no, 5, "x")).collect();
    write(fixture, &all).await;
    write(fixture, &[(key("sweep", 5), Op::Delete(6))]).await;
    assert_eq!(
        target.begin_load(fixture.spec(), 7).await.expect("begun"),
        LoadMode::Guarded
    );
    let brought = [
        upsert("sweep", 0, 5, "x"),
        upsert("sweep", 3, 4, "older"),
        upsert("sweep", 9, 1, "new"),
    ];
    let load = WriteBatch {
        found_in: Some(7),
        ..batch(&brought)
    };
    target.write(fixture.spec(), &load).await.expect("written");
    target
        .write(fixture.spec(), &load)
        .await
        .expect("written again");
    let missing = async |after: Option<&[Value<'static>]>, limit: usize| {
        target
            .missing(fixture.spec(), 7, after, limit)
            .await
            .expect("counted")
    };
    let first = missing(None, 2).await;
    assert_eq!((first.rows, first.missing), (6, 3));
    let name = |no: i64| vec![Value::Text("sweep".into()), Value::Int(no)];
    assert_eq!(first.keys, [name(1), name(2)]);
    assert_eq!(missing(Some(&first.keys[1]), 2).await.keys, [name(4)]);
    target.end_load(fixture.spec(), 7).await.expect("ended");
    target
        .end_load(fixture.spec(), 7)
        .await
        .expect("ended again");
}

/// A batch without rows is no error.
pub async fn nothing_is_not_an_error(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    prepare(fixture).await;
    assert_eq!(write(fixture, &[]).await, []);
    assert_eq!(look(fixture, &[]).await, []);
    let state = look(fixture, &[key("none", 1)]).await.remove(0);
    assert_eq!((state.exists, state.version), (false, None));
}

/// The source does not have a row: whatever version comes later, it does not bring the row
/// back by itself, because it may be older than the deletion.
pub async fn what_the_source_has_lost_stays_deleted(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    write(fixture, &[upsert("lost", 1, 5, "there")]).await;
    let keys = [key("lost", 1), key("lost", 2)];
    let seen = look(fixture, &keys).await;
    let settle = |no: usize| Op::SettleDelete(seen[no].seen.clone(), true);
    let deletes = [(keys[0].clone(), settle(0)), (keys[1].clone(), settle(1))];
    assert_eq!(
        write(fixture, &deletes).await,
        [RowOutcome::Applied, RowOutcome::Unchanged]
    );
    let late = [
        upsert("lost", 1, 6, "late"),
        upsert("lost", 2, i64::MAX, "late"),
    ];
    assert_eq!(
        write(fixture, &late).await,
        [RowOutcome::Tie, RowOutcome::Tie]
    );
    // A reading of the source that is newer than the tombstone brings it back.
    let seen = look(fixture, &keys).await.remove(0).seen;
    let back = Op::SettleUpsert(6, "made anew".into(), seen, true);
    assert_eq!(
        write(fixture, &[(keys[0].clone(), back)]).await,
        [RowOutcome::Applied]
    );
    assert_eq!(
        content(fixture, &keys[0]).await.as_deref(),
        Some("made anew")
    );
}

/// A large batch takes the way that large batches take, and guards as a small one does.
pub async fn a_large_batch_is_guarded_too(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    write(
        fixture,
        &[
            upsert("large", 17, 9, "newer"),
            upsert("large", 18, 5, "tied"),
        ],
    )
    .await;
    let writes: Vec<_> = (0..3_000)
        .map(|no| upsert("large", no, 5, "bulk"))
        .collect();
    let outcomes = write(fixture, &writes).await;
    for (no, outcome) in outcomes.iter().enumerate() {
        let expected = match no {
            17 => RowOutcome::Superseded,
            18 => RowOutcome::Tie,
            _ => RowOutcome::Applied,
        };
        assert_eq!(*outcome, expected, "row {no}");
    }
    let again = write(fixture, &writes).await;
    assert_eq!(
        again
            .iter()
            .filter(|o| **o == RowOutcome::Unchanged)
            .count(),
        2_998
    );
}

/// Tests of the contract of [`Target`] for targets with tables.
#[macro_export]
macro_rules! target_contract {
    ($make:expr) => {
        $crate::contract!(
            target,
            $make,
            [
                guard_follows_the_model,
                the_newest_of_many_writers_stays,
                a_bad_row_fails_alone,
                missing_is_not_null,
                an_equal_row_is_left_alone,
                a_bulk_load_ends_with_the_newest_row,
                a_bad_row_in_a_bulk_load_fails_alone,
                a_load_finds_what_is_missing,
                nothing_is_not_an_error,
                what_the_source_has_lost_stays_deleted,
                a_large_batch_is_guarded_too,
            ]
        );
    };
}
