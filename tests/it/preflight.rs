//! What `syncline check` finds before anything runs.

use sample_crm::{Fault, SampleCrm};
use serde_json::Value;

use crate::support::{DEMO, Project, crm, run, small_crm};

/// The codes of what is found, with their paths.
async fn found(project: &Project) -> Vec<(String, String)> {
    let check = run(project, &["check", "--json"]).await.json();
    let text = |problem: &Value, name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let problems = check["problems"].as_array().unwrap();
    problems
        .iter()
        .map(|problem| (text(problem, "code"), text(problem, "path")))
        .collect()
}

fn demo(crm: &SampleCrm, from: &str, to: &str) -> Project {
    assert!(DEMO.contains(from), "the demo has no `{from}`");
    Project::new(&DEMO.replacen(from, to, 1).replace("{url}", &crm.url()))
}

fn one(code: &str, path: &str) -> Vec<(String, String)> {
    vec![(code.to_owned(), path.to_owned())]
}

#[tokio::test]
async fn a_good_project_has_nothing_said_of_it() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    let check = run(&project, &["check"]).await;
    assert_eq!((check.code, check.err.as_str()), (Some(0), ""));
    assert!(check.out.contains("is good"), "{}", check.out);
    // Nor once its tables are there.
    assert_eq!(run(&project, &["load", "--all"]).await.code, Some(0));
    assert_eq!(found(&project).await, []);
}

#[tokio::test]
async fn systems_that_cannot_be_asked_are_named_each() {
    let crm = small_crm().await;
    let project = demo(&crm, "url: warehouse.db", "url: nowhere/warehouse.db");
    project.define(
        &DEMO
            .replace("{url}", "http://127.0.0.1:9/odata")
            .replace("url: warehouse.db", "url: nowhere/warehouse.db"),
    );
    let mut expected = Vec::new();
    for map in ["accounts", "contacts", "orders"] {
        expected.extend(one(
            "system-unavailable",
            &format!("maps.{map}.from.stream"),
        ));
        expected.extend(one("system-unavailable", &format!("maps.{map}.to.stream")));
    }
    assert_eq!(found(&project).await, expected);
    let check = run(&project, &["check", "orders"]).await;
    assert_eq!(check.code, Some(3));
    assert!(
        check.err.contains("cannot be reached") && check.err.contains("does its folder exist?")
    );
}

#[tokio::test]
async fn what_the_source_refuses_is_found_before_a_load() {
    let crm = small_crm().await;
    let orders = "from: { stream: crm.Orders, key: OrderNo, version: ModifiedAt }";
    let with = |more: &str| demo(&crm, orders, &orders.replace(" }", more));
    let project = with(", where: \"Status equals 'open'\" }");
    let found_there = found(&project).await;
    assert!(
        found_there.contains(&one("bad-request", "maps.orders.from")[0]),
        "{found_there:?}"
    );
    let project = demo(&crm, "crm.Orders", "crm.Ordres");
    let check = run(&project, &["check", "orders"]).await;
    assert_eq!(check.code, Some(3));
    assert!(
        check.err.contains("Ordres") && check.err.contains("404"),
        "{}",
        check.err
    );
    crm.require_token("t");
    let project = Project::demo(&crm.url());
    let expected = ["accounts", "contacts", "orders"].map(|map| format!("maps.{map}.from"));
    assert_eq!(
        found(&project).await,
        expected.map(|path| ("system-refuses".to_owned(), path))
    );
}

