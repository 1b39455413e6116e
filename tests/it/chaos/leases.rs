//! Leases of workers that died.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};

use super::emulator::Emulator;

/// A lease that is the same at two looks belongs to a worker that is dead, or as good as dead:
/// those that are alive hold theirs for a moment.
const EVERY: Duration = Duration::from_secs(20);

/// Ends leases of workers that died, until this future is dropped. They end by themselves after
/// minutes, for which a test need not wait.
pub(super) async fn end_orphaned(emulator: &Emulator, table: &str) {
    let mut pace = tokio::time::interval(EVERY);
    let mut before = HashSet::new();
    loop {
        pace.tick().await;
        let held = held(emulator, table).await;
        let marks: HashSet<String> = held.iter().map(mark).collect();
        for item in held.iter().filter(|item| before.contains(&mark(item))) {
            end(emulator, table, item).await;
        }
        before = marks;
    }
}

/// The checkpoints with a lease that somebody holds.
async fn held(emulator: &Emulator, table: &str) -> Vec<Value> {
    let scan = json!({
        "TableName": table,
        "FilterExpression": "begins_with(sk, :load) OR begins_with(sk, :pull) OR begins_with(sk, :release) OR begins_with(sk, :round)",
        "ExpressionAttributeValues": {
            ":load": { "S": "load/" },
            ":pull": { "S": "pull/" },
            ":release": { "S": "release/" },
            ":round": { "S": "round/" },
        },
        "ConsistentRead": true,
    });
    let answer = emulator
        .call("dynamodb", "DynamoDB_20120810.Scan", &scan)
        .await;
    let found = answer["Items"].as_array().cloned().unwrap_or_default();
    found
        .into_iter()
        .filter(|item| !value(item)["lease"]["until"].is_null())
        .collect()
}

/// What a checkpoint holds.
fn value(item: &Value) -> Value {
    let text = item["value"]["S"].as_str().unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

/// What tells a lease from one that was taken later.
fn mark(item: &Value) -> String {
    format!("{} {}", item["sk"]["S"], value(item)["lease"])
}

/// Lets a lease end. Its revision stays, so that a holder who lives after all loses nothing as
/// long as nobody else takes it.
async fn end(emulator: &Emulator, table: &str, item: &Value) {
    let mut ended = value(item);
    ended["lease"]["until"] = json!("1970-01-01T00:00:00Z");
    let update = json!({
        "TableName": table,
        "Key": { "pk": item["pk"], "sk": item["sk"] },
        "UpdateExpression": "SET #value = :value",
        "ConditionExpression": "rev = :rev",
        "ExpressionAttributeNames": { "#value": "value" },
        "ExpressionAttributeValues": { ":value": { "S": ended.to_string() }, ":rev": item["rev"] },
    });
    // It is refused when somebody has written it meanwhile, who lives.
    let _ = emulator
        .call("dynamodb", "DynamoDB_20120810.UpdateItem", &update)
        .await;
}
