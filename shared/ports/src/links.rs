//! What is remembered of a pair of rows where the target cannot compare versions itself.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use model::{MapName, Version};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
    /// The newest version that was tried and not done. A claim for it that is late on its way to
    /// the table has to find the link looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried: Option<Version>,
}

/// Leave to write one row, for a while.
///
/// Whoever writes puts a claim into the link first, then calls the target, then writes down
/// what the target has. While a claim lasts, nobody else writes the row. A claim that has
/// ended by itself belonged to somebody who died or got no answer: whether the target has
/// what it says is not known, and it is settled by writing again, that or something newer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// The batch that says whether it came true, unless the link itself says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Arc<str>>,
}

impl Default for Claim {
    fn default() -> Self {
        Self {
            version: None,
            hash: None,
            until: Timestamp::UNIX_EPOCH,
            attempt: 0,
            batch: None,
        }
    }
}

impl Link {
    /// The newest version that anybody has written or tried to write; `None` if one of them is
    /// not known, so that versions do not say what is newer.
    #[must_use]
    pub fn newest(&self) -> Option<Version> {
        let claimed = match &self.claim {
            Some(claim) => Some(claim.version?),
            None => None,
        };
        let undated = self.deleted && self.applied.is_none();
        let newest = claimed.max(self.applied).max(self.tried);
        newest.filter(|_| !undated)
    }

    /// Whether a row may be claimed at `now` in this version without a look at the link.
    #[must_use]
    pub fn yields_to(&self, version: Option<Version>, now: Timestamp) -> bool {
        let lasts = self.claim.as_ref().is_some_and(|claim| claim.until > now);
        let newest = self.newest();
        !lasts && newest.is_some() && newest < version
    }

    /// The link while somebody is writing what is claimed.
    #[must_use]
    pub fn claimed(self, claim: Claim) -> Self {
        Self {
            claim: Some(claim),
            writes: self.writes + 1,
            ..self
        }
    }

    /// The link, in which a row is claimed, once the target has what is claimed.
    #[must_use]
    pub fn came_true(self, claim: &Claim) -> Self {
        Self {
            applied: claim.version,
            deleted: claim.hash.is_none(),
            hash: claim.hash.clone(),
            claim: None,
            writes: self.writes + 1,
            found: self.found,
            tried: self.tried,
        }
    }
}

/// Claims that are confirmed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimBatch {
    /// Its name, which no other batch has.
    pub name: Arc<str>,
    /// All its claims last until then, or longer.
    pub until: Timestamp,
}

impl ClaimBatch {
    /// A new batch.
    #[must_use]
    pub fn new(until: Timestamp) -> Self {
        Self {
            name: Uuid::new_v4().simple().to_string().into(),
            until,
        }
    }
}

/// What became of a claim that was made without a look at the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is made.
    Ours {
        /// What the link said before. A claim in it that has ended may have come true, unless
        /// it is of the same content as the new one.
        before: Option<Link>,
        /// Where the link is now.
        revision: Revision,
    },
    /// It is not: somebody is writing the row, or the link names a version that is not older,
    /// or none that can be compared. The link has to be read.
    Look,
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

    /// Begins a batch, before its first claim.
    async fn begin(&self, map: &MapName, batch: &ClaimBatch) -> Result<(), StoreError>;

    /// Claims rows of which nothing is known: those without a link, and those whose link
    /// names an older version and has no claim that lasts. One answer per claim in order. The
    /// batches that the claims name have begun.
    async fn claim(
        &self,
        map: &MapName,
        claims: Vec<(String, Claim)>,
    ) -> Result<Vec<Claimed>, StoreError>;

    /// Ends a batch: writes down that its claims came true, of rows whose links are still at the
    /// revision given, as the links that are given; one answer per link in order as from
    /// [`put`](Self::put). Claims of the batch that are not given must have been written
    /// otherwise before; where that may have failed, the batch is never confirmed.
    async fn confirm(
        &self,
        map: &MapName,
        batch: &ClaimBatch,
        links: Vec<(String, Revision, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError>;

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
