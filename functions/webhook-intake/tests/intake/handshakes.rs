//! Azure Event Grid and CloudEvents: proving that webhooks are wanted, and the forms in which
//! events come then.

use model::Op;
use serde_json::{Value, json};

use crate::support::{Intake, Request, post, refused, taken};

const GRID: &str = "{ scheme: event-grid, secret: secret://s, mode: touch }";
const CLOUD: &str = "{ scheme: cloud-events, secret: secret://s, origins: [eventgrid.azure.net, \"*.example\"], event: type, ops: { \"crm.deleted\": delete, \"crm.*\": upsert } }";

fn validation() -> String {
    json!([{
        "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
        "topic": "/subscriptions/xxx",
        "subject": "",
        "data": {
            "validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6",
            "validationUrl": "https://rp-eastus2.eventgrid.azure.net:553/…",
        },
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "eventTime": "2026-01-01T00:00:00Z",
        "metadataVersion": "1",
        "dataVersion": "1",
    }])
    .to_string()
}

fn grid() -> Intake {
    Intake::with_secret(GRID, "k")
}

#[tokio::test]
async fn event_grid_gets_its_code_back_with_status_200() {
    let with_header =
        post("map0?code=k", validation()).header("aeg-event-type", "SubscriptionValidation");
    let without = post("map0?code=k", validation());
    for request in [with_header, without] {
        let intake = grid();
        let answer = intake.answer(&request).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.body,
            json!({ "validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6" })
        );
        assert_eq!(intake.queue.sent(), []);
    }
}

#[tokio::test]
async fn event_grid_has_to_know_the_secret_for_that() {
    for (endpoint, code) in [
        ("map0", "signature-missing"),
        ("map0?code=", "signature-mismatch"),
        ("map0?code=x", "signature-mismatch"),
        ("map0?Code=k", "signature-missing"),
    ] {
        let request = post(endpoint, validation());
        let request = request.header("aeg-event-type", "SubscriptionValidation");
        assert_eq!(
            grid().says(&request).await,
            refused(401, code),
            "{endpoint}"
        );
    }
    let encoded = Intake::with_secret(GRID, "k+ä/=&");
    let request = post("map0?x=1&code=k%2B%C3%A4/%3D%26", validation());
    assert_eq!(encoded.answer(&request).await.status, 200);
}

#[tokio::test]
async fn another_scheme_answers_no_handshake() {
    let header = "{ scheme: header, header: \"?code\", secret: secret://s }";
    let intake = Intake::with_secret(header, "k");
    let request = post("map0?code=k", validation());
    let request = request.header("aeg-event-type", "SubscriptionValidation");
    assert_eq!(intake.answer(&request).await.status, 202);
    let options = Request {
        method: "OPTIONS",
        ..post("map0?code=k", "").header("webhook-request-origin", "eventgrid.azure.net")
    };
    assert_eq!(
        intake.says(&options).await,
        refused(405, "method-not-allowed")
    );
}

/// Events as Event Grid batches them.
fn notification(ids: &[(&str, Value)]) -> Request {
    let events: Vec<Value> = ids
        .iter()
        .map(|(id, data)| {
            json!({ "id": id, "topic": "/t", "subject": "s", "data": data, "eventType": "Contoso.Changed", "eventTime": "2026-01-01T00:00:00Z", "metadataVersion": "1", "dataVersion": "1" })
        })
        .collect();
    post("map0?code=k", Value::from(events).to_string()).header("aeg-event-type", "Notification")
}

#[tokio::test]
async fn each_event_of_a_batch_is_remembered_by_itself() {
    let intake = grid();
    let first = notification(&[("1", json!({ "id": "a" })), ("2", json!({ "id": "b" }))]);
    let answer = intake.answer(&first).await;
    assert_eq!(
        (&answer.body["accepted"], &answer.body["duplicates"]),
        (&json!(2), &json!(0))
    );
    let second = notification(&[
        ("2", json!({ "id": "b" })),
        ("3", json!([{ "id": "c" }, { "id": "d" }])),
    ]);
    let answer = intake.answer(&second).await;
    assert_eq!(
        (&answer.body["accepted"], &answer.body["duplicates"]),
        (&json!(2), &json!(1))
    );
    let records: Vec<_> = intake
        .queue
        .changes()
        .into_iter()
        .map(|(_, op, raw)| (op, raw))
        .collect();
    let touch = |id: &str| (Op::Touch, json!({ "id": id }).to_string());
    assert_eq!(records, [touch("a"), touch("b"), touch("c"), touch("d")]);
}

#[tokio::test]
async fn the_data_of_an_event_may_be_the_text_of_an_object() {
    let intake = grid();
    let event = r#"{"id":"US-001","note":"\"quoted\" \/Date(0)\/"}"#;
    let said = intake
        .says(&notification(&[("1", Value::from(event))]))
        .await;
    assert_eq!(said, taken());
    assert_eq!(intake.queue.changes()[0].2, event);
    // Text that is no object, or not a clear one, becomes a failure that shows the event.
    for odd in ["plain", r#"{"id":1,"id":2}"#, "{", ""] {
        let intake = grid();
        let request = notification(&[("1", Value::from(odd))]);
        assert_eq!(intake.says(&request).await, taken());
        let (_, op, raw) = intake.queue.changes().remove(0);
        assert_eq!(op, Op::Upsert);
        assert!(raw.contains("Contoso.Changed"), "{raw}");
    }
}

#[tokio::test]
async fn the_end_of_a_subscription_is_no_record() {
    let intake = grid();
    let request = notification(&[("1", json!({}))])
        .without("aeg-event-type")
        .header("aeg-event-type", "SubscriptionDeletion");
    let answer = intake.answer(&request).await;
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(0)));
}

