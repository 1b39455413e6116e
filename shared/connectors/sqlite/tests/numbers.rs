//! Numbers with more digits than a double keeps.

#![cfg(test)]

use connector_sqlite::SqliteTarget;
use model::{Lane, Rows, Value, Version};
use ports::{ColumnSpec, Deletes, Ownership, RowOp, RowOutcome, TableSpec, Target, WriteBatch};

struct File {
    folder: tempfile::TempDir,
    target: SqliteTarget,
}

impl File {
    fn new(sql: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = SqliteTarget::new(&folder.path().join("warehouse.db"));
        let file = Self { folder, target };
        file.db().execute_batch(sql).unwrap();
        file
    }

    fn db(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("warehouse.db")).unwrap()
    }

    fn texts(&self, sql: &str) -> Vec<String> {
        let db = self.db();
        let mut statement = db.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    async fn write(
        &self,
        spec: &TableSpec,
        version: i64,
        rows: &[(&str, &str)],
    ) -> Vec<RowOutcome> {
        let batch = batch(version, rows);
        self.target.write(spec, &batch).await.unwrap()
    }
}

/// A table with a decimal as key and one beside it.
fn spec(ownership: Ownership, key: &str, amount: &str) -> TableSpec {
    let column = |name: &str, ty: &str, required| ColumnSpec {
        name: name.to_owned(),
        ty: ty.parse().unwrap(),
        required,
    };
    TableSpec {
        name: "t".into(),
        columns: vec![column("id", key, true), column("amount", amount, false)],
        key: vec![0],
        ownership,
        deletes: Deletes::Propagate,
    }
}

fn decimal(text: &str) -> Value<'static> {
    Value::Decimal(text.to_owned().into())
}

fn batch(version: i64, rows: &[(&str, &str)]) -> WriteBatch<'static> {
    let mut batch = WriteBatch {
        rows: Rows::new(2),
        ops: Vec::new(),
        bulk: None,
        found_in: None,
        lane: Lane::Live,
        traces: Vec::new(),
    };
    for (id, amount) in rows {
        let cells = [decimal(id), decimal(amount)];
        batch.rows.push_empty().clone_from_slice(&cells);
        batch.ops.push(RowOp::Upsert {
            version: Version(version),
        });
    }
    batch
}

fn codes(outcomes: &[RowOutcome]) -> Vec<&str> {
    let code = |outcome: &RowOutcome| match outcome {
        RowOutcome::Applied => "applied",
        RowOutcome::Unchanged => "unchanged",
        RowOutcome::Superseded => "superseded",
        RowOutcome::Tie => "tie",
        RowOutcome::Failed(cause) => {
            assert_eq!(cause.class, model::ErrorClass::Invalid);
            assert_eq!(cause.code, "precision-loss", "{}", cause.message);
            assert!(cause.message.contains("TEXT"), "{}", cause.message);
            if cause.field.as_deref() == Some("id") {
                "bad id"
            } else {
                "bad amount"
            }
        }
    };
    outcomes.iter().map(code).collect()
}

#[tokio::test]
async fn every_digit_of_a_decimal_is_kept_and_keys_that_differ_in_the_last_stay_two() {
    let file = File::new("");
    let spec = spec(Ownership::Own, "decimal(20,4)", "decimal(20,4)");
    file.target.prepare(&spec).await.unwrap();
    let (one, other) = ("1234567890123456.7890", "1234567890123456.7891");
    let rows = [(one, one), (other, other)];
    assert_eq!(
        codes(&file.write(&spec, 1, &rows).await),
        ["applied"; 2],
        "a key that differs only in its last digit found another row"
    );
    assert_eq!(
        file.texts("SELECT id || '/' || amount FROM t ORDER BY id"),
        [
            "1234567890123456.789/1234567890123456.789",
            "1234567890123456.7891/1234567890123456.7891"
        ]
    );
    let changed = [(one, other), (other, other)];
    assert_eq!(
        codes(&file.write(&spec, 1, &changed).await),
        ["tie", "unchanged"]
    );
    file.target.begin_load(&spec, 2).await.unwrap();
    let load = WriteBatch {
        found_in: Some(2),
        ..batch(1, &rows[..1])
    };
    file.target.write(&spec, &load).await.unwrap();
    let sweep = file.target.missing(&spec, 2, None, 10).await.unwrap();
    assert_eq!(sweep.keys, [[decimal(other)]]);
}

