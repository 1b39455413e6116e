//! The books, as others read them.

use std::{
    collections::{HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use model::{Counts, MapName, PackId, PackRef, RunId, Settlement};
use ports::{Dedupe, Ledger, PackEntry, StoreError};

use super::{
    StateTable,
    active::{active_key, books_partition, folded},
    bucket::{Bucket, Sums},
    fold::run_of,
    item::{Item, get_text, text, unavailable},
    journal::{self, Unfolded},
    place::Place,
};
use crate::{Books, DynamoFailures};

/// Counts the failures that are stored.
#[async_trait]
pub trait StoredFailures: Debug + Send + Sync {
    /// Failures of a map, or of one run of it, by what became of them.
    async fn stored(&self, map: &MapName, run: Option<RunId>) -> Result<Counts, StoreError>;
}

#[async_trait]
impl StoredFailures for DynamoFailures {
    async fn stored(&self, map: &MapName, run: Option<RunId>) -> Result<Counts, StoreError> {
        Self::stored(self, map, run).await
    }
}

/// Knows whether reports of failures are on their way to the failure store.
#[async_trait]
pub trait ReportsWaiting: Debug + Send + Sync {
    /// Whether there may be reports that the failure store has not taken.
    async fn waiting(&self) -> Result<bool, StoreError>;
}

#[async_trait]
impl Books for StateTable {
    async fn known(&self, names: &[&Dedupe]) -> Result<Vec<bool>, StoreError> {
        self.known_names(names).await
    }

    async fn remember(&self, names: &[&Dedupe]) -> Result<(), StoreError> {
        self.remember_names(names).await
    }

    async fn open(&self, packs: &[PackEntry]) -> Result<(), StoreError> {
        // A webhook is a pack of its own: to enter each twice would cost more than to send it.
        let apart = packs
            .iter()
            .filter(|pack| pack.run != RunId::live(&pack.map));
        self.open_packs(&apart.cloned().collect::<Vec<_>>()).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), StoreError> {
        self.settle_packs(&settlements).await.map(drop)
    }
}

/// The books, from the table of the state and what others keep.
#[derive(Debug, Clone)]
pub struct DynamoLedger {
    state: StateTable,
    failures: Arc<dyn StoredFailures>,
    reports: Arc<dyn ReportsWaiting>,
}

const WHAT: &str = "reading the books";
/// Runs looked at side by side.
const AT_ONCE: usize = 8;

impl DynamoLedger {
    /// The books of a deployment.
    #[must_use]
    pub fn new(
        state: StateTable,
        failures: Arc<dyn StoredFailures>,
        reports: Arc<dyn ReportsWaiting>,
    ) -> Self {
        Self {
            state,
            failures,
            reports,
        }
    }

    /// The totals of a run with news, with those of its buckets that are not in them.
    async fn active(&self, map: &MapName, run: RunId, item: &Item) -> Result<Sums, StoreError> {
        let mut sums = Sums::of_item(item);
        for bucket in self.state.buckets_after(map, run, folded(item)).await? {
            sums.merge(&bucket);
        }
        Ok(sums)
    }

    /// The same of all runs of a map that have news, webhooks among them.
    async fn all_active(
        &self,
        map: &MapName,
        unfolded: &mut Unfolded,
    ) -> Result<Vec<(RunId, Sums)>, StoreError> {
        let items = self.state.active_runs(map).await?;
        let runs: Vec<(RunId, Item)> = items
            .into_iter()
            .filter_map(|item| Some((run_of(&item, "A#")?, item)))
            .collect();
        let live = RunId::live(map);
        let totals = runs.iter().find(|(run, _)| *run == live);
        let totals = totals.map(|(_, item)| item);
        let webhooks = self.state.unfolded_of(unfolded, map, totals).await?;
        let mut all: Vec<(RunId, Sums)> = stream::iter(runs)
            .map(|(run, item)| async move { Ok((run, self.active(map, run, &item).await?)) })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        if webhooks != Sums::default() {
            all.push((live, webhooks));
        }
        Ok(all)
    }

    async fn books_once(
        &self,
        map: &MapName,
        unfolded: &mut Unfolded,
    ) -> Result<model::Books, StoreError> {
        let mut sums = Sums::default();
        for (_, active) in self.all_active(map, unfolded).await? {
            sums.merge(&active);
        }
        let pk = books_partition(map);
        if let Some(retired) = self.state.item(WHAT, &pk, "T").await? {
            sums.merge(&Sums::of_item(&retired));
        }
        self.complete(map, None, sums).await
    }

    async fn complete(
        &self,
        map: &MapName,
        run: Option<RunId>,
        sums: Sums,
    ) -> Result<model::Books, StoreError> {
        let stored = self.failures.stored(map, run).await?;
        let mut outcomes = sums.counts();
        let reported = std::mem::take(&mut outcomes.failed);
        let kept = stored.total();
        outcomes.merge(&stored);
        // A failure is stored before or after its pack is settled. Until both have happened it
        // stands in one place only: in flight, or among the reports on their way to the store.
        let late = reported.saturating_sub(kept);
        let failing = if late > 0 && self.reports.waiting().await? {
            late
        } else {
            0
        };
        Ok(model::Books {
            read: sums.read(),
            outcomes,
            in_flight: sums
                .in_flight()
                .saturating_sub(kept.saturating_sub(reported)),
            failing,
        })
    }

    /// Adds to `settled` the packs that are so at these places; returns those to look for below
    /// them.
    async fn settled_at(
        &self,
        places: HashMap<Place, Vec<PackId>>,
        settled: &mut HashSet<PackId>,
    ) -> Result<HashMap<Place, Vec<PackId>>, StoreError> {
        let keys = places.keys().map(Place::key).collect();
        let items = self.state.items(WHAT, keys, true).await?;
        let found: HashMap<(&str, &str), &Item> = items
            .iter()
            .filter_map(|item| Some(((get_text(item, "pk")?, get_text(item, "sk")?), item)))
            .collect();
        let mut below: HashMap<Place, Vec<PackId>> = HashMap::new();
        for (place, ids) in places {
            let Some(item) = found.get(&(place.pk.as_str(), place.sk.as_str())) else {
                continue;
            };
            let bucket = Bucket::of_item(item);
            for id in ids {
                if bucket.is_settled(id) {
                    settled.insert(id);
                } else if bucket.is_elsewhere(id, &place) {
                    below.entry(place.below(id)).or_default().push(id);
                }
            }
            self.state.buckets.keep(place, bucket);
        }
        Ok(below)
    }

    /// The newest runs of a map that are retired.
    async fn retired(&self, map: &MapName, limit: usize) -> Result<Vec<Item>, StoreError> {
        let read = self
            .state
            .client
            .query()
            .table_name(&self.state.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND begins_with(sk, :retired)")
            .expression_attribute_values(":pk", text(books_partition(map)))
            .expression_attribute_values(":retired", text("R#"))
            .scan_index_forward(false)
            .limit(i32::try_from(limit.max(1)).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(unavailable(WHAT))?;
        Ok(read.items.unwrap_or_default())
    }
}

#[async_trait]
impl Ledger for DynamoLedger {
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<HashSet<PackId>, StoreError> {
        self.state.settle_packs(&settlements).await
    }

    async fn settled(&self, packs: &[PackRef]) -> Result<HashSet<PackId>, StoreError> {
        let mut places: HashMap<Place, Vec<PackId>> = HashMap::new();
        let mut webhooks = Vec::new();
        for PackRef { id, map, run } in packs {
            if let Some(made) = journal::made(*id, map, *run) {
                webhooks.push((*id, made));
            } else {
                let place = Place::of(*id, map, *run);
                places.entry(place).or_default().push(*id);
            }
        }
        let entered = self.state.entered(webhooks).await?;
        let mut settled: HashSet<PackId> = entered.into_keys().collect();
        while !places.is_empty() {
            places = self.settled_at(places, &mut settled).await?;
        }
        Ok(settled)
    }

    async fn amend(
        &self,
        map: &MapName,
        run: RunId,
        reason: &str,
        from: Counts,
        to: Counts,
    ) -> Result<(), StoreError> {
        self.state.amend_run(map, run, reason, (from, to)).await
    }

    async fn in_flight(&self, map: &MapName, run: RunId) -> Result<u64, StoreError> {
        let pk = books_partition(map);
        let Some(item) = self.state.item(WHAT, &pk, &active_key(run)).await? else {
            // Nobody retires a run with packs under way.
            return Ok(0);
        };
        Ok(self.active(map, run, &item).await?.in_flight())
    }

    async fn runs(
        &self,
        map: &MapName,
        limit: usize,
    ) -> Result<Vec<(RunId, model::Books)>, StoreError> {
        let mut runs: HashMap<RunId, Sums> = HashMap::new();
        let mut unfolded = self.state.unfolded().await?;
        for (run, sums) in self.all_active(map, &mut unfolded).await? {
            runs.entry(run).or_default().merge(&sums);
        }
        for item in self.retired(map, limit).await? {
            if let Some(run) = run_of(&item, "R#") {
                runs.entry(run).or_default().merge(&Sums::of_item(&item));
            }
        }
        // Identifiers of runs begin with the time; that of the webhooks' run tells none.
        let mut runs: Vec<(RunId, Sums)> = runs.into_iter().collect();
        runs.sort_unstable_by_key(|(run, _)| {
            std::cmp::Reverse((*run == RunId::live(map), run.as_uuid()))
        });
        runs.truncate(limit);
        let mut all = Vec::with_capacity(runs.len());
        for (run, sums) in runs {
            all.push((run, self.complete(map, Some(run), sums).await?));
        }
        Ok(all)
    }

    async fn books(&self, map: &MapName) -> Result<model::Books, StoreError> {
        let mut unfolded = self.state.unfolded().await?;
        let books = self.books_once(map, &mut unfolded).await?;
        if books.balanced() {
            return Ok(books);
        }
        // What was read in the course of a second or more can be of different moments.
        let mut unfolded = self.state.unfolded().await?;
        self.books_once(map, &mut unfolded).await
    }

    async fn books_of(&self, maps: &[&MapName]) -> Result<Vec<model::Books>, StoreError> {
        let mut unfolded = self.state.unfolded().await?;
        let mut all = Vec::with_capacity(maps.len());
        for map in maps {
            let books = self.books_once(map, &mut unfolded).await?;
            all.push(if books.balanced() {
                books
            } else {
                self.books(map).await?
            });
        }
        Ok(all)
    }
}
