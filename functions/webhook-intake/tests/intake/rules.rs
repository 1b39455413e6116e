//! What holds for every webhook, whatever its scheme.

use std::time::Duration;

use ::definition::ConnectionKind;
use proptest::prelude::*;
use serde_json::json;
use webhook_intake::Remember;

use crate::support::{Intake, Request, assert_in_order, definition, post, refused, taken};

const OPEN: &str = "{ scheme: header, header: X-Key, secret: secret://s }";
const NAMED: &str =
    "{ scheme: header, header: X-Key, secret: secret://s, delivery: { header: X-Id } }";

fn open() -> Intake {
    Intake::with_secret(OPEN, "k")
}

fn genuine(endpoint: &str, body: impl AsRef<[u8]>) -> Request {
    post(endpoint, body).header("x-key", "k")
}

#[tokio::test]
async fn success_means_that_the_queue_has_it() {
    let intake = Intake::with_secret(NAMED, "k");
    let request = genuine("map0", r#"{"id":"a1"}"#).header("x-id", "d1");
    intake.queue.break_after(0);
    for _ in 0..2 {
        let answer = intake.answer(&request).await;
        assert_eq!(
            (answer.status, answer.code.as_str()),
            (503, "unavailable"),
            "{answer:?}"
        );
        assert_eq!(answer.headers["retry-after"], "5");
    }
    assert_eq!(intake.queue.sent(), []);
    // What was not taken is not remembered either.
    intake.queue.break_after(usize::MAX);
    let answer = intake.answer(&request).await;
    assert_eq!(
        (
            answer.status,
            &answer.body["accepted"],
            &answer.body["duplicates"]
        ),
        (202, &json!(1), &json!(0))
    );
    let packs = intake.queue.packs();
    assert_in_order(&packs);
    assert_eq!(
        json!(packs[0].head.trace),
        answer.body["trace"],
        "the sender can ask for it by its trace"
    );
}

#[tokio::test]
async fn one_endpoint_feeds_several_maps_and_half_of_it_is_not_enough() {
    let shared = NAMED.replace("scheme:", "endpoint: crm, scheme:");
    let intake = Intake::new(&[&shared, &shared, OPEN, &shared], &[("s", Some("k"))]);
    let request = genuine("crm", r#"{"id":"a1"}"#).header("x-id", "d1");
    intake.queue.break_after(2);
    assert_eq!(intake.says(&request).await, refused(503, "unavailable"));
    intake.queue.break_after(usize::MAX);
    let answer = intake.answer(&request).await;
    assert_eq!(
        (
            answer.status,
            &answer.body["accepted"],
            &answer.body["duplicates"]
        ),
        (202, &json!(1), &json!(2)),
        "what the first attempt brought is not brought again"
    );
    let mut maps: Vec<String> = intake
        .queue
        .changes()
        .into_iter()
        .map(|(map, ..)| map)
        .collect();
    maps.sort();
    assert_eq!(maps, ["map0", "map1", "map3"]);
}

#[tokio::test]
async fn a_copy_that_does_no_harm_need_not_be_remembered() {
    use ConnectionKind::{Http, Odata, Postgres, Rest, Sqlite};
    let webhook = NAMED.replacen(
        "secret:",
        "event: type, ops: { \"row.deleted\": delete, \"row.*\": upsert }, record: data, secret:",
        1,
    );
    for (from, to, what, remembered) in [
        (Odata, Sqlite, "changed", false),
        (Postgres, Postgres, "changed", false),
        (Odata, Sqlite, "deleted", true),
        (Odata, Http, "changed", false),
        (Odata, Http, "deleted", true),
        (Rest, Sqlite, "changed", true),
    ] {
        let mut definition = definition(&[&webhook]);
        for (name, connection) in &mut definition.connections {
            connection.kind = if name.as_str() == "crm" { from } else { to };
        }
        let mut intake = Intake::of(definition, &[("s", Some("k"))]);
        intake.function.remember = Remember::WhereNeeded;
        let body = json!({ "type": format!("row.{what}"), "data": { "id": "a1" } });
        let request = genuine("map0", body.to_string()).header("x-id", "d1");
        for copies in [0, i64::from(remembered)] {
            let answer = intake.answer(&request).await;
            assert_eq!(
                (answer.status, &answer.body["duplicates"]),
                (202, &json!(copies)),
                "{from:?} to {to:?}, {what}"
            );
        }
    }
}

#[tokio::test]
async fn a_message_says_of_which_map_it_is_only_where_several_share_the_queue() {
    let mut intake = open();
    for (maps, group) in [(1, None), (2, Some("map0")), (50, Some("map0"))] {
        let outbox = intake.function.outbox.clone();
        intake.function.outbox = outbox.shared_by(maps);
        let request = genuine("map0", r#"{"id":"a1"}"#);
        assert_eq!(intake.says(&request).await, taken());
        let sent = intake.queue.sent();
        let last = sent.last().unwrap().group.as_ref();
        assert_eq!(last.map(model::MapName::as_str), group, "{maps}");
    }
}

#[tokio::test]
async fn a_delivery_is_remembered_for_as_long_as_the_map_says() {
    let webhook = NAMED.replacen("secret:", "remember: 36h, secret:", 1);
    let intake = Intake::with_secret(&webhook, "k");
    let request = genuine("map0", r#"{"id":"a1"}"#).header("x-id", "d1");
    for (later, accepted) in [
        (Duration::ZERO, 1),
        (Duration::from_hours(35), 0),
        (Duration::from_mins(59), 0),
        (Duration::from_mins(1), 1),
    ] {
        intake.clock.advance(later);
        let answer = intake.answer(&request).await;
        assert_eq!(
            (answer.status, &answer.body["accepted"]),
            (202, &json!(accepted)),
            "{later:?}"
        );
    }
    let other = genuine("map0", r#"{"id":"a1"}"#).header("x-id", "d2");
    assert_eq!(intake.answer(&other).await.body["accepted"], 1);
    let nameless = genuine("map0", r#"{"id":"a1"}"#);
    for _ in 0..2 {
        assert_eq!(
            intake.answer(&nameless).await.body["accepted"],
            1,
            "without a name nothing is taken for a copy"
        );
    }
}

#[tokio::test]
async fn a_copy_of_a_large_delivery_leaves_nothing_behind() {
    let intake = Intake::with_secret(NAMED, "k");
    let mut random = fastrand::Rng::with_seed(7);
    let text: String = (0..2_000_000).map(|_| random.alphanumeric()).collect();
    let body = json!({ "id": "a1", "name": text }).to_string();
    let request = genuine("map0", &body).header("x-id", "d1");
    for duplicates in [0, 1] {
        let answer = intake.answer(&request).await;
        assert_eq!(answer.body["duplicates"], duplicates);
        assert_eq!(intake.queue.blobs(), 1);
    }
    assert_eq!(intake.queue.changes()[0].2, body);
}

#[tokio::test]
async fn only_post_to_a_known_endpoint() {
    let intake = open();
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        let request = Request {
            method,
            ..genuine("map0", "{}")
        };
        let answer = intake.answer(&request).await;
        assert_eq!(
            (answer.status, answer.code.as_str()),
            (405, "method-not-allowed"),
            "{method}"
        );
        assert_eq!(answer.headers["allow"], "POST");
    }
    for endpoint in [
        "map1", "", "MAP0", "map0/x", "x/map0", "%00", "..", "map0%2F", "%ff",
    ] {
        let said = intake.says(&genuine(endpoint, "{}")).await;
        assert_eq!(said, refused(404, "unknown-endpoint"), "{endpoint}");
    }
    for endpoint in ["map0", "map0/", "%6dap0"] {
        assert_eq!(intake.says(&genuine(endpoint, "{}")).await, taken());
    }
}

#[tokio::test]
async fn a_body_may_have_four_mebibytes() {
    const MOST: usize = 4 * 1024 * 1024;
    let body = |size: usize| {
        let frame = r#"{"id":"a1","name":""}"#;
        frame.replace(r#""""#, &format!("\"{}\"", "x".repeat(size - frame.len())))
    };
    let intake = open();
    assert_eq!(intake.says(&genuine("map0", body(MOST))).await, taken());
    let large = genuine("map0", body(MOST + 1));
    assert_eq!(intake.says(&large).await, refused(413, "body-too-large"));
    // Its size is told before anything is verified, so that nobody can keep this busy.
    let unsigned = Request {
        headers: Vec::new(),
        base64: true,
        ..large
    };
    assert_eq!(intake.says(&unsigned).await, refused(413, "body-too-large"));
}

#[tokio::test]
async fn what_is_no_clear_json_is_refused() {
    let intake = open();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    let cases: [(&[u8], &str); 16] = [
        (b"", "EOF"),
        (b"   ", "EOF"),
        (b"<html>", "expected value"),
        (b"id=a1", "expected value"),
        (br#"{"id":"a1""#, "EOF"),
        (br#"{"id":"a1"} trailing"#, "trailing"),
        (br#"{"id":"a1",}"#, "trailing comma"),
        (br#"{"id":NaN}"#, "expected"),
        (br#"{"id":1e999}"#, "out of range"),
        (br#"{"id":"a1","id":"a2"}"#, "`id` is there twice"),
        (
            br#"{"id":"a1","x":[{"y":1,"\u0079":2}]}"#,
            "`y` is there twice",
        ),
        (b"{\"id\":\"\xff\"}", "invalid unicode"),
        (b"\xff\xfe{\x00}\x00", "expected value"),
        (b"\xef\xbb\xbf{}", "expected value"),
        (deep.as_bytes(), "recursion limit"),
        (deep_objects.as_bytes(), "recursion limit"),
    ];
    for (body, why) in cases {
        let answer = intake.answer(&genuine("map0", body)).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!(
            (answer.status, answer.code.as_str()),
            (400, "malformed-json"),
            "{shown}"
        );
        let message = answer.body["error"]["message"].to_string();
        assert!(message.contains(why), "{shown}: {message}");
        // Nobody learns of it without the secret.
        let unsigned = genuine("map0", body).without("x-key");
        assert_eq!(
            intake.says(&unsigned).await,
            refused(401, "signature-missing")
        );
    }
    assert_eq!(intake.queue.sent(), []);
    let broken = Request {
        base64: false,
        body: b"***".to_vec(),
        ..genuine("map0", "")
    };
    assert_eq!(intake.says(&broken).await, refused(400, "malformed-json"));
}

#[tokio::test]
async fn an_unsigned_endpoint_has_to_be_spelled_out() {
    let intake = Intake::new(&["{ scheme: unsigned, allow_unsigned: true }"], &[]);
    assert_eq!(intake.says(&post("map0", r#"{"id":1}"#)).await, taken());
    for webhook in [
        "{ scheme: unsigned }",
        "{ scheme: unsigned, allow_unsigned: false }",
        "{ secret: secret://s }",
        "{ scheme: standard }",
        "{ scheme: standard, allow_unsigned: true }",
        "{ scheme: standard, secret: [] }",
    ] {
        let read = std::panic::catch_unwind(|| definition(&[webhook]));
        assert!(read.is_err(), "{webhook}");
    }
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        "\\PC{0,80}".prop_map(String::into_bytes),
        r#"[\[\]{}":, \\a-c0-3]{0,80}"#.prop_map(String::into_bytes),
        r#"\{"(id|data|type|MessageName|InputParameters)":("x"|1|null|\[\{"key":"a"\}\]|\{"id":2\})\}"#
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn no_request_makes_a_panic_or_an_untyped_answer(
        body in any_body(),
        scheme in prop::sample::select(vec![
            "unsigned, allow_unsigned: true", "header, header: X-Key, secret: secret://s",
            "dataverse, carrier: X-Key, secret: secret://s", "event-grid, secret: secret://s",
            "cloud-events, carrier: X-Key, secret: secret://s", "github, secret: secret://s",
            "stripe, secret: secret://s", "standard, secret: secret://s",
        ]),
        extra in prop::sample::select(vec![
            "", ", record: data", ", event: type, ops: { a: upsert, x: delete }",
            ", mode: touch, key: { id: data.id }, delivery: id",
        ]),
        headers in prop::collection::vec(("(x-key|content-type|stripe-signature|webhook-signature|webhook-id|webhook-timestamp|x-hub-signature-256|aeg-event-type|ce-id)", "[ -~]{0,40}"), 0..4),
        query in "[ -~]{0,20}",
    ) {
        let webhook = format!("{{ scheme: {scheme}{extra} }}");
        let intake = Intake::with_secret(&webhook, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
        let mut request = post("map0", &body);
        request.query = query;
        request.headers = headers;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(intake.answer(&request));
        prop_assert!([200, 202, 400, 401].contains(&answer.status), "{answer:?}");
        prop_assert_eq!(answer.code.is_empty(), answer.status < 300);
    }
}
