//! Messages that AWS has delivered to a function.

use std::{collections::HashSet, sync::PoisonError, time::Duration};

use async_trait::async_trait;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::types::QueueAttributeName;
use futures_util::future::join_all;
use model::QueueName;
use ports::StoreError;

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

/// What it takes to give messages back.
#[derive(Debug)]
pub struct Delivered {
    queue: Option<QueueName>,
    messages: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    id: String,
    receipt: String,
    receives: u32,
}

impl Delivered {
    /// That of an event.
    #[must_use]
    pub fn of(event: &SqsEvent) -> Self {
        let message = |message: &SqsMessage| Message {
            id: message.message_id.clone().unwrap_or_default(),
            receipt: message.receipt_handle.clone().unwrap_or_default(),
            receives: receives(message),
        };
        Self {
            queue: Queues::source(event),
            messages: event.records.iter().map(message).collect(),
        }
    }

    /// Those that failed and have not been put off.
    fn left(
        self,
        response: &SqsBatchResponse,
        deferred: &HashSet<String>,
    ) -> impl Iterator<Item = Message> {
        let failed = response.batch_item_failures.iter();
        let failed: HashSet<&str> = failed.map(|item| item.item_identifier.as_str()).collect();
        let mut messages = self.messages;
        messages.retain(|message| {
            failed.contains(message.id.as_str()) && !deferred.contains(&message.receipt)
        });
        messages.into_iter()
    }
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

    fn take_deferred(&self) -> HashSet<String> {
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *deferred)
    }

    /// Lets messages that failed come back soon, and not only when the longest invocation that
    /// could have them would have ended. Those that the function has put off itself come back
    /// when it said.
    pub async fn give_back(&self, delivered: Delivered, response: &SqsBatchResponse) {
        let deferred = self.take_deferred();
        let Some(queue) = delivered.queue else {
            return;
        };
        let left = delivered
            .left(response, &deferred)
            .map(|message| async move {
                let wait = STEP.saturating_mul(message.receives).min(LONGEST);
                self.put_off(queue, &message.receipt, wait).await
            });
        for error in join_all(left).await.into_iter().filter_map(Result::err) {
            tracing::warn!(queue.name = %queue, "a message of queue `{queue}` that failed comes back later: {error}");
        }
    }
}

impl Queues {
    async fn holds_messages(&self, queue: QueueName) -> Result<bool, StoreError> {
        let what = "looking for reports of failures";
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let url = self.url(queue).map_err(StoreError::unavailable(what))?;
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

#[async_trait]
impl ReportsWaiting for Queues {
    async fn waiting(&self) -> Result<bool, StoreError> {
        let reports = self.holds_messages(QueueName::Failures).await?;
        // A dead letter is settled before its changes are stored.
        Ok(reports || self.holds_messages(QueueName::Dead).await?)
    }
}
