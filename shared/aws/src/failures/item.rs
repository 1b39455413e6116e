//! Failures as items.

use bytes::Bytes;
use model::{Failure, FailureId, Outcome};
use ports::{Revision, StoreError, Stored};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{DynamoFailures, books::Share};
use crate::dynamo::{
    Conditions, Item, binary, binary_of, key, number, number_of, sortable, text, text_of,
};

/// Shards of `by_age`, for each of its two sides.
pub(crate) const AGE_SHARDS: u128 = 16;
/// Shards of `by_map` for each map and side, and of `by_due` for each side.
pub(crate) const SHARDS: u128 = 8;
/// A record that is larger than this is in the blob store. An item holds 400 KB and a transaction
/// 4 MB, but each KB is paid with every write, and a partition takes 1 MB in a second.
const LARGEST_RECORD: usize = 60_000;
/// A key that is longer than this is stored as its digest: all of an item counts.
const LONGEST_KEY: usize = 512;
/// Level of compression.
const LEVEL: i32 = 3;
/// Reads of a record that is being replaced.
const READS: usize = 5;

/// The side of an index for what still asks for something, or for what has ended.
pub(crate) fn side(unresolved: bool) -> char {
    if unresolved { 'o' } else { 'e' }
}

pub(crate) fn failure_key(id: FailureId) -> Item {
    key(format!("F#{id}"), "F")
}

pub(crate) fn id_of(item: &Item) -> Option<FailureId> {
    text_of(item, "pk")?.strip_prefix("F#")?.parse().ok()
}

pub(crate) fn revision_of(item: &Item) -> Option<Revision> {
    number_of(item, "rev").map(Revision)
}

/// A record key as it is stored.
pub(crate) fn short_key(key: &str) -> String {
    if key.len() <= LONGEST_KEY {
        return key.to_owned();
    }
    let digest = Sha256::digest(key);
    digest.iter().fold("sha256:".to_owned(), |text, byte| {
        format!("{text}{byte:02x}")
    })
}

/// An item that holds the write of a failure at `revision`, and no other.
pub(crate) fn at_revision(revision: Revision) -> Conditions {
    Conditions::default().compare("rev", "=", number(revision.0))
}

/// A failure on its way into the table.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: FailureId,
    pub(crate) revision: Revision,
    pub(crate) item: Item,
    pub(crate) share: Share,
}

impl Entry {
    pub(crate) fn blob(&self) -> Option<String> {
        text_of(&self.item, "blob").map(str::to_owned)
    }

    /// Whether `other` is what this entry wrote: the answer to a write was lost.
    pub(crate) fn is(&self, other: Option<&Item>) -> bool {
        other.and_then(revision_of) == Some(self.revision)
    }
}

impl DynamoFailures {
    /// Makes the item of a failure, after its record is stored where that is large.
    pub(crate) async fn entry(&self, failure: &Failure) -> Result<Entry, StoreError> {
        // Chosen here, so that a write that happened although its answer was lost is known again.
        let revision = Revision(fastrand::u64(1..));
        let name = format!("failure/{}/{}", failure.id, revision.0);
        let mut item = self.record(failure, name).await?;
        item.extend(attributes(failure));
        item.insert("rev".into(), number(revision.0));
        Ok(Entry {
            id: failure.id,
            revision,
            item,
            share: Share::of(failure),
        })
    }

    /// A compressed record as an attribute: itself, or the name of a blob.
    pub(crate) async fn record<T: Serialize + Sync>(
        &self,
        value: &T,
        name: String,
    ) -> Result<Item, StoreError> {
        let json = serde_json::to_vec(value).map_err(StoreError::corrupt(&name))?;
        let record =
            zstd::encode_all(json.as_slice(), LEVEL).map_err(StoreError::corrupt(&name))?;
        if record.len() <= LARGEST_RECORD {
            return Ok(Item::from([("rec".into(), binary(record))]));
        }
        self.blobs.put_new(&name, Bytes::from(record)).await?;
        Ok(Item::from([("blob".into(), text(name))]))
    }

