//! Dataverse's execution contexts, and business events of finance and operations apps.

use model::Op;
use serde_json::{Value, json};

use crate::support::{Intake, Request, post, read, refused, taken};

const ACCOUNT: &str = "6d81597f-0f9f-e711-8122-000d3aa2331c";
const OPERATION: &str = "4af10637-4ea2-e711-8122-000d3aa2331c";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// The example of Microsoft's documentation, shortened.
fn context(message: &str) -> Value {
    json!({
        "BusinessUnitId": "e2b9dd85-e89e-e711-8122-000d3aa2331c",
        "CorrelationId": "b374239d-4233-41a9-8b17-a86cb4f737b5",
        "Depth": 1,
        "InputParameters": [{ "key": "Target", "value": {
            "__type": "Entity:http://schemas.microsoft.com/xrm/2011/Contracts",
            "Attributes": [
                { "key": "name", "value": "Alpine Ltd" },
                { "key": "accountid", "value": ACCOUNT },
                { "key": "statuscode", "value": { "__type": "OptionSetValue:http://schemas.microsoft.com/xrm/2011/Contracts", "Value": 1 } },
                { "key": "modifiedon", "value": "/Date(1767225600000)/" },
            ],
            "Id": ACCOUNT,
            "LogicalName": "account",
            "RowVersion": null,
        } }],
        "MessageName": message,
        "Mode": 1,
        "OperationCreatedOn": "/Date(1767225601000-0700)/",
        "OperationId": OPERATION,
        "OutputParameters": [],
        "PostEntityImages": [{ "key": "post", "value": { "Attributes": [{ "key": "accountnumber", "value": "A-7" }], "Id": ACCOUNT } }],
        "PrimaryEntityId": ACCOUNT,
        "PrimaryEntityName": "account",
        "RequestId": null,
        "Stage": 40,
    })
}

fn with(mut context: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else {
        panic!("no object")
    };
    context.as_object_mut().unwrap().extend(changes);
    context
}

fn without(mut context: Value, fields: &[&str]) -> Value {
    for field in fields {
        context.as_object_mut().unwrap().remove(*field);
    }
    context
}

fn intake(more: &str) -> Intake {
    let webhook = format!("{{ scheme: dataverse, secret: secret://s{more} }}");
    Intake::with_secret(&webhook, "k")
}

fn sent(context: &Value) -> Request {
    // Microsoft's serializer writes a slash as \/.
    let body = context.to_string().replace("/Date(", "\\/Date(");
    let body = body.replace(")/\"", ")\\/\"");
    post("map0?code=k", body)
        .header("x-ms-dynamics-entity-name", "account")
        .header("x-ms-dynamics-request-name", "Update")
}

/// What is queued of a context.
async fn queued(intake: &Intake, context: &Value) -> Vec<(Op, Value)> {
    let before = intake.queue.changes().len();
    assert_eq!(intake.says(&sent(context)).await, taken());
    let changes = intake.queue.changes().split_off(before);
    changes
        .into_iter()
        .map(|(_, op, raw)| (op, serde_json::from_str(&raw).unwrap()))
        .collect()
}

fn touch() -> Vec<(Op, Value)> {
    vec![(Op::Touch, json!({ "id": ACCOUNT }))]
}

#[tokio::test]
async fn it_is_known_by_a_header_or_a_query_parameter() {
    let body = context("Update").to_string();
    let by_header = ", carrier: x-dsync-key";
    for (more, request, expected) in [
        ("", post("map0?code=k", &body), taken()),
        ("", post("map0?x=code&code=k", &body), taken()),
        ("", post("map0", &body), refused(401, "signature-missing")),
        (
            "",
            post("map0?code=K", &body),
            refused(401, "signature-mismatch"),
        ),
        (
            "",
            post("map0", &body).header("code", "k"),
            refused(401, "signature-missing"),
        ),
        (
            by_header,
            post("map0", &body).header("X-DSync-Key", "k"),
            taken(),
        ),
        (
            by_header,
            post("map0?x-dsync-key=k", &body),
            refused(401, "signature-missing"),
        ),
        (
            by_header,
            post("map0", &body).header("x-dsync-key", "kk"),
            refused(401, "signature-mismatch"),
        ),
        (", carrier: \"?key\"", post("map0?key=k", &body), taken()),
    ] {
        assert_eq!(intake(more).says(&request).await, expected, "{request:?}");
    }
}

