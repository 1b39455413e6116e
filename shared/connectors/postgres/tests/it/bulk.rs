//! Loads in bulk.

use model::{LoadMode, PackId, Value, Version};
use ports::{BulkPacks, Deletes, RowOp, RowOutcome, TableSpec, Target};

use crate::support::{Bench, Row, batch, cause, own, target_at, text, upserts};

pub(crate) fn pack(id: u128) -> PackId {
    PackId::from_uuid(uuid::Uuid::from_u128(id))
}

fn customers() -> TableSpec {
    own(
        "customers",
        &[("id", "bigint"), ("name", "text"), ("age", "integer")],
    )
}

fn customer(id: i64, age: i64) -> Row {
    vec![Value::Int(id), text("x"), Value::Int(age)]
}

pub(crate) fn first_load(packs: Vec<(PackId, usize)>) -> BulkPacks {
    let generation = 1;
    BulkPacks { generation, packs }
}

async fn write(
    bench: &Bench,
    spec: &TableSpec,
    packs: &[(u128, Vec<(RowOp, Row)>)],
) -> Vec<RowOutcome> {
    write_load(bench, spec, 1, packs).await
}

async fn write_load(
    bench: &Bench,
    spec: &TableSpec,
    generation: u32,
    packs: &[(u128, Vec<(RowOp, Row)>)],
) -> Vec<RowOutcome> {
    let mut writes = Vec::new();
    let mut ends = Vec::new();
    for (id, rows) in packs {
        writes.extend(rows.clone());
        ends.push((pack(*id), writes.len()));
    }
    let mut batch = batch(spec, &writes);
    batch.bulk = Some(BulkPacks {
        generation,
        packs: ends,
    });
    bench.target.write(spec, &batch).await.expect("written")
}

async fn begun(spec: &TableSpec) -> Bench {
    let bench = Bench::new().await;
    bench.prepare(spec).await;
    let mode = bench.target.begin_load(spec, 1).await.unwrap();
    assert_eq!(mode, LoadMode::Bulk);
    bench
}

#[tokio::test]
async fn a_pack_that_comes_again_writes_nothing_and_fails_the_same_rows() {
    let spec = customers();
    let bench = begun(&spec).await;
    // What the server alone can see.
    let check = "ALTER TABLE customers ADD CHECK (age >= 0)";
    bench.database.execute(check).await;
    let mut rows = upserts(1, &[customer(1, 1), customer(2, -2), customer(3, 3)]);
    rows[2].1[1] = text("a\0b");
    let other = upserts(1, &[customer(4, 4), customer(5, -5)]);
    let packs = [(1, rows.clone()), (2, other.clone())];
    let first = write(&bench, &spec, &packs).await;
    assert_eq!(first[0], RowOutcome::Applied);
    assert_eq!(cause(&first[1]).code, "check-violation");
    assert_eq!(cause(&first[2]).code, "invalid-character");
    assert_eq!(first[3], RowOutcome::Applied);
    assert_eq!(cause(&first[4]).code, "check-violation");
    assert_eq!(write(&bench, &spec, &packs).await, first);
    // In another order, with a new one between, and twice at once.
    let packs = [
        (2, other.clone()),
        (3, upserts(1, &[customer(6, 6)])),
        (1, rows),
        (2, other),
    ];
    let again = write(&bench, &spec, &packs).await;
    assert_eq!(again[..2], first[3..]);
    assert_eq!(again[2], RowOutcome::Applied);
    assert_eq!(again[3..6], first[..3]);
    assert_eq!(again[6..], first[3..]);
    bench.target.end_bulk(&spec, 1).await.unwrap();
    let found = bench
        .database
        .query("SELECT id FROM customers ORDER BY id")
        .await;
    assert_eq!(found, [["1"], ["4"], ["6"]]);
}

#[tokio::test]
async fn a_pack_that_two_workers_have_at_once_is_written_once() {
    let spec = customers();
    let bench = begun(&spec).await;
    let rows: Vec<Row> = (0..500).map(|id| customer(id, 1)).collect();
    let workers = (0..4).map(|_| async {
        let target = target_at(&bench.database.url());
        let mut batch = batch(&spec, &upserts(1, &rows));
        batch.bulk = Some(first_load(vec![(pack(1), 250), (pack(2), 500)]));
        target.write(&spec, &batch).await.unwrap()
    });
    for outcomes in futures_util::future::join_all(workers).await {
        assert_eq!(outcomes, vec![RowOutcome::Applied; 500]);
    }
    let end = bench.target.end_bulk(&spec, 1).await.unwrap();
    assert_eq!(end, ports::LoadEnd::default());
    let found = bench.database.query("SELECT count(*) FROM customers").await;
    assert_eq!(found, [["500"]]);
}

