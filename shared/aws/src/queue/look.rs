//! Whether queues may be used.

use model::QueueName;

use super::Queues;
use crate::ready::Found;

impl Queues {
    /// Whether messages may be sent to a queue: an empty batch is refused as such by a queue that
    /// there is, to one who may send to it.
    pub(crate) async fn may_send(&self, queue: QueueName) -> Found {
        let url = match self.url(queue) {
            Ok(url) => url,
            Err(error) => return Found::Unusable(error.to_string()),
        };
        let sent = self
            .client
            .send_message_batch()
            .queue_url(url)
            .set_entries(Some(Vec::new()))
            .send()
            .await;
        Found::of(&sent, &["EmptyBatchRequest"])
    }

    /// Whether messages of a queue may be put off: the same with the receipt of none.
    pub(crate) async fn may_put_off(&self, queue: QueueName) -> Found {
        let url = match self.url(queue) {
            Ok(url) => url,
            Err(error) => return Found::Unusable(error.to_string()),
        };
        let put_off = self
            .client
            .change_message_visibility()
            .queue_url(url)
            .receipt_handle("none")
            .visibility_timeout(0)
            .send()
            .await;
        let fine = ["InvalidParameterValue", "ReceiptHandleIsInvalid"];
        Found::of(&put_off, &fine)
    }
}
