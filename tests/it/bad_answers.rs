//! Sources whose answers only a person can do something about: the map says so and stops, or
//! the records become failures; nothing is lost, nothing is deleted, no neighbour is stopped.

use std::time::Duration;

use model::{Cause, ErrorClass, FailureStatus, MapState};
use operations::Edit;
use ports::FailureFilter;
use sample_crm::{Fault, SampleCrm, Set};
use serde_json::json;

use crate::support::{
    DEMO, Deployment, Project, Service, all, assert_equal, differences_of, name, small_crm,
};

const FOREVER: usize = usize::MAX;

/// The demo on a source that lets in only who knows a secret.
fn secured(crm: &SampleCrm) -> Project {
    crm.require_token("s3cret");
    let text = DEMO.replace(
        "url: {url}",
        "url: {url}\n    auth: { bearer: secret://crm }\n    headers: { X-Tenant: secret://crm }",
    );
    let project = Project::new(&text.replace("{url}", &crm.url()));
    project.secret("crm", "s3cret");
    project
}

async fn assert_well(crm: &SampleCrm, deployment: &Deployment) {
    assert_equal(crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
    for map in ["accounts", "contacts", "orders"] {
        assert_eq!(deployment.state(map).await, MapState::Running, "{map}");
    }
}

/// What answers cannot be gone on from, and what has to be said of it.
fn dead_ends(elsewhere: &Service) -> Vec<(Fault, Vec<String>)> {
    let there = format!("http://localhost:{}", elsewhere.port());
    let said = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    vec![
        (
            Fault::Loop,
            said(&["nextLink leads in a circle", "/odata/Accounts"]),
        ),
        (
            Fault::ForeignLink(elsewhere.port()),
            said(&[
                "/odata/Accounts",
                &there,
                "credentials",
                "the url that the system itself uses",
            ]),
        ),
        (
            Fault::Redirect(elsewhere.port()),
            said(&[
                "/odata/Accounts",
                "302",
                &there,
                "credentials do not follow",
            ]),
        ),
    ]
}

#[tokio::test]
async fn a_load_stops_at_a_dead_end_with_the_reason_and_no_secret_leaves_the_host() {
    let elsewhere = Service::of_page(b"{\"value\":[]}".to_vec()).await;
    for (fault, said) in dead_ends(&elsewhere) {
        let crm = small_crm().await;
        let deployment = Deployment::open(secured(&crm));
        crm.break_set(Set::Accounts, fault, 0, FOREVER);
        for map in deployment.home.definition.maps.keys() {
            deployment.home.operations.load(map).await.unwrap();
        }
        deployment.until("contacts", MapState::Running).await;
        deployment.until("orders", MapState::Running).await;
        let status = deployment.status("accounts").await;
        let reason = status.reason.unwrap();
        assert_eq!(status.state, MapState::Broken, "{fault:?}");
        for part in said {
            assert!(
                reason.contains(&part),
                "{fault:?}: no `{part}` in: {reason}"
            );
        }
        assert!(!reason.contains("skiptoken"), "{reason}");

        crm.heal();
        deployment.load(&["accounts"]).await;
        assert_well(&crm, &deployment).await;
    }
    assert_eq!(elsewhere.asked().len(), 0, "nothing is asked elsewhere");
}

#[tokio::test]
async fn a_pull_that_meets_a_dead_end_again_and_again_stops_its_map() {
    let elsewhere = Service::of_page(b"{\"value\":[]}".to_vec()).await;
    for (fault, said) in dead_ends(&elsewhere) {
        let crm = small_crm().await;
        let deployment = Deployment::open(secured(&crm));
        deployment.load_all().await;
        let keys = crm.keys(Set::Accounts);
        crm.write(Set::Accounts, &keys[3], &json!({ "Name": "Renamed" }));
        assert!(crm.delete(Set::Accounts, &keys[4]));
        crm.break_set(Set::Accounts, fault, 0, FOREVER);
        deployment.live(Duration::from_mins(5)).await;
        assert_eq!(deployment.state("accounts").await, MapState::Running);
        for _ in 0..5 {
            deployment.live(Duration::from_mins(5)).await;
        }
        let status = deployment.status("accounts").await;
        let reason = status.reason.unwrap();
        assert_eq!(status.state, MapState::Broken, "{fault:?}");
        assert!(reason.contains("its pull failed 5 times"), "{reason}");
        for part in said {
            assert!(
                reason.contains(&part),
                "{fault:?}: no `{part}` in: {reason}"
            );
        }
        assert_eq!(deployment.state("orders").await, MapState::Running);

        crm.heal();
        deployment
            .home
            .operations
            .resume(&name("accounts"))
            .await
            .unwrap();
        deployment.settle().await;
        deployment.live(Duration::from_mins(15)).await;
        assert_eq!(deployment.failures("accounts").await, []);
        assert_well(&crm, &deployment).await;
    }
    assert_eq!(elsewhere.asked().len(), 0, "nothing is asked elsewhere");
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_named() {
    let crm = small_crm().await;
    let text = DEMO.replace("crm.Accounts", "crm.Acounts");
    let deployment = Deployment::open(Project::new(&text.replace("{url}", &crm.url())));
    deployment
        .home
        .operations
        .load(&name("accounts"))
        .await
        .unwrap();
    deployment.settle().await;
    let status = deployment.status("accounts").await;
    let reason = status.reason.unwrap();
    assert_eq!(status.state, MapState::Broken);
    assert!(reason.contains("Acounts"), "{reason}");
    deployment.load(&["orders"]).await;
    assert_eq!(deployment.state("orders").await, MapState::Running);
}

fn causes(failures: &[model::Failure]) -> Vec<(&str, Option<&str>)> {
    failures
        .iter()
        .map(|failure| {
            let Cause { code, field, .. } = &failure.cause;
            (code.as_str(), field.as_deref())
        })
        .collect()
}

#[tokio::test]
async fn a_page_without_keys_becomes_failures_and_deletes_nothing() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let rows = deployment.query("SELECT count(*) FROM accounts");
    let keys = crm.keys(Set::Accounts);
    crm.write(Set::Accounts, &keys[0], &json!({ "Name": "Renamed" }));
    assert!(crm.delete(Set::Accounts, &keys[1]));
    crm.break_set(Set::Accounts, Fault::NoKeys, 0, 1);
    deployment.live(Duration::from_mins(5)).await;
    let failures = deployment.failures("accounts").await;
    assert_eq!(
        causes(&failures),
        [("field-missing", Some("id")), ("field-missing", Some("id"))]
    );
    let kept = |text: &str| failures.iter().any(|failure| failure.raw.contains(text));
    assert!(kept("Renamed"), "the record is kept whole");
    assert!(kept("@removed"), "so is the deletion");
    assert!(failures[0].cause.message.contains("`AccountId`"));
    assert_eq!(deployment.query("SELECT count(*) FROM accounts"), rows);

    // A re-load that finds no keys at all finds no rows: that is no reason to delete any.
    crm.break_set(Set::Accounts, Fault::NoKeys, 1, 1);
    deployment
        .home
        .operations
        .load(&name("accounts"))
        .await
        .unwrap();
    deployment.until("accounts", MapState::Broken).await;
    let status = deployment.status("accounts").await;
    assert!(status.reason.unwrap().contains("nothing was deleted"));
    assert_eq!(deployment.query("SELECT count(*) FROM accounts"), rows);

    deployment.load(&["accounts"]).await;
    let operations = &deployment.home.operations;
    let without_key = deployment.failures("accounts").await.len() as u64;
    let discarded = operations
        .discard_failures(&all(), "the page had no keys")
        .await;
    assert_eq!(discarded.unwrap().count, without_key);
    assert_well(&crm, &deployment).await;
}

#[tokio::test]
async fn a_changed_schema_is_a_group_of_failures_that_one_correction_ends() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    // A request for the newest record comes before the page.
    crm.break_set(Set::Accounts, Fault::NewSchema, 1, 1);
    deployment.load_all().await;
    let count = crm.keys(Set::Accounts).len();
    let groups = deployment
        .home
        .operations
        .failure_groups(&FailureFilter::unresolved(), 10)
        .await
        .unwrap();
    assert_eq!((groups.len(), groups[0].count), (1, count as u64));
    assert_eq!(
        (groups[0].class, groups[0].code.as_str()),
        (ErrorClass::Mapping, "field-missing")
    );
    let said = &groups[0].message;
    assert!(said.contains("`Name`") && said.contains("changed its schema, change the map"));
    let orders = differences_of(Set::Orders, &crm, &deployment.project.warehouse());
    assert_eq!(orders, [""; 0]);

    let rename = Edit::patch(r#"[{"op":"move","from":"/Title","path":"/Name"}]"#).unwrap();
    let operations = &deployment.home.operations;
    operations.edit_failures(&all(), &rename).await.unwrap();
    deployment.retry_all().await;
    assert_eq!(deployment.failures("accounts").await, []);
    assert_well(&crm, &deployment).await;
}

#[tokio::test]
async fn a_changed_schema_in_a_pull_stops_no_later_change() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    let keys = crm.keys(Set::Accounts);
    crm.write(
        Set::Accounts,
        &keys[5],
        &json!({ "Name": "Under another name" }),
    );
    crm.break_set(Set::Accounts, Fault::NewSchema, 0, 1);
    deployment.live(Duration::from_mins(5)).await;
    let failure = deployment.failures("accounts").await.remove(0);
    assert_eq!(failure.status, FailureStatus::Open);
    assert_eq!(
        failure.key.as_ref(),
        Some(&keys[5]),
        "its key is known all the same"
    );
    crm.write(Set::Accounts, &keys[6], &json!({ "Name": "As ever" }));
    crm.write(Set::Accounts, &keys[5], &json!({ "Name": "As ever again" }));
    deployment.live(Duration::from_mins(5)).await;
    assert_well(&crm, &deployment).await;
    // The failure is older than what the target has by now, and a retry finds that out.
    deployment.retry_all().await;
    assert_eq!(deployment.failures("accounts").await, []);
    let books = deployment.books("accounts").await;
    assert_eq!(books.outcomes.superseded, 1, "{books:?}");
    assert_well(&crm, &deployment).await;
}