#[tokio::test]
async fn a_tombstone_of_the_load_buries_what_is_older_and_stays_for_what_comes_late() {
    for deletes in [Deletes::Propagate, Deletes::Mark] {
        let spec = TableSpec {
            deletes,
            ..customers()
        };
        let bench = begun(&spec).await;
        let delete = |id, version| {
            let version = Version(version);
            (RowOp::Delete { version }, vec![Value::Int(id)])
        };
        let mut rows = upserts(3, &[customer(1, 1), customer(2, 2), customer(3, 3)]);
        rows.extend([
            delete(1, 5),
            delete(1, 4),
            delete(2, 2),
            delete(3, 3),
            delete(4, 9),
        ]);
        let outcomes = write(&bench, &spec, &[(1, rows)]).await;
        assert_eq!(outcomes, vec![RowOutcome::Applied; 8], "{deletes:?}");
        let end = bench.target.end_bulk(&spec, 1).await.unwrap();
        assert_eq!((end.superseded, end.unchanged), (1, 0), "{deletes:?}");
        assert_eq!(end.ties, [[Value::Int(3)]], "{deletes:?}");
        let late = [customer(1, 0), customer(4, 0)];
        assert_eq!(
            bench.upsert(&spec, 4, &late).await,
            vec![RowOutcome::Superseded; 2],
            "{deletes:?}"
        );
        let rows = batch(&spec, &upserts(0, &[customer(1, 0), customer(2, 0)])).rows;
        let states = bench.target.look(&spec, &rows).await.unwrap();
        assert_eq!(
            (states[0].exists, states[0].version),
            (false, Some(Version(5)))
        );
        assert_eq!(
            (states[1].exists, states[1].version),
            (true, Some(Version(3)))
        );
    }
}

#[tokio::test]
async fn a_load_that_was_given_up_leaves_nothing_for_the_next_one() {
    let spec = customers();
    let bench = begun(&spec).await;
    write(
        &bench,
        &spec,
        &[(1, upserts(1, &[customer(1, 1), customer(2, 1)]))],
    )
    .await;
    assert_eq!(
        bench.target.begin_load(&spec, 2).await.unwrap(),
        LoadMode::Bulk
    );
    // Packs of the first load do not count as brought.
    let rows = upserts(2, &[customer(1, 2), customer(3, 1)]);
    write_load(&bench, &spec, 2, &[(1, rows)]).await;
    let end = bench.target.end_bulk(&spec, 2).await.unwrap();
    assert_eq!((end.superseded, end.unchanged), (0, 0));
    let found = bench
        .database
        .query("SELECT id, age FROM customers ORDER BY id")
        .await;
    assert_eq!(found, [["1", "2"], ["3", "1"]]);
    assert_eq!(
        bench
            .target
            .describe("customers")
            .await
            .unwrap()
            .unwrap()
            .key,
        ["id"]
    );
}

#[tokio::test]
async fn a_table_that_others_refer_to_keeps_its_key() {
    let spec = customers();
    let bench = Bench::new().await;
    bench.prepare(&spec).await;
    bench
        .database
        .execute("CREATE TABLE orders (customer bigint REFERENCES customers)")
        .await;
    assert_eq!(
        bench.target.begin_load(&spec, 1).await.unwrap(),
        LoadMode::Guarded
    );
    assert_eq!(
        bench.upsert(&spec, 1, &[customer(1, 1)]).await,
        [RowOutcome::Applied]
    );
}

#[tokio::test]
async fn what_goes_past_the_guard_during_a_bulk_load_is_not_lost() {
    let spec = customers();
    let bench = begun(&spec).await;
    write(
        &bench,
        &spec,
        &[(1, upserts(5, &[customer(1, 1), customer(2, 2)]))],
    )
    .await;
    let live = [customer(1, 10), customer(3, 30)];
    assert_eq!(
        bench.upsert(&spec, 6, &live).await,
        vec![RowOutcome::Applied; 2]
    );
    assert_eq!(
        bench.upsert(&spec, 4, &[customer(2, 0)]).await,
        [RowOutcome::Superseded]
    );
    write(&bench, &spec, &[(2, upserts(5, &[customer(3, 3)]))]).await;
    let end = bench.target.end_bulk(&spec, 1).await.unwrap();
    assert_eq!((end.superseded, end.unchanged), (1, 0));
    let found = bench
        .database
        .query("SELECT id, age FROM customers ORDER BY id")
        .await;
    assert_eq!(found, [["1", "10"], ["2", "2"], ["3", "30"]]);
}
