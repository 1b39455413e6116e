//! The port.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use deadpool::managed::Object;
use model::{Lane, LoadMode, Rows, Value};
use ports::{
    LoadEnd, RowOutcome, Sweep, TableSchema, TableSpec, Target, TargetError, TargetRow, WriteBatch,
};

use crate::{
    catalog::{self, Catalog},
    connect::{Database, Dialler},
    error::Fault,
    found, guarded,
    layout::Layout,
    load, prepare, show, write,
};

/// How often a batch that lost against another transaction is tried again at once.
const ATTEMPTS: usize = 3;

/// The tables of one PostgreSQL database.
pub struct PostgresTarget {
    database: Database,
    layouts: Mutex<HashMap<String, Arc<Layout>>>,
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTarget")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl PostgresTarget {
    /// A target in `database`.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self {
            database,
            layouts: Mutex::default(),
        }
    }

    fn layouts(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Layout>>> {
        self.layouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The map's table laid over the real one, as it was when it was first needed.
    async fn layout(
        &self,
        db: &mut Object<Dialler>,
        table: &TableSpec,
    ) -> Result<Arc<Layout>, Fault> {
        let known = self.layouts().get(&table.name).cloned();
        if let Some(known) = known.filter(|known| known.spec == *table) {
            return Ok(known);
        }
        let Some(real) = Catalog::read(db, &table.name).await? else {
            return Err(Fault::Schema(format!(
                "there is no table `{}`: load the map to make it, or correct `to.stream`",
                table.name
            )));
        };
        let layout = Arc::new(Layout::new(table, &real)?);
        self.layouts()
            .insert(table.name.clone(), Arc::clone(&layout));
        Ok(layout)
    }

    /// Runs `work` on a connection, for at most `limit` where there is one. After an error
    /// the connection is given up, and what is known of the table with it.
    async fn run<T>(
        &self,
        table: &str,
        lane: Lane,
        limit: Option<Duration>,
        work: impl AsyncFnOnce(&mut Object<Dialler>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut db = self.database.lend(lane).await?;
        let done = match limit {
            Some(limit) => tokio::time::timeout(limit, work(&mut db))
                .await
                .unwrap_or(Err(Fault::Silent)),
            None => work(&mut db).await,
        };
        match &done {
            Ok(_) => db.done(),
            Err(_) => drop(self.layouts().remove(table)),
        }
        done
    }

    /// A batch is several statements, and each may take its time.
    fn patience(&self) -> Duration {
        self.database.timeout() * 2
    }

    fn explain<T>(&self, done: Result<T, Fault>) -> Result<T, TargetError> {
        done.map_err(|fault| fault.into_target(self.database.place()))
    }
}

#[async_trait]
impl Target for PostgresTarget {
    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TargetError> {
        let done = self
            .run(table, Lane::Live, Some(self.patience()), async |db| {
                catalog::describe(db, table).await
            })
            .await;
        self.explain(done)
    }

    async fn prepare(&self, table: &TableSpec) -> Result<(), TargetError> {
        self.layouts().remove(&table.name);
        let done = self
            .run(&table.name, Lane::Load, None, async |db| {
                prepare::prepare(db, table).await
            })
            .await;
        self.explain(done)
    }

    async fn begin_load(
        &self,
        table: &TableSpec,
        generation: u32,
    ) -> Result<LoadMode, TargetError> {
        let done = self
            .run(&table.name, Lane::Load, None, async |db| {
                let layout = self.layout(db, table).await?;
                load::begin(db, &layout, generation).await
            })
            .await;
        self.explain(done)
    }

    async fn end_bulk(&self, table: &TableSpec, generation: u32) -> Result<LoadEnd, TargetError> {
        let done = self
            .run(&table.name, Lane::Load, None, async |db| {
                let layout = self.layout(db, table).await?;
                load::end(db, &layout, generation).await
            })
            .await;
        self.explain(done)
    }

    async fn missing(
        &self,
        table: &TableSpec,
        generation: u32,
        after: Option<&[Value<'static>]>,
        limit: usize,
    ) -> Result<Sweep, TargetError> {
        let done = self
            .run(&table.name, Lane::Load, None, async |db| {
                let layout = self.layout(db, table).await?;
                found::missing(db, &layout, generation, after, limit).await
            })
            .await;
        self.explain(done)
    }

    async fn end_load(&self, table: &TableSpec, generation: u32) -> Result<(), TargetError> {
        let done = self
            .run(&table.name, Lane::Load, None, async |db| {
                let layout = self.layout(db, table).await?;
                found::forget(db, &layout, generation).await
            })
            .await;
        self.explain(done)
    }

    async fn write(
        &self,
        table: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> Result<Vec<RowOutcome>, TargetError> {
        if batch.ops.is_empty() {
            return Ok(Vec::new());
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let done = self
                .run(&table.name, batch.lane, Some(self.patience()), async |db| {
                    let layout = self.layout(db, table).await?;
                    write::write(db, &layout, batch).await
                })
                .await;
            match done {
                Err(fault) if fault.lost_a_race() && attempts < ATTEMPTS => {}
                done => return self.explain(done),
            }
        }
    }

    async fn look(
        &self,
        table: &TableSpec,
        keys: &Rows<'_>,
    ) -> Result<Vec<TargetRow>, TargetError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let done = self
            .run(&table.name, Lane::Live, Some(self.patience()), async |db| {
                let layout = self.layout(db, table).await?;
                guarded::look(db, &layout, keys).await
            })
            .await;
        self.explain(done)
    }

    async fn show(&self, table: &TableSpec, key: &Rows<'_>) -> Result<Option<String>, TargetError> {
        let done = self
            .run(&table.name, Lane::Live, Some(self.patience()), async |db| {
                let layout = self.layout(db, table).await?;
                show::show(db, &layout, key.row(0)).await
            })
            .await;
        self.explain(done)
    }
}
