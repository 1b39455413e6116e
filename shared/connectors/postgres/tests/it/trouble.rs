//! Servers that are down, stopped, full, read-only, or refuse.

use std::{io::Write as _, sync::Arc, time::Duration};

use connector_postgres::{Database, PostgresTarget};
use definition::Limits;
use model::{ErrorClass, Value};
use ports::{Clock, RowOutcome, TableSpec, Target, TargetError, testing::ManualClock};

use crate::support::{Bench, Row, batch, own, target_at, text, upserts};

fn things() -> TableSpec {
    own("things", &[("id", "bigint"), ("name", "text")])
}

fn thing(id: i64) -> Row {
    vec![Value::Int(id), text("x")]
}

async fn refused(target: &PostgresTarget, spec: &TableSpec) -> TargetError {
    let rows = batch(spec, &upserts(1, &[thing(9)]));
    target
        .write(spec, &rows)
        .await
        .expect_err("a server that refuses")
}

/// What a URL leads to when only a part of it is exchanged.
fn changed(url: &str, from: &str, to: &str) -> String {
    assert!(url.contains(from), "{url} has no {from}");
    url.replacen(from, to, 1)
}

#[tokio::test]
async fn a_session_that_is_killed_in_the_middle_is_an_outage_and_then_all_works_on() {
    let spec = things();
    let bench = Bench::new().await;
    bench.prepare(&spec).await;
    let lock = bench.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE things IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let rows = batch(&spec, &upserts(1, &[thing(1), thing(2)]));
    let write = bench.target.write(&spec, &rows);
    let kill = async {
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name = 'syncline' AND wait_event_type = 'Lock' AND datname = current_database()";
        while bench.database.query(kill).await[0][0] == "0" {
            tokio::task::yield_now().await;
        }
    };
    let (written, ()) = futures_util::future::join(write, kill).await;
    let error = written.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient);
    assert!(error.to_string().contains("57P01"), "{error}");
    lock.batch_execute("COMMIT").await.unwrap();
    assert_eq!(
        bench.database.query("SELECT count(*) FROM things").await,
        [["0"]]
    );
    let written = bench.target.write(&spec, &rows).await.unwrap();
    assert_eq!(written, vec![RowOutcome::Applied; 2]);
}

