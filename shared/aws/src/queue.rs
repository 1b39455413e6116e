//! Queues: SQS standard queues.

mod delivered;
mod entries;
mod look;

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_sqs::{
    Client,
    error::ProvideErrorMetadata,
    types::{
        BatchResultErrorEntry, DeleteMessageBatchRequestEntry, DeleteMessageBatchResultEntry,
        Message, MessageSystemAttributeName, SendMessageBatchRequestEntry,
        SendMessageBatchResultEntry,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use model::{QueueName, Settlement, full_jitter};
use ports::{
    BoxError, Clock, Consumer, Dedupe, Outgoing, PackEntry, Queue, QueueError, Received, Sent,
    StoreError,
};

pub use delivered::Delivered;

use crate::said::said;

/// Messages of one call, whatever is done with them.
const BATCH: usize = 10;
/// Batches on their way at the same time.
const CONCURRENT: usize = 4;
/// Attempts at the entries of a batch that SQS did not take, though it took the call. (A call that
/// fails as a whole is tried again by the client.)
const ATTEMPTS: u32 = 5;
/// Upper bound of the wait after the first of them, and of every wait.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Longest invisibility that is asked for. SQS allows 12 hours from the receipt and refuses more;
/// this leaves a quarter of an hour, the longest that a function runs, for what has passed of them.
const LONGEST_DEFER: Duration = Duration::from_mins(11 * 60 + 45);
/// Longest invisibility at a receipt.
const LONGEST_VISIBILITY: Duration = Duration::from_hours(12);
/// Longest that SQS holds a call on an empty queue.
const LONGEST_WAIT_FOR_MESSAGES: Duration = Duration::from_secs(20);

/// What is kept beside the queues, for SQS keeps none of it: which names were sent, and the books.
/// Every call may be repeated.
#[async_trait]
pub trait Books: Debug + Send + Sync {
    /// Which of `names` are remembered, one answer each, in order.
    async fn known(&self, names: &[&Dedupe]) -> Result<Vec<bool>, StoreError>;

    /// Remembers `names`, each until its time.
    async fn remember(&self, names: &[&Dedupe]) -> Result<(), StoreError>;

    /// Opens the books of packs, once each, unless they have been settled.
    async fn open(&self, packs: &[PackEntry]) -> Result<(), StoreError>;

    /// Settles packs as by [`ports::Ledger::settle`], and opens those that are not open.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), StoreError>;
}

/// The queues of a deployment.
///
/// Dead letters are the queues' own business: each has a redrive policy of
/// [`model::MAX_RECEIVES`] to the one of [`QueueName::Dead`].
#[derive(Debug, Clone)]
pub struct Queues {
    client: Client,
    urls: HashMap<QueueName, String>,
    books: Arc<dyn Books>,
    clock: Arc<dyn Clock>,
    wait: Duration,
    /// Receipts of messages that have been put off since messages were last given back.
    deferred: Arc<Mutex<HashSet<String>>>,
}

impl Queues {
    /// The queues at `urls`. One that is not among them is an error when it is used.
    #[must_use]
    pub fn new(
        client: Client,
        urls: HashMap<QueueName, String>,
        books: Arc<dyn Books>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            client,
            urls,
            books,
            clock,
            wait: Duration::ZERO,
            deferred: Arc::default(),
        }
    }

    /// Lets a receipt from an empty queue wait so long for a message, at most 20 seconds.
    #[must_use]
    pub fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    fn url(&self, queue: QueueName) -> Result<&str, QueueError> {
        self.urls
            .get(&queue)
            .map(String::as_str)
            .ok_or_else(|| unavailable(queue, "its URL is not configured"))
    }

    async fn put_off(
        &self,
        queue: QueueName,
        receipt: &str,
        delay: Duration,
    ) -> Result<(), QueueError> {
        let changed = self
            .client
            .change_message_visibility()
            .queue_url(self.url(queue)?)
            .receipt_handle(receipt)
            .visibility_timeout(seconds(delay, LONGEST_DEFER))
            .send()
            .await;
        match changed {
            Ok(_) => Ok(()),
            Err(error) if is_stale(error.code().unwrap_or_default(), error.message()) => Ok(()),
            Err(error) => Err(unavailable(queue, said(&error))),
        }
    }

    /// Sends one batch until SQS has all of it.
    async fn send_batch(
        &self,
        queue: QueueName,
        mut entries: Vec<SendMessageBatchRequestEntry>,
    ) -> Result<(), QueueError> {
        let url = self.url(queue)?;
        for attempt in 1.. {
            let answer = self
                .client
                .send_message_batch()
                .queue_url(url)
                .set_entries(Some(entries.clone()))
                .send()
                .await
                .map_err(|error| unavailable(queue, said(&error)))?;
            // What is named nowhere in the answer was not taken either.
            let taken: HashSet<&str> = answer
                .successful()
                .iter()
                .map(SendMessageBatchResultEntry::id)
                .collect();
            entries.retain(|entry| !taken.contains(entry.id()));
            if entries.is_empty() {
                break;
            }
            self.before_next(queue, attempt, answer.failed(), entries.len())
                .await?;
        }
        Ok(())
    }

    /// Deletes one batch.
    async fn delete_batch(
        &self,
        queue: QueueName,
        mut entries: Vec<DeleteMessageBatchRequestEntry>,
    ) -> Result<(), QueueError> {
        let url = self.url(queue)?;
        for attempt in 1.. {
            let answer = self
                .client
                .delete_message_batch()
                .queue_url(url)
                .set_entries(Some(entries.clone()))
                .send()
                .await
                .map_err(|error| unavailable(queue, said(&error)))?;
            let failed = answer.failed().iter().cloned();
            let (stale, failed): (Vec<_>, Vec<_>) =
                failed.partition(|entry| is_stale(entry.code(), entry.message()));
            let done = answer
                .successful()
                .iter()
                .map(DeleteMessageBatchResultEntry::id);
            let done: HashSet<&str> = done
                .chain(stale.iter().map(BatchResultErrorEntry::id))
                .collect();
            entries.retain(|entry| !done.contains(entry.id()));
            if entries.is_empty() {
                break;
            }
            self.before_next(queue, attempt, &failed, entries.len())
                .await?;
        }
        Ok(())
    }

    /// Waits before `left` entries of a batch are tried again, or says why they are not.
    async fn before_next(
        &self,
        queue: QueueName,
        attempt: u32,
        failed: &[BatchResultErrorEntry],
        left: usize,
    ) -> Result<(), QueueError> {
        let refused = failed.iter().find(|entry| entry.sender_fault());
        if refused.is_some() || attempt >= ATTEMPTS {
            let why = match refused.or(failed.first()) {
                Some(entry) => format!("{}: {}", entry.code(), entry.message().unwrap_or_default()),
                None => "SQS does not say why".to_owned(),
            };
            let text = format!("{left} messages of a batch failed at attempt {attempt}: {why}");
            return Err(unavailable(queue, text));
        }
        let random = self.clock.random();
        let wait = full_jitter(FIRST_WAIT, LONGEST_WAIT, attempt - 1, random);
        tracing::debug!(
            queue.name = %queue,
            message.count = left,
            wait_ms = wait.as_millis(),
            ?failed,
            "SQS did not take {left} messages for queue `{queue}`; they are sent again in {wait:?}"
        );
        self.clock.sleep(wait).await;
        Ok(())
    }

    /// Which of `messages` repeat a name, of one sent before or of one before it in the call.
    async fn duplicates(&self, messages: &[Outgoing]) -> Result<Vec<bool>, StoreError> {
        let mut asked = HashSet::new();
        let names = messages.iter().filter_map(|m| m.dedupe.as_ref());
        let names: Vec<&Dedupe> = names.filter(|n| asked.insert(n.name.as_str())).collect();
        if names.is_empty() {
            return Ok(vec![false; messages.len()]);
        }
        let known = self.books.known(&names).await?;
        let mut seen: HashSet<&str> = names
            .iter()
            .zip(known)
            .filter_map(|(name, known)| known.then_some(name.name.as_str()))
            .collect();
        Ok(messages
            .iter()
            .map(|message| message.dedupe.as_ref())
            .map(|name| name.is_some_and(|name| !seen.insert(&name.name)))
            .collect())
    }
}

#[async_trait]
impl Queue for Queues {
    /// What is kept beside the queues follows the messages. A name is remembered only once its
    /// message is in the queue: a call that ends in between and is repeated sends twice rather
    /// than never. Books are opened only then as well: those of a pack that was never sent would
    /// stay open for ever. A pack that is settled sooner opens them with it.
    async fn send(
        &self,
        queue: QueueName,
        mut messages: Vec<Outgoing>,
    ) -> Result<Vec<Sent>, QueueError> {
        let beside = |error: StoreError| unavailable(queue, error);
        entries::check(queue, &messages)?;
        let duplicates = self.duplicates(&messages).await.map_err(beside)?;
        // A duplicate settles too: the call that sent the first one may have ended before it did.
        let settlements: Vec<_> = messages
            .iter_mut()
            .flat_map(|message| std::mem::take(&mut message.settles))
            .collect();
        let mut duplicate = duplicates.iter();
        messages.retain(|_| !duplicate.next().is_some_and(|duplicate| *duplicate));

        let packs: Vec<_> = messages.iter().filter_map(|m| m.pack.clone()).collect();
        let names: Vec<_> = messages
            .iter_mut()
            .filter_map(|m| m.dedupe.take())
            .collect();
        let batches = entries::batches(queue, messages)?;
        stream::iter(
            batches
                .into_iter()
                .map(|batch| self.send_batch(queue, batch)),
        )
        .buffer_unordered(CONCURRENT)
        .try_collect::<()>()
        .await?;
        if !packs.is_empty() {
            self.books.open(&packs).await.map_err(beside)?;
        }
        if !names.is_empty() {
            let names: Vec<&Dedupe> = names.iter().collect();
            self.books.remember(&names).await.map_err(beside)?;
        }
        if !settlements.is_empty() {
            self.books.settle(settlements).await.map_err(beside)?;
        }
        let sent = |duplicate| {
            if duplicate {
                Sent::Duplicate
            } else {
                Sent::Queued
            }
        };
        Ok(duplicates.into_iter().map(sent).collect())
    }

    async fn defer(
        &self,
        queue: QueueName,
        receipt: &str,
        delay: Duration,
    ) -> Result<(), QueueError> {
        self.put_off(queue, receipt, delay).await?;
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        deferred.insert(receipt.to_owned());
        Ok(())
    }
}

#[async_trait]
impl Consumer for Queues {
    async fn receive(
        &self,
        queue: QueueName,
        max: usize,
        visibility: Duration,
    ) -> Result<Vec<Received>, QueueError> {
        let url = self.url(queue)?;
        let mut received = Vec::new();
        while received.len() < max {
            let wanted = BATCH.min(max - received.len());
            // Who has messages does not wait for more.
            let wait = if received.is_empty() {
                self.wait
            } else {
                Duration::ZERO
            };
            let answer = self
                .client
                .receive_message()
                .queue_url(url)
                .max_number_of_messages(i32::try_from(wanted).unwrap_or(1))
                .visibility_timeout(seconds(visibility, LONGEST_VISIBILITY))
                .wait_time_seconds(seconds(wait, LONGEST_WAIT_FOR_MESSAGES))
                .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
                .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
                .send()
                .await;
            let messages = match answer {
                Ok(answer) => answer.messages.unwrap_or_default(),
                // What has been received is invisible now, and is lost for that time if not given.
                Err(error) if !received.is_empty() => {
                    tracing::warn!(queue.name = %queue, "queue `{queue}` gave less than it could: {}", said(&error));
                    break;
                }
                Err(error) => return Err(unavailable(queue, said(&error))),
            };
            let last = messages.len() < wanted;
            for message in messages {
                let complete = self::received(message)
                    .ok_or_else(|| unavailable(queue, "SQS gave a message without its parts"))?;
                received.push(complete);
            }
            if last {
                break;
            }
        }
        Ok(received)
    }

    async fn delete(&self, queue: QueueName, receipts: &[String]) -> Result<(), QueueError> {
        let batches = entries::deletions(queue, receipts)?;
        stream::iter(
            batches
                .into_iter()
                .map(|batch| self.delete_batch(queue, batch)),
        )
        .buffer_unordered(CONCURRENT)
        .try_collect::<()>()
        .await
    }
}

fn unavailable(queue: QueueName, source: impl Into<BoxError>) -> QueueError {
    let source = source.into();
    QueueError::Unavailable { queue, source }
}

/// Whole seconds that are no less than `time`, up to `most`.
fn seconds(time: Duration, most: Duration) -> i32 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i32::try_from(whole.min(most.as_secs())).unwrap_or(i32::MAX)
}

fn received(message: Message) -> Option<Received> {
    let attributes = message.attributes?;
    let attribute = |name| attributes.get(&name)?.parse::<i64>().ok();
    let receives = attribute(MessageSystemAttributeName::ApproximateReceiveCount)?;
    let sent = attribute(MessageSystemAttributeName::SentTimestamp)?;
    Some(Received {
        id: message.message_id?,
        receipt: message.receipt_handle?,
        body: message.body?,
        receives: u32::try_from(receives).ok()?,
        sent: Timestamp::from_millisecond(sent).ok()?,
    })
}

/// Whether an error means that a receipt is no longer good: its message is deleted, visible again,
/// or received by another. SQS calls one that has expired an invalid parameter, as it calls much
/// else.
fn is_stale(code: &str, message: Option<&str>) -> bool {
    // Some answers put the name of the older protocol's space of names before the code.
    match code.rsplit('.').next() {
        Some("ReceiptHandleIsInvalid" | "MessageNotInflight") => true,
        Some("InvalidParameterValue") => message.is_some_and(|text| text.contains("ReceiptHandle")),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
