//! Invocations that have more to do than time for it.

use std::time::Duration;

use local::deliver_visible;
use ports::{Consumer, FailureFilter, Failures, Outgoing, Queue};
use sample_crm::Set;
use serde_json::json;

use crate::support::{
    Deployment, Project, assert_equal, differences_of, name, notify, orders, small_crm,
};

#[tokio::test]
async fn a_slow_target_keeps_no_other_one_waiting_and_gets_all_in_the_end() {
    let crm = small_crm().await;
    let mut deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let other = deployment.switch_targets(&["orders"]);
    let switch = deployment.switch_targets(&["accounts"]);
    switch.let_pass(&other);
    switch.slow(&deployment.clock, Duration::from_secs(4));
    for key in crm.keys(Set::Accounts) {
        crm.write(Set::Accounts, &key, &json!({ "Name": "slowly" }));
        notify(&deployment, &crm, Set::Accounts, &key).await;
    }
    let key = crm.keys(Set::Orders)[0].clone();
    crm.write(Set::Orders, &key, &json!({ "Status": "told" }));
    notify(&deployment, &crm, Set::Orders, &key).await;
    // One invocation takes all of it, and ends although most of it is not done.
    deliver_visible(&deployment.home).await;
    assert!(switch.calls() <= 3, "{} calls", switch.calls());
    assert!(differences_of(Set::Orders, &crm, &deployment.project.warehouse()).is_empty());
    for _ in 0..5 {
        deliver_visible(&deployment.home).await;
    }
    // What nobody has begun with does not count as tried.
    let store = &deployment.home.store;
    let left = store.receive(model::QueueName::Live, 100, Duration::from_secs(1));
    let left = left.await.unwrap();
    assert!(left.len() > 5, "{} are left", left.len());
    assert!(left.iter().all(|message| message.receives == 1), "{left:?}");
    deployment.run_dry().await;
    assert_equal(&crm, &deployment.project.warehouse());
    assert_eq!(deployment.failures("accounts").await, []);
    deployment.assert_balanced().await;
}

/// Maps of one row of orders each.
const MANY: [&str; 6] = ["one", "two", "three", "four", "five", "six"];

#[tokio::test]
async fn of_many_slow_maps_those_that_have_no_turn_in_time_are_as_if_nobody_had_seen_them() {
    let crm = small_crm().await;
    let text = orders(
        &crm.url(),
        "{ stream: warehouse.orders",
        "{ stream: warehouse.orders",
    );
    let (head, map) = text.split_once("  orders:").unwrap();
    let map = format!("  orders:{map}");
    let maps = MANY.map(|name| map.replace("orders", name)).concat();
    let mut deployment = Deployment::open(Project::new(&format!("{head}{maps}")));
    deployment.load_all().await;
    let switch = deployment.switch_targets(&MANY);
    switch.slow(&deployment.clock, Duration::from_mins(1));
    let key = crm.keys(Set::Orders)[0].clone();
    crm.write(Set::Orders, &key, &json!({ "Status": "told" }));
    notify(&deployment, &crm, Set::Orders, &key).await;
    let told = || {
        let has = |name: &&&str| {
            let row = format!("SELECT 1 FROM {name} WHERE status = 'told'");
            deployment.query(&row).len() == 1
        };
        MANY.iter().filter(has).count()
    };
    deliver_visible(&deployment.home).await;
    let first = told();
    assert!((1..=4).contains(&first), "{first} of them have had a turn");
    assert_eq!(switch.calls(), first);
    let store = &deployment.home.store;
    let left = store.receive(model::QueueName::Live, 100, Duration::from_secs(1));
    let left = left.await.unwrap();
    assert_eq!(left.len(), MANY.len() - first);
    assert!(left.iter().all(|message| message.receives == 1), "{left:?}");
    deployment.run_dry().await;
    assert_eq!(told(), MANY.len());
    deployment.assert_balanced().await;
}

/// Of very large records not all are opened at once.
#[tokio::test]
async fn what_has_not_been_opened_when_time_is_up_stays_as_it_is() {
    let crm = small_crm().await;
    let mut deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let switch = deployment.switch_targets(&["orders"]);
    switch.slow(&deployment.clock, Duration::from_mins(1));
    let keys = crm.keys(Set::Orders);
    let change = async |key: &str, status: String| {
        crm.write(Set::Orders, key, &json!({ "Status": status }));
        notify(&deployment, &crm, Set::Orders, key).await;
    };
    let (live, second) = (model::QueueName::Live, Duration::from_secs(1));
    let store = &deployment.home.store;
    change(&keys[0], "has come back often".into()).await;
    for _ in 0..3 {
        assert_eq!(store.receive(live, 100, second).await.unwrap().len(), 1);
        deployment.clock.advance(second);
    }
    let noise = std::iter::repeat_with(fastrand::alphanumeric).take(2_000_000);
    change(&keys[1], noise.collect()).await;
    for key in &keys[2..14] {
        change(key, "x".repeat(3_000_000)).await;
    }
    change(&keys[14], "small".into()).await;
    let unreadable = Outgoing {
        group: Some(name("orders")),
        ..Outgoing::new("nobody can read this".into())
    };
    store.send(live, vec![unreadable]).await.unwrap();

    deliver_visible(&deployment.home).await;
    assert_eq!(switch.calls(), 1);
    deployment.clock.advance(second);
    let left = store.receive(live, 100, second).await.unwrap();
    let mut receives: Vec<u32> = left.iter().map(|message| message.receives).collect();
    receives.sort_unstable();
    // One of the large ones is written. What was suspicious still is, and all else is not.
    assert_eq!(receives, [vec![1; 14], vec![5]].concat());
    let failures = FailureFilter::default();
    assert_eq!(store.count(&failures).await.unwrap(), 0);
    deployment.clock.advance(second);
    switch.hurry();
    deployment.run_dry().await;
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
    assert_eq!(store.count(&failures).await.unwrap(), 1);
}
