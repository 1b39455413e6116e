//! Targets that are down: they are left alone, what waits for them is kept where it is in nobody's
//! way, and all of it arrives when they are back.

use std::{sync::Arc, time::Duration};

use model::{Lane, MapState, QueueName, decode_pack};
use ports::{Consumer, TargetError};
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use crate::{
    bad_targets::change_something,
    support::{Deployment, Project, Switch, all, assert_equal, name, park_one, small_crm},
};

const MAPS: [&str; 3] = ["accounts", "contacts", "orders"];

/// The demo, loaded, and a switch for the targets of some maps.
async fn loaded(crm: &SampleCrm, maps: &'static [&'static str]) -> (Deployment, Arc<Switch>) {
    let mut deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let switch = deployment.switch_targets(maps);
    (deployment, switch)
}

/// Lets the targets be back, and asserts that nothing is missing then.
async fn assert_back(deployment: &Deployment, switch: &Switch, crm: &SampleCrm) {
    switch.turn(false);
    deployment.run_dry().await;
    assert_equal(crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

/// A change of an order, as a webhook would bring it.
async fn change_order(deployment: &Deployment, crm: &SampleCrm, status: &str) {
    crm.write(Set::Orders, "100001", &json!({ "Status": status }));
    send(deployment, crm, "orders", Set::Orders, "100001").await;
}

/// A record as it is, as a webhook would bring it.
async fn send(deployment: &Deployment, crm: &SampleCrm, map: &str, set: Set, key: &str) {
    let pack = deployment.packed(map, crm.row(set, key).unwrap().to_string());
    let outbox = &deployment.home.operations.outbox;
    outbox.send_packs(Lane::Live, vec![pack]).await.unwrap();
}

/// Connections that are left alone.
async fn left_alone(deployment: &Deployment) -> usize {
    let status = deployment.home.operations.status().await.unwrap();
    status.broken.len()
}

/// Messages of the live lane, visible or not.
fn in_lane(deployment: &Deployment) -> i64 {
    let store = deployment.project.database(".syncline/syncline.db");
    let sql = "SELECT count(*) FROM messages WHERE queue = ?1";
    let count = store.query_row(sql, [QueueName::Live as i64], |row| row.get(0));
    count.unwrap()
}

#[tokio::test]
async fn a_dead_target_is_called_seldom_and_stops_no_map_of_another() {
    let crm = small_crm().await;
    let (deployment, switch) = loaded(&crm, &MAPS).await;
    switch.turn(true);
    for number in 0..60 {
        let keys = crm.keys(Set::Accounts);
        crm.write(
            Set::Accounts,
            &keys[number % keys.len()],
            &json!({ "Name": "New" }),
        );
        crm.write(
            Set::Orders,
            "100001",
            &json!({ "Status": format!("{number}") }),
        );
        deployment.pull(&["accounts", "orders"]).await;
        deployment.live(Duration::from_secs(10)).await;
    }
    assert!(
        (5..=40).contains(&switch.calls()),
        "{} calls in ten minutes",
        switch.calls()
    );
    let status = deployment.home.operations.status().await.unwrap();
    assert_eq!(
        (status.broken.len(), status.broken[0].connection.as_str()),
        (1, "warehouse")
    );
    assert_eq!(status.broken[0].error, "the warehouse does not answer");
    for map in &status.maps {
        assert_eq!((map.state, map.failures), (MapState::Running, 0));
    }
    assert_back(&deployment, &switch, &crm).await;
    assert_eq!(left_alone(&deployment).await, 0);
}

#[tokio::test]
async fn one_that_is_down_when_it_is_asked_for_its_table_is_left_alone_as_well() {
    let crm = small_crm().await;
    let mut deployment = Deployment::open(Project::demo(&crm.url()));
    let switch = deployment.switch_targets(&MAPS);
    let operations = &deployment.home.operations;
    let orders = name("orders");
    operations.start_without_load(&orders).await.unwrap();
    deployment.settle().await;
    deployment.prepare_target(&orders).await;
    switch.turn(true);
    let before = switch.calls();
    // As if the map had changed.
    deployment.home.functions.apply.plans.forget(&orders).await;
    for number in 0..60 {
        change_order(&deployment, &crm, &number.to_string()).await;
        deployment.pass(Duration::from_secs(10)).await;
    }
    let calls = switch.calls() - before;
    assert!((5..=40).contains(&calls), "{calls} calls in ten minutes");
    let status = deployment.home.operations.status().await.unwrap();
    assert_eq!(status.broken.len(), 1);
    assert_eq!(status.broken[0].error, "the warehouse does not answer");
    let status = deployment.status("orders").await;
    assert_eq!((status.state, status.failures), (MapState::Running, 0));
    assert!(status.parked.packs > 50, "{} parked", status.parked.packs);

    switch.turn(false);
    deployment.run_dry().await;
    let landed = deployment.query("SELECT status FROM orders WHERE order_no = 100001");
    assert_eq!(landed, [["59"]]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn what_waits_for_a_dead_target_does_not_fill_the_lane() {
    const CHANGES: usize = 400;
    let crm = small_crm().await;
    let (deployment, switch) = loaded(&crm, &MAPS).await;
    switch.turn(true);
    let change = async |number: usize| {
        change_order(&deployment, &crm, &number.to_string()).await;
    };
    // At first they wait where they are: most targets are back in a moment.
    for number in 0..10 {
        change(number).await;
    }
    deployment.pass(Duration::from_secs(1)).await;
    assert_eq!(deployment.status("orders").await.parked.packs, 0);
    for number in 10..CHANGES {
        change(number).await;
        if number % 20 == 0 {
            deployment.pass(Duration::from_secs(30)).await;
        }
    }
    for _ in 0..4 {
        deployment.pass(Duration::from_mins(3)).await;
    }
    let left = in_lane(&deployment);
    assert!((1..10).contains(&left), "{left} messages in the lane");
    let status = deployment.status("orders").await;
    let apart = CHANGES as u64 - status.parked.packs;
    assert!((1..10).contains(&apart), "{apart} are not parked");
    assert_eq!(status.books.in_flight, CHANGES as u64);
    let orders = name("orders");
    let traced = deployment.home.operations.trace(&orders, "100001").await;
    let answer = traced.unwrap().answer;
    assert!(answer.contains("its target was down"), "{answer}");
    // While it is down a look now and then is all that comes of them.
    let calls = switch.calls();
    for _ in 0..10 {
        deployment.pass(Duration::from_mins(1)).await;
    }
    let calls = switch.calls() - calls;
    assert!((1..=30).contains(&calls), "{calls} calls in ten minutes");

    switch.turn(false);
    deployment.run_dry().await;
    assert_equal(&crm, &deployment.project.warehouse());
    assert_eq!(deployment.status("orders").await.parked.packs, 0);
    deployment.assert_balanced().await;
}

/// A record that does not map is not written: nothing is learnt of the target from it.
#[tokio::test]
async fn one_with_nothing_to_write_keeps_no_other_from_a_target_that_is_back() {
    let crm = small_crm().await;
    let (deployment, _) = loaded(&crm, &MAPS).await;
    let down = TargetError::Unavailable {
        what: "the warehouse does not answer".into(),
        retry_after: None,
    };
    for _ in 0..3 {
        let breakers = &deployment.home.operations.breakers;
        breakers
            .failed(&"warehouse".parse().unwrap(), &down)
            .await
            .unwrap();
    }
    deployment.clock.advance(Duration::from_mins(3));
    crm.write(Set::Orders, "100003", &json!({ "Currency": "Taler" }));
    send(&deployment, &crm, "orders", Set::Orders, "100003").await;
    deployment.settle().await;
    assert_eq!(deployment.failures("orders").await.len(), 1);
    assert_eq!(left_alone(&deployment).await, 1);
    change_order(&deployment, &crm, "new").await;
    deployment.settle().await;
    let landed = deployment.query("SELECT status FROM orders WHERE order_no = 100001");
    assert_eq!(landed, [["new"]]);
    assert_eq!(left_alone(&deployment).await, 0);
}

/// Many maps may write to one target, and a batch may have one change of each.
#[tokio::test]
async fn of_all_maps_of_a_dead_target_one_pack_stays_in_the_lane() {
    let crm = small_crm().await;
    let (deployment, switch) = loaded(&crm, &MAPS).await;
    switch.turn(true);
    let send_all = async || {
        for (map, set) in MAPS
            .into_iter()
            .zip([Set::Accounts, Set::Contacts, Set::Orders])
        {
            send(&deployment, &crm, map, set, &crm.keys(set)[1]).await;
        }
    };
    for _ in 0..4 {
        send_all().await;
        deployment.pass(Duration::from_secs(4)).await;
    }
    // All that waits comes in one batch.
    for _ in 0..3 {
        send_all().await;
        deployment.clock.advance(Duration::from_mins(3));
        assert!(local::deliver_visible(&deployment.home).await >= 3);
        assert_eq!(in_lane(&deployment), 1);
    }
    assert_back(&deployment, &switch, &crm).await;
}

/// What waits in the lane to find out when the target is back can be gone: it has come too often,
/// or was too old for its queue.
#[tokio::test]
async fn what_is_parked_for_a_dead_target_finds_by_itself_when_it_is_back() {
    let crm = small_crm().await;
    let (deployment, switch) = loaded(&crm, &["orders"]).await;
    switch.turn(true);
    let operations = &deployment.home.operations;
    for _ in 0..3 {
        change_order(&deployment, &crm, "new").await;
        deployment.pass(Duration::from_secs(5)).await;
    }
    // All of them are taken out of the lane.
    let live = QueueName::Live;
    let store = &deployment.home.store;
    deployment.clock.advance(Duration::from_hours(1));
    let minute = Duration::from_mins(1);
    for message in store.receive(live, 100, minute).await.unwrap() {
        let pack = decode_pack(&message.body).unwrap();
        park_one(&operations.parking, &pack.head, &message.id, &message.body).await;
        store.delete(live, &[message.receipt]).await.unwrap();
    }
    assert_eq!(deployment.status("orders").await.parked.packs, 3);
    let calls = switch.calls();
    for _ in 0..60 {
        deployment.pass(minute).await;
    }
    let calls = switch.calls() - calls;
    assert!((10..=120).contains(&calls), "{calls} calls in an hour");
    assert_back(&deployment, &switch, &crm).await;
}

#[tokio::test]
async fn a_map_with_nothing_parked_is_resumed_though_its_target_is_down() {
    let crm = small_crm().await;
    let (deployment, switch) = loaded(&crm, &MAPS).await;
    switch.turn(true);
    let accounts = name("accounts");
    let operations = &deployment.home.operations;
    operations.pause(&accounts, "a look").await.unwrap();
    for _ in 0..4 {
        crm.write(Set::Orders, "100001", &json!({ "Status": "new" }));
        deployment.pull(&["orders"]).await;
        deployment.pass(Duration::from_secs(5)).await;
    }
    assert_eq!(operations.status().await.unwrap().broken.len(), 1);
    operations.resume(&accounts).await.unwrap();
    deployment.live(Duration::from_secs(1)).await;
    assert_eq!(deployment.state("accounts").await, MapState::Running);
}

#[tokio::test]
async fn failures_wait_for_a_dead_target_and_are_not_sent_again_and_again() {
    let crm = small_crm().await;
    crm.write(Set::Orders, "100003", &json!({ "Currency": "Taler" }));
    let mut deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    assert_eq!(deployment.failures("orders").await.len(), 1);
    let switch = deployment.switch_targets(&["orders"]);
    switch.turn(true);
    for number in 0..4 {
        crm.write(
            Set::Orders,
            "100001",
            &json!({ "Status": format!("{number}") }),
        );
        deployment.pull(&["orders"]).await;
        deployment.pass(Duration::from_secs(5)).await;
    }
    let sent = deployment.home.operations.retry_failures(&all()).await;
    sent.unwrap();
    for _ in 0..4 * 60 {
        deployment.live(Duration::from_mins(1)).await;
    }
    let parked = deployment.status("orders").await.parked.packs;
    assert!(parked <= 5, "{parked} packs of five are parked");
    assert_eq!(deployment.failures("orders").await.len(), 1);
    crm.write(Set::Orders, "100003", &json!({ "Currency": "EUR" }));
    deployment.pull(&["orders"]).await;
    switch.turn(false);
    deployment.run_dry().await;
    deployment.retry_all().await;
    assert_eq!(deployment.failures("orders").await, []);
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_target_that_is_down_for_days_makes_no_failure_of_a_change() {
    let crm = small_crm().await;
    let (deployment, switch) = loaded(&crm, &MAPS).await;
    switch.turn(true);
    change_something(&crm);
    for _ in 0..300 {
        deployment.live(Duration::from_mins(15)).await;
    }
    for map in MAPS {
        assert_eq!(deployment.failures(map).await, []);
        assert!(deployment.books(map).await.in_flight > 0);
    }
    assert_back(&deployment, &switch, &crm).await;
}

#[tokio::test]
async fn a_load_whose_target_dies_before_its_end_is_ended_by_one_job() {
    let crm = small_crm().await;
    let mut deployment = Deployment::open(Project::demo(&crm.url()));
    let switch = deployment.switch_targets(&["accounts"]);
    deployment
        .home
        .operations
        .load(&name("accounts"))
        .await
        .unwrap();
    while deployment
        .status("accounts")
        .await
        .load
        .is_none_or(|load| load.slices.done == 0)
    {
        local::deliver_visible(&deployment.home).await;
        switch.turn(deployment.status("accounts").await.load.is_some());
    }
    for _ in 0..120 {
        deployment.live(Duration::from_secs(30)).await;
    }
    let store = deployment.project.database(".syncline/syncline.db");
    let jobs: i64 = store
        .query_row(
            "SELECT count(*) FROM bodies WHERE body LIKE '%load-finish.v1%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(jobs, 1, "an hour of looking after loads makes no more jobs");
    switch.turn(false);
    deployment.until("accounts", MapState::Running).await;
    deployment.load(&["contacts", "orders"]).await;
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

/// One that asks to be called less often is not down: what comes waits in its lane, unless it asks
/// for a long time.
#[tokio::test]
async fn what_waits_for_a_target_that_throttles_stays_in_the_lane() {
    let crm = small_crm().await;
    let (deployment, switch) = loaded(&crm, &MAPS).await;
    let change = async |number: usize| {
        change_order(&deployment, &crm, &number.to_string()).await;
    };
    switch.throttle(Duration::from_secs(30));
    for number in 0..12 {
        change(number).await;
        deployment.pass(Duration::from_secs(10)).await;
    }
    assert_eq!(deployment.status("orders").await.parked.packs, 0);
    assert_eq!(in_lane(&deployment), 12);
    assert_eq!(deployment.books("orders").await.in_flight, 12);
    switch.throttle(Duration::from_mins(10));
    for number in 12..20 {
        change(number).await;
        deployment.pass(Duration::from_secs(20)).await;
    }
    assert!(deployment.status("orders").await.parked.packs > 10);
    assert!(in_lane(&deployment) < 10);
    assert_back(&deployment, &switch, &crm).await;
}
