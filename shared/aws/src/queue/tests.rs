//! What the queues make of answers that no emulator gives.

use std::sync::{Mutex, PoisonError};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use aws_sdk_sqs::config::Credentials;
use axum::{Json, Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode};
use model::RunId;
use ports::testing::{ManualClock, map_name, pack_entry};
use serde_json::{Value, json};

use super::*;

/// What happened, in order.
#[derive(Debug, Default)]
struct Journal(Mutex<Vec<String>>);

impl Journal {
    fn note(&self, event: String) -> usize {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
        events.len()
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Books for Journal {
    async fn known(&self, names: &[&Dedupe]) -> Result<Vec<bool>, StoreError> {
        self.note(format!("known {}", list(names)));
        Ok(names.iter().map(|name| name.name == "known").collect())
    }

    async fn remember(&self, names: &[&Dedupe]) -> Result<(), StoreError> {
        self.note(format!("remember {}", list(names)));
        Ok(())
    }

    async fn open(&self, packs: &[PackEntry]) -> Result<(), StoreError> {
        self.note(format!("open {}", packs.len()));
        Ok(())
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), StoreError> {
        self.note(format!("settle {}", settlements.len()));
        Ok(())
    }
}

fn list(names: &[&Dedupe]) -> String {
    let names: Vec<_> = names.iter().map(|name| name.name.as_str()).collect();
    names.join(",")
}

type Answer = fn(call: usize, request: &Value) -> (u16, Value);

async fn answer(
    State((journal, answer)): State<(Arc<Journal>, Answer)>,
    headers: HeaderMap,
    request: Bytes,
) -> (StatusCode, Json<Value>) {
    let request: Value = serde_json::from_slice(&request).unwrap();
    let operation = headers["x-amz-target"].to_str().unwrap().to_owned();
    let operation = operation.trim_start_matches("AmazonSQS.");
    let call = match request["Entries"].as_array() {
        Some(entries) => {
            let ids: Vec<&str> = entries.iter().filter_map(|e| e["Id"].as_str()).collect();
            format!("{operation} {}", ids.join(","))
        }
        None => match request["ReceiptHandle"].as_str() {
            Some(receipt) => format!("{operation} {receipt} {}", request["VisibilityTimeout"]),
            None => format!("{operation} "),
        },
    };
    let call = journal.note(call);
    let (status, body) = answer(call, &request);
    (StatusCode::from_u16(status).unwrap(), Json(body))
}

/// Queues over a server that answers as told, and what happens to both and to the books.
async fn queues(answers: Answer) -> (Queues, Arc<Journal>) {
    let journal = Arc::new(Journal::default());
    let state = (Arc::clone(&journal), answers);
    let app = Router::new().fallback(answer).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let soon = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(crate::http_client().unwrap())
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .region(Region::from_static("us-east-1"))
        .endpoint_url(&endpoint)
        .retry_config(soon)
        .build();
    let queues = Queues::new(
        Client::from_conf(config),
        HashMap::from([(QueueName::Live, format!("{endpoint}/1/live"))]),
        Arc::clone(&journal) as Arc<dyn Books>,
        Arc::new(ManualClock::default()),
    );
    (queues, journal)
}

/// The answer to a batch in which those of `failed` failed.
fn batch(request: &Value, failed: &[&str], sender_fault: bool) -> (u16, Value) {
    let ids = request["Entries"].as_array().unwrap().iter();
    let (bad, good): (Vec<_>, Vec<_>) = ids
        .map(|entry| entry["Id"].as_str().unwrap())
        .partition(|id| failed.contains(id));
    let good = good
        .into_iter()
        .map(|id| json!({"Id": id, "MessageId": id, "MD5OfMessageBody": ""}));
    let bad = bad.into_iter().map(
        |id| json!({"Id": id, "Code": "Odd", "Message": "not today", "SenderFault": sender_fault}),
    );
    let (good, bad): (Vec<_>, Vec<_>) = (good.collect(), bad.collect());
    (200, json!({"Successful": good, "Failed": bad}))
}

fn error(code: &str, message: &str) -> (u16, Value) {
    (
        400,
        json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": message}),
    )
}

fn messages(count: usize) -> Vec<Outgoing> {
    (0..count)
        .map(|i| Outgoing::new(format!("message {i}")))
        .collect()
}

fn named(name: &str) -> Outgoing {
    let until = Timestamp::UNIX_EPOCH;
    Outgoing {
        dedupe: Some(Dedupe {
            name: name.into(),
            until,
        }),
        ..Outgoing::new(name.into())
    }
}

#[tokio::test]
async fn what_sqs_did_not_take_is_sent_again() {
    let (queues, journal) = queues(|call, request| match call {
        1 => batch(request, &["1", "3"], false),
        2 => batch(request, &["3"], false),
        _ => batch(request, &[], false),
    })
    .await;
    let sent = queues.send(QueueName::Live, messages(4)).await.unwrap();
    assert_eq!(sent, [Sent::Queued; 4]);
    assert_eq!(
        journal.read(),
        [
            "SendMessageBatch 0,1,2,3",
            "SendMessageBatch 1,3",
            "SendMessageBatch 3"
        ]
    );
    assert!(
        queues.clock.now() > ManualClock::default().now(),
        "it did not wait"
    );
}

#[tokio::test]
async fn what_sqs_never_takes_is_an_error_and_not_remembered() {
    let (queues, journal) = queues(|_, request| batch(request, &["0"], false)).await;
    let failed = queues.send(QueueName::Live, vec![named("a")]).await;
    let text = failed.unwrap_err().to_string();
    assert!(
        text.contains("`live`") && text.contains("Odd: not today"),
        "{text}"
    );
    let mut expected = vec!["known a"];
    expected.extend(["SendMessageBatch 0"; 5]);
    assert_eq!(journal.read(), expected);
}

#[tokio::test]
async fn what_sqs_refuses_is_not_sent_again() {
    let (queues, journal) = queues(|_, request| batch(request, &["1"], true)).await;
    let failed = queues.send(QueueName::Live, messages(2)).await;
    let text = failed.unwrap_err().to_string();
    assert!(text.contains("Odd: not today"), "{text}");
    assert_eq!(journal.read(), ["SendMessageBatch 0,1"]);
}

#[tokio::test]
async fn what_an_answer_does_not_name_was_not_taken() {
    let (queues, journal) = queues(|call, request| match call {
        1 => (200, json!({"Successful": [], "Failed": []})),
        _ => batch(request, &[], false),
    })
    .await;
    queues.send(QueueName::Live, messages(1)).await.unwrap();
    assert_eq!(journal.read(), ["SendMessageBatch 0"; 2]);
}

#[tokio::test]
async fn throttling_is_waited_out_and_named_when_it_does_not_end() {
    let throttled: Answer = |call, request| match call {
        1 => error("RequestThrottled", "slow down"),
        _ => batch(request, &[], false),
    };
    let (patient, journal) = queues(throttled).await;
    patient.send(QueueName::Live, messages(1)).await.unwrap();
    assert_eq!(journal.read().len(), 2);

    let (endless, _) = queues(|_, _| error("RequestThrottled", "slow down")).await;
    let failed = endless.send(QueueName::Live, messages(1)).await;
    let text = failed.unwrap_err().to_string();
    assert_eq!(
        text,
        "queue `live` is not available: RequestThrottled: slow down"
    );
}

#[tokio::test]
async fn a_message_is_in_the_queue_before_anything_is_said_of_it() {
    let (queues, journal) = queues(|_, request| batch(request, &[], false)).await;
    let map = map_name("customers");
    let entry = pack_entry(1, &map, RunId::live(&map), 3);
    let settlement = Settlement {
        pack: model::PackRef {
            id: entry.id,
            map: map.clone(),
            run: entry.run,
        },
        counts: model::Counts::default(),
        attempt: model::Attempt::default(),
    };
    let first = Outgoing {
        pack: Some(entry),
        settles: vec![settlement.clone()],
        ..named("new")
    };
    let again = Outgoing {
        settles: vec![settlement],
        ..named("known")
    };
    let sent = queues
        .send(QueueName::Live, vec![first, again, named("new")])
        .await;
    assert_eq!(
        sent.unwrap(),
        [Sent::Queued, Sent::Duplicate, Sent::Duplicate]
    );
    assert_eq!(
        journal.read(),
        [
            "known new,known",
            "SendMessageBatch 0",
            "open 1",
            "remember new",
            "settle 2"
        ]
    );
}

#[tokio::test]
async fn a_trace_goes_beside_its_message() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let (queues, journal) = queues(|_, request| {
        let expected = json!({"DataType": "String", "StringValue": TRACE});
        let entries = &request["Entries"];
        assert_eq!(entries[0]["MessageAttributes"], Value::Null);
        assert_eq!(
            entries[1]["MessageAttributes"],
            json!({"traceparent": expected})
        );
        batch(request, &[], false)
    })
    .await;
    let mut messages = messages(2);
    messages[1].trace = Some(TRACE.parse().unwrap());
    queues.send(QueueName::Live, messages).await.unwrap();
    assert_eq!(journal.read(), ["SendMessageBatch 0,1"]);
}

#[tokio::test]
async fn a_character_that_sqs_refuses_is_named_before_anything_is_sent() {
    let (queues, journal) = queues(|_, request| batch(request, &[], false)).await;
    for (body, code) in [("a\u{1}", "U+0001"), ("ä\u{FFFF}", "U+FFFF"), ("", "empty")] {
        let outgoing = vec![named("a"), Outgoing::new(body.into())];
        let text = queues
            .send(QueueName::Live, outgoing)
            .await
            .unwrap_err()
            .to_string();
        assert!(text.contains(code), "{text}");
    }
    assert!(journal.read().is_empty());
}

#[tokio::test]
async fn a_receipt_that_is_no_longer_good_is_no_error() {
    let (queues, _) = queues(|_, request| match request["ReceiptHandle"].as_str() {
        Some("expired") => error(
            "InvalidParameterValue",
            "Value expired for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
        ),
        Some("visible") => error("MessageNotInflight", "not in flight"),
        Some("older") => error("AWS.SimpleQueueService.MessageNotInflight", "not in flight"),
        Some("malformed") => error("ReceiptHandleIsInvalid", "not a receipt"),
        Some("good") if request["VisibilityTimeout"] == 42_300 => (200, json!({})),
        _ => error("AccessDenied", "you may not"),
    })
    .await;
    let day = Duration::from_hours(24);
    for receipt in ["expired", "visible", "older", "malformed", "good"] {
        queues.defer(QueueName::Live, receipt, day).await.unwrap();
    }
    let text = queues
        .defer(QueueName::Live, "other", day)
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("AccessDenied: you may not"), "{text}");
}

