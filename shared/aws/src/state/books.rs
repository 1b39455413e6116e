//! Entering news of packs.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::types::{
    Put, ReturnValuesOnConditionCheckFailure as OnFailure, TransactWriteItem,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use model::{Counts, MapName, PackId, RunId, Settlement};
use ports::{PackEntry, Revision, StoreError};

use super::{
    StateTable,
    active::books_partition,
    bucket::{Bucket, Entered, Entry, Groups, Places, Sums, late},
    item::{Item, Refused, get_text, key, number, put_refused, revision},
    journal, new_revision,
    place::Place,
};
use crate::dynamo::{Transacted, after_transactions};

/// While a bucket is younger than this, in seconds, its news is entered in itself, in one write. News
/// of older ones is entered beside them, so that what has been added up stays as it is.
pub(super) const YOUNG: i64 = 10 * 60;

const WHAT: &str = "entering packs in the books";
/// Buckets written side by side.
const AT_ONCE: usize = 16;
/// Buckets of one transaction: with what may be in them it is far from the 4 MB that one may have.
const TOGETHER: usize = 25;

/// How a write ended.
enum Written {
    Done,
    /// Somebody else was first; this is the bucket now.
    Again(Bucket),
}

/// What an attempt to enter news leaves.
#[derive(Debug, Default)]
struct Left {
    /// What belongs below the buckets.
    below: Places,
    /// Packs that stand in the books as others said.
    overruled: Vec<PackId>,
}

/// The items of a transaction, which has to be made anew for every attempt.
pub(super) fn puts(items: &[Put]) -> Vec<TransactWriteItem> {
    let put = |put: &Put| TransactWriteItem::builder().put(put.clone()).build();
    items.iter().map(put).collect()
}

impl StateTable {
    pub(super) async fn open_packs(&self, packs: &[PackEntry]) -> Result<(), StoreError> {
        self.enter(Groups::opened(packs)).await.map(drop)
    }

    pub(super) async fn settle_packs(
        &self,
        all: &[Settlement],
    ) -> Result<HashSet<PackId>, StoreError> {
        let (webhooks, others) = journal::divide(all);
        let mut overruled = self.enter(Groups::settled(others)).await?;
        overruled.extend(self.enter_webhooks(webhooks).await?);
        Ok(overruled)
    }

    /// Enters news; returns the packs that stand in the books as others said.
    async fn enter(&self, groups: Groups) -> Result<HashSet<PackId>, StoreError> {
        let mut overruled = HashSet::new();
        for ((map, run), places) in groups.0 {
            self.mark(&map, run).await?;
            let now = self.now();
            let is_young = |place: &Place| place.since.is_some_and(|since| now < since + YOUNG);
            let (young, old): (Places, Places) =
                places.into_iter().partition(|(place, _)| is_young(place));
            overruled.extend(self.enter_all_young(young).await?);
            overruled.extend(self.enter_all_old(&map, run, old).await?);
        }
        Ok(overruled)
    }

    async fn enter_all_young(&self, mut places: Places) -> Result<Vec<PackId>, StoreError> {
        let mut overruled = Vec::new();
        while !places.is_empty() {
            self.look_again(&places).await?;
            let left: Vec<Left> = stream::iter(places)
                .map(|(place, entries)| self.enter_young(place, entries))
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
            places = Places::new();
            for one in left {
                places.extend(one.below);
                overruled.extend(one.overruled);
            }
        }
        Ok(overruled)
    }

    /// Reads the buckets that are busy.
    async fn look_again(&self, places: &Places) -> Result<(), StoreError> {
        let busy: Vec<&Place> = places
            .keys()
            .filter(|place| self.buckets.is_busy(place))
            .collect();
        let buckets = self.read_buckets(&busy).await?;
        for (place, bucket) in busy.into_iter().zip(buckets) {
            self.buckets.keep(place.clone(), bucket);
        }
        Ok(())
    }

    /// Enters what belongs into one bucket.
    async fn enter_young(&self, place: Place, entries: Vec<Entry>) -> Result<Left, StoreError> {
        let mut bucket = self.buckets.take(&place);
        let mut waits = 0;
        loop {
            let Entered {
                after,
                below,
                overruled,
            } = bucket.enter(&place, &entries);
            let left = Left { below, overruled };
            let Some((mut after, new)) = after else {
                self.buckets.keep(place, bucket);
                return Ok(left);
            };
            after.sums.merge(&new);
            let mine = Revision(new_revision());
            match self.write_young(&place, &bucket, &after, mine).await? {
                Written::Done => {
                    after.revision = Some(mine);
                    self.buckets.keep(place, after);
                    return Ok(left);
                }
                Written::Again(now) => bucket = now,
            }
            self.pause(WHAT, &mut waits).await?;
        }
    }

