//! What breaks a worker, what cannot be read, and what people do about failures.

use bytes::Bytes;
use model::{
    Change, ErrorClass, Failure, FailureStatus, Lane, Op, Origin, PackHead, PackId, RunId,
    encode_pack,
};
use operations::{Edit, OperationError, Selection};
use ports::{FailureFilter, Outgoing, PackEntry};
use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Deployment, Project, Up, all, assert_equal, crm, differences_of, name, settled, small_crm,
};

/// Puts the changes of a pull on the live lane in one pack and leaves them there.
async fn queue_changes(deployment: &Deployment, poison: &[usize], crm: &SampleCrm) -> Vec<String> {
    let keys = crm.keys(Set::Accounts);
    for (at, key) in keys.iter().enumerate() {
        let what = if poison.contains(&at) {
            "deadly"
        } else {
            "harmless"
        };
        crm.write(
            Set::Accounts,
            key,
            &json!({ "Name": format!("{what} {at}") }),
        );
    }
    deployment
        .home
        .operations
        .pull(&name("accounts"))
        .await
        .unwrap();
    local::deliver_visible(&deployment.home).await;
    assert_eq!(
        deployment.books("accounts").await.in_flight,
        keys.len() as u64
    );
    poison.iter().map(|at| keys[*at].clone()).collect()
}

/// Runs `up` with a poison, again and again, until nothing is on its way any more. Returns how
/// often it died.
async fn survive(project: &Project, poison: &str) -> usize {
    for deaths in 0..40 {
        let mut up = Up::spawn(project, &[("SYNCLINE_CRASH_ON", poison)]);
        tokio::select! {
            code = up.ended() => assert_eq!(code, None, "it was killed"),
            () = settled(project) => return deaths,
        }
    }
    panic!("it dies and dies");
}

#[tokio::test]
async fn records_that_kill_the_worker_end_as_one_failure_each_and_their_neighbours_land() {
    for poison in [vec![7], vec![0, 19]] {
        let crm = small_crm().await;
        let deployment = Deployment::open(Project::demo(&crm.url()));
        deployment.load_all().await;
        let deadly = queue_changes(&deployment, &poison, &crm).await;
        let project = deployment.project;
        let deaths = survive(&project, "deadly").await;
        assert!(
            (4..=3 + 7 * poison.len()).contains(&deaths),
            "{deaths} deaths"
        );

        let deployment = Deployment::open(project);
        let mut failures = deployment.failures("accounts").await;
        failures.sort_by_key(|failure| {
            deadly
                .iter()
                .position(|key| Some(key) == failure.key.as_ref())
        });
        assert_eq!(failures.len(), deadly.len());
        for (failure, key) in failures.iter().zip(&deadly) {
            assert_eq!(failure.key.as_ref(), Some(key));
            assert_eq!(
                (failure.cause.code.as_str(), failure.status),
                ("poison", FailureStatus::Open)
            );
            assert!(failure.raw.contains("deadly"), "it is kept whole");
        }
        deployment.assert_balanced().await;
        // Where it is not deadly it lands, and so do all the others.
        deployment.retry_all().await;
        assert_eq!(deployment.failures("accounts").await, []);
        assert_equal(&crm, &deployment.project.warehouse());
        deployment.assert_balanced().await;
    }
}

/// Puts a pack on the live lane whose version is not known here.
async fn send_newer(deployment: &Deployment, rows: &[String]) {
    let map = name("orders");
    let head = PackHead {
        id: PackId::from_uuid(Uuid::from_u128(77)),
        run: RunId::live(&map),
        map: map.clone(),
        origin: Origin::Pull,
        generation: 0,
        created: deployment.home.clock.now(),
        trace: None,
    };
    let change = |row: &String| Change {
        op: Op::Upsert,
        observed: 1,
        raw: Bytes::from(row.clone()),
        failure: None,
    };
    let changes: Vec<Change> = rows.iter().map(change).collect();
    let pack = encode_pack(head.clone(), &changes);
    let entry = PackEntry {
        id: head.id,
        map: map.clone(),
        run: head.run,
        count: pack.count,
    };
    let message = Outgoing {
        group: Some(map),
        pack: Some(entry),
        ..Outgoing::new(pack.body.replace("pack.v1", "pack.v2"))
    };
    let queue = deployment.home.operations.outbox.queue();
    queue.send(Lane::Live.queue(), vec![message]).await.unwrap();
    deployment.settle().await;
}