#[tokio::test]
async fn sessions_that_died_while_idle_are_made_anew() {
    let spec = things();
    let bench = Bench::new().await;
    bench.prepare(&spec).await;
    bench.upsert(&spec, 1, &[thing(1)]).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'syncline' AND datname = current_database()";
    assert_eq!(bench.database.query(kill).await, [["1"]]);
    let gone = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'syncline' AND datname = current_database()";
    while bench.database.query(gone).await[0][0] != "0" {
        tokio::task::yield_now().await;
    }
    // Whether it has been noticed already or not: at most one batch has to come again.
    let rows = batch(&spec, &upserts(2, &[thing(1)]));
    if let Err(error) = bench.target.write(&spec, &rows).await {
        assert_eq!(error.class(), ErrorClass::Transient, "{error}");
        bench.target.write(&spec, &rows).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_only_takes_reads_is_an_outage() {
    let spec = things();
    let bench = Bench::new().await;
    bench.prepare(&spec).await;
    let name = bench.database.name();
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    bench.database.execute(&set).await;
    let target = target_at(&bench.database.url());
    let error = refused(&target, &spec).await;
    assert_eq!(error.class(), ErrorClass::Transient, "{error}");
    assert!(error.to_string().contains("only takes reads"), "{error}");
    let reset = format!(
        "BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT"
    );
    bench.database.execute(&reset).await;
    let rows = batch(&spec, &upserts(1, &[thing(1)]));
    let target = target_at(&bench.database.url());
    assert_eq!(
        target.write(&spec, &rows).await.unwrap(),
        [RowOutcome::Applied]
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_outage_and_the_error_hides_the_password() {
    let nowhere = "postgres://anna:s3cret@127.0.0.1:1/sales";
    let error = refused(&target_at(nowhere), &things()).await;
    assert_eq!(error.class(), ErrorClass::Transient);
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1:1/sales") && text.contains("is it running"),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn wrong_credentials_a_wrong_database_and_missing_rights_are_told_apart() {
    let spec = things();
    let bench = Bench::new().await;
    bench.prepare(&spec).await;
    let url = bench.database.url();
    let error = refused(
        &target_at(&changed(&url, "postgres@", "nobody_there@")),
        &spec,
    )
    .await;
    assert_eq!(error.class(), ErrorClass::Auth, "{error}");
    let error = refused(&target_at(&format!("{url}_gone")), &spec).await;
    assert!(matches!(error, TargetError::Schema { .. }), "{error:?}");
    assert!(error.to_string().contains("make the database"), "{error}");
    let role = format!("guest_{}", bench.database.name());
    bench
        .database
        .execute(&format!("CREATE ROLE {role} LOGIN"))
        .await;
    let error = refused(
        &target_at(&changed(&url, "postgres@", &format!("{role}@"))),
        &spec,
    )
    .await;
    bench.database.execute(&format!("DROP ROLE {role}")).await;
    assert!(matches!(error, TargetError::Schema { .. }), "{error:?}");
    assert!(error.to_string().contains("the rights"), "{error}");
}

#[tokio::test]
async fn a_table_that_was_not_made_ready_is_said_to_be_so() {
    let bench = Bench::with("CREATE TABLE old (id bigint PRIMARY KEY, name text)").await;
    let error = refused(&bench.target, &things()).await;
    assert!(
        error.to_string().contains("there is no table `things`"),
        "{error}"
    );
    let old = crate::support::existing("old", &[("id", "bigint"), ("name", "text")]);
    let error = refused(&bench.target, &old).await;
    assert!(matches!(error, TargetError::Schema { .. }), "{error:?}");
}

#[tokio::test]
async fn what_waits_too_long_for_a_lock_is_an_outage() {
    let spec = things();
    let bench = Bench::new().await;
    bench.prepare(&spec).await;
    let lock = bench.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE things IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let limits = Limits {
        timeout: Duration::from_millis(300),
        concurrency: 1,
        ..Limits::default()
    };
    let target = PostgresTarget::new(Database::open(&bench.database.url(), None, limits).unwrap());
    let error = refused(&target, &spec).await;
    assert!(
        matches!(error, TargetError::Unavailable { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("limits.timeout"), "{error}");
    // With the only connection in use, the next one waits for it in vain.
    let rows = batch(&spec, &upserts(1, &[thing(1)]));
    let both =
        futures_util::future::join(target.write(&spec, &rows), refused(&target, &spec)).await;
    assert!(both.0.is_err());
    drop(lock);
    assert_eq!(
        target.write(&spec, &rows).await.unwrap(),
        [RowOutcome::Applied]
    );
}

#[tokio::test]
async fn a_batch_that_is_given_up_half_way_leaves_no_transaction_behind() {
    let spec = things();
    let bench = Bench::new().await;
    bench.prepare(&spec).await;
    let lock = bench.database.client().await;
    lock.batch_execute("BEGIN; LOCK TABLE things IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let rows = batch(&spec, &upserts(1, &[thing(1)]));
    let waits = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'syncline'
            AND wait_event_type = 'Lock' AND datname = current_database()";
        while bench.database.query(waits).await[0][0] == "0" {
            tokio::task::yield_now().await;
        }
    };
    // The caller goes away while the batch waits.
    let write = Box::pin(bench.target.write(&spec, &rows));
    match futures_util::future::select(write, Box::pin(waits)).await {
        futures_util::future::Either::Right(((), write)) => drop(write),
        futures_util::future::Either::Left((written, _)) => panic!("{written:?}"),
    }
    lock.batch_execute("COMMIT").await.unwrap();
    let newer = batch(&spec, &upserts(2, &[thing(1)]));
    assert_eq!(
        bench.target.write(&spec, &newer).await.unwrap(),
        [RowOutcome::Applied]
    );
    let found = bench
        .database
        .query("SELECT _syncline_version FROM things")
        .await;
    assert_eq!(found, [["2"]]);
}

#[tokio::test]
async fn tls_is_used_and_verified_as_the_url_says() {
    let bench = Bench::new().await;
    bench.prepare(&things()).await;
    let url = changed(&bench.database.url(), "127.0.0.1", "localhost");
    let mut authority = tempfile::NamedTempFile::new().unwrap();
    authority
        .write_all(test_postgres::AUTHORITY.as_bytes())
        .unwrap();
    let authority = authority.path().display();
    let used = async |url: &str| {
        let target = target_at(url);
        target.describe("things").await?;
        let used = "SELECT bool_or(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE application_name = 'syncline' AND datname = current_database() AND backend_start =
              (SELECT max(backend_start) FROM pg_stat_activity WHERE application_name = 'syncline' AND datname = current_database())";
        Ok::<_, TargetError>(bench.database.query(used).await[0][0] == "t")
    };
    for (mode, expected) in [
        ("sslmode=disable", false),
        ("sslmode=prefer", true),
        ("sslmode=require", true),
    ] {
        assert_eq!(
            used(&format!("{url}?{mode}")).await.unwrap(),
            expected,
            "{mode}"
        );
    }
    let verified = format!("sslrootcert={authority}&sslmode=verify-full");
    assert!(used(&format!("{url}?{verified}")).await.unwrap());
    let by_number = changed(&url, "localhost", "127.0.0.1");
    // The certificate is for localhost.
    let error = used(&format!("{by_number}?{verified}")).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let by_authority = format!("{by_number}?sslmode=verify-ca&sslrootcert={authority}");
    assert!(used(&by_authority).await.unwrap());
    // Its authority is not one of the system's.
    let error = used(&format!("{url}?sslmode=verify-full"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Transient);
    assert!(error.to_string().contains("sslrootcert"), "{error}");
}

#[tokio::test]
async fn a_declared_rate_is_kept_by_all_that_is_done() {
    let bench = Bench::new().await;
    let spec = things();
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store = embedded::Store::open(folder.path(), Arc::clone(&clock) as _).unwrap();
    let store = Arc::new(store);
    let limits = Limits {
        rate: Some(2.0),
        ..Limits::default()
    };
    let open = || {
        let rates = runtime::Rates::new(Arc::clone(&store) as _, Arc::clone(&clock) as _);
        let name = model::ConnectionName::new("warehouse").unwrap();
        let database = Database::open(&bench.database.url(), None, limits).unwrap();
        PostgresTarget::new(database.paced(runtime::Pace::new(name, limits.rate, rates)))
    };
    // Two processes share it.
    let (one, other) = (open(), open());
    one.prepare(&spec).await.unwrap();
    let began = clock.now();
    for at in 0..20 {
        let target = if at % 2 == 0 { &one } else { &other };
        let rows = batch(&spec, &upserts(at + 1, &[thing(1)]));
        assert_eq!(
            target.write(&spec, &rows).await.unwrap(),
            [RowOutcome::Applied]
        );
    }
    let took = clock.now().duration_since(began).as_secs_f64();
    assert!(
        (8.0..=11.0).contains(&took),
        "{took} s for 20 calls at 2 a second"
    );
}

#[tokio::test]
async fn more_tables_than_a_session_keeps_stages_for_are_written_all_the_same() {
    let bench = Bench::new().await;
    let limits = Limits {
        concurrency: 1,
        ..Limits::default()
    };
    let target = Database::open(&bench.database.url(), None, limits).unwrap();
    let target = PostgresTarget::new(target);
    // Each has other types, so each needs a stage of its own.
    let types = ["bigint", "text", "boolean", "date", "uuid", "json"];
    let specs: Vec<TableSpec> = (0..36)
        .map(|n| {
            let columns = [("id", "bigint"), ("a", types[n % 6]), ("b", types[n / 6])];
            own(&format!("t{n}"), &columns)
        })
        .collect();
    for spec in &specs {
        target.prepare(spec).await.unwrap();
    }
    for version in 1..3 {
        for spec in &specs {
            let row = vec![Value::Int(version), Value::Null, Value::Null];
            let rows = batch(spec, &upserts(version, &[row]));
            assert_eq!(
                target.write(spec, &rows).await.unwrap(),
                [RowOutcome::Applied]
            );
        }
    }
}
