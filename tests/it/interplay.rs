//! What one part of a deployment does while another is in the middle of something.

use std::{sync::Arc, time::Duration};

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use local::deliver_visible;
use model::{LoadPlan, LoadStatus, MapEvent, MapState};
use ports::{CheckpointsExt, Consumer, Outgoing, Queue};
use sample_crm::Set;
use serde_json::json;

use crate::support::{
    Deployment, Project, assert_equal, crm, message, name, notify, orders, send, small_crm,
};

#[tokio::test]
async fn a_load_that_an_expired_link_asks_for_is_not_forgotten_when_its_map_is_paused() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    assert!(crm.delete(Set::Orders, "100002"));
    crm.expire_deltas();
    let (home, orders) = (&deployment.home, name("orders"));
    let pull = message(&model::PullJob::Pull {
        asked: None,
        wanted: false,
        map: orders.clone(),
    });
    let deadline = home.clock.now() + Duration::from_mins(1);
    let answer = home.functions.pull.handle(pull, deadline).await;
    assert!(answer.batch_item_failures.is_empty());
    // The load is asked for, and before it begins somebody pauses the map.
    home.operations.pause(&orders, "inventory").await.unwrap();
    deployment.settle().await;
    home.operations.resume(&orders).await.unwrap();
    deployment.settle().await;
    assert_eq!(deployment.state("orders").await, MapState::Running);
    deployment.live(Duration::from_mins(20)).await;
    deployment.run_dry().await;
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_load_that_is_begun_twice_at_once_reads_every_slice() {
    let crm = crm(600, 0).await;
    let text = orders(
        &crm.url(),
        "pull: { every: 5m }",
        "pull: { every: 5m, mode: cursor }\n    load: { slices: 8 }",
    );
    let deployment = Deployment::open(Project::new(&text));
    let orders = name("orders");
    deployment.home.operations.load(&orders).await.unwrap();
    deployment.home.operations.load(&orders).await.unwrap();
    deployment.run_dry().await;
    let load = deployment.status("orders").await.load.unwrap();
    assert!(
        load.slices.all > 1 && load.slices.done == load.slices.all,
        "{load:?}"
    );
    assert_eq!(deployment.query("SELECT count(*) FROM orders"), [["200"]]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_settled_pack_that_comes_once_more_is_not_applied_again() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let key = crm.keys(Set::Orders)[0].clone();
    crm.write(Set::Orders, &key, &json!({ "Status": "told" }));
    notify(&deployment, &crm, Set::Orders, &key).await;
    let visibility = Duration::from_mins(5);
    let received = deployment
        .home
        .store
        .receive(model::QueueName::Live, 10, visibility);
    let received = received.await.unwrap();
    let deadline = deployment.home.clock.now() + Duration::from_mins(1);
    let told = format!("SELECT status FROM orders WHERE order_no = {key}");
    for (receives, expected) in [(1, "told"), (2, "set by hand")] {
        let mut event = SqsEvent::default();
        for message in &received {
            let mut again = SqsMessage::default();
            again.message_id = Some(message.id.clone());
            again.body = Some(message.body.clone());
            again.event_source_arn = Some("local:live".into());
            let count = receives.to_string();
            again
                .attributes
                .insert("ApproximateReceiveCount".into(), count);
            event.records.push(again);
        }
        let answer = deployment
            .home
            .functions
            .apply
            .handle(event, deadline)
            .await;
        assert!(answer.batch_item_failures.is_empty(), "{answer:?}");
        assert_eq!(deployment.query(&told), [[expected]]);
        // Were it applied again, this would be a tie, and the source be asked.
        let by_hand = format!("UPDATE orders SET status = 'set by hand' WHERE order_no = {key}");
        deployment
            .project
            .warehouse()
            .execute_batch(&by_hand)
            .unwrap();
    }
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn records_that_say_only_what_changed_add_up_although_they_come_together() {
    let crm = small_crm().await;
    let text = orders(
        &crm.url(),
        "status: Status, total: Total",
        "status: { from: Status, missing: keep }, total: { from: Total, missing: keep }",
    );
    let deployment = Deployment::open(Project::new(&text));
    deployment.load_all().await;
    let key = crm.keys(Set::Orders)[0].clone();
    let at = |second: u32| format!("2031-01-01T00:00:{second:02}Z");
    for (second, field, value) in [
        (3, "Total", json!(3.5)),
        (1, "Total", json!(1.5)),
        (2, "Status", json!("second")),
    ] {
        let data = json!({ "OrderNo": key.parse::<u64>().unwrap(), "ModifiedAt": at(second), field: value });
        send(
            &deployment,
            &json!({ "type": "order.updated", "data": data }),
        )
        .await;
    }
    deployment.settle().await;
    let row = format!("SELECT status, total FROM orders WHERE order_no = {key}");
    assert_eq!(deployment.query(&row), [["second", "3.5"]]);
    // One that says all of it leaves nothing of what was before.
    for (second, data) in [
        (5, json!({ "Status": "fifth", "Total": 5.5 })),
        (4, json!({ "Status": "fourth" })),
    ] {
        let mut data = data;
        data["OrderNo"] = json!(key.parse::<u64>().unwrap());
        data["ModifiedAt"] = json!(at(second));
        send(
            &deployment,
            &json!({ "type": "order.updated", "data": data }),
        )
        .await;
    }
    deployment.settle().await;
    assert_eq!(deployment.query(&row), [["fifth", "5.5"]]);
    assert_eq!(deployment.failures("orders").await, []);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn old_news_of_a_row_does_not_hide_from_a_load_that_it_is_gone() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let key = crm.keys(Set::Orders)[0].clone();
    notify(&deployment, &crm, Set::Orders, &key).await;
    // The row goes, and nobody tells; then a load begins before the news is applied.
    assert!(crm.delete(Set::Orders, &key));
    crm.expire_deltas();
    deployment.clock.advance(Duration::from_secs(1));
    let start = message(&model::LoadJob::Start {
        map: name("orders"),
        replaces_mark: true,
        generation: 1,
    });
    let deadline = deployment.home.clock.now() + Duration::from_mins(1);
    let answer = deployment.home.functions.load.handle(start, deadline).await;
    assert!(answer.batch_item_failures.is_empty(), "{answer:?}");
    deployment.run_dry().await;
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_pull_whose_time_is_up_goes_on_in_another_invocation() {
    let crm = small_crm().await;
    let text = orders(
        &crm.url(),
        "pull: { every: 5m }",
        "pull: { every: 5m, page_size: 3 }",
    );
    let deployment = Deployment::open(Project::new(&text));
    deployment.load_all().await;
    for key in crm.keys(Set::Orders) {
        crm.write(Set::Orders, &key, &json!({ "Status": "changed" }));
    }
    let pages = crm.pages_served(Set::Orders);
    let pull = message(&model::PullJob::Pull {
        asked: None,
        wanted: true,
        map: name("orders"),
    });
    let over = deployment.home.clock.now();
    let answer = deployment.home.functions.pull.handle(pull, over).await;
    assert!(answer.batch_item_failures.is_empty(), "{answer:?}");
    assert_eq!(crm.pages_served(Set::Orders), pages + 1, "time is up");
    deployment.settle().await;
    assert!(crm.pages_served(Set::Orders) >= pages + 7);
    let changed = "SELECT count(*) FROM orders WHERE status = 'changed'";
    assert_eq!(deployment.query(changed), [["20"]]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn reports_that_come_within_the_batch_window_are_delivered_together() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    let queue = model::QueueName::Failures;
    let report = |delay: u64| Outgoing {
        delay: Duration::from_millis(delay),
        ..Outgoing::new("no report".into())
    };
    let store = &deployment.home.store;
    let reports = vec![report(0), report(40), report(500)];
    store.send(queue, reports).await.unwrap();
    assert_eq!(deliver_visible(&deployment.home).await, 2);
    assert_eq!(deliver_visible(&deployment.home).await, 0);
}

/// Takes all messages out of a queue and throws them away.
async fn lose(deployment: &Deployment, queue: model::QueueName) {
    let store = &deployment.home.store;
    let lost = store.receive(queue, 100, Duration::from_mins(5)).await;
    let receipts: Vec<String> = lost.unwrap().into_iter().map(|one| one.receipt).collect();
    store.delete(queue, &receipts).await.unwrap();
}

#[tokio::test]
async fn a_pull_that_ends_an_older_one_is_followed_by_one_of_its_own() {
    let crm = small_crm().await;
    let text = orders(
        &crm.url(),
        "pull: { every: 5m }",
        "pull: { every: 5m, page_size: 3 }",
    );
    let deployment = Deployment::open(Project::new(&text));
    deployment.load_all().await;
    for key in crm.keys(Set::Orders) {
        crm.write(Set::Orders, &key, &json!({ "Status": "changed" }));
    }
    let pull = message(&model::PullJob::Pull {
        asked: None,
        wanted: false,
        map: name("orders"),
    });
    let over = deployment.home.clock.now();
    deployment.home.functions.pull.handle(pull, over).await;
    // Whoever was to go on with it is lost; later somebody asks for a pull.
    lose(&deployment, model::QueueName::Pulls).await;
    deployment.clock.advance(Duration::from_secs(10));
    let asked = deployment.home.clock.now();
    deployment.clock.advance(Duration::from_secs(1));
    deployment.pull(&["orders"]).await;
    deployment.pass(Duration::from_secs(2)).await;
    let covers = deployment.status("orders").await.pull.covers;
    assert!(covers > Some(asked), "{covers:?} does not cover {asked}");
}

#[tokio::test]
async fn an_end_that_finds_a_load_held_by_the_dead_comes_again() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::new(&orders(&crm.url(), "", "")));
    let orders = name("orders");
    let checkpoints = Arc::clone(&deployment.home.operations.checkpoints);
    deployment.home.operations.load(&orders).await.unwrap();
    let key = model::plan_key(&orders, 1);
    // Somebody takes the lease as soon as all is read, and dies.
    loop {
        assert!(
            deliver_visible(&deployment.home).await > 0,
            "it never is read"
        );
        let stored = checkpoints.load::<LoadPlan>(&key).await.unwrap();
        let draining = |plan: &LoadPlan| plan.status == LoadStatus::Draining;
        if let Some(stored) = stored.filter(|stored| draining(&stored.value)) {
            let until = deployment.home.clock.now() + Duration::from_mins(15);
            let mut plan = stored.value;
            plan.lease = plan.lease.take(deployment.home.clock.now(), until).unwrap();
            checkpoints
                .store(&key, Some(stored.revision), &plan)
                .await
                .unwrap();
            break;
        }
    }
    for _ in 0..120 {
        deployment.pass(Duration::from_secs(10)).await;
    }
    // No timer looks after loads here: the job itself has to come again.
    assert_eq!(deployment.state("orders").await, MapState::Running);
    assert_eq!(deployment.query("SELECT count(*) FROM orders"), [["20"]]);
}

#[tokio::test]
async fn two_jobs_that_hand_one_load_over_at_once_break_nothing() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::new(&orders(&crm.url(), "", "")));
    deployment.load_all().await;
    // The next load is done, and whoever ended it died before it handed the map over.
    let orders = name("orders");
    let checkpoints = Arc::clone(&deployment.home.operations.checkpoints);
    let first = model::plan_key(&orders, 1);
    let stored = checkpoints.load::<LoadPlan>(&first);
    let plan = LoadPlan {
        generation: 2,
        ..stored.await.unwrap().unwrap().value
    };
    let key = model::plan_key(&orders, 2);
    checkpoints.store(&key, None, &plan).await.unwrap();
    let begun = MapEvent::Load {
        generation: 2,
        bulk: false,
    };
    let states = &deployment.home.operations.states;
    states.transition(&orders, begun).await.unwrap();
    let mut both = message(&model::LoadJob::Finish {
        map: orders.clone(),
        generation: 2,
        ticket: plan.ticket,
    });
    both.records.extend(both.records.clone());
    let deadline = deployment.home.clock.now() + Duration::from_mins(1);
    let answer = deployment.home.functions.load.handle(both, deadline).await;
    assert!(answer.batch_item_failures.is_empty(), "{answer:?}");
    assert_eq!(deployment.state("orders").await, MapState::Resuming);
    deployment.run_dry().await;
    assert_eq!(deployment.state("orders").await, MapState::Running);
}