#[tokio::test]
async fn a_message_of_a_newer_version_is_kept_and_opened_when_it_can_be_read() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    for (key, change) in [
        ("100001", json!({ "Status": "good" })),
        ("100002", json!({ "Currency": "Taler" })),
    ] {
        crm.write(Set::Orders, key, &change);
    }
    let rows = ["100001", "100002"].map(|key| crm.row(Set::Orders, key).unwrap().to_string());
    send_newer(&deployment, &rows).await;
    let operations = &deployment.home.operations;
    let message = deployment.failures("orders").await.remove(0);
    assert_eq!(
        (message.cause.code.as_str(), message.weight),
        (Failure::UNREADABLE, 2)
    );
    assert!(
        message.cause.message.contains("newer version of syncline"),
        "{}",
        message.cause.message
    );
    deployment.assert_balanced().await;

    // This version does not learn it by trying again.
    let one = Selection::One(message.id.to_string());
    operations.retry_failures(&one).await.unwrap();
    deployment.settle().await;
    let still = deployment.failures("orders").await.remove(0);
    assert_eq!(
        (still.id, still.status, still.attempts),
        (message.id, FailureStatus::Open, 2)
    );
    deployment.assert_balanced().await;

    // What an update would do: the message can be read, and one of its records is bad.
    let known = Edit::patch(r#"[{"op":"replace","path":"/type","value":"pack.v1"}]"#).unwrap();
    operations.edit_failures(&one, &known).await.unwrap();
    operations.retry_failures(&one).await.unwrap();
    deployment.run_dry().await;
    let failures = deployment.failures("orders").await;
    assert_eq!(failures.len(), 1);
    assert_eq!(
        (failures[0].key.as_deref(), failures[0].cause.code.as_str()),
        (Some("100002"), "unmapped-value")
    );
    deployment.assert_balanced().await;
    let found = deployment.query("SELECT status FROM orders WHERE order_no = 100001");
    assert_eq!(found, [["good"]]);
}

/// A deployment with some failures of two kinds.
async fn with_failures() -> (SampleCrm, Deployment) {
    let crm = crm(90, 9).await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    (crm, deployment)
}

