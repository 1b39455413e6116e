//! An HTTP endpoint as a target: loads, live changes, an outage, and everything twice.

use std::time::Duration;

use model::{ErrorClass, MapState};
use operations::Selection;
use ports::FailureFilter;
use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};

use crate::support::{
    Deployment, Hub, Project, assert_equal_at_hub as assert_equal, small_crm, to_hub,
};

fn deployment(crm: &SampleCrm, hub: &Hub) -> Deployment {
    Deployment::open(Project::new(&to_hub(crm, hub)))
}

fn order(status: &str) -> Value {
    json!({ "AccountId": null, "ContactId": null, "OrderDate": "2026-02-28", "Currency": "EUR", "Total": 5.5, "Status": status })
}

#[tokio::test]
async fn an_endpoint_is_loaded_and_follows_and_sees_everything_once() {
    let crm = small_crm().await;
    let hub = Hub::start().await;
    let deployment = deployment(&crm, &hub);
    deployment.load_all().await;
    assert_equal(&crm, &hub);
    assert_eq!(hub.inner().requests, 20);

    crm.write(Set::Orders, "100003", &json!({ "Status": "paid" }));
    crm.write(Set::Orders, "777777", &order("new"));
    assert!(crm.delete(Set::Orders, "100004"));
    deployment.pull(&["orders"]).await;
    assert_equal(&crm, &hub);
    assert_eq!(hub.inner().requests, 23);

    // Everything once more: nothing is sent, and what a load does not find is deleted.
    deployment.load(&["orders"]).await;
    deployment.load(&["orders"]).await;
    assert_eq!(hub.inner().requests, 23);
    assert_eq!(hub.inner().again, 0);
    let books = deployment.books("orders").await;
    assert_eq!(books.outcomes.applied, 23, "{books:?}");
    assert!(books.outcomes.unchanged >= 40, "{books:?}");
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_reload_deletes_at_the_endpoint_what_the_source_has_lost() {
    let crm = small_crm().await;
    let hub = Hub::start().await;
    let deployment = deployment(&crm, &hub);
    deployment.load_all().await;
    assert!(crm.delete(Set::Orders, "100007"));
    crm.expire_deltas();
    deployment.load(&["orders"]).await;
    assert_equal(&crm, &hub);
    // Nothing is deleted that Syncline has not written.
    hub.inner().orders.insert("1".into(), json!({}));
    deployment.load(&["orders"]).await;
    assert!(hub.inner().orders.contains_key("1"));
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn an_endpoint_that_is_down_for_hours_misses_nothing_and_is_left_alone() {
    let crm = small_crm().await;
    let hub = Hub::start().await;
    let deployment = deployment(&crm, &hub);
    deployment.load_all().await;
    hub.inner().down = true;
    hub.inner().requests = 0;
    for step in 0..12 {
        let key = (100_000 + step).to_string();
        crm.write(
            Set::Orders,
            &key,
            &json!({ "Status": format!("step {step}") }),
        );
        deployment
            .home
            .operations
            .pull(&"orders".parse().unwrap())
            .await
            .unwrap();
        deployment.pass(Duration::from_mins(10)).await;
    }
    assert!(crm.delete(Set::Orders, "100015"));
    deployment.pull(&["orders"]).await;
    // It was asked now and then whether it is up again, and no change became a failure.
    let requests = hub.inner().requests;
    assert!(
        requests < 80,
        "{requests} requests to an endpoint that is down"
    );
    assert_eq!(deployment.failures("orders").await, []);
    assert!(deployment.books("orders").await.in_flight > 0);
    assert_eq!(deployment.state("orders").await, MapState::Running);

    hub.inner().down = false;
    deployment.run_dry().await;
    assert_equal(&crm, &hub);
    assert_eq!(hub.inner().again, 0);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_record_the_endpoint_refuses_waits_and_its_neighbours_do_not() {
    let crm = small_crm().await;
    let hub = Hub::start().await;
    let deployment = deployment(&crm, &hub);
    let bad = [("100002", 422), ("100005", 500), ("100009", 409)];
    hub.inner().refuses = bad.map(|(key, status)| (key.to_owned(), status)).into();
    for map in deployment.home.definition.maps.keys() {
        deployment.home.operations.load(map).await.unwrap();
    }
    deployment.settle().await;
    let mut failed: Vec<_> = deployment
        .failures("orders")
        .await
        .into_iter()
        .map(|failure| (failure.key.unwrap(), failure.cause.class))
        .collect();
    failed.sort();
    let classes = [
        ErrorClass::Invalid,
        ErrorClass::Transient,
        ErrorClass::Conflict,
    ];
    let expected: Vec<_> = bad
        .iter()
        .zip(classes)
        .map(|((key, _), class)| ((*key).to_owned(), class))
        .collect();
    assert_eq!(failed, expected);
    assert_eq!(hub.inner().orders.len(), 17);

    hub.inner().refuses.clear();
    let all = Selection::Matching(FailureFilter::default());
    deployment
        .home
        .operations
        .retry_failures(&all)
        .await
        .unwrap();
    deployment.run_dry().await;
    assert_equal(&crm, &hub);
    assert_eq!(deployment.failures("orders").await, []);
    deployment.assert_balanced().await;
}