#[tokio::test]
async fn what_would_fail_is_tried_on_the_first_records() {
    let crm = crm(60, 3).await;
    let project = Project::demo(&crm.url());
    let expected = [
        "accounts.fields.name",
        "contacts.fields.email",
        "orders.fields.currency",
    ];
    let expected = expected.map(|path| ("records-fail".to_owned(), format!("maps.{path}")));
    assert_eq!(found(&project).await, expected);
    let check = run(&project, &["check"]).await;
    assert_eq!(check.code, Some(0), "a warning is no error");
    assert!(
        check.err.contains("1 of the first 20 records fail"),
        "{}",
        check.err
    );
    let nothing = demo(
        &crm,
        "    load: { slices: 4 }",
        "    filter: src.Status == 'none'",
    );
    let last = found(&nothing).await.pop().unwrap();
    assert_eq!(last, one("filter-keeps-nothing", "maps.orders.filter")[0]);
    // A garbled page is trouble of the source, and no panic.
    crm.break_pages(Fault::Truncated, 3);
    assert_eq!(found(&project).await.len(), 3);
}

#[tokio::test]
async fn secrets_that_are_not_set_are_named_before_a_webhook_comes() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    std::fs::remove_file(project.file("secrets/crm-hook")).unwrap();
    let paths = ["accounts", "contacts", "orders"];
    let expected = paths.map(|map| {
        (
            "missing-secret".to_owned(),
            format!("maps.{map}.webhook.secret"),
        )
    });
    assert_eq!(found(&project).await, expected);
    let check = run(&project, &["check"]).await;
    assert!(
        check.err.contains("SYNCLINE_SECRET_CRM_HOOK"),
        "{}",
        check.err
    );
}

#[tokio::test]
async fn secrets_of_a_connection_are_named_where_it_is() {
    let crm = small_crm().await;
    let bearer = "url: {url}\n    auth: { bearer: secret://crm-token }";
    let project = Project::new(
        &DEMO
            .replace("url: {url}", bearer)
            .replace("{url}", &crm.url()),
    );
    assert_eq!(
        found(&project).await,
        one("missing-secret", "connections.crm.auth.bearer")
    );
    let check = run(&project, &["check"]).await;
    assert!(
        check.err.contains("SYNCLINE_SECRET_CRM_TOKEN") && check.err.contains("syncline.yaml:6"),
        "{}",
        check.err
    );
    let project = demo(
        &crm,
        "kind: sqlite\n    url: warehouse.db",
        "kind: postgres\n    url: secret://warehouse",
    );
    assert_eq!(
        found(&project).await,
        one("missing-secret", "connections.warehouse.url")
    );
}

#[tokio::test]
async fn a_table_that_is_somebody_elses_is_left_alone() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    project
        .warehouse()
        .execute_batch("CREATE TABLE orders (order_no INTEGER PRIMARY KEY, mine TEXT)")
        .unwrap();
    assert_eq!(
        found(&project).await,
        one("foreign-table", "maps.orders.to.stream")
    );
    // Nor does a load that nobody checked change it.
    let load = run(&project, &["load", "orders"]).await;
    assert_eq!(load.code, Some(1));
    assert!(
        load.err.contains("syncline did not make it"),
        "{}",
        load.err
    );
    let columns = project
        .warehouse()
        .prepare("SELECT * FROM orders")
        .unwrap()
        .column_count();
    assert_eq!(columns, 2);
}

#[tokio::test]
async fn a_table_that_has_changed_since_is_noticed() {
    let crm = small_crm().await;
    let project = demo(
        &crm,
        "to: { stream: warehouse.orders, key: order_no }",
        "to: { stream: warehouse.orders, key: order_no, existing: true }",
    );
    let table =
        "CREATE TABLE orders (order_no INTEGER PRIMARY KEY, account_id TEXT, contact_id TEXT,
        ordered_on DATE, currency TEXT, total DECIMAL(18,2), status TEXT)";
    project.warehouse().execute_batch(table).unwrap();
    assert_eq!(run(&project, &["load", "orders"]).await.code, Some(0));
    assert_eq!(found(&project).await, []);
    project
        .warehouse()
        .execute_batch("ALTER TABLE orders ADD COLUMN note TEXT")
        .unwrap();
    assert_eq!(
        found(&project).await,
        one("stale-schema", "maps.orders.to.stream")
    );
    assert_eq!(
        found(&project).await,
        [],
        "it is said once, and looked at anew"
    );
}
