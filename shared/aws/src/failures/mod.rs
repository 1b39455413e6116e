//! The failure store on DynamoDB.
//!
//! It has a table of its own, on demand, with string keys `pk` and `sk`. All of its items:
//!
//! | `pk`           | `sk`               | what it is                                              |
//! |----------------|--------------------|---------------------------------------------------------|
//! | `F#<failure>`  | `F`                | a failure                                               |
//! | `B#<map>`      | `T#<part>`         | a part of the weight of a map's failures, by outcome    |
//! | `B#<map>`      | `R#<run>#<part>`   | the same of one run                                     |
//! | `A`            | `<moment>#<uuid>`  | an entry of the audit log                               |
//!
//! It has four global secondary indexes, whose keys are strings too. Each is spread over shards, so
//! that no partition of it takes all writes, and none holds a record:
//!
//! | index     | hash key    | range key | projected besides (`INCLUDE`)                               |
//! |-----------|-------------|-----------|-------------------------------------------------------------|
//! | `by_age`  | `shard`     | `age`     | `map`, `key`, `class`, `fp`, `status`, `run`, `news`, `last` |
//! | `by_map`  | `map_shard` | `age`     | `key`, `class`, `fp`, `status`, `run`, `news`, `last`       |
//! | `by_news` | `said`      | `age`     | `key`, `class`, `fp`, `status`, `run`, `last`               |
//! | `by_due`  | `due_shard` | `due`     | `rev`, `map`, `run`, `outcome`, `weight`, `blob`            |
//!
//! * `by_age` and `by_map` keep what still asks for something apart from what has ended, so that
//!   the questions that are asked all the time do not read what nobody asks for.
//! * `by_news` holds only what still asks for something: `retry` asks it about every failure that
//!   is reported.
//! * `by_due` holds what has a due time, and in other shards what has ended, so that it expires.
//!
//! Indexes follow the table with a delay. They only say where to look: a failure is read where it
//! is stored and checked again before it is given to anybody. Counts and groups may be a moment
//! old.
//!
//! The record itself, compressed JSON, is in its item, or in the blob store when it is large. No
//! time to live is set: what DynamoDB deletes by itself would be missing in the books.

mod audit;
mod books;
mod find;
mod item;
#[cfg(feature = "testing")]
pub(crate) mod testing;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use model::{AuditEntry, Failure, FailureId};
use ports::{
    Blobs, CheckpointError, FailureFilter, FailureGroup, FailurePage, Failures, Revision,
    StoreError, Stored,
};

use crate::{dynamo::Table, ready::Found};

/// The failure store.
#[derive(Debug, Clone)]
pub struct DynamoFailures {
    table: Table,
    blobs: Arc<dyn Blobs>,
}

impl DynamoFailures {
    /// The store in `table`, with records that are large in `blobs`.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>, blobs: Arc<dyn Blobs>) -> Self {
        let name = table.into();
        Self {
            table: Table { client, name },
            blobs,
        }
    }

    /// Whether the table is there and may be read.
    pub(crate) async fn may_read(&self) -> Found {
        self.table.may_read().await
    }
}

#[async_trait]
impl Failures for DynamoFailures {
    async fn get(&self, id: FailureId) -> Result<Option<Stored<Failure>>, StoreError> {
        self.read(id).await
    }

    async fn put(
        &self,
        expected: Option<Revision>,
        failure: &Failure,
    ) -> Result<Revision, CheckpointError> {
        self.write(expected, failure).await
    }

    async fn put_new(&self, failures: &[Failure]) -> Result<Vec<bool>, StoreError> {
        self.write_new(failures).await
    }

    async fn query(
        &self,
        filter: &FailureFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<FailurePage, StoreError> {
        self.page(filter, after, limit).await
    }

    async fn find(&self, prefix: &str, limit: usize) -> Result<Vec<Stored<Failure>>, StoreError> {
        self.beginning(prefix, limit).await
    }

    async fn count(&self, filter: &FailureFilter) -> Result<u64, StoreError> {
        self.count_matching(filter).await
    }

    async fn groups(
        &self,
        filter: &FailureFilter,
        limit: usize,
    ) -> Result<Vec<FailureGroup>, StoreError> {
        self.group(filter, limit).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Stored<Failure>>, StoreError> {
        self.due_at(now, limit).await
    }

    async fn expire(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.forget(before, limit).await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.enter(entry).await
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.entries(limit).await
    }
}
