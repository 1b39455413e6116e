//! What intake says of its work, and what it keeps to itself.

use model::TraceParent;
use ports::testing::Captured;
use runtime::{Metrics, json_lines};
use serde_json::{Value, json};

use crate::support::{Intake, Request, post, refused, taken};

const NAMED: &str =
    "{ scheme: header, header: X-Key, secret: secret://s, delivery: { header: X-Id } }";
const SIGNED: &str = "{ scheme: standard, secret: secret://s }";
const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn genuine(endpoint: &str, body: &str) -> Request {
    post(endpoint, body).header("x-key", "k")
}

fn measured(intake: &mut Intake) -> Captured {
    let metrics = Captured::default();
    intake.function.metrics = Metrics::to("crm", false, metrics.clone());
    metrics
}

#[tokio::test]
async fn what_is_queued_is_counted_once_for_each_map() {
    let shared = NAMED.replace("scheme:", "endpoint: crm, scheme:");
    let mut intake = Intake::new(&[&shared, &shared], &[("s", Some("k"))]);
    let metrics = measured(&mut intake);
    let request = genuine("crm", r#"[{"id":"a"},{"id":"b"},{"id":"c"}]"#).header("x-id", "d1");
    // The second is the same delivery again.
    for _ in 0..2 {
        assert_eq!(intake.says(&request).await, taken());
    }
    let wrong = post("crm", r#"{"id":"a"}"#).header("x-key", "other");
    assert_eq!(
        intake.says(&wrong).await,
        refused(401, "signature-mismatch")
    );
    let text = metrics.text();
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["Map"].clone(), line["received"].clone())
    });
    let lines: Vec<_> = lines.collect();
    assert_eq!(
        lines,
        [(json!("map0"), json!(3)), (json!("map1"), json!(3))]
    );
}

#[tokio::test]
async fn the_trace_of_a_sender_goes_on_and_what_is_none_is_replaced() {
    let intake = Intake::with_secret(NAMED, "k");
    let sent: TraceParent = SENT.parse().unwrap();
    let request = genuine("map0", r#"{"id":"a"}"#);
    let answer = intake
        .answer(&request.clone().header("traceparent", SENT))
        .await;
    assert_eq!(answer.body["trace"], json!(sent.trace));
    for bad in ["", "00-0-0-00", &SENT.to_uppercase()] {
        let request = request.clone().header("traceparent", bad);
        assert_eq!(intake.says(&request).await, taken());
    }
    let (packs, messages) = (intake.queue.packs(), intake.queue.sent());
    assert_eq!(packs[0].head.trace, Some(sent.trace));
    assert!(
        packs[1..]
            .iter()
            .all(|pack| pack.head.trace != Some(sent.trace))
    );
    for (pack, message) in packs.iter().zip(&messages) {
        let beside = message.trace.unwrap();
        assert_eq!(Some(beside.trace), pack.head.trace);
        assert_ne!(beside.parent, sent.parent, "the pack is a step of its own");
    }
}

#[tokio::test]
async fn no_line_has_anything_of_a_body_or_a_secret() {
    const BODY: &str = "Jane-Doe-1970";
    const SECRET: &str = "c2VjcmV0LXRoYXQtbm9ib2R5LW1heS1zZWU";
    let logged = Captured::default();
    let writer = logged.clone();
    let _guard = tracing::subscriber::set_default(json_lines("trace", move || writer.clone()));
    let secrets = [("s", Some(SECRET)), ("t", None)];
    let other = NAMED.replace("secret://s", "secret://t");
    let mut intake = Intake::new(&[NAMED, SIGNED, &other], &secrets);
    let metrics = measured(&mut intake);
    let record = format!(r#"{{"id":"a","name":"{BODY}"}}"#);
    let twice = format!(r#"{{"{BODY}":1,"{BODY}":2}}"#);
    let requests = [
        post("map0", &record).header("x-key", SECRET),
        post("map0", &record).header("x-key", BODY),
        post("map0", &record),
        post("map0", &twice).header("x-key", SECRET),
        post("map0", BODY).header("x-key", SECRET),
        post("map1", &record).header("webhook-signature", SECRET),
        post("map2", &record).header("x-key", SECRET),
        post(BODY, &record).header("x-key", SECRET),
    ];
    for request in &requests {
        intake.says(request).await;
    }
    intake.queue.break_after(0);
    assert_eq!(intake.says(&requests[0]).await, refused(503, "unavailable"));
    let (logged, metrics) = (logged.text(), metrics.text());
    assert!(logged.lines().count() >= 6, "{logged}");
    assert_eq!(metrics.lines().count(), 1, "{metrics}");
    for line in logged.lines().chain(metrics.lines()) {
        assert!(!line.contains(BODY) && !line.contains(SECRET), "{line}");
        let read: Result<Value, _> = serde_json::from_str(line);
        assert!(read.is_ok(), "{line}");
    }
    assert!(
        logged.contains(r#""refusal.code":"malformed-json""#),
        "{logged}"
    );
}
