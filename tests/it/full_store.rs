//! A store on a full disk: webhooks get 503, everything else waits, and what was accepted
//! before, or comes after, is in the target in the end.

use std::time::Duration;

use model::MapState;
use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};

use crate::support::{Deployment, Project, assert_equal, crm, differences_of, name, signed};

/// Lets the store grow by so many pages and no more.
async fn fill(deployment: &Deployment, room: u32) {
    let pages = deployment
        .project
        .database(".syncline/syncline.db")
        .pragma_query_value(None, "page_count", |row| row.get::<_, u32>(0));
    let most = pages.unwrap() + room;
    deployment.home.store.limit_size(most).await.unwrap();
}

async fn free(deployment: &Deployment) {
    deployment.home.store.limit_size(1_000_000).await.unwrap();
}

fn noise(len: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(len)
        .collect()
}

/// A change of an order that takes some room, as a webhook.
fn event(crm: &SampleCrm, number: usize) -> (String, Value) {
    let key = (100_000 + number).to_string();
    crm.write(Set::Orders, &key, &json!({ "Status": noise(30_000) }));
    let row = crm.row(Set::Orders, &key).unwrap();
    (
        format!("msg_{number}"),
        json!({ "type": "order.updated", "data": row }),
    )
}

async fn assert_well(crm: &SampleCrm, deployment: &Deployment) {
    deployment.run_dry().await;
    assert_equal(crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
    for map in ["accounts", "contacts", "orders"] {
        assert_eq!(deployment.state(map).await, MapState::Running);
        assert_eq!(deployment.failures(map).await, []);
    }
}

#[tokio::test]
async fn a_webhook_that_cannot_be_stored_is_refused_and_taken_when_it_is_sent_again() {
    let crm = crm(300, 0).await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    fill(&deployment, 50).await;
    let mut refused = Vec::new();
    for number in 0..40 {
        let (id, event) = event(&crm, number);
        let (status, answer) = signed(&deployment, &id, &event).await;
        match status {
            202 => assert!(refused.is_empty(), "there was room after there was none"),
            503 => {
                assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
                refused.push((id, event));
            }
            other => panic!("{other}: {answer}"),
        }
    }
    assert!(
        (5..39).contains(&refused.len()),
        "{} were refused",
        refused.len()
    );
    for _ in 0..3 {
        deployment.struggle(Duration::from_secs(5)).await;
    }
    free(&deployment).await;
    for (id, event) in refused {
        let (status, answer) = signed(&deployment, &id, &event).await;
        assert_eq!(
            (status, &answer["accepted"], &answer["duplicates"]),
            (202, &json!(1), &json!(0))
        );
    }
    assert_well(&crm, &deployment).await;
}

#[tokio::test]
async fn what_was_accepted_is_applied_although_nothing_can_be_noted_meanwhile() {
    let crm = crm(300, 0).await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    for number in 0..20 {
        let (id, event) = event(&crm, number);
        assert_eq!(signed(&deployment, &id, &event).await.0, 202);
    }
    // A record that fails has to be reported, for which there is no room.
    crm.write(
        Set::Orders,
        "100050",
        &json!({ "Currency": "Taler", "Status": noise(50_000) }),
    );
    let bad = json!({ "type": "order.updated", "data": crm.row(Set::Orders, "100050").unwrap() });
    assert_eq!(signed(&deployment, "msg_bad", &bad).await.0, 202);
    fill(&deployment, 0).await;
    for _ in 0..3 {
        deployment.struggle(Duration::from_mins(10)).await;
    }
    assert!(deployment.books("orders").await.in_flight > 0);
    free(&deployment).await;
    deployment.run_dry().await;
    let failures = deployment.failures("orders").await;
    assert_eq!(
        (failures.len(), failures[0].cause.code.as_str()),
        (1, "unmapped-value")
    );
    crm.write(Set::Orders, "100050", &json!({ "Currency": "EUR" }));
    deployment.pull(&["orders"]).await;
    deployment.run_dry().await;
    let all = operations::Selection::One(failures[0].id.to_string());
    deployment
        .home
        .operations
        .retry_failures(&all)
        .await
        .unwrap();
    assert_well(&crm, &deployment).await;
}

#[tokio::test]
async fn a_load_that_runs_into_a_full_disk_goes_on_when_there_is_room() {
    for room in [0, 2, 5, 10] {
        let crm = crm(3_000, 0).await;
        let deployment = Deployment::open(Project::demo(&crm.url()));
        for map in deployment.home.definition.maps.keys() {
            deployment.home.operations.load(map).await.unwrap();
        }
        fill(&deployment, room).await;
        for _ in 0..4 {
            deployment.struggle(Duration::from_mins(6)).await;
        }
        assert_ne!(
            deployment.state("orders").await,
            MapState::Running,
            "room for {room}"
        );
        free(&deployment).await;
        for map in ["accounts", "contacts", "orders"] {
            deployment.until(map, MapState::Running).await;
        }
        assert_well(&crm, &deployment).await;
    }
}

#[tokio::test]
async fn a_pull_that_runs_into_a_full_disk_misses_nothing() {
    for room in [0, 5, 20] {
        let crm = crm(300, 0).await;
        let deployment = Deployment::open(Project::demo(&crm.url()));
        deployment.load_all().await;
        for number in 0..30 {
            event(&crm, number);
        }
        for key in crm.keys(Set::Accounts).iter().take(5) {
            assert!(crm.delete(Set::Accounts, key));
        }
        fill(&deployment, room).await;
        for _ in 0..4 {
            deployment.struggle(Duration::from_mins(6)).await;
        }
        let missing = differences_of(Set::Orders, &crm, &deployment.project.warehouse());
        assert!(!missing.is_empty(), "room for {room}");
        let refused = deployment.home.operations.load(&name("contacts")).await;
        if let Err(error) = refused {
            assert!(error.to_string().contains("free some space"), "{error}");
        }
        free(&deployment).await;
        deployment.live(Duration::from_mins(20)).await;
        assert_well(&crm, &deployment).await;
    }
}
