//! The main job: loads, live changes, pauses, deletes, re-loads.

use std::time::Duration;

use local::deliver_visible;
use model::{MapEvent, MapState, Outcome};
use operations::{Edit, Selection};
use ports::FailureFilter;
use sample_crm::Set;
use serde_json::{Value, json};

use crate::support::{
    Deployment, Project, assert_equal, crm, differences, name, notify, now, orders, send, signed,
    small_crm,
};

/// An order that is new.
fn order(total: f64) -> Value {
    json!({ "AccountId": null, "ContactId": null, "OrderDate": "2026-02-28", "Currency": "EUR", "Total": total, "Status": "open" })
}

#[tokio::test]
async fn a_load_brings_every_row_and_live_changes_follow() {
    let crm = crm(300, 0).await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    assert_equal(&crm, &deployment.project.warehouse());

    let account = crm.keys(Set::Accounts)[7].clone();
    crm.write(
        Set::Accounts,
        &account,
        &json!({ "Name": "By webhook", "CreditLimit": 50_000 }),
    );
    notify(&deployment, &crm, Set::Accounts, &account).await;
    let contact = crm.keys(Set::Contacts)[3].clone();
    assert!(crm.delete(Set::Contacts, &contact));
    notify(&deployment, &crm, Set::Contacts, &contact).await;
    deployment.settle().await;
    assert_equal(&crm, &deployment.project.warehouse());

    crm.write(
        Set::Orders,
        "100003",
        &json!({ "Status": "paid", "Total": 0.1 }),
    );
    crm.write(Set::Orders, "777777", &order(1.0));
    assert!(crm.delete(Set::Orders, "100004"));
    assert!(!differences(&crm, &deployment.project.warehouse()).is_empty());
    deployment.pull(&["accounts", "contacts", "orders"]).await;
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn whatever_changes_during_a_load_is_there_at_its_end() {
    let crm = crm(300, 0).await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    for map in deployment.home.definition.maps.keys() {
        deployment.home.operations.load(map).await.unwrap();
    }
    let mut step = 0;
    // One write of every kind between any two steps of the load.
    while deliver_visible(&deployment.home).await > 0 {
        let accounts = crm.keys(Set::Accounts);
        let told = accounts[step * 7 % accounts.len()].clone();
        crm.write(
            Set::Accounts,
            &told,
            &json!({ "Name": format!("Told at step {step}") }),
        );
        notify(&deployment, &crm, Set::Accounts, &told).await;
        let untold = accounts[step * 11 % accounts.len()].clone();
        crm.write(
            Set::Accounts,
            &untold,
            &json!({ "Name": format!("Untold at step {step}") }),
        );
        let contacts = crm.keys(Set::Contacts);
        assert!(crm.delete(Set::Contacts, &contacts[step % contacts.len()]));
        crm.write(Set::Orders, &(200_000 + step).to_string(), &order(5.0));
        step += 1;
        if step > 30 {
            break;
        }
    }
    assert!(step > 5, "the load has only {step} steps");
    deployment.run_dry().await;
    deployment.pull(&["accounts", "contacts", "orders"]).await;
    deployment.run_dry().await;
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_reload_finds_all_unchanged_and_writes_no_row() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let log = "CREATE TABLE writes (what TEXT);
        CREATE TRIGGER i AFTER INSERT ON orders BEGIN INSERT INTO writes VALUES ('insert'); END;
        CREATE TRIGGER u AFTER UPDATE ON orders BEGIN INSERT INTO writes VALUES ('update'); END;
        CREATE TRIGGER d AFTER DELETE ON orders BEGIN INSERT INTO writes VALUES ('delete'); END;";
    deployment.project.warehouse().execute_batch(log).unwrap();
    // The pull after the first load has looked at the newest row a second time.
    let before = deployment.books("orders").await.outcomes;
    deployment.load(&["orders"]).await;
    assert_eq!(
        deployment.query("SELECT * FROM writes"),
        Vec::<Vec<String>>::new()
    );
    let books = deployment.books("orders").await;
    assert_eq!(books.outcomes.applied, before.applied);
    assert_eq!(books.outcomes.unchanged, before.unchanged + 20);
    crm.write(Set::Orders, "100003", &json!({ "Status": "shipped!" }));
    deployment.load(&["orders"]).await;
    assert_eq!(deployment.query("SELECT * FROM writes"), [["update"]]);
    assert_equal(&crm, &deployment.project.warehouse());
}

#[tokio::test]
async fn a_reload_deletes_what_the_source_has_lost() {
    let crm = small_crm().await;
    // The CRM has no change tracking here, so a pull does not see deletes.
    let text = orders(
        &crm.url(),
        "pull: { every: 5m }",
        "pull: { every: 5m, mode: cursor }",
    );
    let deployment = Deployment::open(Project::new(&text));
    deployment.load_all().await;
    for key in ["100000", "100007", "100019"] {
        assert!(crm.delete(Set::Orders, key));
    }
    deployment.pull(&["orders"]).await;
    assert_eq!(deployment.query("SELECT count(*) FROM orders"), [["20"]]);
    deployment.load(&["orders"]).await;
    assert_eq!(deployment.query("SELECT count(*) FROM orders"), [["17"]]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_load_that_is_begun_anew_keeps_nothing_that_is_gone_by_then() {
    let crm = small_crm().await;
    let text = orders(
        &crm.url(),
        "pull: { every: 5m }",
        "pull: { every: 5m, mode: cursor }",
    );
    // Wherever the first load stands: its packs not yet sent, in a queue, or written.
    for step in 1..6 {
        let deployment = Deployment::open(Project::new(&text));
        let orders = name("orders");
        deployment.home.operations.load(&orders).await.unwrap();
        for _ in 0..step {
            deliver_visible(&deployment.home).await;
        }
        // What is still in a queue is parked, and released once the next load has ended.
        let reason = "its target".to_owned();
        let states = &deployment.home.functions.load.states;
        let broken = MapEvent::Break { reason };
        states.transition(&orders, broken).await.unwrap();
        deployment.settle().await;
        let gone = format!("{}", 100_000 + step);
        assert!(crm.delete(Set::Orders, &gone));
        deployment.home.operations.load(&orders).await.unwrap();
        deployment.run_dry().await;
        let left = (20 - step).to_string();
        let count = deployment.query("SELECT count(*) FROM orders");
        assert_eq!(count, [[left]], "after {step} steps of the first load");
        deployment.assert_balanced().await;
    }
}

#[tokio::test]
async fn a_load_that_finds_almost_nothing_deletes_nothing() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::new(&orders(&crm.url(), "", "")));
    deployment.load_all().await;
    for key in crm.keys(Set::Orders).iter().skip(3) {
        assert!(crm.delete(Set::Orders, key));
    }
    deployment.load(&["orders"]).await;
    assert_eq!(deployment.state("orders").await, MapState::Broken);
    let status = deployment
        .home
        .operations
        .map_status(&name("orders"))
        .await
        .unwrap();
    let reason = status.reason.unwrap();
    assert!(reason.contains("did not find 17 of 20 rows"), "{reason}");
    let told = deployment.home.store.alerts(usize::MAX).await.unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].subject(), "map orders is broken");
    assert_eq!(deployment.query("SELECT count(*) FROM orders"), [["20"]]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn an_expired_delta_link_means_a_full_read_and_no_deleted_row_stays() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    assert!(crm.delete(Set::Orders, "100002"));
    crm.write(Set::Orders, "100005", &json!({ "Status": "changed" }));
    crm.expire_deltas();
    deployment.pull(&["orders"]).await;
    deployment.run_dry().await;
    assert_equal(&crm, &deployment.project.warehouse());
    // The new mark is good.
    crm.write(Set::Orders, "100006", &json!({ "Status": "changed too" }));
    let pages = crm.pages_served(Set::Orders);
    deployment.pull(&["orders"]).await;
    assert_equal(&crm, &deployment.project.warehouse());
    assert_eq!(
        crm.pages_served(Set::Orders),
        pages + 1,
        "one page of changes is enough"
    );
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_paused_map_keeps_what_comes_and_goes_on_where_it_was() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let operations = &deployment.home.operations;
    operations
        .pause(&name("accounts"), "inventory")
        .await
        .unwrap();
    let key = crm.keys(Set::Accounts)[0].clone();
    for change in 0..40 {
        crm.write(
            Set::Accounts,
            &key,
            &json!({ "Name": format!("Name {change}") }),
        );
        notify(&deployment, &crm, Set::Accounts, &key).await;
    }
    let order = crm.keys(Set::Orders)[0].clone();
    crm.write(Set::Orders, &order, &json!({ "Status": "not paused" }));
    notify(&deployment, &crm, Set::Orders, &order).await;
    deployment.settle().await;
    let status = operations.map_status(&name("accounts")).await.unwrap();
    assert_eq!((status.state, status.parked.packs), (MapState::Paused, 40));
    let trace = operations.trace(&name("accounts"), &key).await.unwrap();
    assert!(
        trace.parked.len() == 40 && trace.answer.contains("the map is paused"),
        "{}",
        trace.answer
    );
    let other = crm.keys(Set::Accounts)[1].clone();
    let trace = operations.trace(&name("accounts"), &other).await.unwrap();
    assert!(trace.parked.is_empty() && trace.answer.starts_with("It is in the target"));
    assert_eq!(status.books.in_flight, 40, "what is parked is on its way");
    let paused: Vec<String> = differences(&crm, &deployment.project.warehouse());
    assert!(
        paused.iter().all(|line| !line.contains("not paused")),
        "a neighbour is not stopped"
    );

    deployment.pass(Duration::from_hours(24 * 30)).await;
    operations.resume(&name("accounts")).await.unwrap();
    deployment.run_dry().await;
    assert_eq!(deployment.state("accounts").await, MapState::Running);
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
    let books = deployment.books("accounts").await;
    assert_eq!(
        books.outcomes.applied + books.outcomes.superseded,
        60,
        "{books:?}"
    );
}

