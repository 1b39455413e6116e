//! What a deployment costs in a month in which nothing happens.

use std::io;

use serde_json::json;

use super::{
    bill::{Bill, explain, verdict},
    prices,
    stack::Stack,
};
use crate::table::heading;

/// Minutes of a month of 30 days.
const MINUTES: f64 = 30.0 * 24.0 * 60.0;
/// Ticks that are counted.
const TICKS: usize = 20;
/// Seconds after which a worker reads anew when maps are due.
const SCHEDULE_SECONDS: f64 = 300.0;
/// Calls on an empty queue: so many at once, each for 20 seconds.
const POLLERS: f64 = 5.0;
const POLLS_A_MINUTE: f64 = 3.0;
/// Queues with a mapping.
const QUEUES: f64 = 8.0;
/// Of the template: queues with a key whose data keys are used for an hour, metrics of alarms,
/// metrics of the functions.
const ENCRYPTED: f64 = 9.0;
const ALARMS: f64 = 39.0;
const METRICS: f64 = 10.0;

/// Ticks of all functions that have a timer.
pub(crate) async fn measure(stack: &Stack) -> io::Result<()> {
    let timers = [
        ("recurring-pull", json!({})),
        ("initial-load", json!({ "watch": true })),
        ("retry", json!({})),
    ];
    // What the first tick reads, it reads again after a while.
    stack.begin().await?;
    stack.invoke("recurring-pull", &timers[0].1).await?;
    let first = stack.end().await?;
    for (function, event) in &timers {
        stack.invoke(function, event).await?;
    }
    stack.begin().await?;
    for _ in 0..TICKS {
        for (function, event) in &timers {
            stack.invoke(function, event).await?;
        }
    }
    let counts = stack.end().await?;
    let mut bill = Bill::of(&counts, MINUTES / crate::real(TICKS), &[]);
    let schedule = first
        .functions
        .get("recurring-pull")
        .map_or(0.0, |first| first.usage.dynamodb.read);
    bill.add(
        "recurring-pull",
        prices::READS,
        schedule * MINUTES * 60.0 / SCHEDULE_SECONDS,
    );
    bill.add("timers", prices::TICKS, 3.0 * MINUTES);
    bill.add(
        "mappings, idle",
        prices::SQS,
        QUEUES * POLLERS * POLLS_A_MINUTE * MINUTES,
    );
    bill.add("key", prices::KEY, 1.0);
    // One to send, one to receive, and one more: B / D x (2P + C) of the SQS developer guide.
    bill.add("key", prices::KMS, ENCRYPTED * 3.0 * MINUTES / 60.0);
    bill.add("watching", prices::ALARM, ALARMS);
    bill.add("watching", prices::METRIC, METRICS);
    bill.add("watching", prices::DASHBOARD, 1.0);
    bill.add("secrets", prices::SECRET, 3.0);
    heading("fixed, a month");
    explain(&counts, &[]);
    bill.show();
    verdict("fixed, a month", bill.total(), None);
    Ok(())
}
