//! What intake says of its work, and what it keeps to itself.

use std::time::Duration;

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
    assert_eq!(counted(&metrics), [("map0".into(), 3), ("map1".into(), 3)]);
}

/// The maps and counts of all lines, in order.
fn counted(metrics: &Captured) -> Vec<(String, u64)> {
    let text = metrics.text();
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let map = line["Map"].as_str().unwrap().to_owned();
        (map, line["received"].as_u64().unwrap())
    });
    lines.collect()
}

#[tokio::test]
async fn many_webhooks_are_counted_in_few_lines_and_none_is_forgotten() {
    const EACH: Duration = Duration::from_millis(50);
    let shared = NAMED.replace("scheme:", "endpoint: crm, scheme:");
    let mut intake = Intake::new(&[&shared, NAMED], &[("s", Some("k"))]);
    let metrics = measured(&mut intake);
    let sent = |at: u64| {
        // The second map has one webhook, amid those of the other.
        let endpoint = if at == 30 { "map1" } else { "crm" };
        genuine(endpoint, r#"{"id":"a"}"#).header("x-id", &format!("d{at}"))
    };
    for at in 0..1_000 {
        intake.clock.advance(EACH);
        assert_eq!(intake.says(&sent(at)).await, taken());
    }
    let busy = counted(&metrics);
    // 50 seconds, a line at the beginning, and two at one of the others.
    assert!((5..=7).contains(&busy.len()), "{busy:?}");
    assert_eq!(
        busy[0],
        ("map0".into(), 1),
        "what comes after a pause is told at once"
    );
    let ten_seconds = 10_000 / 50;
    assert!(
        busy.iter().all(|(_, count)| *count <= ten_seconds),
        "{busy:?}"
    );
    intake.clock.advance(Duration::from_secs(10));
    assert_eq!(intake.says(&sent(1_000)).await, taken());
    let all = counted(&metrics);
    let of = |map: &str| -> u64 {
        let lines = all.iter().filter(|(name, _)| name == map);
        lines.map(|(_, count)| count).sum()
    };
    assert_eq!((of("map0"), of("map1")), (1_000, 1));
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
