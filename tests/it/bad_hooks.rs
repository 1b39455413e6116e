//! Webhooks whose bodies are not what they should be: refused with a reason while the sender
//! can still do something, a visible failure where only the record is bad.

use model::{FailureStatus, MapState};
use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::{
    DEMO, Deployment, HOOK_SECRET, Project, assert_equal, name, now, send, signed, small_crm,
};

async fn loaded(crm: &SampleCrm) -> Deployment {
    let deployment = Deployment::open(Project::demo(&crm.url()));
    deployment.load_all().await;
    deployment
}

/// Sends bytes of which a signature by the library is made as if they were text.
async fn post(deployment: &Deployment, id: &str, body: &[u8]) -> (i64, Value) {
    let now = deployment.home.clock.now().as_second();
    let signature = Webhook::new(HOOK_SECRET)
        .unwrap()
        .sign(id, now, body)
        .unwrap();
    let headers = [
        ("webhook-id", id),
        ("webhook-timestamp", &now.to_string()),
        ("webhook-signature", &signature),
    ];
    deployment.post("crm", &headers, body).await
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused_and_the_sender_told_why() {
    let crm = small_crm().await;
    let deployment = loaded(&crm).await;
    let read = deployment.books("orders").await.read;
    let cases: [(&[u8], &str); 5] = [
        (b"", "EOF"),
        (
            b"{\"type\":\"order.updated\",\"data\":{\"OrderNo\":1",
            "EOF",
        ),
        (b"<order/>", "expected value"),
        (b"{} {}", "trailing characters"),
        (b"{\"type\": order}", "expected value"),
    ];
    for (at, (body, said)) in cases.into_iter().enumerate() {
        assert_malformed(&post(&deployment, &format!("msg_{at}"), body).await, said);
    }
    assert_eq!(
        deployment.books("orders").await.read,
        read,
        "nothing of it was taken"
    );
}

fn assert_malformed((status, answer): &(i64, Value), said: &str) {
    assert_eq!(
        (*status, &answer["error"]["code"]),
        (400, &json!("malformed-json"))
    );
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(said), "{message}");
}

#[tokio::test]
async fn a_body_in_another_encoding_is_refused() {
    // The library that signs as senders do signs text only.
    let signed = "scheme: standard\n      secret: secret://crm-hook";
    let text = DEMO.replace(signed, "scheme: unsigned\n      allow_unsigned: true");
    let deployment = Deployment::open(Project::new(&text.replace("{url}", "http://localhost")));
    for body in [
        &b"{\"type\":\"order.updated\",\"data\":{\"Status\":\"M\xfcller\"}}"[..],
        b"\xff\xfe{\x00}\x00",
    ] {
        assert_malformed(
            &deployment.post("crm", &[], body).await,
            "JSON that everybody reads",
        );
    }
    assert_eq!(
        deployment.books("orders").await.read,
        0,
        "nothing of it was taken"
    );
}

#[tokio::test]
async fn nothing_of_a_body_is_looked_at_before_its_signature() {
    let crm = small_crm().await;
    let deployment = loaded(&crm).await;
    let now = deployment.home.clock.now().as_second().to_string();
    for body in [&b"<order/>"[..], b"\xff", &b"[".repeat(1_000_000)] {
        let headers = [
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", now.as_str()),
            (
                "webhook-signature",
                "v1,bm90IHRoZSBzaWduYXR1cmUgb2YgdGhpcyBib2R5IQ==",
            ),
        ];
        let (status, answer) = deployment.post("crm", &headers, body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (401, &json!("signature-mismatch"))
        );
    }
    let (status, answer) = deployment.post("crn", &[], b"{}").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("unknown-endpoint"))
    );
}

#[tokio::test]
async fn a_body_of_four_megabytes_is_taken_and_a_larger_one_is_not() {
    let crm = small_crm().await;
    let deployment = loaded(&crm).await;
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(4_100_000)
        .collect();
    crm.write(Set::Orders, "100001", &json!({ "Status": noise }));
    let event = json!({ "type": "order.updated", "data": crm.row(Set::Orders, "100001") });
    for duplicates in [0, 1, 1] {
        let (status, answer) = signed(&deployment, "msg_large", &event).await;
        assert_eq!(
            (status, &answer["duplicates"]),
            (202, &json!(duplicates)),
            "{answer}"
        );
    }
    let (status, answer) = post(&deployment, "msg_larger", &vec![b' '; 4_194_305]).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (413, &json!("body-too-large"))
    );
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("4194304 bytes"), "{message}");
    deployment.settle().await;
    assert_equal(&crm, &deployment.project.warehouse());
    let store = deployment.project.database(".syncline/syncline.db");
    let blobs: i64 = store
        .query_row("SELECT count(*) FROM blobs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(blobs, 0, "copies that were not taken leave nothing behind");
}

