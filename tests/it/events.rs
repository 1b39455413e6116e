//! The sample events: each is of its AWS type and does what its name says.

use std::{collections::BTreeSet, fmt::Debug, fs, path::PathBuf, time::Duration};

use aws_lambda_events::{
    apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse},
    encodings::Body,
    eventbridge::EventBridgeEvent,
    sqs::{SqsBatchResponse, SqsEvent},
};
use model::{Failure, FailureStatus, MapState};
use ports::FailureFilter;
use recurring_pull::Tick;
use sample_crm::{SampleCrm, Set};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::support::{Deployment, Project, small_crm};

/// All events there are. Whoever adds a file says below what comes of it.
const CASES: [&str; 33] = [
    "apply/empty",
    "apply/malformed",
    "apply/many",
    "apply/replayed",
    "apply/valid",
    "initial-load/empty",
    "initial-load/malformed",
    "initial-load/many",
    "initial-load/replayed",
    "initial-load/scheduled",
    "initial-load/valid",
    "recurring-pull/empty",
    "recurring-pull/malformed",
    "recurring-pull/many",
    "recurring-pull/replayed",
    "recurring-pull/scheduled",
    "recurring-pull/valid",
    "retry/dead",
    "retry/empty",
    "retry/jobs",
    "retry/malformed",
    "retry/many",
    "retry/replayed",
    "retry/resolved",
    "retry/scheduled",
    "retry/settled",
    "retry/valid",
    "webhook-intake/empty",
    "webhook-intake/forged",
    "webhook-intake/malformed",
    "webhook-intake/many",
    "webhook-intake/replayed",
    "webhook-intake/valid",
];

fn folder() -> PathBuf {
    crate::support::package().join("../events")
}

fn event(case: &str) -> Value {
    let file = folder().join(format!("{case}.json"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{case}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{case}: {error}"))
}

/// Cases of one function.
fn cases(function: &str) -> impl Iterator<Item = &'static str> {
    CASES
        .into_iter()
        .filter(move |case| case.split('/').next() == Some(function))
}

/// The event as its type has it, which must have all of it.
fn typed<T: DeserializeOwned + Serialize + PartialEq + Debug>(case: &str, event: &Value) -> T {
    let typed: T = serde_json::from_value(event.clone()).unwrap_or_else(|e| panic!("{case}: {e}"));
    let written = serde_json::to_value(&typed).unwrap();
    assert_inside(case, event, &written);
    let again: T = serde_json::from_value(written).unwrap();
    assert_eq!(again, typed, "{case}");
    typed
}

/// Asserts that everything in `part` is in `whole`: a field that AWS does not have would be
/// lost on the way.
fn assert_inside(at: &str, part: &Value, whole: &Value) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (name, value) in part {
                let there = whole.get(name).unwrap_or(&Value::Null);
                assert_inside(&format!("{at}.{name}"), value, there);
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            assert_eq!(part.len(), whole.len(), "{at}");
            for (index, (part, whole)) in part.iter().zip(whole).enumerate() {
                assert_inside(&format!("{at}[{index}]"), part, whole);
            }
        }
        _ => assert_eq!(part, whole, "{at}"),
    }
}

/// The deployment that the events are made for, on a CRM.
fn deployment(crm: &SampleCrm) -> Deployment {
    let text = fs::read_to_string(folder().join("syncline.yaml")).unwrap();
    let project = Project::new(&text);
    project.secret("crm-url", &crm.url());
    project.secret("crm-hook", "an example, never a secret");
    Deployment::open(project)
}

/// The same with both maps loaded.
async fn loaded(crm: &SampleCrm) -> Deployment {
    let deployment = deployment(crm);
    deployment.load_all().await;
    deployment
}

/// Messages that come back.
fn back(response: &SqsBatchResponse) -> Vec<&str> {
    let items = response.batch_item_failures.iter();
    items.map(|item| &item.item_identifier[24..]).collect()
}

/// Messages of a case that a newer version may be able to read: they come back until they are dead
/// letters.
fn unread(case: &str) -> &'static [&'static str] {
    match case {
        "initial-load/malformed" => &["000000000004"],
        "recurring-pull/malformed" => &["000000000003", "000000000004"],
        "retry/malformed" => &["000000000005", "000000000006"],
        "retry/jobs" => &["00000000000b"],
        _ => &[],
    }
}

async fn failures(deployment: &Deployment) -> Vec<Failure> {
    let store = &deployment.home.operations.failures;
    let page = store.query(&FailureFilter::default(), None, 100).await;
    let stored = page.unwrap().failures.into_iter();
    stored.map(|stored| stored.value).collect()
}

