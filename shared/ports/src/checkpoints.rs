//! Small records under compare-and-set: map states, marks, slices, leases.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use crate::{BoxError, StoreError};

/// Names one state of a stored record; a new one with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision(pub u64);

/// A stored record and the revision it was read at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The record.
    pub value: T,
    /// Its revision.
    pub revision: Revision,
}

/// A write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Somebody else has written since the revision given: read again and decide again.
    #[error("`{key}` was changed by another worker")]
    Conflict {
        /// Which record.
        key: String,
    },
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The checkpoint table.
#[async_trait]
pub trait Checkpoints: Debug + Send + Sync {
    /// Reads a record, as of all writes that were acknowledged before.
    async fn get(&self, key: &str) -> Result<Option<Stored<String>>, StoreError>;

    /// Writes a record if it is still at `expected` (`None`: does not exist). MUST be durable
    /// when it returns `Ok`; of two writers that expect the same revision exactly one wins.
    async fn put(
        &self,
        key: &str,
        expected: Option<Revision>,
        value: String,
    ) -> Result<Revision, CheckpointError>;

    /// Deletes a record if it is still at `expected`.
    async fn delete(&self, key: &str, expected: Revision) -> Result<(), CheckpointError>;

    /// All records whose key begins with `prefix`, in order of their keys.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Stored<String>)>, StoreError>;
}

/// Typed access to [`Checkpoints`]; records are JSON.
#[async_trait]
pub trait CheckpointsExt: Checkpoints {
    /// Reads a record.
    async fn load<T: DeserializeOwned + Send>(
        &self,
        key: &str,
    ) -> Result<Option<Stored<T>>, StoreError> {
        let Some(stored) = self.get(key).await? else {
            return Ok(None);
        };
        Ok(Some(Stored {
            value: parse(key, &stored.value)?,
            revision: stored.revision,
        }))
    }

    /// Writes a record if it is still at `expected`.
    async fn store<T: Serialize + Sync>(
        &self,
        key: &str,
        expected: Option<Revision>,
        value: &T,
    ) -> Result<Revision, CheckpointError> {
        let text = serde_json::to_string(value).map_err(StoreError::corrupt(key))?;
        self.put(key, expected, text).await
    }

    /// All records whose key begins with `prefix`, in order of their keys.
    async fn load_all<T: DeserializeOwned + Send>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, Stored<T>)>, StoreError> {
        let mut all = Vec::new();
        for (key, stored) in self.list(prefix).await? {
            let value = parse(&key, &stored.value)?;
            all.push((
                key,
                Stored {
                    value,
                    revision: stored.revision,
                },
            ));
        }
        Ok(all)
    }
}

impl<C: Checkpoints + ?Sized> CheckpointsExt for C {}

fn parse<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Corrupt {
        what: format!("checkpoint `{key}`"),
        source: BoxError::from(source),
    })
}
