//! Queues with the semantics of Amazon SQS standard queues.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use model::{MapName, PackId, QueueName, RunId, Settlement, TraceParent};

use crate::BoxError;

/// One message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The text to carry, at most [`model::MAX_MESSAGE_BYTES`].
    pub body: String,
    /// Whose message it is, so that no map keeps the others waiting (the `MessageGroupId` of
    /// a fair queue; it does not order).
    pub group: Option<MapName>,
    /// How long it stays invisible at first, at most 15 minutes.
    pub delay: Duration,
    /// The pack it carries, whose books are opened with it.
    pub pack: Option<PackEntry>,
    /// What became of packs that it reports on, entered in the books with it.
    pub settles: Vec<Settlement>,
    /// Lets it pass once only.
    pub dedupe: Option<Dedupe>,
    /// Its place in a trace, for tools that look at the queue from outside; a pack says its
    /// trace itself. A queue that has nowhere to put it MAY drop it.
    pub trace: Option<TraceParent>,
}

impl Outgoing {
    /// A message without any of the extras.
    #[must_use]
    pub fn new(body: String) -> Self {
        Self {
            body,
            group: None,
            delay: Duration::ZERO,
            pack: None,
            settles: Vec::new(),
            dedupe: None,
            trace: None,
        }
    }
}

/// What the books have to know of a message that carries changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// The pack. Sending the same pack twice opens its books once.
    pub id: PackId,
    /// Its map.
    pub map: MapName,
    /// Its run.
    pub run: RunId,
    /// How many changes it holds.
    pub count: u32,
}

/// A message that was sent before under the same name is not sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedupe {
    /// The sender's name for it, unique within its deployment: endpoint and delivery id.
    pub name: String,
    /// Until when the name is remembered.
    pub until: Timestamp,
}

/// What became of a message that was sent without error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is durable in the queue.
    Queued,
    /// One of the same name is, or was.
    Duplicate,
}

/// A queue did not take a message or give one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// It cannot be reached, is full, or does not work right now.
    #[error("queue `{queue}` is not available: {source}")]
    Unavailable {
        /// Which.
        queue: QueueName,
        /// What it says.
        source: BoxError,
    },
    /// The message is larger than any queue takes.
    #[error("a message of {size} bytes is larger than the {max} that queue `{queue}` takes", max = model::MAX_MESSAGE_BYTES)]
    TooLarge {
        /// Which.
        queue: QueueName,
        /// How large it is.
        size: usize,
    },
}

/// Takes messages.
#[async_trait]
pub trait Queue: Debug + Send + Sync {
    /// Sends `messages`. MUST return `Ok` only when every one of them is durable, with one
    /// answer per message in order. After an error any of them may have been sent: send all
    /// again.
    ///
    /// When it returns `Ok`, the books of packs MUST be open, but for those of the webhooks' run:
    /// a ledger that opens books when packs are settled may leave them until then. Packs
    /// that a message settles MUST be settled as by [`crate::Ledger::settle`], and not before
    /// all messages of the call are durable.
    async fn send(
        &self,
        queue: QueueName,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Sent>, QueueError>;

    /// Makes a received message invisible for `delay` more, at most 12 hours from its
    /// receipt, so that it comes back then and not before. A receipt that is no longer good
    /// is no error: the message comes back anyway.
    async fn defer(
        &self,
        queue: QueueName,
        receipt: &str,
        delay: Duration,
    ) -> Result<(), QueueError>;
}

/// A message received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The same at every receipt.
    pub id: String,
    /// Good for this receipt only.
    pub receipt: String,
    /// What was sent.
    pub body: String,
    /// How often it has been received, this time included.
    pub receives: u32,
    /// When it was sent.
    pub sent: Timestamp,
}

/// Gives messages: what an event-source mapping does on AWS and the host does locally.
#[async_trait]
pub trait Consumer: Debug + Send + Sync {
    /// Receives up to `max` visible messages and makes them invisible for `visibility`.
    /// Delivery is at least once and in no promised order.
    async fn receive(
        &self,
        queue: QueueName,
        max: usize,
        visibility: Duration,
    ) -> Result<Vec<Received>, QueueError>;

    /// Deletes received messages. A receipt that is no longer good MUST NOT delete.
    async fn delete(&self, queue: QueueName, receipts: &[String]) -> Result<(), QueueError>;
}
