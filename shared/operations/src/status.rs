//! Where everything stands.

use jiff::Timestamp;
use model::{
    Books, ErrorClass, LoadPlan, LoadStatus, LoadTrouble, MapName, MapState, PullState, RunId,
    Slice, SliceStatus, plan_key, pull_key, slice_prefix, trouble_key,
};
use ports::{CheckpointsExt, FailureFilter};
use serde::Serialize;

use crate::{OperationError, Operations};

/// Where a deployment stands.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its maps.
    pub maps: Vec<MapStatus>,
    /// Connections that are being left alone because they do not work.
    pub broken: Vec<Broken>,
    /// Maps that are not in the definition (any more), and of which something is kept.
    pub undefined: Vec<Undefined>,
}

/// What is kept of a map that is not in the definition.
#[derive(Debug, Clone, Serialize)]
pub struct Undefined {
    /// Which.
    pub map: MapName,
    /// What is parked for it until it is back.
    pub parked: Parked,
}

/// A connection that is being left alone.
#[derive(Debug, Clone, Serialize)]
pub struct Broken {
    /// Which.
    pub connection: String,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub error: String,
}

/// Where a map stands.
#[derive(Debug, Clone, Serialize)]
pub struct MapStatus {
    /// Its name.
    pub map: MapName,
    /// The process it serves.
    pub process: Option<String>,
    /// Its state.
    pub state: MapState,
    /// Since when.
    pub since: Timestamp,
    /// Why, where a reason was given.
    pub reason: Option<String>,
    /// Its books over all runs.
    pub books: Books,
    /// Whether they balance.
    pub balanced: bool,
    /// What is parked for it.
    pub parked: Parked,
    /// Failures that still ask for something.
    pub failures: u64,
    /// Its pull.
    pub pull: PullView,
    /// Its newest load.
    pub load: Option<LoadView>,
    /// What keeps its load from going on for now.
    pub trouble: Option<LoadTrouble>,
}

/// What is kept of a map that may not be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// How many packs.
    pub packs: u64,
    /// How large they are together.
    pub bytes: u64,
}

/// The slices of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Slices {
    /// How many there are.
    pub all: u32,
    /// How many are read to their end.
    pub done: u32,
}

/// The books of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RunBooks {
    /// The run.
    pub run: RunId,
    /// Its books.
    pub books: Books,
}

/// How a map's pull stands.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PullView {
    /// Every change made at the source before has been read.
    pub covers: Option<Timestamp>,
    /// End of the last pull that reached the end of the stream.
    pub succeeded: Option<Timestamp>,
    /// When the next one is due.
    pub due: Option<Timestamp>,
    /// Pulls that failed since the last good one.
    pub failed: u32,
    /// What kind of trouble.
    pub class: Option<ErrorClass>,
    /// Why the last one failed.
    pub error: Option<String>,
    /// When it did.
    pub failed_at: Option<Timestamp>,
}

/// How a load stands.
#[derive(Debug, Clone, Serialize)]
pub struct LoadView {
    /// Its number.
    pub generation: u32,
    /// Its books.
    pub run: RunId,
    /// Where it stands.
    pub status: LoadStatus,
    /// Its slices.
    pub slices: Slices,
    /// Rows the source said there are.
    pub estimate: Option<u64>,
    /// Rows read.
    pub read: u64,
    /// Rows that have an outcome.
    pub settled: u64,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

/// The books of a map and its runs.
#[derive(Debug, Clone, Serialize)]
pub struct Balance {
    /// The map.
    pub map: MapName,
    /// Its books over all runs.
    pub books: Books,
    /// Whether they balance.
    pub balanced: bool,
    /// The newest runs.
    pub runs: Vec<RunBooks>,
}

impl Operations {
    /// Where the deployment stands.
    pub async fn status(&self) -> Result<Status, OperationError> {
        let names: Vec<&MapName> = self.definition.maps.keys().collect();
        let books = self.ledger.books_of(&names).await?;
        let mut maps = Vec::with_capacity(names.len());
        for (map, books) in names.into_iter().zip(books) {
            maps.push(self.status_with(map, books).await?);
        }
        let broken = self.breakers.tripped().await?;
        let broken = broken.into_iter().map(|(connection, since, error)| Broken {
            connection,
            since,
            error,
        });
        Ok(Status {
            maps,
            broken: broken.collect(),
            undefined: self.undefined().await?,
        })
    }

