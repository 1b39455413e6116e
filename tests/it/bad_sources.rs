//! Sources that do not answer as they should, in ways that pass by themselves: nothing is
//! lost, nothing is deleted, no neighbour is stopped, and nobody has to do anything.

use std::time::Duration;

use model::MapState;
use sample_crm::{Fault, SampleCrm, Set};
use serde_json::json;

use crate::support::{
    DEMO, Deployment, Project, Service, assert_equal, crm, differences_of, name, small_crm,
};

/// What passes, and what has to be said of it.
const PASSING: &[(Fault, &[&str])] = &[
    (
        Fault::ServerError,
        &["answered 500", "InternalError: something went wrong"],
    ),
    (
        Fault::Html,
        &[
            "200 OK",
            "text/html",
            "is not the JSON of a page",
            "Please sign in",
        ],
    ),
    (Fault::Truncated, &["is not the JSON of a page", "EOF"]),
    (
        Fault::ErrorInBody,
        &[
            "with an error in its body",
            "Timeout: the query took too long",
        ],
    ),
    (Fault::Busy(30), &["answered 503", "busy"]),
    (Fault::Throttled(30), &["answered 429", "slow down"]),
];

const FOREVER: usize = usize::MAX;

/// The demo with pages of ten records.
fn paged(crm: &SampleCrm) -> Project {
    let text = DEMO.replace("pull: { every: 5m }", "pull: { every: 5m, page_size: 10 }");
    Project::new(&text.replace("{url}", &crm.url()))
}

fn assert_said(said: &str, parts: &[&str], fault: Fault) {
    for part in [&["GET http://", "/odata/Accounts"], parts].concat() {
        assert!(said.contains(part), "{fault:?}: no `{part}` in: {said}");
    }
}

/// Changes of all three kinds in every set.
fn change_something(crm: &SampleCrm) {
    for set in Set::ALL {
        let keys = crm.keys(set);
        crm.write(
            set,
            &keys[1],
            &json!({ "Status": "new", "Name": "New", "LastName": "New" }),
        );
        assert!(crm.delete(set, &keys[2]));
    }
    crm.write(Set::Orders, "999999", &json!({ "Currency": "EUR", "Total": 5, "Status": "open", "AccountId": null, "ContactId": null, "OrderDate": "2026-01-01" }));
}

/// Asserts that all maps but `accounts` are equal to their sources.
fn assert_neighbours_equal(crm: &SampleCrm, deployment: &Deployment) {
    for set in [Set::Contacts, Set::Orders] {
        let found = differences_of(set, crm, &deployment.project.warehouse());
        assert!(found.is_empty(), "{found:#?}");
    }
}