#[tokio::test]
async fn deletions_that_failed_are_tried_again() {
    let (queues, journal) = queues(|call, request| match call {
        1 => {
            let mut answer = batch(request, &["1", "2"], true);
            answer.1["Failed"][0]["Code"] = json!("ReceiptHandleIsInvalid");
            answer.1["Failed"][1]["SenderFault"] = json!(false);
            answer
        }
        _ => batch(request, &[], false),
    })
    .await;
    let receipts: Vec<String> = (0..3).map(|i| format!("receipt {i}")).collect();
    queues.delete(QueueName::Live, &receipts).await.unwrap();
    assert_eq!(
        journal.read(),
        ["DeleteMessageBatch 0,1,2", "DeleteMessageBatch 2"]
    );
}

#[tokio::test]
async fn what_has_been_received_is_given_though_the_next_call_fails() {
    let (queues, _) = queues(|call, request| {
        let attributes = json!({"ApproximateReceiveCount": "2", "SentTimestamp": "1700000000123"});
        let message =
            json!({"MessageId": "m", "ReceiptHandle": "r", "Body": "b", "Attributes": attributes});
        match call {
            1 => {
                assert_eq!(
                    (&request["MaxNumberOfMessages"], &request["WaitTimeSeconds"]),
                    (&json!(10), &json!(20))
                );
                (200, json!({"Messages": vec![message; 10]}))
            }
            _ => error("AccessDenied", "you may not"),
        }
    })
    .await;
    let queues = queues.waiting(Duration::from_mins(1));
    let visibility = Duration::from_secs(30);
    let received = queues
        .receive(QueueName::Live, 25, visibility)
        .await
        .unwrap();
    assert_eq!((received.len(), received[0].receives), (10, 2));
    assert_eq!(received[0].sent.as_millisecond(), 1_700_000_000_123);
    assert!(
        queues
            .receive(QueueName::Live, 25, visibility)
            .await
            .is_err()
    );
    assert!(
        queues
            .receive(QueueName::Load, 1, visibility)
            .await
            .is_err(),
        "no URL"
    );
}

