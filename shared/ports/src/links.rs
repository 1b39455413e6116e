//! What is remembered of a pair of rows where the target cannot compare versions itself.

use std::fmt::Debug;

use async_trait::async_trait;
use model::{MapName, Version};
use serde::{Deserialize, Serialize};

use crate::{Revision, StoreError, Stored};

/// What was last written to the target for one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Version of what the target has for sure.
    pub applied: Option<Version>,
    /// Digest of what it has.
    pub hash: Option<String>,
    /// Whether it was deleted there.
    pub deleted: bool,
    /// Version somebody is writing right now; the target has it or `applied`.
    pub claimed: Option<Version>,
    /// When that claim ends by itself.
    pub claimed_until: Option<jiff::Timestamp>,
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
}
