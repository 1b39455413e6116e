//! Sending what may be too large for a queue.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use model::{
    EncodedPack, FailureReport, Lane, MAX_MESSAGE_BYTES, MapName, QueueName, Settlement,
    TraceParent,
};
use ports::{Blobs, Dedupe, Outgoing, PackEntry, Queue, QueueError, Sent, StoreError};
use serde::{Deserialize, Serialize};

/// A message that stands for a blob, which holds the message proper.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type")]
enum Claim {
    #[serde(rename = "blob.v1")]
    Blob { name: String },
}

/// Something could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The queue did not take it.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The blob storage did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The longest that a queue keeps a message back.
const LONGEST_DELAY: Duration = Duration::from_mins(15);

/// Sends messages; those too large for any queue travel as a reference to a blob.
#[derive(Debug, Clone)]
pub struct Outbox {
    queue: Arc<dyn Queue>,
    blobs: Arc<dyn Blobs>,
    /// Whether a message says of which map it is.
    shared: bool,
}

impl Outbox {
    /// An outbox over a queue and a blob storage. Messages say of which map they are, so that
    /// the queue can give each map its share.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, blobs: Arc<dyn Blobs>) -> Self {
        Self {
            queue,
            blobs,
            shared: true,
        }
    }

    /// The same for queues that so many maps share. One alone has them to itself: its messages
    /// do not say of which map they are, because a queue may want to be paid for looking.
    #[must_use]
    pub fn shared_by(self, maps: usize) -> Self {
        Self {
            shared: maps > 1,
            ..self
        }
    }

    /// What the queue shares its messages out by.
    fn group(&self, map: &MapName) -> Option<MapName> {
        self.shared.then(|| map.clone())
    }

    /// The queue below, for visibility.
    #[must_use]
    pub fn queue(&self) -> &dyn Queue {
        self.queue.as_ref()
    }

    /// Sends packs on a lane. When it returns `Ok` all of them are durable.
    pub async fn send_packs(&self, lane: Lane, packs: Vec<EncodedPack>) -> Result<(), OutboxError> {
        let mut messages = Vec::with_capacity(packs.len());
        for pack in packs {
            messages.push(self.pack_message(lane, pack, None).await?);
        }
        if !messages.is_empty() {
            self.queue.send(lane.queue(), messages).await?;
        }
        Ok(())
    }

    /// Sends one pack unless one of the same name has been sent before.
    pub async fn send_once(
        &self,
        lane: Lane,
        pack: EncodedPack,
        dedupe: Option<Dedupe>,
    ) -> Result<Sent, OutboxError> {
        let blob = message_blob(&pack.head.id.to_string());
        let large = pack.body.len() > MAX_MESSAGE_BYTES;
        let message = self.pack_message(lane, pack, dedupe).await?;
        let sent = self.queue.send(lane.queue(), vec![message]).await?;
        let sent = sent.first().copied().unwrap_or(Sent::Queued);
        if sent == Sent::Duplicate && large {
            // Nothing will ever refer to it.
            self.blobs.delete(&[blob]).await?;
        }
        Ok(sent)
    }

    async fn pack_message(
        &self,
        lane: Lane,
        pack: EncodedPack,
        dedupe: Option<Dedupe>,
    ) -> Result<Outgoing, OutboxError> {
        let EncodedPack { head, count, body } = pack;
        let body = self.claim(message_blob(&head.id.to_string()), body).await?;
        // A change that comes from the failure store is in the books already.
        let entry = (lane != Lane::Retry).then(|| PackEntry {
            id: head.id,
            map: head.map.clone(),
            run: head.run,
            count,
        });
        let trace = head.trace.map(|trace| TraceParent::of_pack(trace, head.id));
        Ok(Outgoing {
            group: self.group(&head.map),
            pack: entry,
            dedupe,
            trace,
            ..Outgoing::new(body)
        })
    }

    /// Sends something else as JSON. `name` must be unique to its content: it names the blob
    /// if the message needs one. A delay longer than a queue can keep is cut short: whoever
    /// gets the message has to look whether it is time.
    pub async fn send<T: Serialize + Sync>(
        &self,
        queue: QueueName,
        map: Option<&MapName>,
        name: &str,
        message: &T,
        delay: Duration,
    ) -> Result<(), OutboxError> {
        let message = Outgoing {
            delay: delay.min(LONGEST_DELAY),
            ..self.message(map, name, message).await?
        };
        self.queue.send(queue, vec![message]).await?;
        Ok(())
    }

    /// Sends a message for each of some maps, in as few calls as the queue can; each map may come
    /// once. After an error any of them may have been sent.
    pub async fn send_for_each<T: Serialize + Sync>(
        &self,
        queue: QueueName,
        messages: &[(MapName, T)],
    ) -> Result<(), OutboxError> {
        let mut all = Vec::with_capacity(messages.len());
        for (map, message) in messages {
            all.push(self.message(Some(map), map.as_str(), message).await?);
        }
        if !all.is_empty() {
            self.queue.send(queue, all).await?;
        }
        Ok(())
    }

    async fn message<T: Serialize + Sync>(
        &self,
        map: Option<&MapName>,
        name: &str,
        message: &T,
    ) -> Result<Outgoing, OutboxError> {
        let body = serde_json::to_string(message).map_err(StoreError::corrupt("a message"))?;
        let body = self.claim(message_blob(name), body).await?;
        Ok(Outgoing {
            group: map.and_then(|map| self.group(map)),
            ..Outgoing::new(body)
        })
    }

    /// Sends reports of what failed to the failures queue, all or none of them where the queue
    /// can, and settles the packs they are of with them. Names as in [`Outbox::send`].
    pub async fn report(
        &self,
        map: &MapName,
        reports: &[(String, FailureReport)],
        settles: Vec<Settlement>,
    ) -> Result<(), OutboxError> {
        let mut messages = Vec::with_capacity(reports.len());
        for (name, report) in reports {
            let body = serde_json::to_string(report).map_err(StoreError::corrupt("a report"))?;
            let body = self.claim(message_blob(name), body).await?;
            messages.push(Outgoing {
                group: self.group(map),
                ..Outgoing::new(body)
            });
        }
        if let Some(last) = messages.last_mut() {
            last.settles = settles;
        }
        self.queue.send(QueueName::Failures, messages).await?;
        Ok(())
    }

    async fn claim(&self, name: String, body: String) -> Result<String, OutboxError> {
        if body.len() <= MAX_MESSAGE_BYTES {
            return Ok(body);
        }
        self.blobs.put_new(&name, Bytes::from(body)).await?;
        let claim = Claim::Blob { name };
        Ok(serde_json::to_string(&claim).map_err(StoreError::corrupt("a message"))?)
    }

    /// Whether a message only says where the message proper is: it is too large for a queue.
    #[must_use]
    pub fn is_claim(body: &str) -> bool {
        // Cheaper than parsing every pack twice.
        body.starts_with(r#"{"type":"blob.v1""#)
    }

    /// The message proper and the blob it was in, if any. `None` when that blob is gone: the
    /// message was worked on to its end before and has only come again.
    pub async fn open(&self, body: String) -> Result<Option<(String, Option<String>)>, StoreError> {
        if !Self::is_claim(&body) {
            return Ok(Some((body, None)));
        }
        let Ok(Claim::Blob { name }) = serde_json::from_str(&body) else {
            return Ok(Some((body, None)));
        };
        let Some(bytes) = self.blobs.get(&name).await? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes.into())
            .map_err(StoreError::corrupt(format!("blob `{name}`")))?;
        Ok(Some((text, Some(name))))
    }

    /// Deletes the blobs of messages that have been worked on to their end.
    pub async fn close(&self, blobs: &[String]) -> Result<(), StoreError> {
        if blobs.is_empty() {
            return Ok(());
        }
        self.blobs.delete(blobs).await
    }
}

/// The blob of a message too large for a queue.
fn message_blob(name: &str) -> String {
    format!("message/{name}")
}
