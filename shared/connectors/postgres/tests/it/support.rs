//! What the tests share.

use connector_postgres::{Database, PostgresTarget};
use definition::Limits;
use model::{Cause, DataType, Lane, Rows, Value, Version};
use ports::{ColumnSpec, Deletes, Ownership, RowOp, RowOutcome, TableSpec, Target, WriteBatch};
use test_postgres::TestDatabase;

/// One row of a batch.
pub(crate) type Row = Vec<Value<'static>>;

/// A target in a database of its own.
pub(crate) struct Bench {
    pub(crate) database: TestDatabase,
    pub(crate) target: PostgresTarget,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create().await;
        let target = target_at(&database.url());
        Self { database, target }
    }

    /// With a table that was there before.
    pub(crate) async fn with(sql: &str) -> Self {
        let bench = Self::new().await;
        bench.database.execute(sql).await;
        bench
    }

    pub(crate) async fn prepare(&self, spec: &TableSpec) {
        self.target.prepare(spec).await.expect("prepared");
    }

    /// Writes upserts of one version.
    pub(crate) async fn upsert(
        &self,
        spec: &TableSpec,
        version: i64,
        rows: &[Row],
    ) -> Vec<RowOutcome> {
        let batch = batch(spec, &upserts(version, rows));
        self.target.write(spec, &batch).await.expect("written")
    }
}

pub(crate) fn target_at(url: &str) -> PostgresTarget {
    PostgresTarget::new(Database::open(url, None, Limits::default()).expect("a URL"))
}

/// The same rows with an operation each.
pub(crate) fn upserts(version: i64, rows: &[Row]) -> Vec<(RowOp, Row)> {
    let version = Version(version);
    let with = |row: &Row| (RowOp::Upsert { version }, row.clone());
    rows.iter().map(with).collect()
}

pub(crate) fn batch(spec: &TableSpec, writes: &[(RowOp, Row)]) -> WriteBatch<'static> {
    let mut rows = Rows::new(spec.columns.len());
    for (_, row) in writes {
        rows.push_empty()[..row.len()].clone_from_slice(row);
    }
    WriteBatch {
        rows,
        ops: writes.iter().map(|(op, _)| op.clone()).collect(),
        bulk: None,
        found_in: None,
        lane: Lane::Live,
        traces: Vec::new(),
    }
}

/// A table with these columns, `name type` each; the first is the key, and required.
pub(crate) fn spec(name: &str, ownership: Ownership, columns: &[(&str, &str)]) -> TableSpec {
    let column = |(at, (name, ty)): (usize, &(&str, &str))| ColumnSpec {
        name: (*name).to_owned(),
        ty: ty.parse::<DataType>().expect("a type"),
        required: at == 0,
    };
    TableSpec {
        name: name.to_owned(),
        columns: columns.iter().enumerate().map(column).collect(),
        key: vec![0],
        ownership,
        deletes: Deletes::Propagate,
    }
}

pub(crate) fn own(name: &str, columns: &[(&str, &str)]) -> TableSpec {
    spec(name, Ownership::Own, columns)
}

pub(crate) fn existing(name: &str, columns: &[(&str, &str)]) -> TableSpec {
    spec(name, Ownership::Existing, columns)
}

pub(crate) fn text(text: &str) -> Value<'static> {
    Value::Text(text.to_owned().into())
}

pub(crate) fn decimal(text: &str) -> Value<'static> {
    Value::Decimal(text.to_owned().into())
}

/// The cause of a failure.
pub(crate) fn cause(outcome: &RowOutcome) -> &Cause {
    match outcome {
        RowOutcome::Failed(cause) => cause,
        other => panic!("{other:?} where a failure was expected"),
    }
}
