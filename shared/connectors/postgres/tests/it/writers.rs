//! Many writers at once.

use std::collections::HashMap;

use model::{Value, Version};
use ports::{Ownership, RowOp, RowOutcome, Target};

use crate::support::{Bench, Row, batch, spec, target_at, text};

/// Batches of the same keys in different orders, deletes among them: the newest stays, and
/// no two wait for each other until the server breaks it up.
#[tokio::test]
async fn the_newest_of_each_key_stays_whatever_the_order_of_keys_and_writers() {
    for ownership in [Ownership::Own, Ownership::Existing] {
        let bench = Bench::with("CREATE TABLE old (id bigint PRIMARY KEY, name text)").await;
        let name = if ownership == Ownership::Own {
            "new"
        } else {
            "old"
        };
        let spec = spec(name, ownership, &[("id", "bigint"), ("name", "text")]);
        bench.prepare(&spec).await;
        let mut random = fastrand::Rng::with_seed(11);
        let mut newest: HashMap<i64, (i64, bool)> = HashMap::new();
        let mut plans: Vec<Vec<Vec<(RowOp, Row)>>> = Vec::new();
        let mut versions: Vec<i64> = (0..8 * 12 * 40).collect();
        random.shuffle(&mut versions);
        for _ in 0..8 {
            let mut batches = Vec::new();
            for _ in 0..12 {
                let mut keys: Vec<i64> = (0..40).collect();
                random.shuffle(&mut keys);
                let mut writes = Vec::new();
                for key in keys {
                    let version = versions.pop().unwrap();
                    let delete = random.u8(..4) == 0;
                    let best = newest.entry(key).or_insert((version, delete));
                    if version > best.0 {
                        *best = (version, delete);
                    }
                    let version = Version(version);
                    writes.push(if delete {
                        (RowOp::Delete { version }, vec![Value::Int(key)])
                    } else {
                        let name = text(&version.0.to_string());
                        (RowOp::Upsert { version }, vec![Value::Int(key), name])
                    });
                }
                batches.push(writes);
            }
            plans.push(batches);
        }
        let writers = plans.into_iter().map(|batches| {
            let target = target_at(&bench.database.url());
            let spec = &spec;
            async move {
                for writes in batches {
                    let outcomes = target.write(spec, &batch(spec, &writes)).await.unwrap();
                    let odd = outcomes
                        .iter()
                        .find(|outcome| matches!(outcome, RowOutcome::Failed(_) | RowOutcome::Tie));
                    assert_eq!(odd, None);
                }
            }
        });
        futures_util::future::join_all(writers).await;
        let mut expected: Vec<Vec<String>> = newest
            .iter()
            .filter(|(_, (_, deleted))| !deleted)
            .map(|(key, (version, _))| vec![key.to_string(), version.to_string()])
            .collect();
        expected.sort();
        let found = bench
            .database
            .query(&format!(
                "SELECT id::text, name FROM {name} ORDER BY id::text COLLATE \"C\""
            ))
            .await;
        assert_eq!(found, expected, "{ownership:?}");
        let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        assert_eq!(bench.database.query(deadlocks).await, [["0"]]);
    }
}

/// Another program that locks rows in its own order makes a deadlock now and then: the batch
/// that loses is tried again.
#[tokio::test]
async fn a_batch_that_loses_a_deadlock_is_tried_again() {
    let bench = Bench::with("CREATE TABLE old (id bigint PRIMARY KEY, name text); INSERT INTO old VALUES (1, ''), (2, '')").await;
    let spec = spec(
        "old",
        Ownership::Existing,
        &[("id", "bigint"), ("name", "text")],
    );
    bench.prepare(&spec).await;
    // So the other one is the one that waits longer, and Syncline's is broken up.
    let other = bench.database.client().await;
    other
        .batch_execute(
            "SET deadlock_timeout = '1h'; BEGIN; UPDATE old SET name = 'theirs' WHERE id = 2",
        )
        .await
        .unwrap();
    let rows = [
        vec![Value::Int(1), text("a")],
        vec![Value::Int(2), text("b")],
    ];
    let write = bench.upsert(&spec, 1, &rows);
    let meet = async {
        // Syncline has updated row 1 when it waits for row 2.
        let waits =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
        while bench.database.query(waits).await[0][0] == "0" {
            tokio::task::yield_now().await;
        }
        other
            .batch_execute("UPDATE old SET name = 'theirs' WHERE id = 1; COMMIT")
            .await
            .unwrap();
    };
    let (outcomes, ()) = futures_util::future::join(write, meet).await;
    assert_eq!(outcomes, vec![RowOutcome::Applied; 2]);
    let found = bench
        .database
        .query("SELECT name FROM old ORDER BY id")
        .await;
    assert_eq!(found, [["a"], ["b"]]);
}