#[test]
fn every_file_has_an_expectation_and_the_other_way_round() {
    let mut found = BTreeSet::new();
    for function in fs::read_dir(folder()).unwrap() {
        let function = function.unwrap().path();
        if !function.is_dir() {
            continue;
        }
        for file in fs::read_dir(&function).unwrap() {
            let file = file.unwrap().path();
            assert_eq!(file.extension().unwrap(), "json", "{}", file.display());
            let name =
                |path: &std::path::Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
            found.insert(format!("{}/{}", name(&function), name(&file)));
        }
    }
    assert_eq!(found, CASES.map(str::to_owned).into());
}

async fn take(deployment: &Deployment, case: &str) -> (i64, Value) {
    let event: ApiGatewayV2httpRequest = typed(case, &event(case));
    let response: ApiGatewayV2httpResponse = deployment.home.functions.intake.handle(event).await;
    let Some(Body::Text(body)) = response.body else {
        panic!("{case}: no body")
    };
    (response.status_code, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn webhook_intake() {
    let crm = small_crm().await;
    for case in cases("webhook-intake") {
        let deployment = loaded(&crm).await;
        if case.ends_with("replayed") {
            assert_eq!(take(&deployment, "webhook-intake/valid").await.0, 202);
        }
        let (status, body) = take(&deployment, case).await;
        let said = (
            status,
            &body["accepted"],
            &body["duplicates"],
            &body["error"]["code"],
        );
        let none = &Value::Null;
        let (accepted, expected) = match case {
            "webhook-intake/valid" => (1, (202, &json!(1), &json!(0), none)),
            "webhook-intake/many" => (2, (202, &json!(2), &json!(0), none)),
            "webhook-intake/empty" => (0, (202, &json!(0), &json!(0), none)),
            "webhook-intake/replayed" => (1, (202, &json!(0), &json!(1), none)),
            "webhook-intake/malformed" => (0, (400, none, none, &json!("malformed-json"))),
            "webhook-intake/forged" => (0, (401, none, none, &json!("signature-mismatch"))),
            other => panic!("{other} has no expectation"),
        };
        assert_eq!(said, expected, "{case}");
        assert_eq!(deployment.books("customers").await.in_flight, accepted);
        deployment.settle().await;
        let rows = deployment.query("SELECT count(*) FROM customers");
        assert_eq!(rows, [[(20 + accepted).to_string()]], "{case}");
    }
}

async fn pull(deployment: &Deployment, case: &str) -> (usize, SqsBatchResponse) {
    let event = event(case);
    let pull = &deployment.home.functions.pull;
    if event.get("Records").is_some() {
        let deadline = deployment.home.clock.now() + Duration::from_mins(1);
        return (0, pull.handle(typed(case, &event), deadline).await);
    }
    if event.get("detail-type").is_some() {
        typed::<EventBridgeEvent>(case, &event);
    }
    let tick: Tick = serde_json::from_value(event).unwrap();
    (pull.tick(tick).await.unwrap(), SqsBatchResponse::default())
}

#[tokio::test]
async fn recurring_pull() {
    for case in cases("recurring-pull") {
        let crm = small_crm().await;
        let deployment = loaded(&crm).await;
        deployment.clock.advance(Duration::from_mins(6));
        let customer = crm.keys(Set::Accounts)[3].clone();
        crm.write(Set::Accounts, &customer, &json!({ "Name": "changed" }));
        crm.write(Set::Orders, "100003", &json!({ "Status": "changed" }));
        let (asked, response) = pull(&deployment, case).await;
        assert_eq!(back(&response), unread(case), "{case}");
        deployment.settle().await;
        let changed = deployment.query(
            "SELECT (SELECT count(*) FROM customers WHERE name = 'changed'), (SELECT count(*) FROM orders WHERE status = 'changed')",
        );
        let (due, expected) = match case {
            "recurring-pull/valid" => (1, ["1", "0"]),
            "recurring-pull/scheduled" => (2, ["1", "1"]),
            "recurring-pull/many" => (0, ["1", "1"]),
            "recurring-pull/replayed" => (0, ["0", "1"]),
            "recurring-pull/empty" | "recurring-pull/malformed" => (0, ["0", "0"]),
            other => panic!("{other} has no expectation"),
        };
        assert_eq!(
            (asked, changed),
            (due, vec![expected.map(str::to_owned).into()]),
            "{case}"
        );
        deployment.assert_balanced().await;
    }
}

#[tokio::test]
async fn initial_load() {
    let crm = small_crm().await;
    for case in cases("initial-load") {
        let deployment = deployment(&crm);
        if case == "initial-load/scheduled" {
            // Whatever it says: it is the template's, and means that it is time to look around.
            assert_eq!(event(case), json!({ "watch": true }));
            deployment.home.functions.load.watch().await.unwrap();
        } else {
            let event: SqsEvent = typed(case, &event(case));
            let deadline = deployment.home.clock.now() + Duration::from_mins(1);
            let response = deployment.home.functions.load.handle(event, deadline).await;
            assert_eq!(back(&response), unread(case), "{case}");
        }
        deployment.run_dry().await;
        let (customers, orders) = match case {
            "initial-load/valid" | "initial-load/replayed" => (true, false),
            "initial-load/many" => (true, true),
            "initial-load/empty" | "initial-load/malformed" | "initial-load/scheduled" => {
                (false, false)
            }
            other => panic!("{other} has no expectation"),
        };
        for (map, is_loaded) in [("customers", customers), ("orders", orders)] {
            let state = deployment.state(map).await;
            let expected = if is_loaded {
                let rows = deployment.query(&format!("SELECT count(*) FROM {map}"));
                assert_eq!(rows, [["20"]], "{case}: {map}");
                MapState::Running
            } else {
                MapState::Stopped
            };
            assert_eq!(state, expected, "{case}: {map}");
        }
        deployment.assert_balanced().await;
    }
}

#[tokio::test]
async fn apply() {
    let crm = small_crm().await;
    for case in cases("apply") {
        let deployment = loaded(&crm).await;
        let event: SqsEvent = typed(case, &event(case));
        let deadline = deployment.home.clock.now() + Duration::from_mins(1);
        let response = deployment
            .home
            .functions
            .apply
            .handle(event, deadline)
            .await;
        assert_eq!(back(&response), [""; 0], "{case}");
        deployment.settle().await;
        let new = deployment.query(
            "SELECT name FROM customers WHERE id IN ('6d81597f-0f9f-4711-8122-000d3aa2331c', '7e92608a-1a0a-4822-9233-111e4bb3442d')
             UNION ALL SELECT order_no || ' ' || total FROM orders WHERE order_no > 900000",
        );
        let new: Vec<String> = new.into_iter().flatten().collect();
        let failed: Vec<String> = failures(&deployment)
            .await
            .into_iter()
            .map(|failure| failure.cause.code)
            .collect();
        let (rows, codes): (&[&str], &[&str]) = match case {
            "apply/valid" | "apply/replayed" => (&["Alpine Ltd"], &[]),
            "apply/many" => (
                &["Alpine Group", "O'Hara & Søn", "900002 0.1"],
                &["required-null"],
            ),
            "apply/empty" => (&[], &[]),
            "apply/malformed" => (&["Alpine Ltd"], &[Failure::UNREADABLE; 3]),
            other => panic!("{other} has no expectation"),
        };
        assert_eq!(
            (&new[..], &failed[..]),
            (&owned(rows)[..], &owned(codes)[..]),
            "{case}"
        );
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

async fn retry_with(deployment: &Deployment, case: &str) -> SqsBatchResponse {
    let retry = &deployment.home.functions.retry;
    let event = event(case);
    if event.get("detail-type").is_some() {
        typed::<EventBridgeEvent>(case, &event);
        retry.tick(deployment.deadline()).await.unwrap();
        retry.tidy(deployment.deadline()).await.unwrap();
        return SqsBatchResponse::default();
    }
    let event: SqsEvent = typed(case, &event);
    let source = event
        .records
        .first()
        .and_then(|record| record.event_source_arn.clone());
    match source.as_deref().and_then(|arn| arn.rsplit('-').next()) {
        Some("failures") | None => retry.handle_reports(event, deployment.deadline()).await,
        Some("retries") => retry.handle_jobs(event, deployment.deadline()).await,
        Some("dead") => retry.handle_dead(event, deployment.deadline()).await,
        Some(other) => panic!("{case} comes from {other}"),
    }
}

#[tokio::test]
async fn retry() {
    let crm = small_crm().await;
    for case in cases("retry") {
        let deployment = loaded(&crm).await;
        if matches!(case, "retry/resolved" | "retry/jobs" | "retry/scheduled") {
            retry_with(&deployment, "retry/valid").await;
        }
        let response = retry_with(&deployment, case).await;
        deployment.settle().await;
        let stored = failures(&deployment).await;
        let open = stored
            .iter()
            .filter(|failure| failure.status == FailureStatus::Open);
        let attempts: Vec<u32> = stored.iter().map(|failure| failure.attempts).collect();
        let (ids, unresolved, tried): (&[&str], usize, &[u32]) = match case {
            "retry/valid" | "retry/scheduled" | "retry/replayed" | "retry/settled" => {
                (&[], 1, &[1])
            }
            "retry/many" => (&[], 3, &[1, 1, 1]),
            "retry/resolved" => (&[], 0, &[1]),
            "retry/empty" => (&[], 0, &[]),
            "retry/malformed" => (unread(case), 1, &[1]),
            "retry/jobs" => (unread(case), 1, &[2]),
            "retry/dead" => (&[], 2, &[model::MAX_RECEIVES; 2]),
            other => panic!("{other} has no expectation"),
        };
        let found = (back(&response), open.count(), attempts);
        assert_eq!(found, (ids.to_vec(), unresolved, tried.to_vec()), "{case}");
    }
}
