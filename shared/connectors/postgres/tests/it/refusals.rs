//! Rows that an existing table refuses fail alone.

use std::collections::BTreeMap;

use model::{ErrorClass, Value};
use ports::{RowOutcome, Target};

use crate::support::{Bench, Row, batch, cause, decimal, existing, own, text, upserts};

const TABLES: &str = "
    CREATE EXTENSION IF NOT EXISTS btree_gist;
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE DOMAIN percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
    CREATE TABLE countries (code text PRIMARY KEY);
    INSERT INTO countries VALUES ('DE');
    CREATE TABLE people (
        id bigint PRIMARY KEY,
        parent bigint REFERENCES people DEFERRABLE INITIALLY DEFERRED,
        country text REFERENCES countries,
        email varchar(20) UNIQUE,
        nick text NOT NULL DEFAULT 'nobody',
        age smallint CHECK (age >= 0),
        mood mood,
        share percent,
        pay numeric(6,2),
        since date,
        home inet,
        EXCLUDE USING gist (since WITH =),
        extra text NOT NULL DEFAULT 'untouched');
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.nick = 'root' THEN RAISE EXCEPTION 'nobody is called root'; END IF;
                 IF NEW.nick = 'own' THEN RAISE EXCEPTION 'a code of our own' USING ERRCODE = 'SY001'; END IF; RETURN NEW; END $$;
    CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION refuse();";

const COLUMNS: &[(&str, &str)] = &[
    ("id", "bigint"),
    ("parent", "bigint"),
    ("country", "text"),
    ("email", "text(300)"),
    ("nick", "text"),
    ("age", "bigint"),
    ("mood", "text"),
    ("share", "integer"),
    ("pay", "decimal"),
    ("since", "date"),
    ("home", "text"),
];

fn person(id: i64) -> Row {
    let mut row = vec![Value::Null; COLUMNS.len()];
    row[0] = Value::Int(id);
    row[4] = text("somebody");
    row
}

fn with(id: i64, column: &str, value: Value<'static>) -> Row {
    let mut row = person(id);
    let at = COLUMNS.iter().position(|(name, _)| *name == column);
    row[at.unwrap()] = value;
    row
}

#[tokio::test]
async fn each_kind_of_refusal_has_its_code_and_spares_the_neighbours() {
    use ErrorClass::{Conflict, Invalid, Reference};

    let bench = Bench::with(TABLES).await;
    let spec = existing("people", COLUMNS);
    bench.prepare(&spec).await;
    let taken = with(1, "email", text("a@example.com"));
    let dated = with(2, "since", Value::Date(5));
    assert_eq!(
        bench.upsert(&spec, 1, &[taken, dated]).await,
        vec![RowOutcome::Applied; 2]
    );
    let cases = [
        (
            "email",
            text("a@example.com"),
            Conflict,
            "unique-violation",
            Some("email"),
        ),
        (
            "since",
            Value::Date(5),
            Conflict,
            "exclusion-violation",
            Some("since"),
        ),
        (
            "country",
            text("XX"),
            Reference,
            "foreign-key-violation",
            Some("country"),
        ),
        (
            "parent",
            Value::Int(999),
            Reference,
            "foreign-key-violation",
            Some("parent"),
        ),
        (
            "nick",
            Value::Null,
            Invalid,
            "not-null-violation",
            Some("nick"),
        ),
        ("nick", text("root"), Invalid, "trigger-refusal", None),
        ("nick", text("own"), Invalid, "trigger-refusal", None),
        ("age", Value::Int(-1), Invalid, "check-violation", None),
        (
            "age",
            Value::Int(40_000),
            Invalid,
            "out-of-range",
            Some("age"),
        ),
        ("share", Value::Int(101), Invalid, "check-violation", None),
        ("mood", text("ugly"), Invalid, "type-mismatch", None),
        ("home", text("here"), Invalid, "type-mismatch", None),
        (
            "pay",
            decimal("10000"),
            Invalid,
            "out-of-range",
            Some("pay"),
        ),
        (
            "pay",
            decimal("9999.999"),
            Invalid,
            "precision-loss",
            Some("pay"),
        ),
        (
            "email",
            text(&"x".repeat(21)),
            Invalid,
            "too-long",
            Some("email"),
        ),
    ];
    let mut rows = Vec::new();
    for (id, (column, value, ..)) in (0..).zip(&cases) {
        rows.push(person(100 + id));
        rows.push(with(200 + id, column, value.clone()));
    }
    rows.push(person(300));
    let outcomes = bench.upsert(&spec, 1, &rows).await;
    for (at, outcome) in outcomes.iter().enumerate() {
        if at % 2 == 0 {
            assert_eq!(*outcome, RowOutcome::Applied, "row {at}");
            continue;
        }
        let (column, value, class, code, field) = &cases[at / 2];
        let cause = cause(outcome);
        let what = format!("{column} {value:?}: {cause:?}");
        assert_eq!(
            (cause.class, cause.code.as_str()),
            (*class, *code),
            "{what}"
        );
        assert_eq!(cause.field.as_deref(), *field, "{what}");
        // The words of the server never hold the whole row.
        assert!(!what.contains("untouched"), "{what}");
    }
    let found = bench
        .database
        .query("SELECT count(*), min(id), max(id), min(extra) FROM people")
        .await;
    assert_eq!(found, [["18", "1", "300", "untouched"]]);
}

