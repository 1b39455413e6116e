//! From messages and receipts to the batches that SQS takes.

use std::time::Duration;

use aws_sdk_sqs::{
    error::BuildError,
    types::{DeleteMessageBatchRequestEntry, MessageAttributeValue, SendMessageBatchRequestEntry},
};
use model::{MAX_MESSAGE_BYTES, QueueName, TraceParent};
use ports::{Outgoing, QueueError};

use super::{BATCH, seconds, unavailable};

/// Bytes of the bodies of one batch. SQS takes 1 MiB, attributes included; the margin is for
/// those.
const BATCH_BYTES: usize = 1024 * 1024 - BATCH * 1024;
/// The attribute that has the trace of a message, in the form of the HTTP header.
const TRACE: &str = "traceparent";
/// Longest delay.
const LONGEST_DELAY: Duration = Duration::from_mins(15);

/// Says what no queue takes before anything is sent.
pub(super) fn check(queue: QueueName, messages: &[Outgoing]) -> Result<(), QueueError> {
    for message in messages {
        let size = message.body.len();
        if size > MAX_MESSAGE_BYTES {
            return Err(QueueError::TooLarge { queue, size });
        }
        // SQS refuses the call as a whole, and refuses it every time.
        if let Some((at, refused)) = message.body.char_indices().find(|(_, c)| !is_allowed(*c)) {
            let code = u32::from(refused);
            let text = format!(
                "a message has the character U+{code:04X} at byte {at}, which SQS does not take: \
                 it has to be escaped"
            );
            return Err(unavailable(queue, text));
        }
        if message.body.is_empty() {
            return Err(unavailable(
                queue,
                "a message is empty, which SQS does not take",
            ));
        }
    }
    Ok(())
}

/// The characters of XML 1.0.
fn is_allowed(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        '\u{FFFE}' | '\u{FFFF}' => false,
        _ => c >= ' ',
    }
}

/// Batches of at most [`BATCH`] messages and [`BATCH_BYTES`].
pub(super) fn batches(
    queue: QueueName,
    messages: Vec<Outgoing>,
) -> Result<Vec<Vec<SendMessageBatchRequestEntry>>, QueueError> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for message in messages {
        if batch.len() == BATCH || bytes + message.body.len() > BATCH_BYTES {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += message.body.len();
        batch.push(entry(batch.len(), message).map_err(|error| unavailable(queue, error))?);
    }
    batches.push(batch);
    batches.retain(|batch| !batch.is_empty());
    Ok(batches)
}

fn entry(id: usize, message: Outgoing) -> Result<SendMessageBatchRequestEntry, BuildError> {
    let delay = seconds(message.delay, LONGEST_DELAY);
    let entry = SendMessageBatchRequestEntry::builder();
    let entry = match message.trace {
        Some(trace) => entry.message_attributes(TRACE, attribute(trace)?),
        None => entry,
    };
    entry
        .id(id.to_string())
        .message_body(message.body)
        .set_message_group_id(message.group.map(|map| map.as_str().to_owned()))
        // None is the queue's own delay.
        .delay_seconds(delay)
        .build()
}

fn attribute(trace: TraceParent) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(trace.to_string())
        .build()
}

/// Batches of receipts to delete.
pub(super) fn deletions(
    queue: QueueName,
    receipts: &[String],
) -> Result<Vec<Vec<DeleteMessageBatchRequestEntry>>, QueueError> {
    receipts
        .chunks(BATCH)
        .map(|receipts| receipts.iter().enumerate().map(deletion).collect())
        .collect::<Result<_, _>>()
        .map_err(|error: BuildError| unavailable(queue, error))
}

fn deletion((id, receipt): (usize, &String)) -> Result<DeleteMessageBatchRequestEntry, BuildError> {
    DeleteMessageBatchRequestEntry::builder()
        .id(id.to_string())
        .receipt_handle(receipt)
        .build()
}