    /// Reads a record. `None` when it was replaced since its item was read.
    pub(crate) async fn open<T: DeserializeOwned>(
        &self,
        item: &Item,
    ) -> Result<Option<T>, StoreError> {
        let what = text_of(item, "pk").unwrap_or_default();
        let blob;
        let record = if let Some(name) = text_of(item, "blob") {
            let Some(found) = self.blobs.get(name).await? else {
                return Ok(None);
            };
            blob = found;
            &*blob
        } else {
            binary_of(item, "rec").unwrap_or_default()
        };
        let json = zstd::decode_all(record).map_err(StoreError::corrupt(what))?;
        let value = serde_json::from_slice(&json).map_err(StoreError::corrupt(what))?;
        Ok(Some(value))
    }

    /// Reads a failure as it is now.
    pub(crate) async fn read(&self, id: FailureId) -> Result<Option<Stored<Failure>>, StoreError> {
        for _ in 0..READS {
            let Some(item) = self.item(id, None).await? else {
                return Ok(None);
            };
            if let Some(stored) = self.stored_failure(&item).await? {
                return Ok(Some(stored));
            }
        }
        let what = format!("failure {id}");
        Err(StoreError::corrupt(what)(
            "its record is not in the blob store",
        ))
    }

    /// The failure in an item, unless it was replaced since.
    pub(crate) async fn stored_failure(
        &self,
        item: &Item,
    ) -> Result<Option<Stored<Failure>>, StoreError> {
        let revision = revision_of(item).unwrap_or(Revision(0));
        let value = self.open(item).await?;
        Ok(value.map(|value| Stored { value, revision }))
    }
}

/// What the indexes and the books need of a failure.
pub(crate) fn attributes(failure: &Failure) -> Item {
    let (id, map) = (failure.id, &failure.map);
    let (hash, news) = (id.as_uuid().as_u128(), failure.news());
    let unresolved = failure.status.is_unresolved();
    let (side, shard) = (side(unresolved), hash % SHARDS);
    let mut item = failure_key(id);
    let mut set = |name: &str, value: String| item.insert(name.into(), text(value));
    set("shard", format!("{side}#{}", hash % AGE_SHARDS));
    set("map_shard", format!("{map}#{side}#{shard}"));
    set("age", format!("{}#{id}", sortable(failure.first)));
    if unresolved {
        set("said", format!("{map}#{news}"));
    }
    let ended = failure.resolution.as_ref().map(|end| end.at);
    if let Some(at) = ended.or(failure.due) {
        let side = if ended.is_some() { 'E' } else { 'D' };
        set("due_shard", format!("{side}#{shard}"));
        set("due", format!("{}#{id}", sortable(at)));
    }
    set("map", map.to_string());
    set("class", failure.cause.class.as_str().to_owned());
    set("fp", failure.fingerprint.0.clone());
    set("status", failure.status.as_str().to_owned());
    set("run", failure.run.to_string());
    set("news", news);
    if let Some(key) = &failure.key {
        set("key", short_key(key));
    }
    if let Some(end) = &failure.resolution {
        set("outcome", outcome_name(end.outcome).to_owned());
    }
    item.insert("weight".into(), number(failure.weight));
    item.insert("last".into(), number(failure.last.as_microsecond()));
    item
}

/// The name of an outcome in the table.
pub(crate) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Unchanged => "unchanged",
        Outcome::Superseded => "superseded",
        Outcome::Filtered => "filtered",
        Outcome::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stored_whole_unless_they_are_very_long() {
        assert_eq!(short_key("K-1"), "K-1");
        let (a, b) = (short_key(&"a".repeat(9_999)), short_key(&"b".repeat(9_999)));
        assert_eq!((a.len(), b.len()), (71, 71));
        assert_ne!(a, b);
    }
}
