//! Calls that are repeated in ways the SDK does not repeat them.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, KeysAndAttributes, TransactWriteItem},
};
use ports::StoreError;

use super::{Item, key, text_of, unavailable};
use crate::ready::Found;

/// Attempts at a call that meets a transaction of somebody else, or is throttled.
const ATTEMPTS: u32 = 10;
/// The longest wait before the second attempt.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// The longest wait before any.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Keys of one `BatchGetItem`.
const KEYS: usize = 100;

/// Waits before another attempt: full jitter, so that those who met once do not meet again.
async fn pause(attempt: u32) {
    let longest = FIRST_WAIT
        .saturating_mul(1 << attempt.min(10))
        .min(LONGEST_WAIT);
    tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
}

/// A table and the client to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) client: Client,
    pub(crate) name: String,
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Transacted {
    /// All of it is written.
    Done,
    /// Nothing is: a condition does not hold. There is one reason for each of its items.
    Refused(Vec<CancellationReason>),
}

/// Repeats a call of one item while a transaction is writing that item.
pub(crate) async fn after_transactions<T, E, F>(call: impl Fn() -> F) -> Result<T, SdkError<E>>
where
    E: ProvideErrorMetadata,
    F: Future<Output = Result<T, SdkError<E>>>,
{
    let mut attempt = 0;
    loop {
        match call().await {
            Err(error)
                if error.code() == Some("TransactionConflictException")
                    && attempt + 1 < ATTEMPTS =>
            {
                pause(attempt).await;
                attempt += 1;
            }
            other => return other,
        }
    }
}

impl Table {
    /// Whether the table is there and may be read: an item is asked for that does not exist.
    pub(crate) async fn may_read(&self) -> Found {
        let read = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key("none", "none")))
            .send()
            .await;
        Found::of(&read, &[])
    }

    /// Reads items in batches, as they are now or as they were a moment ago, which costs half;
    /// those that do not exist are left out. A key may not come twice.
    pub(crate) async fn batch_get(
        &self,
        what: &'static str,
        keys: Vec<Item>,
        now: bool,
    ) -> Result<Vec<Item>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        let mut left = keys;
        let mut attempt = 0;
        while !left.is_empty() {
            let rest = left.split_off(left.len().min(KEYS));
            let asked = left.len();
            let keys = KeysAndAttributes::builder()
                .set_keys(Some(left))
                .consistent_read(now)
                .build()
                .map_err(StoreError::unavailable(what))?;
            let call = self.client.batch_get_item();
            let call = call.request_items(&self.name, keys);
            let answer = call.send().await.map_err(unavailable(what))?;
            let unread = answer.unprocessed_keys.unwrap_or_default();
            found.extend(answer.responses.unwrap_or_default().into_values().flatten());
            left = unread.into_values().flat_map(|keys| keys.keys).collect();
            if left.len() < asked {
                attempt = 0;
            } else if attempt + 1 < ATTEMPTS {
                pause(attempt).await;
                attempt += 1;
            } else {
                let error = "the table is throttled";
                return Err(StoreError::unavailable(what)(error));
            }
            left.extend(rest);
        }
        Ok(found)
    }

    /// Writes all of what `make` gives or nothing. It is asked again for every attempt after a
    /// conflict, so that what need not be at one place can be at another. The SDK gives
    /// each attempt a token, so that its own repetitions of it are one write.
    pub(crate) async fn transact(
        &self,
        what: &'static str,
        make: impl Fn() -> Vec<TransactWriteItem> + Send,
    ) -> Result<Transacted, StoreError> {
        let mut attempt = 0;
        loop {
            let call = self.client.transact_write_items();
            let call = call.set_transact_items(Some(make()));
            let Err(error) = call.send().await else {
                return Ok(Transacted::Done);
            };
            let reasons = reasons(&error);
            let any = |codes: &[&str]| {
                let mut given = reasons.iter().filter_map(CancellationReason::code);
                given.any(|code| codes.contains(&code))
            };
            if any(&["ConditionalCheckFailed"]) {
                return Ok(Transacted::Refused(reasons.to_vec()));
            }
            let passing = any(&[
                "TransactionConflict",
                "ThrottlingError",
                "ProvisionedThroughputExceeded",
            ]);
            if !passing || attempt + 1 == ATTEMPTS {
                return Err(unavailable(what)(error));
            }
            pause(attempt).await;
            attempt += 1;
        }
    }
}

fn reasons(error: &SdkError<TransactWriteItemsError>) -> &[CancellationReason] {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            cancelled.cancellation_reasons()
        }
        _ => &[],
    }
}

/// Items by their partition key.
pub(crate) fn by_key(items: Vec<Item>) -> HashMap<String, Item> {
    let named = |item: Item| Some((text_of(&item, "pk")?.to_owned(), item));
    items.into_iter().filter_map(named).collect()
}