    async fn undefined(&self) -> Result<Vec<Undefined>, OperationError> {
        let mut found = Vec::new();
        for map in self.parking.maps().await? {
            if !self.definition.maps.contains_key(&map) {
                let parked = self.parked(&map).await?;
                found.push(Undefined { map, parked });
            }
        }
        Ok(found)
    }

    /// Where a map stands.
    pub async fn map_status(&self, map: &MapName) -> Result<MapStatus, OperationError> {
        let books = self.ledger.books(map).await?;
        self.status_with(map, books).await
    }

    async fn status_with(&self, map: &MapName, books: Books) -> Result<MapStatus, OperationError> {
        let record = self.states.get(map).await?;
        let unresolved = FailureFilter {
            map: Some(map.clone()),
            ..FailureFilter::unresolved()
        };
        let process = self
            .definition
            .maps
            .get(map)
            .and_then(|map| map.process.clone());
        Ok(MapStatus {
            map: map.clone(),
            process,
            state: record.state,
            since: record.since,
            balanced: books.balanced(),
            books,
            parked: self.parked(map).await?,
            failures: self.failures.count(&unresolved).await?,
            pull: self.pull_view(map).await?,
            load: self.load_view(map, record.generation).await?,
            trouble: self
                .checkpoints
                .load(&trouble_key(map))
                .await?
                .map(|stored| stored.value),
            reason: record.reason,
        })
    }

    async fn parked(&self, map: &MapName) -> Result<Parked, OperationError> {
        let (packs, bytes) = self.parking.measure(map).await?;
        Ok(Parked { packs, bytes })
    }

    async fn pull_view(&self, map: &MapName) -> Result<PullView, OperationError> {
        let stored = self.checkpoints.load::<PullState>(&pull_key(map)).await?;
        let Some(pull) = stored.map(|stored| stored.value) else {
            return Ok(PullView::default());
        };
        Ok(PullView {
            covers: pull.covers,
            succeeded: pull.succeeded,
            due: pull.due,
            failed: pull.failed,
            class: pull.error.as_ref().map(|error| error.class),
            failed_at: pull.error.as_ref().map(|error| error.at),
            error: pull.error.map(|error| error.message),
        })
    }

    async fn load_view(
        &self,
        map: &MapName,
        generation: u32,
    ) -> Result<Option<LoadView>, OperationError> {
        let stored = self
            .checkpoints
            .load::<LoadPlan>(&plan_key(map, generation))
            .await?;
        let Some(plan) = stored.map(|stored| stored.value) else {
            return Ok(None);
        };
        let slices = self
            .checkpoints
            .load_all::<Slice>(&slice_prefix(map, generation))
            .await?;
        let read: u64 = slices.iter().map(|(_, slice)| slice.value.rows).sum();
        let done = slices
            .iter()
            .filter(|(_, slice)| slice.value.status == SliceStatus::Done)
            .count();
        let in_flight = self.ledger.in_flight(map, plan.run).await?;
        Ok(Some(LoadView {
            generation,
            run: plan.run,
            status: plan.status,
            slices: Slices {
                all: u32::try_from(plan.ranges.len().max(slices.len())).unwrap_or(u32::MAX),
                done: u32::try_from(done).unwrap_or(u32::MAX),
            },
            estimate: plan.estimate,
            read,
            settled: read.saturating_sub(in_flight),
            started: plan.started,
            finished: plan.finished,
        }))
    }

    /// The books of a map, and of its newest `limit` runs.
    pub async fn balance(&self, map: &MapName, limit: usize) -> Result<Balance, OperationError> {
        let books = self.ledger.books(map).await?;
        let runs = self.ledger.runs(map, limit).await?;
        let runs = runs.into_iter().map(|(run, books)| RunBooks { run, books });
        Ok(Balance {
            map: map.clone(),
            balanced: books.balanced(),
            books,
            runs: runs.collect(),
        })
    }
}
