//! Large things under a name: parked packs and messages too large for a queue.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::StoreError;

/// Blob storage.
#[async_trait]
pub trait Blobs: Debug + Send + Sync {
    /// Stores `bytes` under `name` unless there is one already; says whether it did. MUST be
    /// durable when it returns.
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError>;

    /// Reads a blob; `None` when there is none.
    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError>;

    /// Deletes blobs; those that do not exist are no error.
    async fn delete(&self, names: &[String]) -> Result<(), StoreError>;

    /// Up to `limit` names that begin with `prefix` and sort after `after`, in order.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError>;

    /// Number and total size of the blobs whose name begins with `prefix`.
    async fn measure(&self, prefix: &str) -> Result<(u64, u64), StoreError>;
}