async fn assert_well(crm: &SampleCrm, deployment: &Deployment) {
    assert_equal(crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
    for map in ["accounts", "contacts", "orders"] {
        assert_eq!(deployment.state(map).await, MapState::Running);
        assert_eq!(deployment.failures(map).await, []);
    }
}

#[tokio::test]
async fn a_load_waits_for_what_passes_and_goes_on_where_it_was() {
    for (fault, said) in PASSING {
        // At its very beginning, and with one page read.
        for after in [0, 2] {
            let crm = crm(90, 0).await;
            let deployment = Deployment::open(paged(&crm));
            crm.break_set(Set::Accounts, *fault, after, FOREVER);
            for map in deployment.home.definition.maps.keys() {
                deployment.home.operations.load(map).await.unwrap();
            }
            for map in ["contacts", "orders"] {
                deployment.until(map, MapState::Running).await;
            }
            assert_neighbours_equal(&crm, &deployment);
            let status = deployment.status("accounts").await;
            let trouble = status.trouble.expect("a load that waits");
            assert_said(&trouble.message, said, *fault);
            assert!(trouble.tries > 0 && trouble.next >= trouble.since);
            assert!(
                matches!(status.state, MapState::Stopped | MapState::Initializing),
                "{fault:?}: {}",
                status.state
            );

            crm.heal();
            deployment.until("accounts", MapState::Running).await;
            deployment.run_dry().await;
            assert_eq!(deployment.status("accounts").await.trouble, None);
            assert_well(&crm, &deployment).await;
        }
    }
}

#[tokio::test]
async fn a_pull_waits_for_what_passes_and_misses_nothing() {
    for (fault, said) in PASSING {
        let crm = small_crm().await;
        let deployment = Deployment::open(Project::demo(&crm.url()));
        deployment.load_all().await;
        let rows = deployment.query("SELECT count(*) FROM accounts");
        change_something(&crm);
        crm.break_set(Set::Accounts, *fault, 0, FOREVER);
        deployment.live(Duration::from_mins(5)).await;
        assert_neighbours_equal(&crm, &deployment);
        let status = deployment.status("accounts").await;
        assert_said(
            &status.pull.error.expect("a pull that failed"),
            said,
            *fault,
        );
        assert_eq!((status.state, status.pull.failed), (MapState::Running, 1));
        assert_eq!(
            deployment.query("SELECT count(*) FROM accounts"),
            rows,
            "{fault:?} must not delete a row"
        );

        crm.heal();
        deployment.live(Duration::from_mins(5)).await;
        let status = deployment.status("accounts").await;
        assert_eq!((status.pull.failed, status.pull.error), (0, None));
        assert_well(&crm, &deployment).await;
    }
}

#[tokio::test]
async fn a_source_that_is_down_for_an_hour_is_asked_seldom_and_caught_up_with() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load(&["accounts"]).await;
    change_something(&crm);
    deployment
        .home
        .operations
        .load(&name("contacts"))
        .await
        .unwrap();
    crm.break_pages(Fault::ServerError, FOREVER);
    let before = [Set::Accounts, Set::Contacts].map(|set| crm.pages_served(set));
    for _ in 0..120 {
        deployment.live(Duration::from_secs(30)).await;
    }
    let pulls = crm.pages_served(Set::Accounts) - before[0];
    let loads = crm.pages_served(Set::Contacts) - before[1];
    // Each attempt asks three times within a second.
    assert!(
        (30..=120).contains(&pulls),
        "the pull has asked {pulls} times"
    );
    assert!(
        (30..=240).contains(&loads),
        "the load has asked {loads} times"
    );
    assert_eq!(deployment.state("accounts").await, MapState::Running);

    crm.heal();
    deployment.live(Duration::from_mins(5)).await;
    deployment.until("contacts", MapState::Running).await;
    deployment.load(&["orders"]).await;
    assert_well(&crm, &deployment).await;
}

#[tokio::test]
async fn retry_after_is_honoured_to_the_second() {
    for fault in [Fault::Busy(120), Fault::Throttled(120)] {
        let crm = small_crm().await;
        let deployment = Deployment::open(Project::demo(&crm.url()));
        deployment.load(&["accounts"]).await;
        change_something(&crm);
        let asked = || [Set::Accounts, Set::Orders].map(|set| crm.pages_served(set));
        let before = asked();
        for set in [Set::Accounts, Set::Orders] {
            crm.break_set(set, fault, 0, 1);
        }
        deployment
            .home
            .operations
            .load(&name("orders"))
            .await
            .unwrap();
        deployment.pull(&["accounts"]).await;
        assert_eq!(asked(), before.map(|n| n + 1), "{fault:?}");
        for _ in 0..119 {
            deployment.live(Duration::from_secs(1)).await;
        }
        assert_eq!(asked(), before.map(|n| n + 1), "{fault:?}: asked too early");
        deployment.live(Duration::from_secs(1)).await;
        deployment.until("orders", MapState::Running).await;
        deployment.load(&["contacts"]).await;
        assert_well(&crm, &deployment).await;
    }
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for_within_the_call() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    change_something(&crm);
    let before = deployment.home.clock.now();
    crm.break_set(Set::Accounts, Fault::Busy(2), 0, 2);
    deployment.pull(&["accounts", "contacts", "orders"]).await;
    let waited = deployment.home.clock.now().duration_since(before);
    assert_eq!(waited.as_secs(), 4, "twice two seconds");
    assert_eq!(deployment.status("accounts").await.pull.failed, 0);
    assert_well(&crm, &deployment).await;
}