#[tokio::test]
async fn one_number_is_one_text_however_it_is_written() {
    let file = File::new("");
    let spec = spec(Ownership::Own, "decimal(20,4)", "decimal");
    file.target.prepare(&spec).await.unwrap();
    let first = [("12.5", "-0.50"), ("0.5", "100"), ("0", "-0")];
    assert_eq!(codes(&file.write(&spec, 1, &first).await), ["applied"; 3]);
    let again = [("012.5000", "-.5"), (".50", "100.0"), ("-0.0", "0")];
    assert_eq!(codes(&file.write(&spec, 1, &again).await), ["unchanged"; 3]);
    assert_eq!(
        file.texts("SELECT id || '/' || amount FROM t ORDER BY id"),
        ["0/0", "0.5/100", "12.5/-0.5"]
    );
}

#[tokio::test]
async fn decimals_that_a_number_keeps_are_numbers_and_all_can_be_summed() {
    let file = File::new("");
    let narrow = spec(Ownership::Own, "decimal(18,0)", "decimal(15,2)");
    file.target.prepare(&narrow).await.unwrap();
    let rows = [
        ("999999999999999999", "1234567890123.45"),
        ("999999999999999998", "0.55"),
    ];
    assert_eq!(codes(&file.write(&narrow, 1, &rows).await), ["applied"; 2]);
    assert_eq!(
        codes(&file.write(&narrow, 1, &rows).await),
        ["unchanged"; 2]
    );
    assert_eq!(
        file.texts("SELECT typeof(id) || typeof(amount) FROM t"),
        ["integerreal"; 2]
    );
    let mut wide = spec(Ownership::Own, "decimal(18,0)", "decimal(18,2)");
    wide.name = "w".into();
    file.target.prepare(&wide).await.unwrap();
    file.write(&wide, 1, &[("1", "1234.10"), ("2", "0.05"), ("3", "-0.2")])
        .await;
    assert_eq!(
        file.texts("SELECT CAST(sum(CAST(round(amount * 100) AS INTEGER)) AS TEXT) FROM w"),
        ["123395"]
    );
}

#[tokio::test]
async fn a_column_of_somebody_else_that_would_cut_digits_off_refuses_the_row_alone() {
    for declared in ["NUMERIC", "DECIMAL(20,4)", "REAL"] {
        let file = File::new(&format!(
            "CREATE TABLE t (id {declared} PRIMARY KEY, amount {declared})"
        ));
        let spec = spec(Ownership::Existing, "decimal(20,4)", "decimal(20,4)");
        file.target.prepare(&spec).await.unwrap();
        let rows = [
            ("1", "12345678901.2345"),
            ("2", "1234567890123456.7891"),
            ("1234567890123456.7891", "3"),
            ("4", "4"),
            ("5", "123456789012345678"),
            ("6", "12300000000000000000"),
        ];
        let integers = if declared == "REAL" {
            "bad amount"
        } else {
            "applied"
        };
        assert_eq!(
            codes(&file.write(&spec, 1, &rows).await),
            [
                "applied",
                "bad amount",
                "bad id",
                "applied",
                integers,
                "applied"
            ],
            "{declared}"
        );
        let stored = [("1234567890123456.7890", "3")];
        file.db()
            .execute("INSERT INTO t VALUES ('1234567890123456.7891', 3)", [])
            .unwrap();
        let seen = file
            .target
            .look(&spec, &batch(1, &stored).rows)
            .await
            .unwrap();
        assert!(!seen[0].exists, "another row was taken for it");
    }
}

#[tokio::test]
async fn a_column_of_text_keeps_every_digit_for_somebody_else_too() {
    let file = File::new("CREATE TABLE t (id NUMERIC PRIMARY KEY, amount VARCHAR(30))");
    let spec = spec(Ownership::Existing, "decimal(10,2)", "decimal(20,4)");
    file.target.prepare(&spec).await.unwrap();
    let rows = [("12.5", "1234567890123456.7891")];
    assert_eq!(codes(&file.write(&spec, 1, &rows).await), ["applied"]);
    assert_eq!(codes(&file.write(&spec, 1, &rows).await), ["unchanged"]);
    assert_eq!(file.texts("SELECT amount FROM t"), [rows[0].1]);
}

#[tokio::test]
async fn a_key_of_texts_is_not_asked_for_by_numbers() {
    for ty in ["TEXT", ""] {
        let file = File::new(&format!(
            "CREATE TABLE t (id {ty} PRIMARY KEY, amount NUMERIC); INSERT INTO t VALUES ('12.50', 1)"
        ));
        let spec = spec(Ownership::Existing, "decimal(10,2)", "decimal(10,2)");
        let error = file.target.prepare(&spec).await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("`id`") && said.contains("`type: text`"),
            "{said}"
        );
        assert_eq!(file.texts("SELECT id FROM t"), ["12.50"]);
    }
}