#[tokio::test]
async fn an_update_or_a_delete_is_refused_alone_too() {
    let bench = Bench::with(TABLES).await;
    let spec = existing("people", COLUMNS);
    bench.prepare(&spec).await;
    let child = with(2, "parent", Value::Int(1));
    bench
        .upsert(&spec, 1, &[person(1), child, person(3), person(4)])
        .await;
    let mut writes = upserts(
        2,
        &[
            with(3, "age", Value::Int(-3)),
            with(4, "age", Value::Int(4)),
        ],
    );
    let version = model::Version(2);
    writes.push((ports::RowOp::Delete { version }, vec![Value::Int(1)]));
    let outcomes = bench
        .target
        .write(&spec, &batch(&spec, &writes))
        .await
        .unwrap();
    assert_eq!(cause(&outcomes[0]).code, "check-violation");
    assert_eq!(outcomes[1], RowOutcome::Applied);
    let parent = cause(&outcomes[2]);
    assert_eq!(
        (parent.class, parent.code.as_str()),
        (ErrorClass::Reference, "foreign-key-violation")
    );
    let found = bench
        .database
        .query("SELECT id, age FROM people ORDER BY id")
        .await;
    assert_eq!(
        found,
        [["1", "null"], ["2", "null"], ["3", "null"], ["4", "4"]]
    );
    // What was refused is no newer version: it can be tried again, and the row it names too.
    let again = bench
        .upsert(&spec, 2, &[with(3, "age", Value::Int(3))])
        .await;
    assert_eq!(again, [RowOutcome::Applied]);
}

#[tokio::test]
async fn rows_that_refer_to_each_other_are_written_although_one_beside_them_is_bad() {
    let bench = Bench::with(TABLES).await;
    let spec = existing("people", COLUMNS);
    bench.prepare(&spec).await;
    // Each refers to the next, so that every way of cutting the batch cuts a reference.
    let mut rows: Vec<Row> = (0..20)
        .map(|id| with(id, "parent", Value::Int(id + 1)))
        .collect();
    rows.push(person(20));
    rows.push(with(21, "age", Value::Int(-1)));
    rows.push(with(22, "parent", Value::Int(21)));
    let outcomes = bench.upsert(&spec, 1, &rows).await;
    assert_eq!(outcomes[..21], vec![RowOutcome::Applied; 21]);
    assert_eq!(cause(&outcomes[21]).code, "check-violation");
    assert_eq!(cause(&outcomes[22]).code, "foreign-key-violation");
}

#[tokio::test]
async fn few_bad_rows_among_many_cost_few_attempts() {
    let bench = Bench::with(TABLES).await;
    let spec = existing("people", COLUMNS);
    bench.prepare(&spec).await;
    let log = "CREATE TABLE attempts (n serial);
        CREATE FUNCTION attempt() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM nextval('attempts_n_seq'); RETURN NULL; END $$;
        CREATE TRIGGER attempt BEFORE INSERT ON people FOR EACH STATEMENT EXECUTE FUNCTION attempt();";
    bench.database.execute(log).await;
    let mut rows: Vec<Row> = (0..2_000).map(person).collect();
    rows[1_234] = with(1_234, "age", Value::Int(-1));
    let outcomes = bench.upsert(&spec, 1, &rows).await;
    let failed = outcomes
        .iter()
        .filter(|o| matches!(o, RowOutcome::Failed(_)));
    assert_eq!(failed.count(), 1);
    let attempts = bench
        .database
        .query("SELECT last_value FROM attempts_n_seq")
        .await;
    let attempts: usize = attempts[0][0].parse().unwrap();
    assert!(attempts <= 25, "{attempts} attempts");
}

