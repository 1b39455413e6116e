//! Claims that cost one write.
//!
//! To claim a row, to write what became of it and to read its link before are three calls. Most
//! rows need only the first: a claim goes through where the link names nothing newer and no claim
//! that lasts, which DynamoDB can decide, and what it was before comes with the answer. That it
//! came true is said for a whole batch: a batch has an item of its own while it is open, and when
//! that is gone, all claims that name it have come true.
//!
//! So whoever ends a batch has written before what did not come true, and ends it some time before
//! the claims in it end: who reads a link whose claim has ended, and does not find its batch, has
//! read the link after the last write of that batch. Who reads one whose claim lasts yet may have
//! read it before, and reads it again.
//!
//! A claim whose call is repeated may arrive once more when its batch has ended. It does no harm:
//! the link names its version then, as done or as tried. Of a worker that dies the item of its batch
//! is left, a hundred bytes; its claims have not come true as long as it is there, so nobody may
//! remove it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::update_item::{UpdateItemError, UpdateItemOutput},
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure as OnFailure},
};
use model::MapName;
use ports::{Claim, ClaimBatch, Claimed, Link, Revision, StoreError, Stored};

use super::{
    super::{
        StateTable,
        item::{Item, get_text, key, number, revision, text, unavailable},
        new_revision,
    },
    LONGEST, Trace, link_key, name, trace,
};

/// How long before its claims end a batch is not ended as a whole any more: for the call, and for
/// clocks that differ.
const MARGIN: Duration = Duration::from_secs(10);

/// The newest claim lies in `claim`, the one before it in `before`.
const CLAIM: &str = "SET #before = if_not_exists(#claim, :none), #claim = :claim, newest = :version, \
     #until = :until, rev = :rev, claims = if_not_exists(claims, :zero) + :one";
const NAMED: &str = ", #name = :name";
const YIELDS: &str = "attribute_not_exists(pk) OR (newest < :version AND #until <= :now)";

fn batch_key(name: &str) -> Item {
    key(format!("W#{name}"), "W")
}

impl StateTable {
    pub(super) async fn begin_batch(
        &self,
        map: &MapName,
        batch: &ClaimBatch,
    ) -> Result<(), StoreError> {
        let mut item = batch_key(&batch.name);
        item.insert("map".into(), text(map.as_str()));
        let put = self.client.put_item().table_name(&self.table);
        let put = put.set_item(Some(item)).send().await;
        put.map_err(unavailable("beginning a batch of claims"))?;
        Ok(())
    }

    /// Whether a batch may be ended as a whole.
    pub(super) fn is_in_time(&self, batch: &ClaimBatch) -> bool {
        let latest = self.clock.now().saturating_add(MARGIN);
        latest.is_ok_and(|latest| latest < batch.until)
    }

    pub(super) async fn end_batch(&self, batch: &ClaimBatch) -> Result<(), StoreError> {
        let delete = self.client.delete_item().table_name(&self.table);
        let delete = delete.set_key(Some(batch_key(&batch.name))).send().await;
        delete.map_err(unavailable("ending a batch of claims"))?;
        Ok(())
    }

