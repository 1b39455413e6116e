//! Every type, to its ends.

use model::Value;
use ports::{RowOutcome, Target};

use crate::support::{Bench, Row, cause, decimal, own, text};

const ALL: &[(&str, &str)] = &[
    ("id", "bigint"),
    ("flag", "boolean"),
    ("small", "smallint"),
    ("medium", "integer"),
    ("exact", "decimal(18,4)"),
    ("any", "decimal"),
    ("double", "double"),
    ("words", "text"),
    ("short", "text(4)"),
    ("uid", "uuid"),
    ("day", "date"),
    ("hour", "time"),
    ("moment", "timestamp"),
    ("raw", "bytes"),
    ("tree", "json"),
];

fn least() -> Row {
    vec![
        Value::Int(i64::MIN),
        Value::Bool(false),
        Value::Int(i16::MIN.into()),
        Value::Int(i32::MIN.into()),
        decimal("-99999999999999.9999"),
        decimal("-0.00000000000000000001"),
        Value::Float(f64::MIN),
        text(""),
        text("\u{1F980}äöü"),
        Value::Uuid([0; 16]),
        // 4713-01-01 BC and the first moment of it.
        Value::Date(-2_440_550),
        Value::Time(0),
        Value::Timestamp(-210_863_520_000_000_000),
        Value::Bytes(vec![].into()),
        Value::Json("null".into()),
    ]
}