/// A table whose rows refer to one that may not be loaded yet.
const ORDERS: &str = "CREATE TABLE customers (id bigint PRIMARY KEY);
    CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint REFERENCES customers, at inet, note text)";

fn order(id: i64, customer: i64) -> Row {
    vec![
        Value::Int(id),
        Value::Int(customer),
        text("10.0.0.1"),
        text("x"),
    ]
}

/// How many of the rows are refused with each code, else applied.
fn counts(outcomes: &[RowOutcome]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        let code = match outcome {
            RowOutcome::Applied => "applied",
            RowOutcome::Failed(cause) => cause.code.as_str(),
            other => panic!("{other:?}"),
        };
        *counts.entry(code).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_batch_of_which_nearly_all_rows_are_refused_is_done_all_the_same() {
    let bench = Bench::with(ORDERS).await;
    let columns = [
        ("id", "bigint"),
        ("customer", "bigint"),
        ("at", "text"),
        ("note", "text"),
    ];
    let spec = existing("orders", &columns);
    bench.prepare(&spec).await;
    let mut rows: Vec<Row> = (0..20_000).map(|id| order(id, id % 20)).collect();
    let written = bench.upsert(&spec, 1, &rows).await;
    assert_eq!(counts(&written), [("foreign-key-violation", 20_000)].into());
    let refused = cause(&written[7]);
    assert_eq!(refused.field.as_deref(), Some("customer"));
    assert!(
        refused
            .chain
            .iter()
            .any(|said| said.contains("Key (customer)=(7)")),
        "{}",
        refused.message
    );
    assert!(refused.chain[0].contains("(23503)"), "{:?}", refused.chain);
    assert_eq!(refused.chain[1], "orders_customer_fkey");
    // One parent of twenty is there by now, and some rows cannot even be compared.
    bench
        .database
        .execute("INSERT INTO customers VALUES (7)")
        .await;
    for row in rows.iter_mut().take(400) {
        row[2] = text("nowhere");
    }
    let written = bench.upsert(&spec, 1, &rows).await;
    let expected = [
        ("applied", 980),
        ("foreign-key-violation", 18_620),
        ("type-mismatch", 400),
    ];
    assert_eq!(counts(&written), expected.into());
    for (at, outcome) in written.iter().enumerate() {
        let applied = at >= 400 && at % 20 == 7;
        assert_eq!(*outcome == RowOutcome::Applied, applied, "row {at}");
    }
    let found = bench.database.query("SELECT count(*) FROM orders").await;
    assert_eq!(found, [["980"]]);
    let beside = "SELECT count(*) FROM _syncline_side_orders";
    assert_eq!(bench.database.query(beside).await, [["980"]]);
    bench
        .database
        .execute("INSERT INTO customers SELECT generate_series(0, 6)")
        .await;
    let again = bench.upsert(&spec, 2, &rows[400..]).await;
    let expected = [("applied", 7_840), ("foreign-key-violation", 11_760)];
    assert_eq!(counts(&again), expected.into());
}

#[tokio::test]
async fn a_bulk_load_of_which_nearly_all_rows_are_refused_is_done_all_the_same() {
    let bench = Bench::new().await;
    let columns = [
        ("id", "bigint"),
        ("customer", "bigint"),
        ("at", "text"),
        ("note", "text"),
    ];
    let spec = own("orders", &columns);
    bench.prepare(&spec).await;
    bench
        .database
        .execute(
            "CREATE TABLE customers (id bigint PRIMARY KEY); INSERT INTO customers VALUES (7);
             ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES customers",
        )
        .await;
    bench.target.begin_load(&spec, 1).await.unwrap();
    let rows: Vec<Row> = (0..20_000).map(|id| order(id, id % 20)).collect();
    let mut load = batch(&spec, &upserts(1, &rows));
    load.bulk = Some(crate::bulk::first_load(vec![(
        crate::bulk::pack(1),
        rows.len(),
    )]));
    for _ in 0..2 {
        let written = bench.target.write(&spec, &load).await.unwrap();
        let expected = [("applied", 1_000), ("foreign-key-violation", 19_000)];
        assert_eq!(counts(&written), expected.into());
        assert_eq!(written[7], RowOutcome::Applied);
    }
    bench.target.end_bulk(&spec, 1).await.unwrap();
    let found = bench.database.query("SELECT count(*) FROM orders").await;
    assert_eq!(found, [["1000"]]);
}