    pub(super) async fn claim_row(
        &self,
        map: &MapName,
        name: &str,
        claim: &Claim,
    ) -> Result<Claimed, StoreError> {
        // What has no version is not newer than anything.
        let Some(version) = claim.version else {
            return Ok(Claimed::Look);
        };
        let mine = Revision(new_revision());
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(link_key(map, name)))
            .condition_expression(YIELDS)
            .expression_attribute_names("#before", "before")
            .expression_attribute_names("#claim", "claim")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":none", text(""))
            .expression_attribute_values(":claim", text(trace::claim_text(claim)?))
            .expression_attribute_values(":version", number(version.0))
            .expression_attribute_values(":until", number(claim.until.as_microsecond()))
            .expression_attribute_values(":now", number(self.clock.now().as_microsecond()))
            .expression_attribute_values(":rev", number(mine.0))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllOld)
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        update = if name.len() > LONGEST {
            update
                .update_expression([CLAIM, NAMED].concat())
                .expression_attribute_names("#name", "name")
                .expression_attribute_values(":name", text(name))
        } else {
            update.update_expression(CLAIM)
        };
        let before = match met(update.send().await, mine)? {
            Met::Item(Some(item)) => Some(self.before(Trace::of(&item, name)?, claim).await?),
            Met::Item(None) => None,
            Met::Unyielding => return Ok(Claimed::Look),
        };
        Ok(Claimed::Ours {
            before,
            revision: mine,
        })
    }

    /// What a link said before a claim. Whether an older claim came true matters only if it is of
    /// the same content.
    async fn before(&self, trace: Trace, claim: &Claim) -> Result<Link, StoreError> {
        let same = |last: &Claim| last.hash == claim.hash;
        let open = if trace.last().is_some_and(same) {
            self.open_batches([&trace]).await?
        } else {
            trace.batches().cloned().collect()
        };
        let mut link = trace.told(|claim| is_over(claim, &open));
        if link.claim.is_some() {
            link.writes += 1;
        }
        Ok(link)
    }

    /// The batches that links name and that have not come true.
    async fn open_batches(
        &self,
        traces: impl IntoIterator<Item = &Trace>,
    ) -> Result<HashSet<Arc<str>>, StoreError> {
        let traces = traces.into_iter();
        let named: HashSet<&Arc<str>> = traces.flat_map(Trace::batches).collect();
        let keys = named.iter().map(|name| batch_key(name)).collect();
        let found = self.items("reading batches of claims", keys, true).await?;
        let found: HashSet<&str> = found
            .iter()
            .filter_map(|item| get_text(item, "pk")?.strip_prefix("W#"))
            .collect();
        let open = named.into_iter().filter(|name| found.contains(&***name));
        Ok(open.cloned().collect())
    }

    /// What items say of their links, each with its key.
    pub(in crate::state) async fn told(
        &self,
        items: Vec<Item>,
    ) -> Result<Vec<(String, Stored<Link>)>, StoreError> {
        let mut traces = Vec::with_capacity(items.len());
        for item in &items {
            let name = name(item);
            traces.push((name, revision(item), Trace::of(item, name)?));
        }
        let open = self
            .open_batches(traces.iter().map(|(.., trace)| trace))
            .await?;
        let now = self.clock.now();
        let doubtful = |(.., trace): &&(&str, Revision, Trace)| {
            let last = trace.last();
            last.is_some_and(|last| last.until > now && is_over(last, &open))
        };
        let read: HashMap<&str, Revision> = traces
            .iter()
            .filter(doubtful)
            .map(|(name, at, _)| (*name, *at))
            .collect();
        let moved = self.moved(&items, &read).await?;
        let told = traces.into_iter().map(|(name, revision, trace)| {
            let value = trace.told(|claim| {
                is_over(claim, &open) && (claim.until <= now || !moved.contains(name))
            });
            (name.to_owned(), Stored { value, revision })
        });
        Ok(told.collect())
    }

    /// The names of those links that have been written since they were read: what was read of
    /// them is older than the end of their batches, and says nothing of it.
    async fn moved(
        &self,
        items: &[Item],
        then: &HashMap<&str, Revision>,
    ) -> Result<HashSet<String>, StoreError> {
        let read = items.iter().filter(|item| then.contains_key(name(item)));
        let keys = read.filter_map(|item| Some(key(get_text(item, "pk")?, get_text(item, "sk")?)));
        let again = self
            .items("reading links again", keys.collect(), true)
            .await?;
        let still = |item: &&Item| then.get(name(item)) == Some(&revision(item));
        let still: HashSet<&str> = again.iter().filter(still).map(name).collect();
        let moved = then.keys().filter(|name| !still.contains(*name));
        Ok(moved.map(|name| (*name).to_owned()).collect())
    }
}

fn is_over(claim: &Claim, open: &HashSet<Arc<str>>) -> bool {
    claim
        .batch
        .as_ref()
        .is_some_and(|batch| !open.contains(batch))
}

/// What a claim met.
enum Met {
    /// Nothing, or this item; it is claimed now.
    Item(Option<Item>),
    /// Something that does not yield.
    Unyielding,
}

/// What the answer to a claim says of the item before it.
fn met(
    answer: Result<UpdateItemOutput, SdkError<UpdateItemError>>,
    mine: Revision,
) -> Result<Met, StoreError> {
    let error = match answer {
        Ok(done) => {
            let item = done.attributes.filter(|item| !item.is_empty());
            return Ok(Met::Item(item));
        }
        Err(error) => error,
    };
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
            let item = refused.item().cloned().unwrap_or_default();
            if revision(&item) != mine {
                return Ok(Met::Unyielding);
            }
            // The answer to an attempt that succeeded was lost.
            Ok(Met::Item(trace::before_claim(item)))
        }
        _ => Err(unavailable("claiming a row")(error)),
    }
}