#[tokio::test]
async fn every_message_says_which_record_to_read() {
    for message in ["Create", "Update", "Assign", "SetState", "Upsert"] {
        assert_eq!(
            queued(&intake(""), &context(message)).await,
            touch(),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_delete_names_its_record_by_reference() {
    let reference = json!([{ "key": "Target", "value": {
        "__type": "EntityReference:http://schemas.microsoft.com/xrm/2011/Contracts",
        "Id": ACCOUNT, "KeyAttributes": [], "LogicalName": "account", "Name": null, "RowVersion": null,
    } }]);
    let delete = vec![(Op::Delete, json!({ "id": ACCOUNT }))];
    let context = with(context("Delete"), json!({ "InputParameters": reference }));
    assert_eq!(queued(&intake(""), &context).await, delete);
    let by_reference = with(context, json!({ "PrimaryEntityId": NIL }));
    assert_eq!(queued(&intake(""), &by_reference).await, delete);
    let ignored = intake(", event: MessageName, ops: { Delete: ignore, \"*\": touch }");
    assert_eq!(queued(&ignored, &by_reference).await, []);
}

#[tokio::test]
async fn the_identifier_is_looked_for_where_it_may_be() {
    let context = with(context("Create"), json!({ "PrimaryEntityId": NIL }));
    assert_eq!(queued(&intake(""), &context).await, touch());
    let made = json!([{ "key": "id", "value": ACCOUNT }]);
    let only_output = with(
        without(context, &["InputParameters", "PrimaryEntityId"]),
        json!({ "OutputParameters": made }),
    );
    assert_eq!(queued(&intake(""), &only_output).await, touch());
    let nowhere = without(only_output, &["OutputParameters"]);
    assert_eq!(
        queued(&intake(""), &nowhere).await,
        [(Op::Upsert, json!(["unrecognised", nowhere]))],
        "it becomes a failure that shows the context"
    );
}

#[tokio::test]
async fn a_context_that_was_too_large_still_says_enough() {
    let small = without(
        context("Update"),
        &[
            "ParentContext",
            "InputParameters",
            "PreEntityImages",
            "PostEntityImages",
        ],
    );
    let intake = intake("");
    let request = sent(&small).header("x-ms-dynamics-msg-size-exceeded", "true");
    assert_eq!(intake.says(&request).await, taken());
    let (_, op, raw) = intake.queue.changes().remove(0);
    assert_eq!((op, raw), (Op::Touch, json!({ "id": ACCOUNT }).to_string()));
}

#[tokio::test]
async fn one_address_for_all_entities() {
    let rules = ", event: PrimaryEntityName, ops: { account: touch }";
    assert_eq!(queued(&intake(rules), &context("Update")).await, touch());
    let contact = with(context("Update"), json!({ "PrimaryEntityName": "contact" }));
    assert_eq!(queued(&intake(rules), &contact).await, []);
    let deleted = queued(&intake(rules), &context("Delete")).await;
    assert_eq!(deleted[0].0, Op::Delete);
}

#[tokio::test]
async fn an_asynchronous_step_is_taken_once() {
    let intake = intake("");
    let update = context("Update");
    assert_eq!(queued(&intake, &update).await.len(), 1);
    assert_eq!(queued(&intake, &update).await, []);
    // Neither another record nor another message of the same operation is a copy.
    let other = "0d81597f-0f9f-e711-8122-000d3aa2331c";
    let record = with(update.clone(), json!({ "PrimaryEntityId": other }));
    assert_eq!(queued(&intake, &record).await.len(), 1);
    assert_eq!(queued(&intake, &context("Delete")).await.len(), 1);
    // A synchronous step has no operation, and is never taken for a copy.
    let synchronous = with(update, json!({ "OperationId": NIL }));
    for _ in 0..2 {
        assert_eq!(queued(&intake, &synchronous).await.len(), 1);
    }
}

#[tokio::test]
async fn other_keys_than_the_identifier_are_found_among_attributes_and_images() {
    for (path, value) in [
        ("name", json!("Alpine Ltd")),
        ("statuscode", json!(1)),
        ("modifiedon", json!("/Date(1767225600000)/")),
        (
            "InputParameters/Target/Attributes/accountid",
            json!(ACCOUNT),
        ),
        (
            "PostEntityImages/post/Attributes/accountnumber",
            json!("A-7"),
        ),
        ("PostEntityImages/post", json!(ACCOUNT)),
    ] {
        let intake = intake(&format!(", key: {{ id: {path} }}"));
        assert_eq!(
            queued(&intake, &context("Update")).await,
            [(Op::Touch, json!({ "id": value }))],
            "{path}"
        );
    }
    let deleted = with(
        context("OnExternalDeleted"),
        json!({ "InputParameters": [
            { "key": "Target", "value": { "Id": ACCOUNT } },
            { "key": "PreImage", "value": { "Attributes": [{ "key": "mserp_no", "value": "7" }] } },
        ] }),
    );
    assert_eq!(
        queued(&intake(", key: { id: mserp_no }"), &deleted).await,
        [(Op::Delete, json!({ "id": "7" }))]
    );
}

/// Customers of a legal entity, whose key has two fields.
fn invoices() -> Intake {
    let definition = read(
        "\
connections:
  erp: { kind: odata, url: \"https://erp.example.com/data\" }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  map0:
    from: { stream: erp.Invoices, key: [dataAreaId, InvoiceId], version: ModifiedOn }
    to: { stream: warehouse.invoices, key: [company, number] }
    fields: { company: dataAreaId, number: InvoiceId }
    pull: { every: 5m }
    webhook:
      scheme: dataverse
      secret: secret://s
      event: BusinessEventId
      ops: { CustFreeTextInvoicePostedBusinessEvent: touch }
      key: { dataAreaId: LegalEntity, InvoiceId: InvoiceId }
",
    );
    Intake::of(definition, &[("s", Some("k"))])
}

fn business_event() -> Value {
    json!({
        "BusinessEventId": "CustFreeTextInvoicePostedBusinessEvent",
        "BusinessEventLegalEntity": "usmf",
        "ControlNumber": 5_637_166_326_u64,
        "EventId": "{E6471158-09E3-4BDA-A508-924A8FE7A43B}",
        "EventTime": "/Date(1767225600000)/",
        "MajorVersion": 0,
        "InvoiceAccount": "US-001",
        "InvoiceId": "FTI-00000011",
        "LegalEntity": "usmf",
    })
}

#[tokio::test]
async fn a_business_event_is_the_same_straight_and_through_dataverse() {
    let straight = business_event();
    let pairs: Vec<Value> = straight
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect();
    let proxied = json!({
        "InputParameters": pairs,
        "MessageName": "mserp_CustFreeTextInvoicePosted",
        "OperationId": OPERATION,
        "PrimaryEntityId": NIL,
        "PrimaryEntityName": "none",
    });
    let key = json!({ "InvoiceId": "FTI-00000011", "dataAreaId": "usmf" });
    for event in [&straight, &proxied] {
        let intake = invoices();
        let expected = [(Op::Touch, key.clone())];
        assert_eq!(queued(&intake, event).await, expected);
        assert_eq!(queued(&intake, event).await, [], "it is a copy");
    }
    let other = with(straight, json!({ "BusinessEventId": "VendPaid" }));
    assert_eq!(queued(&invoices(), &other).await, []);
}

#[tokio::test]
async fn a_business_event_may_be_the_record() {
    let webhook = "{ scheme: header, header: \"?code\", secret: secret://s, delivery: EventId, key: { id: InvoiceId } }";
    let intake = Intake::with_secret(webhook, "k");
    for accepted in [1, 0] {
        let answer = intake.answer(&sent(&business_event())).await;
        assert_eq!(answer.body["accepted"], accepted);
    }
    let (_, op, raw) = intake.queue.changes().remove(0);
    let record: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(
        (op, &record["id"], &record["EventTime"]),
        (
            Op::Upsert,
            &json!("FTI-00000011"),
            &json!("/Date(1767225600000)/")
        )
    );
}
