//! Queue batches, message by message.

use std::{fmt::Display, panic::AssertUnwindSafe};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::{FutureExt, StreamExt, stream};

/// Names the messages that have to come back.
#[must_use]
pub fn failed_items(ids: impl IntoIterator<Item = String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = ids
        .into_iter()
        .map(|id| {
            let mut item = BatchItemFailure::default();
            item.item_identifier = id;
            item
        })
        .collect();
    response
}

/// Lets every message come back.
#[must_use]
pub fn fail_all(event: &SqsEvent) -> SqsBatchResponse {
    failed_items(
        event
            .records
            .iter()
            .filter_map(|message| message.message_id.clone()),
    )
}

/// Works on each message, `concurrency` at a time, and names those that failed, so that only
/// they come back. A panic fails its own message.
///
/// An error from `work` means "try this message again": what can never succeed has to be
/// dealt with inside, or it would go round until its queue gives up.
pub async fn each_message<F, Fut, E>(
    event: SqsEvent,
    concurrency: usize,
    work: F,
) -> SqsBatchResponse
where
    F: Fn(SqsMessage) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Display + Send,
{
    let attempts = event.records.into_iter().map(|message| {
        let id = message.message_id.clone().unwrap_or_default();
        let attempt = AssertUnwindSafe(work(message)).catch_unwind();
        async move {
            match attempt.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    tracing::warn!(message.id = %id, "message {id} comes back: {error}");
                    Some(id)
                }
                Err(_) => {
                    tracing::error!(message.id = %id, "message {id} comes back: working on it panicked");
                    Some(id)
                }
            }
        }
    });
    let results: Vec<Option<String>> = stream::iter(attempts)
        .buffer_unordered(concurrency)
        .collect()
        .await;
    failed_items(results.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bodies: &[&str]) -> SqsEvent {
        let mut event = SqsEvent::default();
        event.records = bodies
            .iter()
            .map(|body| {
                let mut message = SqsMessage::default();
                message.message_id = Some((*body).to_owned());
                message.body = Some((*body).to_owned());
                message
            })
            .collect();
        event
    }

    #[tokio::test]
    async fn only_what_failed_comes_back_and_a_panic_stays_in_its_message() {
        let response = each_message(
            event(&["good", "bad", "panic", "fine"]),
            2,
            async |message: SqsMessage| match message.body.as_deref() {
                Some("bad") => Err("no"),
                Some("panic") => panic!("deliberate"),
                _ => Ok(()),
            },
        )
        .await;
        let mut ids: Vec<_> = response
            .batch_item_failures
            .iter()
            .map(|item| item.item_identifier.as_str())
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, ["bad", "panic"]);
    }
}