    async fn write_young(
        &self,
        place: &Place,
        before: &Bucket,
        after: &Bucket,
        mine: Revision,
    ) -> Result<Written, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(after.item(place, mine, self.now())))
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        let put = match before.revision {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(seen) => put
                .condition_expression("rev = :seen")
                .expression_attribute_values(":seen", number(seen.0)),
        };
        let put = after_transactions(|| put.clone().send()).await;
        match put.map_err(|error| put_refused(WHAT, error)) {
            Ok(_) => Ok(Written::Done),
            // The answer to an attempt that succeeded was lost.
            Err(Refused::Condition(Some(item))) if revision(&item) == mine => Ok(Written::Done),
            Err(Refused::Condition(item)) => {
                let now = item.as_ref().map(Bucket::of_item);
                Ok(Written::Again(now.unwrap_or_default()))
            }
            Err(Refused::Store(error)) => Err(error),
        }
    }

    async fn enter_all_old(
        &self,
        map: &MapName,
        run: RunId,
        mut places: Places,
    ) -> Result<Vec<PackId>, StoreError> {
        let mut overruled = Vec::new();
        while !places.is_empty() {
            let all: Vec<_> = places.drain().collect();
            for together in all.chunks(TOGETHER) {
                let left = self.enter_old(map, run, together).await?;
                places.extend(left.below);
                overruled.extend(left.overruled);
            }
        }
        Ok(overruled)
    }

    /// Enters news of old buckets: each is noted in its bucket, and what it comes to stands in an
    /// item of its own, made now. No item is shared by workers that have different packs.
    async fn enter_old(
        &self,
        map: &MapName,
        run: RunId,
        all: &[(Place, Vec<Entry>)],
    ) -> Result<Left, StoreError> {
        let mut before: Vec<Bucket> = all
            .iter()
            .map(|(place, _)| self.buckets.take(place))
            .collect();
        let mut waits = 0;
        loop {
            let mine = Revision(new_revision());
            let mut sums = Sums::default();
            let mut items = Vec::with_capacity(all.len() + 1);
            let mut written = Vec::with_capacity(all.len());
            let mut left = Left::default();
            for ((place, entries), bucket) in all.iter().zip(&before) {
                let entered = bucket.enter(place, entries);
                left.below.extend(entered.below);
                left.overruled.extend(entered.overruled);
                if let Some((mut after, new)) = entered.after {
                    sums.merge(&new);
                    items.push(self.put_bucket(place, bucket, &after, mine)?);
                    after.revision = Some(mine);
                    written.push((place.clone(), after));
                }
            }
            if items.is_empty() {
                return Ok(left);
            }
            let beside = late(map, run, self.now(), &sums);
            items.push(self.put_here(Put::builder().set_item(Some(beside)))?);
            match self.as_table().transact(WHAT, || puts(&items)).await? {
                Transacted::Done => {
                    for (place, bucket) in written {
                        self.buckets.keep(place, bucket);
                    }
                    return Ok(left);
                }
                Transacted::Refused(_) => {
                    let places: Vec<&Place> = all.iter().map(|(place, _)| place).collect();
                    before = self.read_buckets(&places).await?;
                }
            }
            self.pause(WHAT, &mut waits).await?;
        }
    }

    pub(super) fn put_here(
        &self,
        put: aws_sdk_dynamodb::types::builders::PutBuilder,
    ) -> Result<Put, StoreError> {
        let put = put.table_name(&self.table).build();
        put.map_err(StoreError::unavailable(WHAT))
    }

    fn put_bucket(
        &self,
        place: &Place,
        before: &Bucket,
        after: &Bucket,
        mine: Revision,
    ) -> Result<Put, StoreError> {
        let put = Put::builder().set_item(Some(after.item(place, mine, self.now())));
        self.put_here(match before.revision {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(seen) => put
                .condition_expression("rev = :seen")
                .expression_attribute_values(":seen", number(seen.0)),
        })
    }

    /// The buckets at these places as they are now, in order.
    async fn read_buckets(&self, all: &[&Place]) -> Result<Vec<Bucket>, StoreError> {
        let keys = all.iter().map(|place| place.key()).collect();
        let items = self.items(WHAT, keys, true).await?;
        let found: HashMap<&str, &Item> = items
            .iter()
            .filter_map(|item| Some((get_text(item, "sk")?, item)))
            .collect();
        let bucket = |place: &&Place| {
            let item = found.get(place.sk.as_str());
            item.map(|item| Bucket::of_item(item)).unwrap_or_default()
        };
        Ok(all.iter().map(bucket).collect())
    }

    /// Moves outcomes of a run, once per reason.
    pub(super) async fn amend_run(
        &self,
        map: &MapName,
        run: RunId,
        reason: &str,
        (from, to): (Counts, Counts),
    ) -> Result<(), StoreError> {
        self.mark(map, run).await?;
        let mark = key(
            books_partition(map),
            format!("X#{}#{reason}", run.as_uuid()),
        );
        let mark = Put::builder()
            .set_item(Some(mark))
            .condition_expression("attribute_not_exists(pk)");
        let beside = late(map, run, self.now(), &Sums::moving(&from, &to));
        let items = [
            self.put_here(mark)?,
            self.put_here(Put::builder().set_item(Some(beside)))?,
        ];
        // If it is refused, it has been said before.
        self.as_table()
            .transact(WHAT, || puts(&items))
            .await
            .map(drop)
    }
}