/// The demo with a client id and a token service.
fn with_tokens(crm: &SampleCrm, tokens: &Service) -> Project {
    let auth = format!(
        "url: {{url}}\n    auth: {{ oauth2: {{ token_url: {}/token, client: syncline, secret: secret://crm }} }}",
        tokens.url()
    );
    let text = DEMO
        .replace("url: {url}", &auth)
        .replace("{url}", &crm.url());
    let project = Project::new(&text);
    project.secret("crm", "client-secret");
    project
}

#[tokio::test]
async fn a_token_that_was_withdrawn_is_replaced_by_a_fresh_one() {
    let issued = std::sync::atomic::AtomicUsize::new(0);
    let tokens = Service::start(move |_| {
        let n = issued.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let token =
            json!({ "access_token": format!("t{n}"), "token_type": "bearer", "expires_in": 3600 });
        (200, token.to_string().into_bytes())
    })
    .await;
    let crm = small_crm().await;
    crm.require_token("t1");
    let deployment = Deployment::open(with_tokens(&crm, &tokens));
    deployment.load_all().await;
    assert_eq!(tokens.asked().len(), 1, "one token serves all maps");
    change_something(&crm);
    crm.require_token("t2");
    deployment.pull(&["accounts", "contacts", "orders"]).await;
    assert_eq!(tokens.asked().len(), 2, "one refusal makes one request");
    assert_well(&crm, &deployment).await;
}

#[tokio::test]
async fn a_token_that_expires_within_a_load_or_a_pull_makes_it_begin_anew() {
    for mode in ["auto", "cursor"] {
        let crm = crm(90, 0).await;
        let pull = format!("pull: {{ every: 5m, page_size: 10, mode: {mode} }}");
        let text = DEMO.replace("pull: { every: 5m }", &pull);
        let deployment = Deployment::open(Project::new(&text.replace("{url}", &crm.url())));
        // A request for the newest record, one page, and then the token of the second is gone.
        crm.break_set(Set::Accounts, Fault::Gone, 2, 1);
        deployment.load_all().await;
        assert_well(&crm, &deployment).await;

        for key in crm.keys(Set::Accounts) {
            crm.write(Set::Accounts, &key, &json!({ "Name": "Renamed" }));
        }
        let before = crm.pages_served(Set::Accounts);
        crm.break_set(Set::Accounts, Fault::Gone, usize::from(mode == "cursor"), 1);
        deployment.pull(&["accounts"]).await;
        deployment.live(Duration::from_secs(2)).await;
        deployment.run_dry().await;
        assert!(crm.pages_served(Set::Accounts) > before + 2);
        assert_well(&crm, &deployment).await;
    }
}

#[tokio::test]
async fn a_wrong_secret_stops_a_load_and_only_delays_pulls() {
    let crm = small_crm().await;
    crm.require_token("right");
    let text = DEMO.replace(
        "url: {url}",
        "url: {url}\n    auth: { bearer: secret://crm }",
    );
    let project = Project::new(&text.replace("{url}", &crm.url()));
    project.secret("crm", "wrong");
    let deployment = Deployment::open(project);
    for map in deployment.home.definition.maps.keys() {
        deployment.home.operations.load(map).await.unwrap();
    }
    deployment.settle().await;
    for map in ["accounts", "contacts", "orders"] {
        let status = deployment.status(map).await;
        let reason = status.reason.unwrap();
        assert_eq!(status.state, MapState::Broken);
        assert!(
            reason.contains("answered 401") && reason.contains("`auth` and its secret"),
            "{reason}"
        );
    }
    deployment.project.secret("crm", "right");
    deployment.clock.advance(Duration::from_secs(10));
    deployment.load_all().await;
    assert_well(&crm, &deployment).await;

    // Webhooks go on while the source does not let pulls in, so the map must not stop.
    change_something(&crm);
    crm.require_token("rotated");
    for _ in 0..12 {
        deployment.live(Duration::from_mins(5)).await;
    }
    let status = deployment.status("accounts").await;
    assert_eq!(status.state, MapState::Running);
    assert!(status.pull.failed > 5 && status.pull.error.unwrap().contains("answered 401"));
    deployment.project.secret("crm", "rotated");
    deployment.live(Duration::from_mins(5)).await;
    assert_well(&crm, &deployment).await;
}
