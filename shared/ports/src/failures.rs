//! The failure store.

use std::fmt::Debug;

use async_trait::async_trait;
use jiff::Timestamp;
use model::{
    AuditEntry, ErrorClass, Failure, FailureId, FailureStatus, Fingerprint, MapName, RunId,
};

use crate::{CheckpointError, Revision, StoreError, Stored};

/// Which failures; every condition that is set has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailureFilter {
    /// Of this map.
    pub map: Option<MapName>,
    /// In one of these states; empty is any.
    pub status: Vec<FailureStatus>,
    /// Of this class.
    pub class: Option<ErrorClass>,
    /// Of this group.
    pub fingerprint: Option<Fingerprint>,
    /// Of this record.
    pub key: Option<String>,
    /// Of this run.
    pub run: Option<RunId>,
    /// With this news, see [`Failure::news`].
    pub news: Option<String>,
}

impl FailureFilter {
    /// All that still ask for something.
    #[must_use]
    pub fn unresolved() -> Self {
        Self {
            status: vec![
                FailureStatus::Open,
                FailureStatus::Waiting,
                FailureStatus::Retrying,
            ],
            ..Self::default()
        }
    }

    /// Whether `failure` is meant.
    #[must_use]
    pub fn matches(&self, failure: &Failure) -> bool {
        self.map.as_ref().is_none_or(|map| *map == failure.map)
            && (self.status.is_empty() || self.status.contains(&failure.status))
            && self.class.is_none_or(|class| class == failure.cause.class)
            && self
                .fingerprint
                .as_ref()
                .is_none_or(|group| *group == failure.fingerprint)
            && self
                .key
                .as_ref()
                .is_none_or(|key| failure.key.as_ref() == Some(key))
            && self.run.is_none_or(|run| run == failure.run)
            && self
                .news
                .as_ref()
                .is_none_or(|news| *news == failure.news())
    }
}

/// Failures with one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureGroup {
    /// The group.
    pub fingerprint: Fingerprint,
    /// How many.
    pub count: u64,
    /// First attempt of the first of them.
    pub first: Timestamp,
    /// Last attempt of the last of them.
    pub last: Timestamp,
    /// One of them.
    pub sample: Failure,
}

/// A page of failures, oldest first.
#[derive(Debug, Clone, Default)]
pub struct FailurePage {
    /// The failures.
    pub failures: Vec<Stored<Failure>>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Failures looked at together.
const PAGE: usize = 500;

/// Keeps failures whole until they end.
#[async_trait]
pub trait Failures: Debug + Send + Sync {
    /// Reads one failure.
    async fn get(&self, id: FailureId) -> Result<Option<Stored<Failure>>, StoreError>;

    /// Writes one failure if it is still at `expected` (`None`: does not exist). MUST be
    /// durable when it returns `Ok`.
    async fn put(
        &self,
        expected: Option<Revision>,
        failure: &Failure,
    ) -> Result<Revision, CheckpointError>;

    /// Writes failures that do not exist yet; says of each, in order, whether it did not.
    async fn put_new(&self, failures: &[Failure]) -> Result<Vec<bool>, StoreError>;

    /// A page of those that match, at most `limit`, from `after` on.
    async fn query(
        &self,
        filter: &FailureFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<FailurePage, StoreError>;

    /// Up to `limit` of those whose identifier, as text, begins with `prefix`.
    async fn find(&self, prefix: &str, limit: usize) -> Result<Vec<Stored<Failure>>, StoreError> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < limit {
            let any = FailureFilter::default();
            let page = self.query(&any, after.as_deref(), PAGE).await?;
            let begins = |stored: &Stored<Failure>| stored.value.id.to_string().starts_with(prefix);
            found.extend(page.failures.into_iter().filter(begins));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// How many match.
    async fn count(&self, filter: &FailureFilter) -> Result<u64, StoreError>;

    /// Those that match, by cause, most frequent first, at most `limit` groups.
    async fn groups(
        &self,
        filter: &FailureFilter,
        limit: usize,
    ) -> Result<Vec<FailureGroup>, StoreError>;

    /// Up to `limit` that are due at `now`, longest due first: waiting ones, and retrying
    /// ones whose attempt has not been heard of in time.
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Stored<Failure>>, StoreError>;

    /// Deletes what ended before `before`, at most `limit`; the books keep its count. Returns how
    /// many: fewer than `limit` only if no more are left.
    async fn expire(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Appends to the audit log. MUST be durable when it returns.
    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError>;

    /// The newest `limit` entries of the audit log, newest first.
    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError>;
}
