//! Adding up the news of old buckets, and putting runs away that are over.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::{
    error::ProvideErrorMetadata,
    types::{Delete, TransactWriteItem, Update},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use model::{MapName, RunId};
use ports::{Checkpoints, StoreError};

use super::{
    StateTable,
    active::{active_key, books_partition, folded, retired_key},
    books::YOUNG,
    bucket::{Bucket, Sums},
    is_turn_of,
    item::{Item, get_number, get_text, key, number, text, unavailable},
    place::{Place, end_of, partition},
};
use crate::dynamo::after_transactions;

/// Buckets older than this, in seconds, are added up. Nobody who took one for young writes it so late.
const OLD: i64 = 2 * YOUNG;
/// A run without news for so long is no longer looked at.
const QUIET: i64 = 60 * 60;
/// Minutes in which maps that are not defined any more have their turn once: they have little news.
const GONE_TURN: i64 = 60;
/// Runs looked at side by side, and calls for one of them.
const AT_ONCE: usize = 8;
/// Buckets of one call.
const KEYS: usize = 100;

const WHAT: &str = "adding the books up";

/// The parts of an update that adds to totals and to the revision.
pub(super) struct Adds {
    /// What else the update does.
    pub(super) set: &'static str,
    terms: Vec<String>,
    names: HashMap<String, String>,
    pub(super) values: Item,
}

impl Adds {
    pub(super) fn new(sums: &Sums) -> Self {
        let mut adds = Self {
            set: "",
            terms: vec!["rev :one".into()],
            names: HashMap::new(),
            values: [(":one".into(), number(1))].into(),
        };
        for (name, sum) in sums.fields() {
            adds.terms.push(format!("#{name} :{name}"));
            adds.names.insert(format!("#{name}"), name.into());
            adds.values.insert(format!(":{name}"), number(sum));
        }
        adds
    }

    pub(super) fn expression(&self) -> String {
        format!("{} ADD {}", self.set, self.terms.join(", "))
    }

    pub(super) fn names(&self) -> Option<HashMap<String, String>> {
        // DynamoDB refuses an empty one.
        (!self.names.is_empty()).then(|| self.names.clone())
    }
}

