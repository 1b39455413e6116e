//! What is remembered of a pair of rows where the target cannot compare versions itself.

use std::fmt::Debug;

use async_trait::async_trait;
use jiff::Timestamp;
use model::{MapName, Version};
use serde::{Deserialize, Serialize};

use crate::{Revision, StoreError, Stored};

/// What was last written to the target for one key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Version of what the target has for sure; `None` before the first write, and after a
    /// deletion whose version nobody knows.
    pub applied: Option<Version>,
    /// Digest of what it has.
    pub hash: Option<String>,
    /// Whether it was deleted there.
    pub deleted: bool,
    /// What somebody is writing, or was writing when it was last heard of. The target has
    /// this or the above.
    pub claim: Option<Claim>,
    /// How often it was claimed or written: no two states have the same number.
    pub writes: u64,
    /// The newest load that found the row at the source.
    pub found: Option<u32>,
}

/// Leave to write one row, for a while.
///
/// Whoever writes puts a claim into the link first, then calls the target, then writes down
/// what the target has. While a claim lasts, nobody else writes the row. A claim that has
/// ended by itself belonged to somebody who died or got no answer: whether the target has
/// what it says is not known, and it is settled by writing again, that or something newer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Version of what is being written; `None` for a delete whose version nobody knows.
    pub version: Option<Version>,
    /// Digest of it; `None` is a delete.
    pub hash: Option<String>,
    /// When the claim ends by itself.
    pub until: Timestamp,
    /// Number of the attempt. Writing the same again after no answer is the same attempt,
    /// so that a target which tells attempts apart does it once.
    pub attempt: u64,
}

/// The link table.
#[async_trait]
pub trait Links: Debug + Send + Sync {
    /// Reads the links of `keys`, one answer per key in order.
    async fn get(
        &self,
        map: &MapName,
        keys: &[String],
    ) -> Result<Vec<Option<Stored<Link>>>, StoreError>;

    /// Writes links that are still at the revision given (`None`: does not exist), one answer
    /// per link in order; `None` where somebody else was first.
    async fn put(
        &self,
        map: &MapName,
        links: Vec<(String, Option<Revision>, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError>;

    /// Up to `limit` links of a map in the order of their keys' bytes, beginning after the
    /// key `after`. Fewer than `limit` are the last.
    async fn list(
        &self,
        map: &MapName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Stored<Link>)>, StoreError>;
}