#[test]
fn batches_are_cut_by_number_and_by_bytes() {
    let lengths = |messages| -> Vec<usize> {
        let batches = entries::batches(QueueName::Live, messages).unwrap();
        batches.iter().map(Vec::len).collect()
    };
    let of_bytes = |bytes, count| vec![Outgoing::new("x".repeat(bytes)); count];
    assert_eq!(lengths(messages(25)), [10, 10, 5]);
    assert_eq!(lengths(of_bytes(500_000, 5)), [2, 2, 1]);
    assert_eq!(lengths(of_bytes(model::MAX_MESSAGE_BYTES, 2)), [1, 1]);
    assert!(lengths(Vec::new()).is_empty());
}

#[test]
fn a_time_is_rounded_up_to_seconds() {
    let cases = [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (1_000_000, 900)];
    for (millis, expected) in cases {
        let most = Duration::from_mins(15);
        assert_eq!(seconds(Duration::from_millis(millis), most), expected);
    }
}

fn delivered(receives: &[u32]) -> Delivered {
    let mut event = SqsEvent::default();
    event.records = (0..)
        .zip(receives)
        .map(|(at, receives)| {
            let mut message = SqsMessage::default();
            message.message_id = Some(format!("m{at}"));
            message.receipt_handle = Some(format!("r{at}"));
            message.event_source_arn = Some("arn:aws:sqs:eu-west-1:1:stack-live".into());
            let count = ("ApproximateReceiveCount".into(), receives.to_string());
            message.attributes.extend([count]);
            message
        })
        .collect();
    Delivered::of(&event)
}

#[tokio::test]
async fn what_failed_comes_back_soon_unless_the_function_has_said_when() {
    let (queues, journal) = queues(|_, _| (200, json!({}))).await;
    let message = delivered(&[1, 1, 7]);
    let wait = Duration::from_mins(5);
    queues.defer(QueueName::Live, "r0", wait).await.unwrap();
    let failed = runtime::failed_items(vec!["m0".into(), "m2".into()]);
    queues.give_back(message, &failed).await;
    let put_off = "ChangeMessageVisibility r0 300";
    let given_back = "ChangeMessageVisibility r2 7";
    assert_eq!(journal.read(), [put_off, given_back]);
    // What was said holds for one delivery.
    let failed = runtime::failed_items(vec!["m0".into()]);
    queues.give_back(delivered(&[2]), &failed).await;
    assert_eq!(
        journal.read().last().unwrap(),
        "ChangeMessageVisibility r0 2"
    );
}
