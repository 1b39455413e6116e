//! Which records a body holds and what is told of them.

use model::Op;
use serde_json::{Value, json};

use crate::support::{Intake, post, refused, taken};

/// An intake that believes everything, so that a test is about the body alone.
fn intake(more: &str) -> Intake {
    let webhook = format!("{{ scheme: unsigned, allow_unsigned: true{more} }}");
    Intake::new(&[&webhook], &[])
}

/// What is queued of a body.
async fn queued(intake: &Intake, body: &str) -> Vec<(Op, String)> {
    let before = intake.queue.changes().len();
    assert_eq!(intake.says(&post("map0", body)).await, taken(), "{body}");
    let changes = intake.queue.changes().split_off(before);
    changes.into_iter().map(|(_, op, raw)| (op, raw)).collect()
}

fn upsert(raw: &str) -> (Op, String) {
    (Op::Upsert, raw.to_owned())
}

/// What holds no record: a list, in which no map finds a key.
fn unrecognised(raw: &str) -> (Op, String) {
    upsert(&format!(r#"["unrecognised",{raw}]"#))
}

#[tokio::test]
async fn a_record_is_queued_as_it_was_sent() {
    let plain = intake("");
    let odd = r#" { "id" : "a\u0031", "name": 1.50, "big": 12345678901234567890123, "e": {} } "#;
    assert_eq!(queued(&plain, odd).await, [upsert(odd.trim())]);
    assert_eq!(
        queued(&plain, r#"[{"id":1}, {"id":2}]"#).await,
        [upsert(r#"{"id":1}"#), upsert(r#"{"id":2}"#)]
    );
    assert_eq!(queued(&plain, "[]").await, []);
    let deeper = intake(", record: data.object");
    let body = r#"{"data":{"object":{"id":1,"data":{"object":2}}}}"#;
    let inner = r#"{"id":1,"data":{"object":2}}"#;
    assert_eq!(queued(&deeper, body).await, [upsert(inner)]);
    let list = r#"{"data":{"object":[{"id":1},{"id":2}]}}"#;
    assert_eq!(queued(&deeper, list).await.len(), 2);
}

#[tokio::test]
async fn a_body_without_the_record_becomes_a_failure_that_shows_it() {
    let deeper = intake(", record: data.object");
    for body in [
        r#"{"data":null}"#,
        r#"{"data":{"other":1}}"#,
        r#"{"id":"msg_1","modified":"2026-01-01","data":{}}"#,
        r#"{"data":[{"object":{"id":1}}]}"#,
        r#""text""#,
        "null",
        "7",
    ] {
        assert_eq!(queued(&deeper, body).await, [unrecognised(body)]);
    }
    assert_eq!(
        queued(&deeper, r#"{"data":{"object":null}}"#).await,
        [upsert("null")]
    );
}

#[tokio::test]
async fn kinds_of_events_are_told_apart() {
    let rules = ", record: data, event: type, ops: { \"order.deleted\": delete, \"order.seen\": ignore, \"order.thin\": touch, \"order.*\": upsert }";
    let intake = intake(rules);
    let event = |kind: Value| json!({ "type": kind, "data": { "id": 1 } }).to_string();
    let record = r#"{"id":1}"#.to_owned();
    for (kind, op) in [
        (json!("order.created"), Some(Op::Upsert)),
        (json!("order."), Some(Op::Upsert)),
        (json!("order.deleted"), Some(Op::Delete)),
        (json!("order.thin"), Some(Op::Touch)),
        (json!("order.seen"), None),
        (json!("contact.created"), None),
        (json!("Order.created"), None),
        // What does not say its kind is not dropped: the source knows what holds.
        (json!(null), Some(Op::Touch)),
        (json!({ "name": "order.created" }), Some(Op::Touch)),
    ] {
        let expected: Vec<_> = op.into_iter().map(|op| (op, record.clone())).collect();
        assert_eq!(
            queued(&intake, &event(kind.clone())).await,
            expected,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn the_kind_may_be_in_a_header() {
    let webhook = "{ scheme: unsigned, allow_unsigned: true, event: { header: X-Shopify-Topic }, ops: { orders/delete: delete, \"orders/*\": upsert } }";
    let intake = Intake::new(&[webhook], &[]);
    for (topic, op) in [("orders/create", Op::Upsert), ("orders/delete", Op::Delete)] {
        let request = post("map0", r#"{"id":1}"#).header("X-Shopify-Topic", topic);
        assert_eq!(intake.says(&request).await, taken());
        assert_eq!(intake.queue.changes().last().unwrap().1, op);
    }
}

#[tokio::test]
async fn a_thin_webhook_only_touches() {
    let intake = intake(", mode: touch, event: type, ops: { gone: delete, \"*\": upsert }");
    for (kind, op) in [("new", Op::Touch), ("gone", Op::Delete)] {
        let body = json!({ "type": kind, "id": 1 }).to_string();
        assert_eq!(queued(&intake, &body).await, [(op, body)]);
    }
}

#[tokio::test]
async fn key_fields_with_other_names_get_their_own_and_nothing_is_lost() {
    let renamed = intake(", record: data, key: { id: meta.object_id }");
    let body = r#"{"data":{"meta":{"object_id":7.0},"name":"x","modified":"2026-01-01"}}"#;
    assert_eq!(
        queued(&renamed, body).await,
        [upsert(
            r#"{"id":7.0,"meta":{"object_id":7.0},"modified":"2026-01-01","name":"x"}"#
        )]
    );
    let other = r#"{"data":{"meta":{"object_id":"b"},"id":"a"}}"#;
    let expected = r#"{"id":"b","meta":{"object_id":"b"}}"#;
    assert_eq!(queued(&renamed, other).await, [upsert(expected)]);
}

#[tokio::test]
async fn a_record_without_its_key_has_no_other() {
    let renamed = intake(", record: data, key: { id: meta.object_id }");
    // Its own `id` is not what the map calls so, or the map would not say where to look.
    for without in [r#"{"id":"a"}"#, r#"{"meta":{"id":"a"}}"#, "7"] {
        let body = format!(r#"{{"data":{without}}}"#);
        assert_eq!(queued(&renamed, &body).await, [unrecognised(without)]);
    }
}

#[tokio::test]
async fn what_names_a_delivery_depends_on_the_scheme() {
    async fn names(webhook: &str, headers: &[(&str, &str)], body: &str) -> Vec<Option<String>> {
        let intake = Intake::with_secret(webhook, "k");
        let request = post("map0?code=k", body).headers(headers);
        assert_eq!(intake.says(&request).await, taken(), "{webhook}");
        let sent = intake.queue.sent();
        let name = |dedupe: ports::Dedupe| dedupe.name.trim_start_matches("map0/map0/").to_owned();
        sent.into_iter()
            .map(|message| message.dedupe.map(name))
            .collect()
    }
    let one = |name: &str| vec![Some(name.to_owned())];
    let header = "{ scheme: header, header: \"?code\", secret: secret://s }";
    let ce = [("ce-id", "1"), ("ce-source", "/crm")];
    assert_eq!(names(header, &ce, r#"{"id":"x"}"#).await, [None]);
    let by_header = header.replacen("secret:", "delivery: { header: X-Id }, secret:", 1);
    assert_eq!(names(&by_header, &[("x-id", "7")], "{}").await, one("7"));
    assert_eq!(names(&by_header, &[], "{}").await, [None]);
    let by_body = header.replacen("secret:", "delivery: meta.id, secret:", 1);
    assert_eq!(names(&by_body, &[], r#"{"meta":{"id":7}}"#).await, one("7"));
    assert_eq!(
        names(&by_body, &[], r#"{"meta":{"id":null}}"#).await,
        [None]
    );
}

#[tokio::test]
async fn the_names_that_signed_senders_give_are_used() {
    // Signed by the secret `k` with the vectors' own tools.
    let github = "{ scheme: github, secret: secret://s }";
    let intake = Intake::with_secret(github, "It's a Secret to Everybody");
    let body = r#"{"id":"a1","name":"Ålpine","modified":"2026-01-01T00:00:00Z"}"#;
    let signature = "sha256=26a2b045d784d46a4ec591cf77e8a2ba833bbe323c33a74a2f4580b42ed19f1a";
    let request = post("map0", body)
        .header("X-Hub-Signature-256", signature)
        .header("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    for accepted in [1, 0] {
        assert_eq!(intake.answer(&request).await.body["accepted"], accepted);
    }
    let again = request
        .without("X-GitHub-Delivery")
        .header("X-GitHub-Delivery", "another");
    assert_eq!(intake.answer(&again).await.body["accepted"], 1);

    let shopify = "{ scheme: shopify, secret: secret://s }";
    let intake = Intake::with_secret(shopify, "hush");
    let request = post(
        "map0",
        r#"{"id":820982911946154508,"email":"jon@example.com"}"#,
    )
    .header(
        "X-Shopify-Hmac-Sha256",
        "D0UMXmhjwBRi4y66TmhJrDlhQABD7zI2fm3p6/QLMo8=",
    )
    .header(
        "X-Shopify-Webhook-Id",
        "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
    );
    for accepted in [1, 0] {
        assert_eq!(intake.answer(&request).await.body["accepted"], accepted);
    }

    let stripe = "{ scheme: stripe, secret: secret://s }";
    let intake = Intake::with_secret(stripe, "whsec_test_stripe_secret");
    let request = post(
        "map0",
        r#"{"id":"evt_test_1","object":"event","type":"customer.updated"}"#,
    )
    .header(
        "Stripe-Signature",
        "t=1767225600,v1=9241a2e61e4f2ecb578eb5c3df3cb800c0064e7bb8907071ab05cad65fd2c67a",
    );
    for accepted in [1, 0] {
        assert_eq!(intake.answer(&request).await.body["accepted"], accepted);
    }
    assert_eq!(
        intake.queue.sent()[0].dedupe.as_ref().unwrap().name,
        "map0/map0/evt_test_1"
    );
    let forged = request.with_body(b"{}");
    assert_eq!(
        intake.says(&forged).await,
        refused(401, "signature-mismatch"),
        "a known name lets nothing pass"
    );
}