impl StateTable {
    /// The maps whose books are to be added up in this minute: of those that are defined each has
    /// its turn every few minutes, of those that are not any more once an hour. What is still on
    /// its way for one of these can be settled, so that its books are never closed.
    pub async fn maps_to_fold<'m>(
        &self,
        defined: impl IntoIterator<Item = &'m MapName>,
    ) -> Vec<MapName> {
        let minute = self.now().div_euclid(60);
        let defined: HashSet<&MapName> = defined.into_iter().collect();
        let mut maps = Vec::new();
        if minute.rem_euclid(GONE_TURN) == 0 {
            match self.list("state/").await {
                Ok(states) => maps.extend(states.iter().filter_map(|(name, _)| {
                    let map = MapName::new(name.strip_prefix("state/")?).ok()?;
                    (!defined.contains(&map)).then_some(map)
                })),
                Err(error) => {
                    tracing::warn!("the books of maps that are not defined have to wait: {error}");
                }
            }
        }
        let due = defined.into_iter().filter(|map| is_turn_of(map, minute));
        maps.extend(due.cloned());
        maps
    }

    /// Adds up the buckets of a map that are old, and retires runs that are over. To be called
    /// every few minutes: what is not added up has to be read each time somebody asks for the
    /// books.
    pub async fn fold(&self, map: &MapName) -> Result<(), StoreError> {
        let runs = self.active_runs(map).await?;
        stream::iter(runs)
            .map(|item| self.fold_run(map, item))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn fold_run(&self, map: &MapName, item: Item) -> Result<(), StoreError> {
        let Some(run) = run_of(&item, "A#") else {
            return Ok(());
        };
        // Whole buckets: what is below a bucket has no sort key of its own range.
        let until = end_of(self.now() - OLD);
        let old = self
            .buckets_between(map, run, folded(&item), &until)
            .await?;
        if old.is_empty() {
            return self.retire(map, run, &item).await;
        }
        let mut sums = Sums::default();
        for bucket in &old {
            sums.merge(bucket);
        }
        self.add_up(map, run, &item, (&sums, &until)).await
    }

    async fn add_up(
        &self,
        map: &MapName,
        run: RunId,
        item: &Item,
        (sums, last): (&Sums, &str),
    ) -> Result<(), StoreError> {
        let mut adds = Adds::new(sums);
        adds.set = "SET folded = :last";
        adds.values.insert(":last".into(), text(last));
        let condition = match get_text(item, "folded") {
            None => "attribute_exists(pk) AND attribute_not_exists(folded)",
            Some(folded) => {
                adds.values.insert(":folded".into(), text(folded));
                "folded = :folded"
            }
        };
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(books_partition(map), active_key(run))))
            .update_expression(adds.expression())
            .condition_expression(condition)
            .set_expression_attribute_names(adds.names())
            .set_expression_attribute_values(Some(adds.values));
        match after_transactions(|| update.clone().send()).await {
            Ok(_) => Ok(()),
            // Somebody else has added them up.
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(error) => Err(unavailable(WHAT)(error)),
        }
    }

    /// Moves the totals of a run that is over to those of its map.
    async fn retire(&self, map: &MapName, run: RunId, item: &Item) -> Result<(), StoreError> {
        let sums = Sums::of_item(item);
        let quiet = get_number::<i64>(item, "seen") < self.now() - QUIET;
        if !quiet || run == RunId::live(map) || sums.in_flight() > 0 {
            return Ok(());
        }
        if !self.buckets_after(map, run, folded(item)).await?.is_empty() {
            return Ok(());
        }
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key(books_partition(map), active_key(run))))
            .condition_expression("rev = :rev")
            .expression_attribute_values(":rev", number(get_number::<u64>(item, "rev")))
            .build()
            .map_err(StoreError::unavailable(WHAT))?;
        let mut kept = Adds::new(&sums);
        kept.values.insert(":folded".into(), text(folded(item)));
        kept.set = "SET folded = :folded";
        let items = [
            TransactWriteItem::builder().delete(delete).build(),
            self.add_to(map, &retired_key(run), kept)?,
            self.add_to(map, "T", Adds::new(&sums))?,
        ];
        // If it is refused, the run has news.
        let retired = self.as_table().transact(WHAT, || items.to_vec()).await;
        retired.map(drop)
    }

    /// Adds to totals that may not exist.
    fn add_to(&self, map: &MapName, sk: &str, adds: Adds) -> Result<TransactWriteItem, StoreError> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(books_partition(map), sk)))
            .update_expression(adds.expression())
            .set_expression_attribute_names(adds.names())
            .set_expression_attribute_values(Some(adds.values))
            .build()
            .map_err(StoreError::unavailable(WHAT))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// The totals of all runs of a map that have news.
    pub(super) async fn active_runs(&self, map: &MapName) -> Result<Vec<Item>, StoreError> {
        self.range(WHAT, &books_partition(map), "A#", "A~").await
    }

    /// What stands in buckets and beside them, from one sort key to another, with all that is
    /// below those that are full.
    async fn buckets_between(
        &self,
        map: &MapName,
        run: RunId,
        after: &str,
        until: &str,
    ) -> Result<Vec<Sums>, StoreError> {
        if after >= until {
            return Ok(Vec::new());
        }
        // No sort key lies between one and itself with a character more.
        let from = format!("{after}\u{0}");
        let items = self.range(WHAT, &partition(map, run), &from, until).await?;
        let (mut all, mut full) = summed(&items);
        while !full.is_empty() {
            let keys: Vec<Item> = full
                .iter()
                .flat_map(|place| place.parts().map(|part| part.key()).collect::<Vec<_>>())
                .collect();
            let calls: Vec<Vec<Item>> = keys.chunks(KEYS).map(<[Item]>::to_vec).collect();
            let parts: Vec<(Vec<Sums>, Vec<Place>)> = stream::iter(calls)
                .map(|keys| async { Ok(summed(&self.items(WHAT, keys, true).await?)) })
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
            full = Vec::new();
            for (sums, places) in parts {
                all.extend(sums);
                full.extend(places);
            }
        }
        Ok(all)
    }

    /// Buckets of a run that are not in its totals.
    pub(super) async fn buckets_after(
        &self,
        map: &MapName,
        run: RunId,
        after: &str,
    ) -> Result<Vec<Sums>, StoreError> {
        self.buckets_between(map, run, after, "s~").await
    }
}

/// What stands in items, and which of them are full. No more of them is kept: they can be large.
fn summed(items: &[Item]) -> (Vec<Sums>, Vec<Place>) {
    let full = |item| Place::of_item(item).filter(|place| Bucket::of_item(item).is_full(place));
    (
        items.iter().map(Sums::of_item).collect(),
        items.iter().filter_map(full).collect(),
    )
}

/// The run in the sort key of an item.
pub(super) fn run_of(item: &Item, prefix: &str) -> Option<RunId> {
    let run = get_text(item, "sk")?.strip_prefix(prefix)?;
    Some(RunId::from_uuid(run.parse().ok()?))
}
