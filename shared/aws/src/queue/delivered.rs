//! Messages that AWS has delivered to a function.

use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::types::QueueAttributeName;
use futures_util::future::join_all;
use model::QueueName;
use ports::{Queue, StoreError};

use super::Queues;
use crate::{ReportsWaiting, said::said};

/// How long a message that failed waits for each time that it was received.
const STEP: Duration = Duration::from_secs(1);
/// It need not wait longer.
const LONGEST: Duration = Duration::from_mins(1);

fn receives(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount");
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
}

impl Queues {
    /// The queue of a message, by the name that its address ends with.
    #[must_use]
    pub fn source(event: &SqsEvent) -> Option<QueueName> {
        let source = event.records.first()?.event_source_arn.as_deref()?;
        let name = source.rsplit([':', '-']).next()?;
        QueueName::ALL
            .into_iter()
            .find(|queue| queue.as_str() == name)
    }

    /// Lets messages that failed come back soon, and not only when the longest invocation that
    /// could have them would have ended.
    pub async fn give_back(&self, event: &SqsEvent, response: &SqsBatchResponse) {
        let Some(queue) = Self::source(event) else {
            return;
        };
        let failed = event.records.iter().filter(|message| {
            let mut items = response.batch_item_failures.iter();
            items.any(|item| Some(&item.item_identifier) == message.message_id.as_ref())
        });
        let deferred = failed.map(|message| {
            let wait = STEP.saturating_mul(receives(message)).min(LONGEST);
            self.defer(
                queue,
                message.receipt_handle.as_deref().unwrap_or_default(),
                wait,
            )
        });
        for error in join_all(deferred).await.into_iter().filter_map(Result::err) {
            tracing::warn!(queue.name = %queue, "a message of queue `{queue}` that failed comes back later: {error}");
        }
    }
}

#[async_trait]
impl ReportsWaiting for Queues {
    async fn waiting(&self) -> Result<bool, StoreError> {
        let what = "looking for reports of failures";
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let url = self
            .url(QueueName::Failures)
            .map_err(StoreError::unavailable(what))?;
        let asked = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .set_attribute_names(Some(counts.into()))
            .send()
            .await
            .map_err(|error| StoreError::unavailable(what)(said(&error)))?;
        let attributes = asked.attributes.unwrap_or_default();
        Ok(attributes.values().any(|count| count != "0"))
    }
}