async fn count(deployment: &Deployment, filter: FailureFilter) -> u64 {
    deployment
        .home
        .operations
        .count_failures(&filter)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_correction_that_does_not_fit_changes_nothing() {
    let (_crm, deployment) = with_failures().await;
    let operations = &deployment.home.operations;
    let before = deployment.failures("orders").await;
    let patch = |patch: Value| Edit::patch(&patch.to_string()).unwrap();
    let fits_none = [
        json!([{ "op": "replace", "path": "/Nothing/here", "value": 1 }]),
        json!([{ "op": "test", "path": "/Currency", "value": "Groschen" }]),
        json!([{ "op": "remove", "path": "/Gone" }]),
        // It would fit, but for its last step.
        json!([{ "op": "replace", "path": "/Currency", "value": "EUR" }, { "op": "remove", "path": "/Gone" }]),
        // It fits some of them and not all.
        json!([{ "op": "test", "path": "/Currency", "value": "Taler" }, { "op": "replace", "path": "/Currency", "value": "EUR" }]),
    ];
    for edit in fits_none {
        let refused = operations.edit_failures(&all(), &patch(edit)).await;
        let error = refused.unwrap_err();
        assert!(matches!(error, OperationError::Patch { .. }), "{error}");
    }
    assert_eq!(deployment.failures("orders").await, before);
    let log = operations.audit_log(100).await.unwrap();
    assert!(
        log.iter().all(|entry| entry.action != "failures.edit"),
        "{log:?}"
    );
}

fn of(map: &str) -> FailureFilter {
    FailureFilter {
        map: Some(name(map)),
        ..FailureFilter::unresolved()
    }
}

#[tokio::test]
async fn retry_takes_one_and_only_that() {
    let (_crm, deployment) = with_failures().await;
    let operations = &deployment.home.operations;
    for map in ["accounts", "contacts", "orders"] {
        assert_eq!(count(&deployment, of(map)).await, 3);
    }
    let id = deployment.failures("orders").await.remove(0).id.to_string();
    let (one, short) = (
        Selection::One(id.clone()),
        Selection::One(id[..13].to_owned()),
    );
    let merge = Edit::merge(r#"{"Currency":"EUR","Total":1}"#).unwrap();
    operations.edit_failures(&one, &merge).await.unwrap();
    assert_eq!(operations.retry_failures(&short).await.unwrap().len(), 1);
    deployment.run_dry().await;
    assert_eq!(count(&deployment, FailureFilter::unresolved()).await, 8);
    let again = operations.retry_failures(&one).await.unwrap_err();
    assert!(
        again
            .to_string()
            .contains("resolved: nothing is left to do"),
        "{again}"
    );
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn retry_takes_a_group_or_what_matches_or_all() {
    let (crm, deployment) = with_failures().await;
    let operations = &deployment.home.operations;
    let groups = operations
        .failure_groups(&of("contacts"), 10)
        .await
        .unwrap();
    let group = Selection::Matching(FailureFilter {
        fingerprint: Some(groups[0].group.clone()),
        ..FailureFilter::unresolved()
    });
    let short = Edit::merge(r#"{"Email":"short@example.com"}"#).unwrap();
    assert_eq!(
        operations
            .edit_failures(&group, &short)
            .await
            .unwrap()
            .count,
        3
    );
    assert_eq!(operations.retry_failures(&group).await.unwrap().len(), 3);
    deployment.run_dry().await;
    assert_eq!(count(&deployment, of("contacts")).await, 0);

    let mapping = Selection::Matching(FailureFilter {
        class: Some(ErrorClass::Mapping),
        ..of("accounts")
    });
    let named = Edit::merge(r#"{"Name":"Nameless"}"#).unwrap();
    assert_eq!(
        operations
            .edit_failures(&mapping, &named)
            .await
            .unwrap()
            .count,
        3
    );
    assert_eq!(operations.retry_failures(&mapping).await.unwrap().len(), 3);
    deployment.run_dry().await;
    assert_eq!(count(&deployment, of("accounts")).await, 0);

    // All that are left fail again as they are.
    assert_eq!(operations.retry_failures(&all()).await.unwrap().len(), 3);
    deployment.run_dry().await;
    let left = deployment.failures("orders").await;
    assert!(
        left.iter().all(|failure| failure.attempts == 2),
        "{left:#?}"
    );
    deployment.assert_balanced().await;
    for set in [Set::Accounts, Set::Contacts] {
        let rows = differences_of(set, &crm, &deployment.project.warehouse());
        assert_eq!(
            rows.len(),
            6,
            "three rows differ from the source by their corrections"
        );
    }
}

#[tokio::test]
async fn discarding_wants_a_reason_and_keeps_the_books() {
    let (_crm, deployment) = with_failures().await;
    let operations = &deployment.home.operations;
    for reason in ["", "  \n"] {
        let refused = operations.discard_failures(&all(), reason).await;
        assert!(matches!(refused, Err(OperationError::NoReason)));
    }
    assert_eq!(count(&deployment, FailureFilter::unresolved()).await, 9);
    assert_eq!(
        operations
            .discard_failures(&all(), "agreed with sales")
            .await
            .unwrap()
            .count,
        9
    );
    assert_eq!(count(&deployment, FailureFilter::unresolved()).await, 0);
    let log = operations.audit_log(1).await.unwrap();
    assert_eq!(log[0].action, "failures.discard");
    assert_eq!(
        log[0].detail,
        json!({ "reason": "agreed with sales", "count": 9 })
    );
    deployment.assert_balanced().await;
    // A failure that is given up says so for as long as it is kept, and leaves right books.
    deployment
        .live(std::time::Duration::from_hours(31 * 24))
        .await;
    assert_eq!(count(&deployment, FailureFilter::default()).await, 0);
    deployment.assert_balanced().await;
}
