//! Loads: in bulk, and what they find.

use model::{LoadMode, PackId, Rows, Value};
use uuid::Uuid;

use super::{Key, TargetFixture, batch, content, guard::Op, key, prepare, upsert, write};
use crate::{BulkPacks, Ownership, RowOutcome, TargetError, WriteBatch};

fn pack(id: u128) -> PackId {
    PackId::from_uuid(Uuid::from_u128(id))
}

fn one_pack(generation: u32, id: u128, rows: usize) -> BulkPacks {
    BulkPacks {
        generation,
        packs: vec![(pack(id), rows)],
    }
}

async fn write_bulk(
    fixture: &dyn TargetFixture,
    id: u128,
    writes: &[(Key, Op)],
) -> Vec<RowOutcome> {
    write_bulk_of(fixture, 1, id, writes).await
}

async fn write_bulk_of(
    fixture: &dyn TargetFixture,
    generation: u32,
    id: u128,
    writes: &[(Key, Op)],
) -> Vec<RowOutcome> {
    let bulk = WriteBatch {
        bulk: Some(one_pack(generation, id, writes.len())),
        found_in: Some(generation),
        ..batch(writes)
    };
    fixture
        .target()
        .write(fixture.spec(), &bulk)
        .await
        .expect("written")
}

/// A load into an empty table of Syncline's own may write in bulk, each pack once, and ends
/// with one row per key: the newest.
pub async fn a_bulk_load_ends_with_the_newest_row(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    let target = fixture.target();
    let mode = target.begin_load(fixture.spec(), 1).await.expect("begun");
    if fixture.spec().ownership == Ownership::Existing {
        assert_eq!(
            mode,
            LoadMode::Guarded,
            "an existing table must not lose its key"
        );
        return;
    }
    assert_eq!(mode, LoadMode::Bulk);
    assert_eq!(
        target
            .begin_load(fixture.spec(), 1)
            .await
            .expect("begun again"),
        LoadMode::Bulk
    );
    let first = [
        upsert("b", 1, 1, "old"),
        upsert("b", 2, 1, "same"),
        upsert("b", 3, 1, "x"),
    ];
    let second = [
        upsert("b", 1, 2, "new"),
        upsert("b", 2, 1, "same"),
        upsert("b", 3, 1, "y"),
    ];
    for _ in 0..2 {
        assert_eq!(
            write_bulk(fixture, 1, &first).await,
            vec![RowOutcome::Applied; 3]
        );
    }
    assert_eq!(
        write_bulk(fixture, 2, &second).await,
        vec![RowOutcome::Applied; 3]
    );
    let end = target.end_bulk(fixture.spec(), 1).await.expect("ended");
    assert_eq!((end.superseded, end.unchanged), (1, 2), "{end:?}");
    assert_eq!(end.ties, [[Value::Text("b".into()), Value::Int(3)]]);
    assert_eq!(
        target
            .end_bulk(fixture.spec(), 1)
            .await
            .expect("ended again")
            .superseded,
        0
    );
    assert_eq!(content(fixture, &key("b", 1)).await.as_deref(), Some("new"));
    assert_eq!(
        content(fixture, &key("b", 2)).await.as_deref(),
        Some("same")
    );
    // From here on the guard holds, for packs of the load that arrive late too.
    assert_eq!(
        write_bulk(fixture, 3, &[upsert("b", 1, 1, "late")]).await,
        [RowOutcome::Superseded]
    );
    assert_eq!(
        write(fixture, &[upsert("b", 1, 3, "live")]).await,
        [RowOutcome::Applied]
    );
    target.end_load(fixture.spec(), 1).await.expect("ended");
    let again = target.begin_load(fixture.spec(), 2).await.expect("begun");
    assert_eq!(
        again,
        LoadMode::Guarded,
        "a table with rows must not lose its key"
    );
}