fn cloud() -> Intake {
    Intake::with_secret(CLOUD, "k")
}

fn asked(headers: &[(&str, &str)]) -> Request {
    Request {
        method: "OPTIONS",
        ..post("map0?code=k", "").headers(headers)
    }
}

#[tokio::test]
async fn a_cloud_events_sender_is_allowed_by_its_origin() {
    let answer = cloud()
        .answer(&asked(&[
            ("WebHook-Request-Origin", "eventgrid.azure.net"),
            ("WebHook-Request-Rate", "120"),
            ("WebHook-Request-Callback", "https://example.com/x"),
        ]))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers["webhook-allowed-origin"],
        "eventgrid.azure.net"
    );
    assert_eq!(answer.headers["webhook-allowed-rate"], "120");
    assert_eq!(answer.headers["allow"], "POST");

    let answer = cloud()
        .answer(&asked(&[("webhook-request-origin", "EventGrid.Azure.net")]))
        .await;
    assert!(answer.headers.contains_key("webhook-allowed-origin"));
    assert!(!answer.headers.contains_key("webhook-allowed-rate"));

    for stranger in ["evil.example", "eventgrid.azure.net.evil", "x.example", "*"] {
        let answer = cloud()
            .answer(&asked(&[
                ("webhook-request-origin", stranger),
                ("webhook-request-rate", "1"),
            ]))
            .await;
        assert!(
            !answer.headers.contains_key("webhook-allowed-origin"),
            "{stranger}"
        );
        assert!(
            !answer.headers.contains_key("webhook-allowed-rate"),
            "{stranger}"
        );
    }
    let nobody = asked(&[]);
    assert_eq!(
        cloud().says(&nobody).await,
        refused(405, "method-not-allowed")
    );
    let all = CLOUD.replace("[eventgrid.azure.net, \"*.example\"]", "\"*\"");
    let answer = Intake::with_secret(&all, "k")
        .answer(&asked(&[("webhook-request-origin", "any.example")]))
        .await;
    assert_eq!(answer.headers["webhook-allowed-origin"], "any.example");
}

/// The same event in the three forms that CloudEvents has on HTTP.
fn forms(id: &str, kind: &str, record: &Value) -> [Request; 3] {
    let event = json!({ "specversion": "1.0", "id": id, "source": "/crm", "type": kind, "datacontenttype": "application/json", "data": record });
    let target = "map0?code=k";
    [
        post(target, record.to_string())
            .header("content-type", "application/json")
            .header("ce-specversion", "1.0")
            .header("CE-Id", id)
            .header("ce-source", "/crm")
            .header("ce-type", kind),
        post(target, event.to_string()).header(
            "content-type",
            "application/cloudevents+json; charset=utf-8",
        ),
        post(target, format!(" [{event}]"))
            .header("content-type", "Application/CloudEvents-Batch+JSON"),
    ]
}

#[tokio::test]
async fn an_event_is_the_same_in_all_three_forms() {
    let record = json!({ "id": "a", "type": "crm.deleted", "data": 1 });
    for (kind, op) in [
        ("crm.created", Some(Op::Upsert)),
        ("crm.deleted", Some(Op::Delete)),
        ("erp.created", None),
    ] {
        for request in forms("e1", kind, &record) {
            let intake = cloud();
            assert_eq!(intake.says(&request).await, taken(), "{request:?}");
            let changes = intake.queue.changes();
            let expected = op.map(|op| ("map0".to_owned(), op, record.to_string()));
            assert_eq!(
                changes,
                expected.into_iter().collect::<Vec<_>>(),
                "{request:?}"
            );
        }
    }
    // However a copy comes, it is one.
    let intake = cloud();
    for (at, request) in forms("e1", "crm.created", &record).iter().enumerate() {
        let answer = intake.answer(request).await;
        assert_eq!(answer.body["duplicates"], i32::from(at > 0), "{request:?}");
    }
    for request in &forms("e2", "crm.created", &record) {
        assert_eq!(intake.says(request).await, taken());
    }
    assert_eq!(intake.queue.sent().len(), 2);
}

#[tokio::test]
async fn a_list_of_records_in_one_event_is_not_cut_short() {
    let intake = cloud();
    let records = json!([{ "id": "a" }, { "id": "b" }, { "id": "c" }]);
    for request in forms("e1", "crm.created", &records) {
        intake.answer(&request).await;
    }
    assert_eq!(intake.queue.changes().len(), 3);
}

#[tokio::test]
async fn events_of_different_sources_are_different() {
    let intake = cloud();
    let record = json!({ "id": "a" });
    let [binary, ..] = forms("e1", "crm.created", &record);
    let other = binary
        .clone()
        .without("ce-source")
        .header("ce-source", "/erp");
    for request in [&binary, &other, &binary, &other] {
        assert_eq!(intake.says(request).await, taken());
    }
    assert_eq!(intake.queue.sent().len(), 2);
}

#[tokio::test]
async fn data_may_be_in_base64() {
    let intake = cloud();
    let event = |data: &str| {
        let event = json!({ "specversion": "1.0", "id": data, "source": "/crm", "type": "crm.x", "data_base64": data });
        post("map0?code=k", event.to_string())
            .header("content-type", "application/cloudevents+json")
    };
    assert_eq!(intake.says(&event("eyJpZCI6ImEifQ==")).await, taken());
    assert_eq!(intake.queue.changes()[0].2, r#"{"id":"a"}"#);
    for odd in ["/w==", "***"] {
        assert_eq!(intake.says(&event(odd)).await, taken());
        let (_, _, raw) = intake.queue.changes().pop().unwrap();
        assert!(raw.contains("specversion"), "{raw}");
    }
}
