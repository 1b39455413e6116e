//! Files and tables that do not do what they should.

#![cfg(test)]

use std::{path::PathBuf, sync::Arc, time::Duration};

use connector_sqlite::SqliteTarget;
use definition::Limits;
use model::{DataType, ErrorClass, Lane, Rows, Value, Version};
use ports::{
    Clock, ColumnSpec, Deletes, Ownership, RowOp, RowOutcome, TableSpec, Target, TargetError,
    WriteBatch, testing::ManualClock,
};

struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new(sql: &str) -> Self {
        let file = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        file.db().execute_batch(sql).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("warehouse.db")
    }

    fn db(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }

    fn count(&self) -> i64 {
        let count = self
            .db()
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        count.unwrap()
    }
}

/// A table with a number as key and a text.
fn spec(ownership: Ownership) -> TableSpec {
    let column = |name: &str, ty, required| ColumnSpec {
        name: name.to_owned(),
        ty,
        required,
    };
    TableSpec {
        name: "t".into(),
        columns: vec![
            column("id", DataType::Int64, true),
            column("name", DataType::Text { max: None }, false),
        ],
        key: vec![0],
        ownership,
        deletes: Deletes::Propagate,
    }
}

fn batch(rows: &[(i64, &str)]) -> WriteBatch<'static> {
    let mut batch = WriteBatch {
        rows: Rows::new(2),
        ops: Vec::new(),
        bulk: None,
        found_in: None,
        lane: Lane::Live,
        traces: Vec::new(),
    };
    for (id, name) in rows {
        batch
            .rows
            .push_empty()
            .clone_from_slice(&[Value::Int(*id), Value::Text((*name).to_owned().into())]);
        batch.ops.push(RowOp::Upsert {
            version: Version(1),
        });
    }
    batch
}

fn class(outcome: &RowOutcome) -> Option<ErrorClass> {
    match outcome {
        RowOutcome::Failed(cause) => Some(cause.class),
        _ => None,
    }
}

#[tokio::test]
async fn a_row_that_breaks_a_constraint_at_the_end_of_the_transaction_fails_alone() {
    let file = File::new(
        "CREATE TABLE names (name TEXT PRIMARY KEY); INSERT INTO names VALUES ('a'), ('c');
         CREATE TABLE t (id INTEGER PRIMARY KEY,
             name TEXT REFERENCES names (name) DEFERRABLE INITIALLY DEFERRED);",
    );
    let (target, spec) = (SqliteTarget::new(&file.path()), spec(Ownership::Existing));
    target.prepare(&spec).await.unwrap();
    let outcomes = target
        .write(&spec, &batch(&[(1, "a"), (2, "b"), (3, "c")]))
        .await
        .unwrap();
    assert_eq!(
        outcomes.iter().map(class).collect::<Vec<_>>(),
        [None, Some(ErrorClass::Reference), None]
    );
    assert_eq!(file.count(), 2);
}

#[tokio::test]
async fn a_constraint_that_ends_the_transaction_takes_no_neighbour_with_it() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE ON CONFLICT ROLLBACK);",
    );
    let (target, spec) = (SqliteTarget::new(&file.path()), spec(Ownership::Existing));
    target.prepare(&spec).await.unwrap();
    let outcomes = target
        .write(&spec, &batch(&[(1, "a"), (2, "a"), (3, "c")]))
        .await
        .unwrap();
    assert_eq!(
        outcomes.iter().map(class).collect::<Vec<_>>(),
        [None, Some(ErrorClass::Conflict), None]
    );
    assert_eq!(file.count(), 2);
}

#[tokio::test]
async fn a_row_that_the_table_swallows_is_no_applied_one() {
    let file =
        File::new("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE ON CONFLICT IGNORE);");
    let (target, spec) = (SqliteTarget::new(&file.path()), spec(Ownership::Existing));
    target.prepare(&spec).await.unwrap();
    let outcomes = target
        .write(&spec, &batch(&[(1, "a"), (2, "a"), (3, "c")]))
        .await
        .unwrap();
    assert_eq!(
        outcomes.iter().map(class).collect::<Vec<_>>(),
        [None, Some(ErrorClass::Conflict), None]
    );
}

#[tokio::test]
async fn a_full_disk_takes_nothing_of_a_batch_and_says_so() {
    let file = File::new("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);");
    let (target, spec) = (SqliteTarget::new(&file.path()), spec(Ownership::Existing));
    target.prepare(&spec).await.unwrap();
    let long = "x".repeat(10_000);
    let rows: Vec<(i64, &str)> = (0..100).map(|id| (id, long.as_str())).collect();
    target.limit_size(40);
    let error = target.write(&spec, &batch(&rows)).await.unwrap_err();
    assert!(matches!(error, TargetError::Unavailable { .. }));
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(file.count(), 0);
    target.limit_size(100_000);
    target.write(&spec, &batch(&rows)).await.unwrap();
    assert_eq!(file.count(), 100);
}

#[tokio::test]
async fn a_file_that_is_replaced_is_opened_anew() {
    let file = File::new("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);");
    let (target, spec) = (SqliteTarget::new(&file.path()), spec(Ownership::Existing));
    target.prepare(&spec).await.unwrap();
    target.write(&spec, &batch(&[(1, "a")])).await.unwrap();
    std::fs::rename(file.path(), file.folder.path().join("old.db")).unwrap();
    let error = target.write(&spec, &batch(&[(2, "b")])).await.unwrap_err();
    assert!(matches!(error, TargetError::Schema { .. }), "{error}");
    assert!(error.to_string().contains("no such table"), "{error}");
}

#[tokio::test]
async fn a_lock_is_waited_for_and_then_named() {
    let file = File::new("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);");
    let target = SqliteTarget::new(&file.path()).with_patience(Duration::from_millis(50));
    let spec = spec(Ownership::Existing);
    target.prepare(&spec).await.unwrap();
    let other = file.db();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = target.write(&spec, &batch(&[(1, "a")])).await.unwrap_err();
    assert!(matches!(error, TargetError::Unavailable { .. }));
    assert!(
        error.to_string().contains("keeps the file locked"),
        "{error}"
    );
    other.execute_batch("COMMIT").unwrap();
    target.write(&spec, &batch(&[(1, "a")])).await.unwrap();
    assert_eq!(file.count(), 1);
}

#[tokio::test]
async fn a_declared_rate_is_kept_by_all_that_is_done() {
    let file = File::new("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);");
    let spec = spec(Ownership::Existing);
    let clock = Arc::new(ManualClock::default());
    let store = embedded::Store::open(file.folder.path(), Arc::clone(&clock) as _).unwrap();
    let store = Arc::new(store);
    let limits = Limits {
        rate: Some(2.0),
        ..Limits::default()
    };
    let open = || {
        let rates = runtime::Rates::new(Arc::clone(&store) as _, Arc::clone(&clock) as _);
        let name = model::ConnectionName::new("warehouse").unwrap();
        SqliteTarget::new(&file.path()).paced(runtime::Pace::new(name, limits.rate, rates))
    };
    // Two processes share it.
    let (one, other) = (open(), open());
    one.prepare(&spec).await.unwrap();
    let began = clock.now();
    for at in 0..20 {
        let target = if at % 2 == 0 { &one } else { &other };
        target.write(&spec, &batch(&[(at, "x")])).await.unwrap();
    }
    let took = clock.now().duration_since(began).as_secs_f64();
    assert!(
        (8.0..=11.0).contains(&took),
        "{took} s for 20 calls at 2 a second"
    );
}
