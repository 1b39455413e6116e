//! The main job into PostgreSQL.

use local::deliver_visible;
use model::MapState;
use sample_crm::{SampleCrm, Set};
use serde_json::json;
use test_postgres::TestDatabase;

use crate::support::{
    DEMO, Deployment, Project, assert_equal_on_server as assert_equal, crm, name, notify,
    on_server, server_differences as differences,
};

/// The demo's maps with a database as their warehouse.
fn project(crm: &SampleCrm, database: &TestDatabase) -> Project {
    on_server(&DEMO.replace("{url}", &crm.url()), database)
}

#[tokio::test]
async fn a_load_a_pull_a_webhook_and_a_pause_leave_the_warehouse_equal() {
    let (crm, database) = (crm(300, 0).await, TestDatabase::create().await);
    let deployment = Deployment::open(project(&crm, &database));
    deployment.load_all().await;
    assert_equal(&crm, &database).await;

    let account = crm.keys(Set::Accounts)[7].clone();
    crm.write(Set::Accounts, &account, &json!({ "Name": "By webhook" }));
    notify(&deployment, &crm, Set::Accounts, &account).await;
    let contact = crm.keys(Set::Contacts)[3].clone();
    assert!(crm.delete(Set::Contacts, &contact));
    notify(&deployment, &crm, Set::Contacts, &contact).await;
    deployment.settle().await;
    assert_equal(&crm, &database).await;

    let orders = crm.keys(Set::Orders);
    crm.write(
        Set::Orders,
        &orders[0],
        &json!({ "Status": "paid", "Total": 0.1 }),
    );
    assert!(crm.delete(Set::Orders, &orders[1]));
    assert!(!differences(&crm, &database).await.is_empty());
    deployment.pull(&["accounts", "contacts", "orders"]).await;
    assert_equal(&crm, &database).await;

    let operations = &deployment.home.operations;
    operations
        .pause(&name("accounts"), "inventory")
        .await
        .unwrap();
    for change in 0..10 {
        crm.write(
            Set::Accounts,
            &account,
            &json!({ "Name": format!("Name {change}") }),
        );
        notify(&deployment, &crm, Set::Accounts, &account).await;
    }
    deployment.settle().await;
    assert!(!differences(&crm, &database).await.is_empty());
    operations.resume(&name("accounts")).await.unwrap();
    deployment.run_dry().await;
    assert_eq!(deployment.state("accounts").await, MapState::Running);
    assert_equal(&crm, &database).await;
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_reload_writes_no_equal_row_and_deletes_what_is_gone() {
    let (crm, database) = (crm(60, 0).await, TestDatabase::create().await);
    let deployment = Deployment::open(project(&crm, &database));
    deployment.load_all().await;
    let orders = crm.keys(Set::Orders);
    crm.write(Set::Orders, &orders[2], &json!({ "Status": "changed" }));
    assert!(crm.delete(Set::Orders, &orders[5]));
    let states = "SELECT order_no, xmin FROM orders ORDER BY order_no";
    let before = database.query(states).await;
    deployment.load(&["orders"]).await;
    let after = database.query(states).await;
    let kept = before.iter().filter(|row| after.contains(row)).count();
    assert_eq!((before.len(), kept, after.len()), (20, 18, 19));
    assert_equal(&crm, &database).await;
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn bad_rows_end_as_failures_and_are_repaired() {
    let (crm, database) = (crm(300, 0).await, TestDatabase::create().await);
    let deployment = Deployment::open(project(&crm, &database));
    // Something that only the database knows of.
    for map in deployment.home.definition.maps.keys() {
        deployment.home.operations.load(map).await.unwrap();
    }
    while deliver_visible(&deployment.home).await > 0 {
        let made = "SELECT to_regclass('orders') IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM pg_constraint WHERE conname = 'cheap')";
        if database.query(made).await == [["t"]] {
            let check = "ALTER TABLE orders ADD CONSTRAINT cheap CHECK (total < 9000) NOT VALID";
            database.execute(check).await;
        }
    }
    deployment.run_dry().await;
    let dear = crm.rows(Set::Orders);
    let dear = dear
        .iter()
        .filter(|row| row["Total"].as_f64() >= Some(9_000.0));
    let dear = dear.count();
    assert!(dear > 0, "no order is dear enough");
    let failures = deployment.failures("orders").await;
    assert_eq!(failures.len(), dear);
    let refused = |failure: &model::Failure| failure.cause.code == "check-violation";
    assert!(failures.iter().all(refused), "{failures:?}");
    deployment.assert_balanced().await;
    database
        .execute("ALTER TABLE orders DROP CONSTRAINT cheap")
        .await;
    let all = operations::Selection::Matching(ports::FailureFilter {
        map: Some(name("orders")),
        ..ports::FailureFilter::unresolved()
    });
    deployment
        .home
        .operations
        .retry_failures(&all)
        .await
        .unwrap();
    deployment.run_dry().await;
    assert_eq!(deployment.failures("orders").await, []);
    assert_equal(&crm, &database).await;
    deployment.assert_balanced().await;
}

/// Orders in a database, mirrored in another schema of it. A row with `gone` is a deleted one.
const MIRROR: &str = "\
connections:
  shop: { kind: postgres, url: secret://shop }
maps:
  orders:
    from: { stream: shop.shop.orders, key: [company, no], version: changed, deleted: src.gone }
    to: { stream: shop.mirror.orders, key: [company, no] }
    fields: { company: company, no: no, total: total, placed: placed, changed: changed, ticket: ticket, scan: scan, tags: tags }
    pull: { every: 5m }
    load: { slices: 4 }
    webhook: { endpoint: crm, scheme: standard, secret: secret://crm-hook, mode: touch }
";

const SHOP: &str = "
    CREATE SCHEMA shop;
    CREATE TABLE shop.orders (
        company text, no bigint, total numeric(18,4), placed date, changed timestamptz NOT NULL DEFAULT now(),
        ticket uuid NOT NULL DEFAULT gen_random_uuid(), scan bytea, tags jsonb, gone boolean NOT NULL DEFAULT false,
        PRIMARY KEY (company, no));
    INSERT INTO shop.orders (company, no, total, placed, scan, tags)
    SELECT 'c' || n % 3, n, n / 7.0, '2026-01-01'::date + n % 365, decode(md5(n::text), 'hex'), jsonb_build_object('n', n)
    FROM generate_series(1, 500) AS n;";

/// Rows that are only in one of the two.
async fn strays(database: &TestDatabase) -> Vec<Vec<String>> {
    let columns = "company, no, total, placed, changed, ticket, scan, tags";
    let shop = format!("SELECT {columns} FROM shop.orders WHERE NOT gone");
    let mirror = format!("SELECT {columns} FROM mirror.orders");
    let sql = format!("({shop} EXCEPT {mirror}) UNION ALL ({mirror} EXCEPT {shop})");
    database.query(&sql).await
}

#[tokio::test]
async fn a_database_is_read_whole_and_no_change_is_missed() {
    let none = Vec::<Vec<String>>::new();
    let database = TestDatabase::create().await;
    database.execute(SHOP).await;
    let project = Project::new(MIRROR);
    project.secret("shop", &database.url());
    let deployment = Deployment::open(project);
    // A transaction that began before the load and ends after the first pull.
    let late = database.client().await;
    let early = "BEGIN; INSERT INTO shop.orders (company, no, total) VALUES ('late', 1, 0.0001)";
    late.batch_execute(early).await.unwrap();
    deployment.load_all().await;
    assert_eq!(strays(&database).await, none);

    let changes = "UPDATE shop.orders SET total = total + 1, changed = now() WHERE no % 50 = 0;
        UPDATE shop.orders SET gone = true, changed = now() WHERE no % 77 = 0;
        INSERT INTO shop.orders (company, no) VALUES ('new', 1)";
    database.execute(changes).await;
    deployment.pull(&["orders"]).await;
    assert_eq!(strays(&database).await, none);
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(strays(&database).await.len(), 1);
    deployment.pull(&["orders"]).await;
    assert_eq!(strays(&database).await, none);

    // A webhook that only says that something has changed.
    database
        .execute(
            "UPDATE shop.orders SET total = 9, changed = now() WHERE company = 'c1' AND no = 1",
        )
        .await;
    let event = json!({ "company": "c1", "no": 1 });
    crate::support::send(&deployment, &event).await;
    deployment.settle().await;
    assert_eq!(strays(&database).await, none);

    // What leaves no trace is found by a load.
    database
        .execute("DELETE FROM shop.orders WHERE no BETWEEN 100 AND 103")
        .await;
    deployment.pull(&["orders"]).await;
    assert_eq!(strays(&database).await.len(), 4);
    deployment.load(&["orders"]).await;
    assert_eq!(strays(&database).await, none);
    deployment.assert_balanced().await;
}