#[tokio::test]
async fn a_delivery_is_taken_once_and_its_copies_say_so() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::new(&orders(&crm.url(), "", "")));
    deployment.load_all().await;
    let before = deployment.books("orders").await.read;
    let event = json!({ "data": crm.row(Set::Orders, "100001").unwrap() });
    let (status, answer) = signed(&deployment, "msg_1", &event).await;
    assert_eq!(
        (status, &answer["accepted"], &answer["duplicates"]),
        (202, &json!(1), &json!(0))
    );
    // The sender's last attempt comes 75 hours after its first.
    for hours in [0, 24, 51] {
        deployment.clock.advance(Duration::from_hours(hours));
        let (status, answer) = signed(&deployment, "msg_1", &event).await;
        assert_eq!(
            (status, &answer["accepted"], &answer["duplicates"]),
            (202, &json!(0), &json!(1))
        );
    }
    deployment.settle().await;
    assert_eq!(deployment.books("orders").await.read, before + 1);
}

#[tokio::test]
async fn a_thin_webhook_is_read_from_the_source() {
    let crm = small_crm().await;
    let text = orders(&crm.url(), "record: data }", "record: data, mode: touch }");
    let deployment = Deployment::open(Project::new(&text));
    deployment.load_all().await;
    crm.write(Set::Orders, "100001", &json!({ "Status": "read again" }));
    send(&deployment, &json!({ "data": { "OrderNo": 100_001 } })).await;
    assert!(crm.delete(Set::Orders, "100002"));
    send(&deployment, &json!({ "data": { "OrderNo": 100_002 } })).await;
    deployment.settle().await;
    let found =
        deployment.query("SELECT order_no, status FROM orders WHERE order_no IN (100001, 100002)");
    assert_eq!(found, [["100001", "read again"]]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn deletes_can_mark_or_be_ignored() {
    let crm = small_crm().await;
    for (policy, expected) in [("mark", [["100002", "1"]]), ("ignore", [["100002", "0"]])] {
        let text = orders(
            &crm.url(),
            "pull: {",
            &format!("deletes: {policy}\n    pull: {{"),
        );
        let deployment = Deployment::open(Project::new(&text));
        crm.write(Set::Orders, "100002", &json!({ "Status": "to be deleted" }));
        deployment.load_all().await;
        assert!(crm.delete(Set::Orders, "100002"));
        deployment.pull(&["orders"]).await;
        let column = if policy == "mark" {
            "_syncline_deleted"
        } else {
            "0"
        };
        let found = deployment.query(&format!(
            "SELECT order_no, {column} FROM orders WHERE order_no = 100002"
        ));
        assert_eq!(found, expected, "{policy}");
        let books = deployment.books("orders").await;
        assert!(books.balanced());
        assert_eq!(
            books.outcomes.filtered,
            u64::from(policy == "ignore"),
            "{policy}: {books:?}"
        );
    }
}

#[tokio::test]
async fn a_record_that_leaves_the_filter_leaves_the_target() {
    let crm = small_crm().await;
    crm.write(Set::Orders, "100001", &json!({ "Status": "draft" }));
    let text = orders(
        &crm.url(),
        "pull: {",
        "filter: \"src.Status != 'draft'\"\n    pull: {",
    );
    let deployment = Deployment::open(Project::new(&text));
    deployment.load_all().await;
    assert_eq!(deployment.query("SELECT count(*) FROM orders"), [["19"]]);
    assert_eq!(deployment.books("orders").await.outcomes.filtered, 1);
    crm.write(Set::Orders, "100002", &json!({ "Status": "draft" }));
    crm.write(Set::Orders, "100001", &json!({ "Status": "open" }));
    deployment.pull(&["orders"]).await;
    let found = deployment.query("SELECT order_no FROM orders WHERE order_no IN (100001, 100002)");
    assert_eq!(found, [["100001"]]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn one_trace_tells_each_place_a_record_can_be_in() {
    let crm = crm(60, 3).await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let trace = async |key: &str| {
        deployment
            .home
            .operations
            .trace(&name("orders"), key)
            .await
            .unwrap()
    };
    assert_eq!(
        trace("100000").await.answer,
        "It is in the target, in the version that the source has."
    );
    crm.write(Set::Orders, "100000", &json!({ "Status": "newer" }));
    assert!(
        trace("100000")
            .await
            .answer
            .starts_with("The source has a newer version")
    );
    crm.write(Set::Orders, "333333", &order(2.0));
    assert!(
        trace("333333")
            .await
            .answer
            .starts_with("It is in the source and not yet in the target.")
    );
    assert_eq!(
        trace("444444").await.answer,
        "Neither the source nor the target has it."
    );
    let bad = deployment.failures("orders").await.remove(0);
    let answer = trace(&bad.key.clone().unwrap()).await.answer;
    assert!(
        answer.contains(&bad.id.to_string()) && answer.contains(&bad.cause.message),
        "{answer}"
    );
    let wrong = deployment
        .home
        .operations
        .trace(&name("orders"), "not a number")
        .await;
    assert!(wrong.unwrap_err().to_string().contains("not a number"));
}

#[tokio::test]
async fn outcomes_are_told_apart() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::new(&orders(&crm.url(), "", "")));
    deployment.load_all().await;
    let row = crm.row(Set::Orders, "100001").unwrap();
    let with = |changes: Value| {
        let mut row = row.clone();
        row.as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        json!({ "data": row })
    };
    let cases = [
        (Outcome::Unchanged, with(json!({}))),
        (
            Outcome::Superseded,
            with(json!({ "Status": "old", "ModifiedAt": "2001-01-01T00:00:00Z" })),
        ),
        (
            Outcome::Applied,
            with(json!({ "Status": "new", "ModifiedAt": now(&deployment) })),
        ),
        (
            Outcome::Failed,
            with(json!({ "Status": "x", "Total": "many", "ModifiedAt": now(&deployment) })),
        ),
    ];
    for (expected, event) in cases {
        let mut outcomes = deployment.books("orders").await.outcomes;
        send(&deployment, &event).await;
        deployment.settle().await;
        outcomes.add(expected, 1);
        assert_eq!(
            deployment.books("orders").await.outcomes,
            outcomes,
            "{event}"
        );
    }
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_failure_sent_round_again_does_not_bring_back_what_the_source_has_deleted() {
    let crm = crm(60, 3).await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    for failure in deployment.failures("orders").await {
        assert!(crm.delete(Set::Orders, &failure.key.unwrap()));
    }
    deployment.pull(&["orders"]).await;
    let all = Selection::Matching(FailureFilter {
        map: Some(name("orders")),
        ..FailureFilter::unresolved()
    });
    let operations = &deployment.home.operations;
    let correction = Edit::merge(r#"{"Currency":"EUR","Total":1}"#).unwrap();
    let edited = operations.edit_failures(&all, &correction).await;
    assert!(edited.unwrap().count > 0);
    operations.retry_failures(&all).await.unwrap();
    deployment.run_dry().await;
    assert_eq!(deployment.failures("orders").await, []);
    let orders = deployment.query("SELECT count(*) FROM orders");
    assert_eq!(orders, [[crm.keys(Set::Orders).len().to_string()]]);
    deployment.assert_balanced().await;
}