/// What a bulk load brings of a row and of its deletion ends with the newer of the two, and
/// nothing that is older than it gets past the guard afterwards.
pub async fn what_a_bulk_load_deletes_stays_deleted(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    let target = fixture.target();
    if target.begin_load(fixture.spec(), 1).await.expect("begun") == LoadMode::Guarded {
        return;
    }
    let delete = |no: i64, version: i64| (key("del", no), Op::Delete(version));
    write_bulk(fixture, 1, &[upsert("del", 1, 1, "old"), delete(2, 5)]).await;
    write_bulk(fixture, 2, &[delete(1, 5), upsert("del", 2, 1, "old")]).await;
    write_bulk(fixture, 3, &[delete(3, 5), upsert("del", 4, 9, "newer")]).await;
    write_bulk(fixture, 4, &[delete(4, 5)]).await;
    target.end_bulk(fixture.spec(), 1).await.expect("ended");
    for no in 1..=3 {
        assert_eq!(content(fixture, &key("del", no)).await, None, "row {no}");
        assert_eq!(
            write(fixture, &[upsert("del", no, 3, "late")]).await,
            [RowOutcome::Superseded],
            "a late row came back: {no}"
        );
    }
    let newer = content(fixture, &key("del", 4)).await;
    assert_eq!(newer.as_deref(), Some("newer"));
    assert_eq!(
        write(fixture, &[upsert("del", 1, 6, "made anew")]).await,
        [RowOutcome::Applied]
    );
}

/// A bad row in a bulk load fails alone.
pub async fn a_bad_row_in_a_bulk_load_fails_alone(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    fixture
        .target()
        .begin_load(fixture.spec(), 1)
        .await
        .expect("begun");
    let writes: Vec<_> = (0..5).map(|no| upsert("bulkbad", no, 1, "fine")).collect();
    let mut batch = batch(&writes);
    batch.bulk = Some(one_pack(1, 9, 5));
    let mut rows = Rows::new(5);
    for (at, row) in batch.rows.iter().enumerate() {
        let cells = rows.push_empty();
        cells.clone_from_slice(row);
        if at == 2 {
            cells[2] = Value::Null;
        }
    }
    batch.rows = rows;
    for _ in 0..2 {
        let outcomes = fixture
            .target()
            .write(fixture.spec(), &batch)
            .await
            .expect("written");
        let failed: Vec<_> = outcomes
            .iter()
            .map(|o| matches!(o, RowOutcome::Failed(_)))
            .collect();
        assert_eq!(failed, [false, false, true, false, false], "{outcomes:?}");
    }
    fixture
        .target()
        .end_bulk(fixture.spec(), 1)
        .await
        .expect("ended");
    assert_eq!(
        content(fixture, &key("bulkbad", 1)).await.as_deref(),
        Some("fine")
    );
    assert_eq!(content(fixture, &key("bulkbad", 2)).await, None);
}

/// What a load did not bring is found, in order and page by page; what it brought is not,
/// even where nothing had to be written.
pub async fn a_load_finds_what_is_missing(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    let target = fixture.target();
    let all: Vec<_> = (0..6).map(|no| upsert("sweep", no, 5, "x")).collect();
    write(fixture, &all).await;
    write(fixture, &[(key("sweep", 5), Op::Delete(6))]).await;
    assert_eq!(
        target.begin_load(fixture.spec(), 7).await.expect("begun"),
        LoadMode::Guarded
    );
    let brought = [
        upsert("sweep", 0, 5, "x"),
        upsert("sweep", 3, 4, "older"),
        upsert("sweep", 9, 1, "new"),
    ];
    let load = WriteBatch {
        found_in: Some(7),
        ..batch(&brought)
    };
    target.write(fixture.spec(), &load).await.expect("written");
    target
        .write(fixture.spec(), &load)
        .await
        .expect("written again");
    let missing = async |after: Option<&[Value<'static>]>, limit: usize| {
        target
            .missing(fixture.spec(), 7, after, limit)
            .await
            .expect("counted")
    };
    let first = missing(None, 2).await;
    assert_eq!((first.rows, first.missing), (6, 3));
    let name = |no: i64| vec![Value::Text("sweep".into()), Value::Int(no)];
    assert_eq!(first.keys, [name(1), name(2)]);
    assert_eq!(missing(Some(&first.keys[1]), 2).await.keys, [name(4)]);
    target.end_load(fixture.spec(), 7).await.expect("ended");
    target
        .end_load(fixture.spec(), 7)
        .await
        .expect("ended again");
}

