//! What every target with tables has to do.
//!
//! The guard is compared with a model of it, outcome by outcome, over random sequences of
//! writes; what a random sequence would hit too seldom has a case of its own.

mod guard;
mod loads;

use std::fmt::Debug;

use model::{DataType, Rows, Value, Version};

use crate::{
    ColumnSpec, Deletes, Ownership, RowOp, RowOutcome, TableSpec, Target, TargetRow, WriteBatch,
};

use guard::Op;

pub use guard::guard_follows_the_model;
pub use loads::{
    a_bad_row_in_a_bulk_load_fails_alone, a_bulk_load_begins_with_nothing,
    a_bulk_load_ends_with_the_newest_row, a_load_does_not_bring_back_what_was_deleted,
    a_load_finds_what_is_missing, an_overtaken_load_ends_nothing,
    what_a_bulk_load_deletes_stays_deleted,
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
        traces: Vec::new(),
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
                what_a_bulk_load_deletes_stays_deleted,
                a_bulk_load_begins_with_nothing,
                a_load_does_not_bring_back_what_was_deleted,
                an_overtaken_load_ends_nothing,
                a_load_finds_what_is_missing,
                nothing_is_not_an_error,
                what_the_source_has_lost_stays_deleted,
                a_large_batch_is_guarded_too,
            ]
        );
    };
}