fn most() -> Row {
    vec![
        Value::Int(i64::MAX),
        Value::Bool(true),
        Value::Int(i16::MAX.into()),
        Value::Int(i32::MAX.into()),
        decimal("99999999999999.9999"),
        decimal("12345678901234567890123456789012345678901234567890.5"),
        Value::Float(f64::MIN_POSITIVE),
        text("it's \"quoted\"\\N\t\r\n\u{7f}\u{2028}"),
        text("    "),
        Value::Uuid([0xff; 16]),
        Value::Date(2_932_896),
        Value::Time(86_399_999_999),
        Value::Timestamp(253_402_300_799_999_999),
        Value::Bytes(vec![0, 1, 0xff, b'\\', b'\n'].into()),
        Value::Json(r#"{"a": [1.10, "\u00e4", null, {"b": true}]}"#.into()),
    ]
}

#[tokio::test]
async fn every_value_comes_back_as_it_was_on_both_ways_of_writing() {
    for bulk in [false, true] {
        let bench = Bench::new().await;
        let spec = own("all_types", ALL);
        bench.prepare(&spec).await;
        let mut nulls = vec![Value::Null; ALL.len()];
        nulls[0] = Value::Int(0);
        let rows = [least(), nulls, most()];
        if bulk {
            bench.target.begin_load(&spec, 1).await.unwrap();
            let mut batch = crate::support::batch(&spec, &crate::support::upserts(1, &rows));
            batch.bulk = Some(crate::bulk::first_load(vec![(crate::bulk::pack(1), 3)]));
            let outcomes = bench.target.write(&spec, &batch).await.unwrap();
            assert_eq!(outcomes, vec![RowOutcome::Applied; 3]);
            bench.target.end_bulk(&spec, 1).await.unwrap();
        } else {
            let outcomes = bench.upsert(&spec, 1, &rows).await;
            assert_eq!(outcomes, vec![RowOutcome::Applied; 3]);
        }
        // The server finds each cell equal to what was sent.
        let outcomes = bench.upsert(&spec, 1, &rows).await;
        assert_eq!(outcomes, vec![RowOutcome::Unchanged; 3], "bulk: {bulk}");
        let found = bench
            .database
            .query(
                "SET timezone = 'UTC'; SELECT id, flag, small, medium, exact, \"any\", double, words, short, uid, day, hour, moment, raw, tree
                 FROM all_types ORDER BY id",
            )
            .await;
        let expected = [
            "-9223372036854775808",
            "f",
            "-32768",
            "-2147483648",
            "-99999999999999.9999",
            "-0.00000000000000000001",
            "-1.7976931348623157e+308",
            "",
            "\u{1F980}äöü",
            "00000000-0000-0000-0000-000000000000",
            "4713-01-01 BC",
            "00:00:00",
            "4713-01-01 00:00:00+00 BC",
            "\\x",
            "null",
        ];
        assert_eq!(found[0], expected);
        assert_eq!(found[1][1..], vec!["null".to_owned(); ALL.len() - 1]);
        let expected = [
            "9223372036854775807",
            "t",
            "32767",
            "2147483647",
            "99999999999999.9999",
            "12345678901234567890123456789012345678901234567890.5",
            "2.2250738585072014e-308",
            "it's \"quoted\"\\N\t\r\n\u{7f}\u{2028}",
            "    ",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "9999-12-31",
            "23:59:59.999999",
            "9999-12-31 23:59:59.999999+00",
            "\\x0001ff5c0a",
            r#"{"a": [1.10, "ä", null, {"b": true}]}"#,
        ];
        assert_eq!(found[2], expected);
    }
}

#[tokio::test]
async fn keys_of_every_type_are_found_again() {
    let keys = [
        ("boolean", Value::Bool(true)),
        ("smallint", Value::Int(-7)),
        ("integer", Value::Int(7)),
        ("bigint", Value::Int(i64::MIN)),
        ("decimal(12,3)", decimal("-1234.500")),
        ("decimal", decimal("10000.00001")),
        ("double", Value::Float(-0.5)),
        ("text", text("ä'\"\\")),
        ("text(9)", text("short")),
        ("uuid", Value::Uuid([7; 16])),
        ("date", Value::Date(-1)),
        ("time", Value::Time(1)),
        ("timestamp", Value::Timestamp(-1)),
        ("bytes", Value::Bytes(vec![0, 9].into())),
        ("json", Value::Json(r#"{"a": 1}"#.into())),
    ];
    let bench = Bench::new().await;
    for (ty, key) in keys {
        let spec = own(&format!("keyed by {ty}"), &[("id", ty), ("name", "text")]);
        bench.prepare(&spec).await;
        let row = vec![key.clone(), text("x")];
        assert_eq!(
            bench.upsert(&spec, 3, std::slice::from_ref(&row)).await,
            [RowOutcome::Applied],
            "{ty}"
        );
        let rows = crate::support::batch(&spec, &crate::support::upserts(3, &[row])).rows;
        let state = bench.target.look(&spec, &rows).await.unwrap().remove(0);
        assert!(state.exists, "{ty}");
        let shown = bench.target.show(&spec, &rows).await.unwrap();
        assert!(shown.unwrap().contains(r#""name":"x""#), "{ty}");
        bench.target.begin_load(&spec, 1).await.unwrap();
        let sweep = bench.target.missing(&spec, 1, None, 10).await.unwrap();
        assert_eq!(sweep.keys, [[key.clone()]], "{ty}");
        let after = bench.target.missing(&spec, 1, Some(&[key]), 10).await;
        assert_eq!(after.unwrap().keys, Vec::<Row>::new(), "{ty}");
    }
}

#[tokio::test]
async fn what_a_type_cannot_hold_fails_alone_and_says_why() {
    let bench = Bench::new().await;
    let spec = own("all_types", ALL);
    bench.prepare(&spec).await;
    let cases: Vec<(usize, Value<'static>, &str)> = vec![
        // The ends of the 32 bits would be infinity.
        (10, Value::Date(i32::MAX), "out-of-range"),
        (10, Value::Date(i32::MIN), "out-of-range"),
        (10, Value::Date(-4_371_587), "out-of-range"),
        (12, Value::Timestamp(i64::MIN), "out-of-range"),
        (11, Value::Time(86_400_000_001), "out-of-range"),
        (2, Value::Int(40_000), "out-of-range"),
        (3, Value::Int(3_000_000_000), "out-of-range"),
        (4, decimal("100000000000000"), "out-of-range"),
        (5, decimal(&"9".repeat(131_073)), "out-of-range"),
        (
            5,
            decimal(&format!("0.{}1", "0".repeat(16_383))),
            "out-of-range",
        ),
        (5, decimal("1e3"), "type-mismatch"),
        (7, text("a\0b"), "invalid-character"),
        (8, text("12345"), "too-long"),
        (
            14,
            Value::Json(r#"{"a":"\u0000"}"#.into()),
            "invalid-character",
        ),
        (14, Value::Json(r#"{"a":"\ud800"}"#.into()), "type-mismatch"),
        (14, Value::Json("{".into()), "type-mismatch"),
        (1, text("true"), "type-mismatch"),
    ];
    let mut rows = vec![least()];
    for (at, (column, value, _)) in cases.iter().enumerate() {
        let mut row = most();
        row[0] = Value::Int(i64::try_from(at).unwrap());
        row[*column] = value.clone();
        rows.push(row);
    }
    rows.push(most());
    let outcomes = bench.upsert(&spec, 1, &rows).await;
    assert_eq!(outcomes.first(), Some(&RowOutcome::Applied));
    assert_eq!(outcomes.last(), Some(&RowOutcome::Applied));
    for ((column, value, code), outcome) in cases.iter().zip(&outcomes[1..]) {
        assert!(
            matches!(outcome, RowOutcome::Failed(_)),
            "{value:.80?}: {outcome:?}"
        );
        let cause = cause(outcome);
        assert_eq!(cause.code, *code, "{value:.80?}: {cause:?}");
        if cause.chain.is_empty() {
            assert_eq!(cause.field.as_deref(), Some(ALL[*column].0), "{cause:?}");
        }
    }
    let count = bench.database.query("SELECT count(*) FROM all_types").await;
    assert_eq!(count, [["2"]]);
}