/// What a batch stands for can be far more than a function has memory for.
#[tokio::test]
async fn a_batch_of_very_large_records_is_opened_bit_by_bit() {
    const MEGABYTE: usize = 1_000_000;
    let crm = small_crm().await;
    let mut deployment = loaded(&crm).await;
    let switch = deployment.switch_targets(&["orders"]);
    let keys = crm.keys(Set::Orders);
    for key in &keys[..20] {
        crm.write(
            Set::Orders,
            key,
            &json!({ "Status": "x".repeat(3 * MEGABYTE) }),
        );
        let event = json!({ "type": "order.updated", "data": crm.row(Set::Orders, key) });
        let (status, answer) = signed(&deployment, &format!("msg_{key}"), &event).await;
        assert_eq!(status, 202, "{answer}");
    }
    deployment.settle().await;
    let largest = switch.largest() / MEGABYTE;
    assert!((10..40).contains(&largest), "{largest} MB in one write");
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

/// Bodies with a bad record in them, and the code of the failure that each becomes.
fn bad_inside() -> Vec<(String, &'static str)> {
    vec![
        (
            r#"{"type":"order.updated","data":{"OrderNo":null,"Status":"x"}}"#.to_owned(),
            "required-null",
        ),
        (
            r#"{"type":"order.updated","data":{"OrderNo":"A-1","Status":"x"}}"#.to_owned(),
            "wrong-type",
        ),
        (
            r#"{"type":"order.updated","data":{"OrderNo":1}}"#.to_owned(),
            "field-missing",
        ),
        (
            r#"{"type":"order.updated","data":"1"}"#.to_owned(),
            "malformed-record",
        ),
        (
            r#"{"type":"order.updated","date":{"OrderNo":1}}"#.to_owned(),
            "malformed-record",
        ),
        (
            r#"{"type":"order.deleted","data":{"OrderId":1}}"#.to_owned(),
            "field-missing",
        ),
    ]
}

#[tokio::test]
async fn a_record_that_is_bad_inside_is_taken_and_becomes_a_failure() {
    let crm = small_crm().await;
    let deployment = loaded(&crm).await;
    let bodies = bad_inside();
    for (at, (body, _)) in bodies.iter().enumerate() {
        let (status, answer) = post(&deployment, &format!("msg_{at}"), body.as_bytes()).await;
        assert_eq!(
            (status, &answer["accepted"]),
            (202, &json!(1)),
            "{at}: {answer}"
        );
    }
    deployment.settle().await;
    let failures = deployment.failures("orders").await;
    assert_eq!(failures.len(), bodies.len());
    for (body, code) in &bodies {
        let shows = |raw: &str| body.contains(raw) || raw == format!(r#"["unrecognised",{body}]"#);
        let found = failures
            .iter()
            .find(|failure| failure.cause.code == *code && shows(&failure.raw));
        assert!(found.is_some(), "no {code} of {body:.80}");
    }
    assert_eq!(deployment.state("orders").await, MapState::Running);
    send(
        &deployment,
        &json!({ "type": "order.updated", "data": crm.row(Set::Orders, "100001") }),
    )
    .await;
    deployment.settle().await;
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn an_event_without_its_record_is_a_failure_and_never_a_row_of_its_own_fields() {
    let crm = small_crm().await;
    let deployment = loaded(&crm).await;
    let before = deployment.query("SELECT * FROM orders ORDER BY order_no");
    for (kind, number) in [
        ("updated", 777_777),
        ("updated", 100_001),
        ("deleted", 100_001),
    ] {
        // The envelope has all that the map reads, and is not the record.
        let mut event = crm.row(Set::Orders, "100002").unwrap();
        event["type"] = json!(format!("order.{kind}"));
        event["OrderNo"] = json!(number);
        event["ModifiedAt"] = now(&deployment);
        send(&deployment, &event).await;
        deployment.settle().await;
        let failures = deployment.failures("orders").await;
        let shown = json!(["unrecognised", event]).to_string();
        let found = failures.iter().find(|failure| failure.raw == shown);
        let failure = found.expect("a failure that shows the event");
        assert_eq!(
            (failure.cause.code.as_str(), failure.status, &failure.key),
            ("malformed-record", FailureStatus::Open, &None)
        );
    }
    assert_eq!(deployment.failures("orders").await.len(), 3);
    let after = deployment.query("SELECT * FROM orders ORDER BY order_no");
    assert_eq!(after, before);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn what_two_readers_could_read_differently_is_refused() {
    let crm = small_crm().await;
    let deployment = loaded(&crm).await;
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let bodies = [
        (
            r#"{"type":"order.updated","type":"order.deleted","data":{"OrderNo":100001}}"#
                .to_owned(),
            "`type` is there twice",
        ),
        (
            r#"{"type":"order.updated","data":{"OrderNo":1,"OrderNo":2}}"#.to_owned(),
            "`OrderNo` is there twice",
        ),
        (
            format!(r#"{{"type":"order.updated","data":{{"OrderNo":{deep}}}}}"#),
            "recursion limit",
        ),
    ];
    for (at, (body, said)) in bodies.iter().enumerate() {
        let answer = post(&deployment, &format!("msg_{at}"), body.as_bytes()).await;
        assert_malformed(&answer, said);
    }
    deployment.settle().await;
    assert_equal(&crm, &deployment.project.warehouse());
    // An event of a kind that no map names is somebody else's business.
    let (status, answer) = post(
        &deployment,
        "msg_other",
        br#"{"type":"invoice.paid","data":{}}"#,
    )
    .await;
    assert_eq!((status, &answer["accepted"]), (202, &json!(0)));
}

#[tokio::test]
async fn what_comes_for_a_map_that_was_never_loaded_is_kept() {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::demo(&crm.url()));
    crm.write(Set::Orders, "100001", &json!({ "Status": "early" }));
    send(
        &deployment,
        &json!({ "type": "order.updated", "data": crm.row(Set::Orders, "100001") }),
    )
    .await;
    deployment.settle().await;
    let status = deployment.status("orders").await;
    assert_eq!((status.state, status.parked.packs), (MapState::Stopped, 1));
    deployment.load_all().await;
    assert_eq!(
        deployment
            .home
            .operations
            .map_status(&name("orders"))
            .await
            .unwrap()
            .parked
            .packs,
        0
    );
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}
