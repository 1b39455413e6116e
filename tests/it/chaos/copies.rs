//! Messages that come again: a queue of AWS delivers each at least once.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{
    emulator::Emulator,
    tally::{Kind, Tally},
    trouble::{Sending, Trouble},
};

/// How often something is sent again.
const EVERY: Duration = Duration::from_millis(400);
/// How late it is at most, beside the time that it lay here.
const LATEST: u64 = 45;

/// Sends messages again that were sent at any time before, until this future is dropped.
pub(super) async fn send_again(
    emulator: &Emulator,
    trouble: &Trouble,
    mut random: Rng,
    tally: &Tally,
) {
    let mut pace = tokio::time::interval(EVERY);
    loop {
        pace.tick().await;
        let Some((queue, sending)) = trouble.any_sent(&mut random) else {
            continue;
        };
        let Some(again) = late(&sending, &mut random) else {
            continue;
        };
        let target = format!("AmazonSQS.{}", sending.action);
        let answer = emulator.call("sqs", &target, &again).await;
        let taken = &answer["Successful"];
        if answer["MessageId"].is_string() || taken.as_array().is_some_and(|all| !all.is_empty()) {
            tally.add(Kind::Copied, &queue);
        }
    }
}

/// One of the messages once more, with a delay.
fn late(sending: &Sending, random: &mut Rng) -> Option<Value> {
    let mut call = sending.call.clone();
    let delay = json!(random.u64(..LATEST));
    match call.get_mut("Entries").and_then(Value::as_array_mut) {
        Some(entries) => {
            let chosen = random.choice(entries.clone())?;
            *entries = vec![chosen];
            entries[0]["DelaySeconds"] = delay;
        }
        None => call["DelaySeconds"] = delay,
    }
    Some(call)
}
