//! Webhooks signed as the demo's CRM signs them.

use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use super::{Deployment, HOOK_SECRET};

/// Sends the webhook of a row as it is now.
pub(crate) async fn notify(deployment: &Deployment, crm: &SampleCrm, set: Set, key: &str) {
    let (kind, data) = match crm.row(set, key) {
        Some(row) => ("updated", row),
        None => (
            "deleted",
            json!({ set.key(): key, "ModifiedAt": now(deployment) }),
        ),
    };
    let set = match set {
        Set::Accounts => "account",
        Set::Contacts => "contact",
        Set::Orders => "order",
    };
    send(
        deployment,
        &json!({ "type": format!("{set}.{kind}"), "data": data }),
    )
    .await;
}

/// The time on the deployment's clock, as it stands in records.
pub(crate) fn now(deployment: &Deployment) -> Value {
    json!(deployment.home.clock.now().to_string())
}

/// Sends an event, and wants it accepted.
pub(crate) async fn send(deployment: &Deployment, event: &Value) {
    let id = format!("msg_{}", deployment.home.clock.new_id());
    let (status, answer) = signed(deployment, &id, event).await;
    assert_eq!(status, 202, "{answer}");
}

/// Sends an event under a delivery id; returns the status and the body of the answer.
pub(crate) async fn signed(deployment: &Deployment, id: &str, event: &Value) -> (i64, Value) {
    let body = event.to_string();
    let now = deployment.home.clock.now().as_second();
    let webhook = Webhook::new(HOOK_SECRET).unwrap();
    let signature = webhook.sign(id, now, body.as_bytes()).unwrap();
    let headers = [
        ("webhook-id", id),
        ("webhook-timestamp", &now.to_string()),
        ("webhook-signature", &signature),
    ];
    deployment.post("crm", &headers, body.as_bytes()).await
}