#[tokio::test]
async fn a_load_of_an_earlier_version_is_shown_and_never_taken_for_read() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::new(&orders(&crm.url(), "", "")));
    deployment.load_all().await;
    let orders = name("orders");
    let checkpoints = Arc::clone(&deployment.home.operations.checkpoints);
    let key = model::plan_key(&orders, 1);
    let stored = checkpoints.load::<serde_json::Value>(&key).await.unwrap();
    let stored = stored.unwrap();
    let mut plan = stored.value;
    plan.as_object_mut().unwrap().remove("ranges");
    plan["slices"] = json!(4);
    plan["error"] = json!(null);
    let revision = Some(stored.revision);
    checkpoints.store(&key, revision, &plan).await.unwrap();
    let load = deployment.status("orders").await.load.unwrap();
    assert_eq!((load.slices.all, load.slices.done), (1, 1));
    // One that was under way cannot go on: it would seem to have read everything.
    plan["generation"] = json!(2);
    plan["status"] = json!("reading");
    let key = model::plan_key(&orders, 2);
    checkpoints.store(&key, None, &plan).await.unwrap();
    let begun = MapEvent::Load {
        generation: 2,
        bulk: false,
    };
    let operations = &deployment.home.operations;
    operations.states.transition(&orders, begun).await.unwrap();
    deployment.live(Duration::from_secs(30)).await;
    let status = deployment.status("orders").await;
    assert_eq!(status.state, MapState::Broken);
    let reason = status.reason.unwrap();
    assert!(reason.contains("`syncline load orders`"), "{reason}");
    assert_eq!(deployment.query("SELECT count(*) FROM orders"), [["20"]]);
    deployment.load(&["orders"]).await;
    assert_eq!(deployment.state("orders").await, MapState::Running);
}