/// A bulk load that is begun anew brings what there is, and nothing of the one before stays.
pub async fn a_bulk_load_begins_with_nothing(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    let target = fixture.target();
    if target.begin_load(fixture.spec(), 1).await.expect("begun") == LoadMode::Guarded {
        return;
    }
    let first = [
        upsert("anew", 1, 1, "first"),
        upsert("anew", 2, 1, "gone"),
        (key("anew", 3), Op::Delete(9)),
    ];
    write_bulk_of(fixture, 1, 1, &first).await;
    for _ in 0..2 {
        let mode = target.begin_load(fixture.spec(), 2).await;
        assert_eq!(mode.expect("begun anew"), LoadMode::Bulk);
        // Begun by two workers, it keeps what it has brought meanwhile.
        let second = [
            upsert("anew", 1, 1, "second"),
            upsert("anew", 3, 1, "filtered no more"),
        ];
        assert_eq!(
            write_bulk_of(fixture, 2, 2, &second).await,
            vec![RowOutcome::Applied; 2]
        );
    }
    let late = [upsert("anew", 2, 1, "late"), upsert("anew", 1, 7, "late")];
    assert_eq!(
        write_bulk_of(fixture, 1, 3, &late).await,
        vec![RowOutcome::Superseded; 2],
        "a pack of the load that was given up was written"
    );
    let void = target.end_bulk(fixture.spec(), 1).await;
    assert!(
        matches!(void, Err(TargetError::Overtaken { .. })),
        "{void:?}"
    );
    let end = target.end_bulk(fixture.spec(), 2).await.expect("ended");
    assert_eq!((end.superseded, end.unchanged, end.ties.len()), (0, 0, 0));
    let names = ["second", "filtered no more"];
    for (no, expected) in [(1, Some(names[0])), (2, None), (3, Some(names[1]))] {
        let found = content(fixture, &key("anew", no)).await;
        assert_eq!(found.as_deref(), expected, "row {no}");
    }
    assert_eq!(
        write_bulk_of(fixture, 1, 4, &[upsert("anew", 2, 1, "late")]).await,
        [RowOutcome::Superseded]
    );
    assert_eq!(content(fixture, &key("anew", 2)).await, None);
}

/// Tombstones from before a load hold for it too.
pub async fn a_load_does_not_bring_back_what_was_deleted(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    let target = fixture.target();
    write(fixture, &[(key("tomb", 1), Op::Delete(9))]).await;
    target.begin_load(fixture.spec(), 1).await.expect("begun");
    // Given up, and begun anew.
    let mode = target.begin_load(fixture.spec(), 2).await.expect("begun");
    let writes = [upsert("tomb", 1, 3, "older"), upsert("tomb", 2, 3, "x")];
    if mode == LoadMode::Bulk {
        write_bulk_of(fixture, 2, 1, &writes).await;
        target.end_bulk(fixture.spec(), 2).await.expect("ended");
    } else {
        write(fixture, &writes).await;
    }
    assert_eq!(content(fixture, &key("tomb", 1)).await, None);
    let other = content(fixture, &key("tomb", 2)).await;
    assert_eq!(other.as_deref(), Some("x"));
}

/// The end of a load that comes after a newer one has begun neither ends that one nor takes
/// for missing what it has not brought yet.
pub async fn an_overtaken_load_ends_nothing(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    let target = fixture.target();
    let all: Vec<_> = (0..4).map(|no| upsert("void", no, 5, "x")).collect();
    write(fixture, &all).await;
    let bring = async |generation: u32, writes: &[(Key, Op)]| {
        let load = WriteBatch {
            found_in: Some(generation),
            ..batch(writes)
        };
        target.write(fixture.spec(), &load).await.expect("written");
    };
    target.begin_load(fixture.spec(), 7).await.expect("begun");
    bring(7, &all[..2]).await;
    target.begin_load(fixture.spec(), 8).await.expect("begun");
    bring(8, &all[2..]).await;
    match target.missing(fixture.spec(), 7, None, 10).await {
        Err(TargetError::Overtaken { .. }) => {}
        Ok(sweep) => assert_eq!(sweep.missing, 0, "{sweep:?}"),
        Err(error) => panic!("{error:?}"),
    }
    let void = |done: Result<(), TargetError>| match done {
        Ok(()) | Err(TargetError::Overtaken { .. }) => {}
        Err(error) => panic!("{error:?}"),
    };
    void(target.end_bulk(fixture.spec(), 7).await.map(drop));
    void(target.end_load(fixture.spec(), 7).await);
    // What is found for a load that is void does not count for the newer one.
    bring(7, &all[..1]).await;
    bring(8, &all[1..2]).await;
    let sweep = target.missing(fixture.spec(), 8, None, 10).await;
    let sweep = sweep.expect("counted");
    assert_eq!((sweep.rows, sweep.missing), (4, 1));
    assert_eq!(sweep.keys, [[Value::Text("void".into()), Value::Int(0)]]);
    target.end_load(fixture.spec(), 8).await.expect("ended");
}
