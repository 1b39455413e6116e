//! Tables and queries as sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use connector_postgres::{Database, PostgresSource};
use definition::{Definition, Limits, Map};
use model::{Op, SourceMark};
use ports::{Next, ReadFrom, Source, SourceError, SystemClock};
use serde_json::{Value, json};
use test_postgres::TestDatabase;

/// A map from `stream` with these keys of `from`, and further keys of its own.
pub(crate) fn map(stream: &str, key: &[&str], from: &str, more: &str) -> Map {
    let fields: Vec<String> = key.iter().map(|key| format!("{key}: {key}")).collect();
    let key = key.join(", ");
    let text = format!(
        "connections:
  shop: {{ kind: postgres, url: \"postgres://shop.example.com/shop\" }}
  warehouse: {{ kind: sqlite, url: warehouse.db }}
maps:
  m:
    from:
      stream: shop.{stream}
      key: [{key}]
{from}
    to: {{ stream: warehouse.m, key: [{key}] }}
    fields: {{ {} }}
{more}
",
        fields.join(", ")
    );
    let reading = Definition::read(&text);
    let definition = reading.definition;
    let definition = definition.unwrap_or_else(|| panic!("{:#?}", reading.problems));
    definition.maps.into_values().next().expect("a map")
}

pub(crate) fn source(database: &TestDatabase, map: &Map) -> PostgresSource {
    let database = Database::open(&database.url(), None, Limits::default()).unwrap();
    PostgresSource::new(database, Arc::new(SystemClock), map, None)
}

pub(crate) async fn filled(sql: &str) -> TestDatabase {
    let database = TestDatabase::create().await;
    database.execute(sql).await;
    database
}

/// Reads to the end: the records of all pages, how many pages there were, and the mark.
pub(crate) async fn read_all(
    source: &dyn Source,
    from: ReadFrom<'_>,
) -> (Vec<Value>, usize, Option<SourceMark>) {
    let (mut records, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = source.read(from, cursor.as_deref()).await.expect("a page");
        pages += 1;
        assert!(pages < 1_000, "the read never ends");
        for record in &page.records {
            assert_eq!(record.op, Op::Upsert);
            records.push(serde_json::from_slice(&record.raw).expect("JSON"));
        }
        match page.next {
            Next::Page(next) => cursor = Some(next),
            Next::End(mark) => return (records, pages, mark),
        }
    }
}

pub(crate) async fn changes(source: &dyn Source, mark: &SourceMark) -> (Vec<Value>, SourceMark) {
    let (records, _, next) = read_all(source, ReadFrom::Mark(mark)).await;
    (records, next.expect("a mark"))
}

/// Reads until nothing more comes. Transactions of other tests, in other databases of the same
/// server, may make rows come more than once; these tests are short.
pub(crate) async fn quiet(source: &dyn Source, mut mark: SourceMark) -> SourceMark {
    for _ in 0..10_000 {
        let (found, next) = changes(source, &mark).await;
        mark = next;
        if found.is_empty() {
            return mark;
        }
        tokio::task::yield_now().await;
    }
    panic!("the same changes are read again and again");
}

pub(crate) fn ids(records: &[Value]) -> Vec<i64> {
    let mut ids: Vec<i64> = records.iter().map(|r| r["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

pub(crate) async fn low_water(source: &dyn Source) -> SourceMark {
    source.low_water().await.unwrap().mark.expect("a mark")
}

pub(crate) const EVENTS: &str =
    "CREATE TABLE events (id bigint PRIMARY KEY, note text, changed timestamptz DEFAULT now())";

#[tokio::test]
async fn a_row_that_is_committed_late_is_found_whatever_its_time_says() {
    let database = filled(EVENTS).await;
    let tracked = source(
        &database,
        &map("events", &["id"], "      version: changed", ""),
    );
    let (early, late) = (database.client().await, database.client().await);
    // One transaction has its time but no number yet, the other has written already.
    early.batch_execute("BEGIN; SELECT now()").await.unwrap();
    late.batch_execute("BEGIN; INSERT INTO events VALUES (2, 'written early')")
        .await
        .unwrap();
    let mark = low_water(&tracked).await;
    database
        .execute("INSERT INTO events VALUES (3, 'in time')")
        .await;
    let (found, mark) = changes(&tracked, &mark).await;
    assert_eq!(ids(&found), [3]);
    early
        .batch_execute("INSERT INTO events VALUES (1, 'begun early'); COMMIT")
        .await
        .unwrap();
    late.batch_execute("COMMIT").await.unwrap();
    // Whoever goes by the time that stands in the rows has lost both.
    let naive =
        "SELECT count(*) FROM events WHERE changed > (SELECT changed FROM events WHERE id = 3)";
    assert_eq!(database.query(naive).await, [["0"]]);
    let (found, mark) = changes(&tracked, &mark).await;
    assert_eq!(ids(&found), [1, 2, 3]);
    let mark = quiet(&tracked, mark).await;
    database
        .execute("UPDATE events SET note = 'x' WHERE id = 2")
        .await;
    assert_eq!(ids(&changes(&tracked, &mark).await.0), [2]);
}

#[tokio::test]
async fn a_query_finds_late_rows_within_its_overlap() {
    let database = filled(EVENTS).await;
    let query = "      query: SELECT * FROM events -- all of them;\n      version: changed";
    for (overlap, expected) in [("5m", vec![1, 2]), ("0s", vec![2])] {
        let more = format!("    pull: {{ overlap: {overlap} }}");
        let source = source(&database, &map("events", &["id"], query, &more));
        database.execute("TRUNCATE events").await;
        let early = database.client().await;
        early.batch_execute("BEGIN; SELECT now()").await.unwrap();
        let mark = low_water(&source).await;
        database
            .execute("INSERT INTO events VALUES (2, 'in time')")
            .await;
        let (found, mark) = changes(&source, &mark).await;
        assert_eq!(ids(&found), [2]);
        early
            .batch_execute("INSERT INTO events VALUES (1, 'late'); COMMIT")
            .await
            .unwrap();
        assert_eq!(ids(&changes(&source, &mark).await.0), expected, "{overlap}");
    }
}

#[tokio::test]
async fn what_changes_while_changes_are_read_is_read_next_time() {
    let database = filled(EVENTS).await;
    let source = source(
        &database,
        &map("events", &["id"], "", "    pull: { page_size: 10 }"),
    );
    let mark = low_water(&source).await;
    let rows = "INSERT INTO events SELECT n, repeat('x', 400) FROM generate_series(1, 100) AS n";
    database.execute(rows).await;
    let from = ReadFrom::Mark(&mark);
    let mut seen: BTreeMap<i64, String> = BTreeMap::new();
    let mut cursor: Option<String> = None;
    let mut page_number = 0;
    let next = loop {
        let page = source.read(from, cursor.as_deref()).await.unwrap();
        for record in &page.records {
            let record: Value = serde_json::from_slice(&record.raw).unwrap();
            let note = record["note"].as_str().unwrap().to_owned();
            seen.insert(record["id"].as_i64().unwrap(), note);
        }
        // A page that is asked for again gives no less.
        let again = source.read(from, cursor.as_deref()).await.unwrap();
        assert_eq!(again.records.len(), page.records.len());
        page_number += 1;
        // One that was read, one that was not, one that is new, and all move in the table.
        let change = format!(
            "UPDATE events SET note = 'changed' WHERE id IN ({page_number}, {}); INSERT INTO events VALUES ({}, 'new')",
            101 - page_number,
            1_000 + page_number
        );
        database.execute(&change).await;
        match page.next {
            Next::Page(next) => cursor = Some(next),
            Next::End(next) => break next.unwrap(),
        }
    };
    assert!(page_number >= 9, "only {page_number} pages");
    let (found, next) = changes(&source, &next).await;
    for record in found {
        let note = record["note"].as_str().unwrap().to_owned();
        seen.insert(record["id"].as_i64().unwrap(), note);
    }
    let all = database.query("SELECT id, note FROM events").await;
    let all: BTreeMap<i64, String> = all
        .into_iter()
        .map(|row| (row[0].parse().unwrap(), row[1].clone()))
        .collect();
    assert_eq!(seen, all);
    quiet(&source, next).await;
}

#[tokio::test]
async fn a_table_that_is_rewritten_while_changes_are_read_hides_none() {
    for rewrite in ["CLUSTER t USING t_pkey", "VACUUM FULL t"] {
        let database = filled(
            "CREATE TABLE t (id bigint PRIMARY KEY, note text) WITH (autovacuum_enabled = off);
             INSERT INTO t SELECT n, repeat('x', 400) FROM generate_series(1, 1000) AS n",
        )
        .await;
        let page = "    pull: { page_size: 10 }";
        let source = source(&database, &map("t", &["id"], "", page));
        let mark = quiet(&source, low_water(&source).await).await;
        // Their new states lie behind all others, until the table is rewritten.
        database
            .execute("UPDATE t SET note = 'changed' WHERE id <= 50")
            .await;
        let from = ReadFrom::Mark(&mark);
        let (mut seen, mut cursor) = (BTreeSet::new(), None);
        loop {
            let page = source.read(from, cursor.as_deref()).await.unwrap();
            for record in &page.records {
                let record: Value = serde_json::from_slice(&record.raw).unwrap();
                seen.insert(record["id"].as_i64().unwrap());
            }
            let Next::Page(next) = page.next else { break };
            if cursor.is_none() {
                database.execute(rewrite).await;
            }
            cursor = Some(next);
        }
        let missed: Vec<i64> = (1..=50).filter(|id| !seen.contains(id)).collect();
        assert_eq!(missed, [0_i64; 0], "{rewrite}");
    }
}

#[tokio::test]
async fn a_mark_the_server_cannot_go_on_from_is_expired() {
    let database = filled(EVENTS).await;
    let source = source(&database, &map("events", &["id"], "", ""));
    let mark = low_water(&source).await;
    let mut parsed: Value = serde_json::from_str(&mark.0).unwrap();
    let expired = async |mark: &Value| {
        let mark = SourceMark(mark.to_string());
        match source.read(ReadFrom::Mark(&mark), None).await {
            Err(SourceError::Expired { what }) => what,
            other => panic!("{other:?} where the mark is expired"),
        }
    };
    let from = parsed["from"].as_u64().unwrap();
    parsed["from"] = json!(from + 1_000_000);
    assert!(expired(&parsed).await.contains("does not know"));
    parsed["from"] = json!(from);
    parsed["history"] = json!("another/1");
    assert!(expired(&parsed).await.contains("restored"));
    expired(&json!({ "by": "moon" })).await;
    // The table has become a view: its rows do not tell any more.
    let view =
        "ALTER TABLE events RENAME TO all_events; CREATE VIEW events AS SELECT * FROM all_events";
    database.execute(view).await;
    match source.read(ReadFrom::Mark(&mark), None).await {
        Err(SourceError::Expired { .. }) => {}
        other => panic!("{other:?} where the mark is expired"),
    }
}

#[tokio::test]
async fn all_tables_that_a_table_consists_of_are_read() {
    let database = filled(
        "CREATE TABLE parts (id bigint, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
         CREATE TABLE parts_b (note text, region text NOT NULL, id bigint NOT NULL);
         ALTER TABLE parts ATTACH PARTITION parts_b FOR VALUES IN ('b');
         CREATE TABLE animals (id bigint PRIMARY KEY, note text); CREATE TABLE cats (claws int, PRIMARY KEY (id)) INHERITS (animals);",
    )
    .await;
    let more = "    pull: { page_size: 7 }";
    for (table, key, inserts) in [
        (
            "parts",
            &["id", "region"][..],
            "INSERT INTO parts SELECT n, CASE WHEN n % 3 = 0 THEN 'a' ELSE 'b' END, 'x' FROM generate_series(1, 40) AS n",
        ),
        (
            "animals",
            &["id"][..],
            "INSERT INTO animals SELECT n, 'x' FROM generate_series(1, 20) AS n; INSERT INTO cats SELECT n, 'x', 1 FROM generate_series(21, 40) AS n",
        ),
    ] {
        let source = source(&database, &map(table, key, "", more));
        let mark = low_water(&source).await;
        database.execute(inserts).await;
        let all: Vec<i64> = (1..=40).collect();
        let (found, mark) = changes(&source, &mark).await;
        assert_eq!(ids(&found), all, "{table}");
        quiet(&source, mark).await;
        let (found, pages, _) = read_all(&source, ReadFrom::Rows(None)).await;
        assert_eq!((ids(&found), pages), (all, 6), "{table}");
    }
}

#[tokio::test]
async fn a_record_is_the_row_to_the_last_digit() {
    let database = filled(
        "CREATE TYPE mood AS ENUM ('good');
         CREATE TABLE everything (id bigint PRIMARY KEY, exact numeric, money numeric(20,4), double double precision, single real,
           flag boolean, word text, padded char(4), uid uuid, day date, hour time, moment timestamptz, local timestamp,
           raw bytea, tree json, treeb jsonb, m mood, list int[], nothing text, span interval);
         INSERT INTO everything VALUES (9223372036854775807, 12345678901234567890.12345678901234567890, 10.5000, 0.1, 0.1,
           true, E'it''s \"q\" \\\\ \\n \\u00e4', 'ab', '6d81597f-0f9f-e711-8122-000d3aa2331c', '2026-02-03', '01:02:03.000004',
           '2026-01-02 03:04:05.678901+02', '2026-01-02 03:04:05', '\\x00ff10', '{\"b\": 1.10,\n \"a\":2}', '{\"b\":1.10}', 'good', '{1,2}', NULL, '1 day 02:00');
         INSERT INTO everything (id, raw) VALUES (1, decode(repeat('ab', 100), 'hex'))",
    )
    .await;
    database
        .execute(&format!(
            "ALTER DATABASE {} SET timezone = 'America/New_York'",
            database.name()
        ))
        .await;
    let source = source(&database, &map("everything", &["id"], "", ""));
    let page = source.read(ReadFrom::Rows(None), None).await.unwrap();
    let text = std::str::from_utf8(&page.records[1].raw).unwrap();
    for part in [
        r#""id":9223372036854775807,"#,
        r#""exact":12345678901234567890.12345678901234567890,"#,
        r#""money":10.5000,"#,
        r#""double":0.1,"#,
        r#""single":0.1,"#,
        r#""flag":true,"#,
        r#""word":"it's \"q\" \\ \n ä","#,
        r#""padded":"ab  ","#,
        r#""uid":"6d81597f-0f9f-e711-8122-000d3aa2331c","#,
        r#""day":"2026-02-03","#,
        r#""hour":"01:02:03.000004","#,
        r#""moment":"2026-01-02T01:04:05.678901+00:00","#,
        r#""local":"2026-01-02T03:04:05","#,
        r#""raw":"AP8Q","#,
        "\"tree\":{\"b\": 1.10,\n \"a\":2},",
        r#""treeb":{"b": 1.10},"#,
        r#""m":"good","#,
        r#""list":[1,2],"#,
        r#""nothing":null,"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // Long bytes are one line of base64.
    let long: Value = serde_json::from_slice(&page.records[0].raw).unwrap();
    let long = long["raw"].as_str().unwrap();
    assert_eq!((long.len(), long.contains('\n')), (136, false));
    let schema = source.describe().await.unwrap();
    assert_eq!(schema.key, ["id"]);
    let field = |name: &str| {
        schema
            .fields
            .iter()
            .find(|field| field.name == name)
            .unwrap()
    };
    assert_eq!(
        field("money").ty.map(|ty| ty.to_string()).as_deref(),
        Some("decimal(20,4)")
    );
    assert_eq!(
        (field("id").nullable, field("word").nullable),
        (false, true)
    );
    assert_eq!(field("span").ty, None);
}
