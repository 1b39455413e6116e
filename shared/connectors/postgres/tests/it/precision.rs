//! Columns that keep fewer digits than the map makes.

use model::Value;
use ports::{RowOutcome, Target, TargetError};

use crate::support::{Bench, cause, decimal, existing, own, text};

fn codes(outcomes: &[RowOutcome]) -> Vec<&str> {
    let code = |outcome: &'static str| outcome;
    let codes = outcomes.iter().map(|outcome| match outcome {
        RowOutcome::Applied => code("applied"),
        RowOutcome::Unchanged => code("unchanged"),
        RowOutcome::Superseded => code("superseded"),
        RowOutcome::Tie => code("tie"),
        RowOutcome::Failed(cause) => cause.code.as_str(),
    });
    codes.collect()
}

#[tokio::test]
async fn a_decimal_that_a_column_would_round_is_refused_alone() {
    let bench = Bench::with(
        "CREATE TABLE t (id bigint PRIMARY KEY, pay numeric(12,2), whole integer, any_pay numeric)",
    )
    .await;
    let columns = [
        ("id", "bigint"),
        ("pay", "decimal(12,4)"),
        ("whole", "decimal(9,3)"),
        ("any_pay", "decimal(12,4)"),
    ];
    let spec = existing("t", &columns);
    bench.prepare(&spec).await;
    let row = |id: i64, pay: &str, whole: &str| {
        vec![
            Value::Int(id),
            decimal(pay),
            decimal(whole),
            decimal("0.1234"),
        ]
    };
    let rows = [
        row(1, "1.23", "1"),
        row(2, "1.2345", "1"),
        row(3, "1.2300", "2.000"),
        row(4, "1", "1.5"),
    ];
    let lost = "precision-loss";
    let written = bench.upsert(&spec, 1, &rows).await;
    assert_eq!(codes(&written), ["applied", lost, "applied", lost]);
    assert_eq!(cause(&written[1]).field.as_deref(), Some("pay"));
    assert_eq!(cause(&written[3]).field.as_deref(), Some("whole"));
    let message = &cause(&written[1]).message;
    assert!(message.contains("keeps 2 digits"), "{message}");
    assert!(message.contains("`round`"), "{message}");
    let again = bench.upsert(&spec, 1, &rows).await;
    assert_eq!(codes(&again), ["unchanged", lost, "unchanged", lost]);
}

#[tokio::test]
async fn digits_before_the_point_are_not_rounded_either() {
    let bench = Bench::new().await;
    let version = bench.database.query("SHOW server_version_num").await;
    if version[0][0].as_str() < "150000" {
        return;
    }
    bench
        .database
        .execute("CREATE TABLE t (id bigint PRIMARY KEY, pay numeric(3,-2))")
        .await;
    let spec = existing("t", &[("id", "bigint"), ("pay", "decimal")]);
    bench.prepare(&spec).await;
    let row = |id: i64, pay: &str| vec![Value::Int(id), decimal(pay)];
    let rows = [row(1, "99900"), row(2, "1250"), row(3, "100000")];
    assert_eq!(
        codes(&bench.upsert(&spec, 1, &rows).await),
        ["applied", "precision-loss", "out-of-range"]
    );
}

#[tokio::test]
async fn what_a_column_rounds_or_cuts_off_is_unchanged_when_it_comes_again() {
    let bench = Bench::with(
        "CREATE DOMAIN short AS varchar(3);
         CREATE TABLE t (id bigint PRIMARY KEY, milli timestamptz(3), second timestamp(0), hour time(0),
           name varchar(3), code short, fixed char(4))",
    )
    .await;
    let columns = [
        ("id", "bigint"),
        ("milli", "timestamp"),
        ("second", "timestamp"),
        ("hour", "time"),
        ("name", "text"),
        ("code", "text"),
        ("fixed", "text"),
    ];
    let spec = existing("t", &columns);
    bench.prepare(&spec).await;
    let row = vec![
        Value::Int(1),
        Value::Timestamp(1_767_225_600_123_456),
        Value::Timestamp(1_767_225_600_623_456),
        Value::Time(3_600_654_321),
        text("abc  "),
        text("a    "),
        text("ab"),
    ];
    let rows = [row];
    assert_eq!(codes(&bench.upsert(&spec, 1, &rows).await), ["applied"]);
    assert_eq!(codes(&bench.upsert(&spec, 1, &rows).await), ["unchanged"]);
    let found = bench
        .database
        .query("SELECT milli::text, second::text, hour::text FROM t")
        .await;
    let (milli, second) = ("2026-01-01 00:00:00.123+00", "2026-01-01 00:00:01");
    assert_eq!(found, [[milli, second, "01:00:01"]]);
}

#[tokio::test]
async fn keys_that_a_column_would_round_to_one_are_refused() {
    let bench = Bench::with("CREATE TABLE t (at timestamptz(3) PRIMARY KEY, name text)").await;
    let spec = existing("t", &[("at", "timestamp"), ("name", "text")]);
    bench.prepare(&spec).await;
    let row = |micros: i64| vec![Value::Timestamp(1_767_225_600_000_000 + micros), text("x")];
    let rows = [row(123_000), row(123_400), row(124_000)];
    let written = bench.upsert(&spec, 1, &rows).await;
    assert_eq!(codes(&written), ["applied", "precision-loss", "applied"]);
    assert_eq!(cause(&written[1]).field.as_deref(), Some("at"));
}

#[tokio::test]
async fn an_own_table_that_is_narrower_than_its_map_is_not_written_on_silently() {
    let bench = Bench::new().await;
    let narrow = own(
        "t",
        &[
            ("id", "bigint"),
            ("pay", "decimal(12,2)"),
            ("name", "text(9)"),
        ],
    );
    bench.prepare(&narrow).await;
    let wide = own(
        "t",
        &[
            ("id", "bigint"),
            ("pay", "decimal(14,4)"),
            ("name", "text(5)"),
        ],
    );
    let what = match bench.target.prepare(&wide).await {
        Err(TargetError::Schema { what }) => what,
        other => panic!("{other:?} where a schema error was expected"),
    };
    assert!(what.contains("`pay`"), "{what}");
    assert!(what.contains("numeric(12,2)"), "{what}");
    assert!(what.contains("decimal(14,4)"), "{what}");
    // What the error says to run is what helps.
    let (_, alter) = what.split_once("`ALTER").expect("a statement");
    let (alter, _) = alter.split_once('`').expect("its end");
    bench.database.execute(&format!("ALTER{alter}")).await;
    bench.prepare(&wide).await;
    let row = vec![Value::Int(1), decimal("1.2345"), text("x")];
    assert_eq!(codes(&bench.upsert(&wide, 1, &[row]).await), ["applied"]);
    // A column that somebody has made wider is no trouble.
    bench.prepare(&narrow).await;
}
