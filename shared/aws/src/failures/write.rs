//! Writing failures, and the books with them.

use std::collections::{BTreeMap, HashSet};

use aws_sdk_dynamodb::{
    operation::put_item::PutItemError,
    types::{Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};
use jiff::Timestamp;
use model::{Failure, FailureId};
use ports::{CheckpointError, Revision, StoreError};

use super::{
    DynamoFailures,
    books::{Moves, Share},
    find::by_due,
    item::{Entry, at_revision, failure_key, id_of, revision_of},
};
use crate::dynamo::{
    Bound, Conditions, Item, Merge, Transacted, after_transactions, sortable, text_of, unavailable,
};

/// Failures written or deleted in one transaction. With two accounts for each, if all are of other
/// maps, it is 75 items, and 2 MB; DynamoDB takes 100 and 4 MB.
const TOGETHER: usize = 25;
/// Entries of one page of an index for one shard.
const PAGE: usize = 100;

const STORING: &str = "storing failures";
const OLD: ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure::AllOld;

/// The condition of a write.
fn expecting(expected: Option<Revision>) -> Conditions {
    expected.map_or_else(Conditions::default, at_revision)
}

impl DynamoFailures {
    /// Reads an item as it is now, or those attributes of it.
    pub(crate) async fn item(
        &self,
        id: FailureId,
        attributes: Option<&[&str]>,
    ) -> Result<Option<Item>, StoreError> {
        let mut call = self
            .table
            .client
            .get_item()
            .table_name(&self.table.name)
            .consistent_read(true)
            .set_key(Some(failure_key(id)));
        for name in attributes.unwrap_or_default() {
            call = call.expression_attribute_names(format!("#{name}"), *name);
        }
        let names = attributes.map(|names| format!("#{}", names.join(", #")));
        let answer = call.set_projection_expression(names).send().await;
        Ok(answer.map_err(unavailable("reading a failure"))?.item)
    }

    pub(crate) async fn write(
        &self,
        expected: Option<Revision>,
        failure: &Failure,
    ) -> Result<Revision, CheckpointError> {
        let mut moves = Moves::default();
        let mut old_blob = None;
        if let Some(expected) = expected {
            let attributes = [&Share::ATTRIBUTES[..], &["rev", "blob"]].concat();
            let old = self.item(failure.id, Some(&attributes)).await?;
            let Some(old) = old.filter(|old| revision_of(old) == Some(expected)) else {
                return Err(conflict(failure.id));
            };
            let share = Share::read(&old).ok_or_else(|| incomplete("a failure"))?;
            moves.take_off(&share);
            old_blob = text_of(&old, "blob").map(str::to_owned);
        }
        let entry = self.entry(failure).await?;
        moves.enter(&entry.share);
        let written = if moves.is_empty() {
            self.replace(expected, &entry).await?
        } else {
            self.write_with_books(expected, &entry, &moves).await?
        };
        // Of a write of unknown end both blobs stay.
        let (result, unneeded) = if written {
            (Ok(entry.revision), old_blob)
        } else {
            (Err(conflict(failure.id)), entry.blob())
        };
        self.drop_blobs(unneeded.into_iter().collect()).await;
        result
    }

    /// Writes a failure that is the same in the books as before; says whether it did.
    async fn replace(&self, expected: Option<Revision>, entry: &Entry) -> Result<bool, StoreError> {
        let condition = expecting(expected);
        let call = || {
            let put = self.table.client.put_item().table_name(&self.table.name);
            put.set_item(Some(entry.item.clone()))
                .condition_expression(condition_text(&condition))
                .set_expression_attribute_names(some(condition.names.clone()))
                .set_expression_attribute_values(some(condition.values.clone()))
                .return_values_on_condition_check_failure(OLD)
                .send()
        };
        match after_transactions(call).await {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refusal)) => {
                    Ok(entry.is(refusal.item()))
                }
                _ => Err(unavailable(STORING)(error)),
            },
        }
    }

    async fn write_with_books(
        &self,
        expected: Option<Revision>,
        entry: &Entry,
        moves: &Moves,
    ) -> Result<bool, StoreError> {
        let make = || {
            let mut items = moves.updates(&self.table);
            items.insert(0, self.put_of(expected, entry));
            items
        };
        match self.table.transact(STORING, make).await? {
            Transacted::Done => Ok(true),
            Transacted::Refused(reasons) => {
                Ok(entry.is(reasons.first().and_then(|reason| reason.item())))
            }
        }
    }

    fn put_of(&self, expected: Option<Revision>, entry: &Entry) -> TransactWriteItem {
        let condition = expecting(expected);
        let put = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(entry.item.clone()))
            .condition_expression(condition_text(&condition))
            .set_expression_attribute_names(some(condition.names))
            .set_expression_attribute_values(some(condition.values))
            .return_values_on_condition_check_failure(OLD);
        TransactWriteItem::builder()
            .set_put(put.build().ok())
            .build()
    }

    pub(crate) async fn write_new(&self, failures: &[Failure]) -> Result<Vec<bool>, StoreError> {
        let mut new = HashSet::new();
        let mut seen = HashSet::new();
        let once: Vec<&Failure> = failures.iter().filter(|one| seen.insert(one.id)).collect();
        for some in once.chunks(TOGETHER) {
            let mut entries = Vec::with_capacity(some.len());
            for failure in some {
                entries.push(self.entry(failure).await?);
            }
            self.write_together(entries, &mut new).await?;
        }
        // Of two with one name the first is the new one.
        let is_new = |failure: &Failure| new.remove(&failure.id);
        Ok(failures.iter().map(is_new).collect())
    }

    /// Writes in one transaction those of `left` that do not exist, and adds them to `new`.
    async fn write_together(
        &self,
        mut left: Vec<Entry>,
        new: &mut HashSet<FailureId>,
    ) -> Result<(), StoreError> {
        while !left.is_empty() {
            let mut moves = Moves::default();
            for entry in &left {
                moves.enter(&entry.share);
            }
            let make = || {
                let puts = left.iter().map(|entry| self.put_of(None, entry));
                puts.chain(moves.updates(&self.table)).collect()
            };
            let Transacted::Refused(reasons) = self.table.transact(STORING, make).await? else {
                break;
            };
            let olds = || reasons.iter().map(|reason| reason.item());
            if left.iter().zip(olds()).any(|(entry, old)| entry.is(old)) {
                // It has been done; the answer was lost.
                break;
            }
            let before = left.len();
            let mut refused = reasons.iter().map(|reason| is_refusal(reason.code()));
            let exists = |_: &mut Entry| refused.next().unwrap_or(false);
            let unneeded = left.extract_if(.., exists).filter_map(|entry| entry.blob());
            let unneeded = unneeded.collect();
            self.drop_blobs(unneeded).await;
            if left.len() == before {
                return Err(StoreError::unavailable(STORING)("refused for no reason"));
            }
        }
        new.extend(left.iter().map(|entry| entry.id));
        Ok(())
    }

    pub(crate) async fn forget(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let limit = limit as u64;
        let ranges = by_due('E', &Bound::Before(sortable(before)));
        let mut ended = Merge::new("looking for old failures", &self.table, ranges, PAGE);
        let mut deleted = 0;
        loop {
            let left = usize::try_from(limit.saturating_sub(deleted)).unwrap_or(usize::MAX);
            let entries = ended.take(TOGETHER.min(left)).await?;
            if entries.is_empty() {
                return Ok(deleted);
            }
            // A transaction takes each item once, and a failure can be in two places of an index.
            let mut old = BTreeMap::new();
            for (_, entry) in &entries {
                let one = Old::read(entry).ok_or_else(|| incomplete("the index `by_due`"))?;
                old.insert(one.id, one);
            }
            deleted += self.delete_together(old.into_values().collect()).await?;
        }
    }

    /// Deletes in one transaction those of `left` that are as the index says.
    async fn delete_together(&self, mut left: Vec<Old>) -> Result<u64, StoreError> {
        let what = "deleting old failures";
        let mut blobs = Vec::new();
        while !left.is_empty() {
            let mut moves = Moves::default();
            for old in &left {
                moves.forget(&old.share);
            }
            let make = || {
                let deletes = left.iter().map(|old| self.delete_of(old));
                deletes.chain(moves.updates(&self.table)).collect()
            };
            let Transacted::Refused(reasons) = self.table.transact(what, make).await? else {
                break;
            };
            let before = left.len();
            let mut reasons = reasons.into_iter();
            left.retain_mut(|old| {
                let reason = reasons.next();
                let refused = reason.filter(|reason| is_refusal(reason.code()));
                // Somebody else has deleted it, and may have died before the blob was.
                if refused
                    .as_ref()
                    .is_some_and(|reason| reason.item().is_none())
                {
                    blobs.extend(old.blob.take());
                }
                refused.is_none()
            });
            if left.len() == before {
                return Err(StoreError::unavailable(what)("refused for no reason"));
            }
        }
        blobs.extend(left.iter_mut().filter_map(|old| old.blob.take()));
        self.drop_blobs(blobs).await;
        Ok(left.len() as u64)
    }

    fn delete_of(&self, old: &Old) -> TransactWriteItem {
        let condition = at_revision(old.revision);
        let delete = Delete::builder()
            .table_name(&self.table.name)
            .set_key(Some(failure_key(old.id)))
            .condition_expression(condition_text(&condition))
            .set_expression_attribute_names(some(condition.names))
            .set_expression_attribute_values(some(condition.values))
            .return_values_on_condition_check_failure(OLD);
        TransactWriteItem::builder()
            .set_delete(delete.build().ok())
            .build()
    }

    /// Deletes blobs that nothing names any more. What is left of them costs space and no more, so
    /// it does not undo what was done.
    async fn drop_blobs(&self, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        if let Err(error) = self.blobs.delete(&names).await {
            let count = names.len();
            tracing::warn!("{count} records that are not needed any more are left: {error}");
        }
    }
}

/// What the index says of a failure that has ended.
#[derive(Debug)]
struct Old {
    id: FailureId,
    revision: Revision,
    share: Share,
    blob: Option<String>,
}

impl Old {
    fn read(entry: &Item) -> Option<Self> {
        Some(Self {
            id: id_of(entry)?,
            revision: revision_of(entry)?,
            share: Share::read(entry)?,
            blob: text_of(entry, "blob").map(str::to_owned),
        })
    }
}

/// A condition as text; none means that there must be no item.
fn condition_text(condition: &Conditions) -> String {
    let none = || "attribute_not_exists(pk)".to_owned();
    condition.expression().unwrap_or_else(none)
}

/// DynamoDB refuses maps that are given and empty.
fn some<M: IntoIterator + Default + PartialEq>(map: M) -> Option<M> {
    (map != M::default()).then_some(map)
}

fn conflict(id: FailureId) -> CheckpointError {
    CheckpointError::Conflict {
        key: format!("failure {id}"),
    }
}

fn incomplete(what: &str) -> StoreError {
    StoreError::corrupt(what)("an attribute is missing")
}

fn is_refusal(code: Option<&str>) -> bool {
    code == Some("ConditionalCheckFailed")
}
