//! What a source reads: pages, slices, single records, and what it says of what does not fit.

use std::sync::Arc;

use bytes::Bytes;
use connector_postgres::{Database, PostgresSource};
use definition::{Limits, Map};
use model::{SliceRange, SourceMark};
use ports::Source as _;
use ports::{Next, ReadFrom, SourceError, SystemClock};
use serde_json::{Value, json};

use crate::source::{EVENTS, changes, filled, ids, low_water, map, quiet, read_all, source};

#[tokio::test]
async fn pages_in_the_order_of_the_key_give_every_row_once() {
    let database = filled(
        "CREATE TABLE lines (company text COLLATE \"C\", no int, note text, PRIMARY KEY (company, no));
         INSERT INTO lines SELECT 'c' || n % 7, n, CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END FROM generate_series(1, 100) AS n",
    )
    .await;
    let more = "    pull: { page_size: 9 }";
    let all = source(
        &database,
        &map("public.lines", &["company", "no"], "", more),
    );
    let (found, pages, mark) = read_all(&all, ReadFrom::Rows(None)).await;
    let mut numbers: Vec<i64> = found
        .iter()
        .map(|row| row["no"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!((numbers, pages), ((1..=100).collect(), 12));
    assert!(
        mark.is_some(),
        "a pull that began with all rows goes on with changes"
    );
    let condition = "      where: note = 'even' or note = 'none' -- half of them";
    let some = source(
        &database,
        &map("lines", &["company", "no"], condition, more),
    );
    assert_eq!(some.low_water().await.unwrap().rows, Some(50));
    assert_eq!(read_all(&some, ReadFrom::Rows(None)).await.0.len(), 50);
    let mark = quiet(&some, low_water(&some).await).await;
    database
        .execute("UPDATE lines SET note = note WHERE no <= 10")
        .await;
    let (found, _) = changes(&some, &mark).await;
    assert_eq!(found.len(), 5);
}

#[tokio::test]
async fn rows_without_a_key_are_read_to_fail_visibly() {
    let database = filled("CREATE TABLE t (id bigint UNIQUE, note text); INSERT INTO t VALUES (1, 'a'), (NULL, 'b'), (2, 'c'), (NULL, 'd')").await;
    let more = "    pull: { page_size: 2 }";
    let query = "      query: SELECT * FROM t;";
    for from in ["", query] {
        let source = source(&database, &map("t", &["id"], from, more));
        let (found, ..) = read_all(&source, ReadFrom::Rows(None)).await;
        let mut notes: Vec<&str> = found
            .iter()
            .map(|row| row["note"].as_str().unwrap())
            .collect();
        notes.sort_unstable();
        assert_eq!(notes, ["a", "b", "c", "d"], "{from}");
    }
}

#[tokio::test]
async fn slices_hold_every_row_once_and_about_as_many_each() {
    let database = filled(
        "CREATE TABLE t (id bigint PRIMARY KEY, uid uuid NOT NULL DEFAULT gen_random_uuid(), made timestamptz, code text NOT NULL, raw bytea NOT NULL);
         INSERT INTO t SELECT n * n, gen_random_uuid(), CASE WHEN n % 10 > 0 THEN '2026-01-01'::timestamptz + n % 50 * interval '1 day' END,
           'c' || n % 3, decode(lpad(to_hex(n), 4, '0'), 'hex') FROM generate_series(1, 1000) AS n;
         CREATE TABLE empty (id bigint PRIMARY KEY);",
    )
    .await;
    for (by, least) in [("id", 8), ("uid", 8), ("made", 7), ("code", 2), ("raw", 8)] {
        let more = format!("    load: {{ slices: 8, by: {by} }}\n    pull: {{ page_size: 30 }}");
        let map = map("t", &["id"], "", &more);
        let database = Database::open(&database.url(), None, Limits::default()).unwrap();
        // As little is selected as the map needs.
        let source = PostgresSource::new(database, Arc::new(SystemClock), &map, Some(vec!["id"]));
        let slices = source.slices(8).await.unwrap();
        assert!(
            slices.len() >= least && slices.len() <= 8,
            "{by}: {slices:?}"
        );
        let (mut all, mut largest) = (Vec::new(), 0);
        for slice in &slices {
            let (found, ..) = read_all(&source, ReadFrom::Rows(slice.as_ref())).await;
            largest = largest.max(found.len());
            all.extend(ids(&found));
        }
        all.sort_unstable();
        assert_eq!(all.len(), 1_000, "{by}");
        let expected: Vec<i64> = (1..=1000).map(|n| n * n).collect();
        assert_eq!(all, expected, "{by}");
        assert!(
            largest <= 2_500 / slices.len(),
            "{by}: {largest} rows in one slice"
        );
    }
    let empty = source(&database, &map("empty", &["id"], "", ""));
    assert_eq!(empty.slices(8).await.unwrap(), [None::<SliceRange>]);
    assert_eq!(
        read_all(&empty, ReadFrom::Rows(None)).await.0,
        Vec::<Value>::new()
    );
}

#[tokio::test]
async fn a_large_table_is_cut_by_a_sample() {
    let database = filled(
        "CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t SELECT n FROM generate_series(1, 150000) AS n; ANALYZE t",
    )
    .await;
    let source = source(&database, &map("t", &["id"], "", ""));
    let slices = source.slices(4).await.unwrap();
    assert_eq!(slices.len(), 4);
    let bounds: Vec<i64> = slices[1..]
        .iter()
        .map(|slice| {
            slice
                .as_ref()
                .unwrap()
                .from
                .as_ref()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    for (bound, even) in bounds.iter().zip([37_500, 75_000, 112_500]) {
        assert!((bound - even).abs() < 15_000, "{bounds:?}");
    }
}

#[tokio::test]
async fn single_records_are_read_by_their_keys() {
    let database = filled(
        "CREATE TABLE t (uid uuid, no int, note text, PRIMARY KEY (uid, no));
         INSERT INTO t VALUES ('6d81597f-0f9f-e711-8122-000d3aa2331c', 1, 'one'), ('6d81597f-0f9f-e711-8122-000d3aa2331c', 2, 'two'), ('6d81597f-0f9f-e711-8122-000d3aa2331c', 3, 'hidden')",
    )
    .await;
    let from = "      where: note <> 'hidden'";
    let source = source(&database, &map("t", &["uid", "no"], from, ""));
    let key =
        |uid: &str, no: i64| Bytes::from(json!({ "no": no, "uid": uid, "more": [1] }).to_string());
    let id = "6D81597F-0F9F-E711-8122-000D3AA2331C";
    let keys = [
        key(id, 2),
        key(id, 9),
        key("no uuid at all", 1),
        key(id, 3),
        key(id, 1),
        key(id, 2),
        key(id, 1 << 40),
    ];
    let found = source.fetch(&keys).await.unwrap();
    let notes: Vec<Option<String>> = found
        .iter()
        .map(|raw| {
            let record: Value = serde_json::from_slice(raw.as_ref()?).unwrap();
            Some(record["note"].as_str().unwrap().to_owned())
        })
        .collect();
    let (one, two) = (Some("one".to_owned()), Some("two".to_owned()));
    assert_eq!(notes, [two.clone(), None, None, None, one, two, None]);
    let error = source
        .fetch(&[Bytes::from("{\"no\":1}")])
        .await
        .unwrap_err();
    assert!(matches!(error, SourceError::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_no_record_that_is_gone() {
    let database = filled(
        "CREATE DOMAIN even AS integer CHECK (VALUE % 2 = 0);
         CREATE TABLE t (id even PRIMARY KEY, part integer, whole integer);
         INSERT INTO t VALUES (2, 1, 1), (4, 1, 0), (6, 1, 2)",
    )
    .await;
    let map = map("t", &["id"], "      where: part / whole >= 0", "");
    let source = source(&database, &map);
    let key = |id: &str| Bytes::from(json!({ "id": id }).to_string());
    let found = source
        .fetch(&[key("2"), key("two"), key("3"), key("9999999999"), key("6")])
        .await
        .unwrap();
    let found: Vec<bool> = found.iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, false, false, true]);
    let error = source
        .fetch(&[key("2"), key("two"), key("4")])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
}

#[tokio::test]
async fn versions_that_are_numbers_or_ahead_of_the_clock_lose_nothing() {
    let database = filled(
        "CREATE SEQUENCE versions;
         CREATE TABLE t (id bigint PRIMARY KEY, v bigint DEFAULT nextval('versions'), at timestamptz);
         CREATE VIEW seen AS SELECT * FROM t;
         INSERT INTO t VALUES (1, DEFAULT, '9999-12-31'), (2, DEFAULT, now()), (3, NULL, NULL)",
    )
    .await;
    let more = "    pull: { page_size: 2 }";
    let by_time = source(&database, &map("seen", &["id"], "      version: at", more));
    let by_number = source(&database, &map("seen", &["id"], "      version: v", more));
    let (time, number) = (low_water(&by_time).await, low_water(&by_number).await);
    database
        .execute(
            "INSERT INTO t SELECT n, nextval('versions'), now() FROM generate_series(4, 8) AS n",
        )
        .await;
    let (found, time) = changes(&by_time, &time).await;
    assert!((4..=8).all(|id| ids(&found).contains(&id)), "{found:?}");
    let (found, number) = changes(&by_number, &number).await;
    assert_eq!(ids(&found), [2, 4, 5, 6, 7, 8]);
    database
        .execute("UPDATE t SET at = now(), v = nextval('versions') WHERE id = 5")
        .await;
    assert!(ids(&changes(&by_time, &time).await.0).contains(&5));
    let (found, number) = changes(&by_number, &number).await;
    assert_eq!(ids(&found), [5, 8]);
    assert_eq!(ids(&changes(&by_number, &number).await.0), [5]);
}

#[tokio::test]
async fn a_map_that_changes_its_mode_goes_on_without_a_gap() {
    let database = filled(EVENTS).await;
    let version = "      version: changed";
    let auto = source(
        &database,
        &map("events", &["id"], version, "    pull: { overlap: 0s }"),
    );
    let cursor = source(
        &database,
        &map(
            "events",
            &["id"],
            version,
            "    pull: { mode: cursor, overlap: 0s }",
        ),
    );
    let mark = low_water(&auto).await;
    database.execute("INSERT INTO events VALUES (1)").await;
    // To the cursor: what came in between is still told by transactions.
    let (found, mark) = changes(&cursor, &mark).await;
    assert_eq!(ids(&found), [1]);
    assert!(mark.0.contains("version"), "{}", mark.0);
    database.execute("INSERT INTO events VALUES (2)").await;
    let (found, mark) = changes(&cursor, &mark).await;
    assert_eq!(ids(&found), [1, 2]);
    database.execute("INSERT INTO events VALUES (3)").await;
    let (found, mark) = changes(&auto, &mark).await;
    assert_eq!(ids(&found), [2, 3]);
    assert!(mark.0.contains("transaction"), "{}", mark.0);
    database.execute("INSERT INTO events VALUES (4)").await;
    assert!(ids(&changes(&auto, &mark).await.0).contains(&4));
    let delta = "    pull: { mode: delta }";
    let query = source(
        &database,
        &map(
            "events",
            &["id"],
            "      query: SELECT * FROM events",
            delta,
        ),
    );
    let error = query.describe().await.unwrap_err();
    assert!(error.to_string().contains("is no table"), "{error}");
}

#[tokio::test]
async fn rows_of_a_megabyte_do_not_fill_the_memory() {
    let database = filled(
        "CREATE TABLE t (id bigint PRIMARY KEY, note text);
         INSERT INTO t SELECT n, repeat('x', 1000000) FROM generate_series(1, 40) AS n",
    )
    .await;
    let source = source(&database, &map("t", &["id"], "", ""));
    let largest = async |from: ReadFrom<'_>| {
        let (mut found, mut largest, mut cursor) = (0, 0, None);
        loop {
            let page = source.read(from, cursor.as_deref()).await.unwrap();
            found += page.records.len();
            largest = largest.max(page.records.iter().map(|record| record.raw.len()).sum());
            match page.next {
                Next::Page(next) => cursor = Some(next),
                Next::End(_) => return (found, largest),
            }
        }
    };
    let (found, most) = largest(ReadFrom::Rows(None)).await;
    assert_eq!(found, 40);
    assert!(most < 10_000_000, "{most} bytes in a page");
    let mark = SourceMark(
        json!({ "by": "transaction", "from": 3, "history": serde_json::from_str::<Value>(&low_water(&source).await.0).unwrap()["history"] })
            .to_string(),
    );
    let (found, most) = largest(ReadFrom::Mark(&mark)).await;
    assert_eq!(found, 40);
    assert!(most < 10_000_000, "{most} bytes in a page");
}

#[tokio::test]
async fn what_does_not_fit_is_told_with_a_remedy() {
    let database = filled(EVENTS).await;
    let invalid = async |map: &Map| match source(&database, map)
        .read(ReadFrom::Rows(None), None)
        .await
    {
        Err(SourceError::Invalid { what }) => what,
        other => panic!("{other:?} where the map is wrong"),
    };
    let what = invalid(&map("nowhere", &["id"], "", "")).await;
    assert!(
        what.contains("nowhere") && what.contains("syncline check"),
        "{what}"
    );
    let what = invalid(&map("events", &["no"], "", "")).await;
    assert!(
        what.contains("has no column `no`: its columns are id, note, changed"),
        "{what}"
    );
    let what = invalid(&map("events", &["id"], "      where: nonsense", "")).await;
    assert!(what.contains("nonsense"), "{what}");
    let what = invalid(&map(
        "events",
        &["id"],
        "      where: \"id = 1); DROP TABLE events; SELECT (1\"",
        "",
    ))
    .await;
    assert!(what.contains("42601"), "{what}");
    assert_eq!(database.query("SELECT count(*) FROM events").await, [["0"]]);
    let nowhere = Database::open(
        "postgres://anna:s3cret@127.0.0.1:1/shop",
        None,
        Limits::default(),
    )
    .unwrap();
    let source = PostgresSource::new(
        nowhere,
        Arc::new(SystemClock),
        &map("events", &["id"], "", ""),
        None,
    );
    let error = source.describe().await.unwrap_err();
    assert!(
        matches!(error, SourceError::Unavailable { .. }),
        "{error:?}"
    );
}
