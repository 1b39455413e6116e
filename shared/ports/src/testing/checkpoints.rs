//! What every checkpoint table has to do.

use crate::{CheckpointError, Checkpoints, Revision};

fn is_conflict<T>(result: &Result<T, CheckpointError>) -> bool {
    matches!(result, Err(CheckpointError::Conflict { .. }))
}

/// A record comes out as it went in.
pub async fn keeps_what_was_put<C: Checkpoints>(table: &C) {
    assert_eq!(table.get("map/a/state").await.expect("read"), None);
    let first = table
        .put("map/a/state", None, "{\"n\":\"ä\"}".into())
        .await
        .expect("put");
    let stored = table
        .get("map/a/state")
        .await
        .expect("read")
        .expect("a record");
    assert_eq!(
        (stored.value.as_str(), stored.revision),
        ("{\"n\":\"ä\"}", first)
    );
    let second = table
        .put("map/a/state", Some(first), "2".into())
        .await
        .expect("put");
    assert_ne!(first, second);
    assert_eq!(
        table
            .get("map/a/state")
            .await
            .expect("read")
            .expect("a record")
            .value,
        "2"
    );
}

/// A write on a revision that has passed does nothing.
pub async fn refuses_an_old_revision<C: Checkpoints>(table: &C) {
    let first = table.put("k", None, "1".into()).await.expect("put");
    assert!(is_conflict(&table.put("k", None, "again".into()).await));
    let second = table.put("k", Some(first), "2".into()).await.expect("put");
    assert!(is_conflict(
        &table.put("k", Some(first), "late".into()).await
    ));
    assert!(is_conflict(&table.delete("k", first).await));
    assert_eq!(
        table.get("k").await.expect("read").expect("a record").value,
        "2"
    );
    table.delete("k", second).await.expect("deleted");
    assert_eq!(table.get("k").await.expect("read"), None);
    assert!(is_conflict(
        &table.put("k", Some(second), "ghost".into()).await
    ));
}

/// A record that was deleted and made anew does not take writes meant for the former one.
pub async fn a_new_record_is_not_the_old_one<C: Checkpoints>(table: &C) {
    let first = table.put("k", None, "1".into()).await.expect("put");
    table.delete("k", first).await.expect("deleted");
    let anew = table.put("k", None, "2".into()).await.expect("put");
    assert_ne!(first, anew);
    assert!(is_conflict(&table.put("k", Some(first), "3".into()).await));
}

/// Of many writers on one revision exactly one wins.
pub async fn one_writer_wins<C: Checkpoints>(table: &C) {
    let start = table.put("k", None, "start".into()).await.expect("put");
    let race = (0..8).map(|i: u32| table.put("k", Some(start), i.to_string()));
    let results = futures_util::future::join_all(race).await;
    let wins: Vec<Revision> = results.into_iter().filter_map(Result::ok).collect();
    assert_eq!(wins.len(), 1);
    assert_eq!(
        table
            .get("k")
            .await
            .expect("read")
            .expect("a record")
            .revision,
        wins[0]
    );
}

/// Listing gives the records under a prefix in order, taken literally.
pub async fn lists_by_prefix<C: Checkpoints>(table: &C) {
    for key in ["map/a/2", "map/a/1", "map/a_b/1", "map/b/1", "map/a%"] {
        table.put(key, None, key.into()).await.expect("put");
    }
    let keys = async |prefix: &str| -> Vec<String> {
        table
            .list(prefix)
            .await
            .expect("list")
            .into_iter()
            .map(|(key, _)| key)
            .collect()
    };
    assert_eq!(keys("map/a/").await, ["map/a/1", "map/a/2"]);
    assert_eq!(keys("map/a%").await, ["map/a%"]);
    assert_eq!(keys("map/a_").await, ["map/a_b/1"]);
    assert_eq!(keys("map/c").await, [""; 0]);
}

/// Tests of the contract of [`Checkpoints`].
#[macro_export]
macro_rules! checkpoints_contract {
    ($make:expr) => {
        $crate::contract!(
            checkpoints,
            $make,
            [
                keeps_what_was_put,
                refuses_an_old_revision,
                a_new_record_is_not_the_old_one,
                one_writer_wins,
                lists_by_prefix,
            ]
        );
    };
}
