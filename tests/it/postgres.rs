//! The main job into PostgreSQL.

use local::deliver_visible;
use model::MapState;
use sample_crm::{SampleCrm, Set};
use serde_json::json;
use test_postgres::TestDatabase;

use crate::support::{DEMO, Deployment, Project, compare, crm, name, notify, query_of};

/// The demo's maps with a database as their warehouse.
fn project(crm: &SampleCrm, database: &TestDatabase) -> Project {
    let file = "kind: sqlite\n    url: warehouse.db";
    let server = "kind: postgres\n    url: secret://warehouse";
    assert!(DEMO.contains(file), "the demo has no warehouse in a file");
    let definition = DEMO.replace(file, server).replace("{url}", &crm.url());
    let project = Project::new(&definition);
    project.secret("warehouse", &database.url());
    project
}

/// Rows that are only in the source, or only in the target, or differ.
async fn differences(crm: &SampleCrm, database: &TestDatabase) -> Vec<String> {
    let mut found = Vec::new();
    for set in Set::ALL {
        // PostgreSQL shows all places of a decimal.
        let sql = query_of(set)
            .replace("credit_limit,", "credit_limit::double precision,")
            .replace("total,", "total::double precision,");
        found.extend(compare(set, crm, database.query(&sql).await));
    }
    found
}

async fn assert_equal(crm: &SampleCrm, database: &TestDatabase) {
    let found = differences(crm, database).await;
    assert!(
        found.is_empty(),
        "{} differences: {:#?}",
        found.len(),
        &found[..found.len().min(10)]
    );
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
