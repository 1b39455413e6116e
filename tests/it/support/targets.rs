//! Targets that a test can take away.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use apply::Apply;
use async_trait::async_trait;
use initial_load::InitialLoad;
use model::{LoadMode, MapName, Rows, Value};
use ports::{
    LoadEnd, RowOutcome, Source, Sweep, Systems, SystemsError, TableSchema, TableSpec, Target,
    TargetError, TargetRow, WriteBatch, testing::ManualClock,
};
use systems::DefinedPlans;
use tokio::sync::Notify;

use super::Deployment;

/// Longest that a call waits for another system's turn.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether a system is there, how long it takes, and how often it was called.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    down: AtomicBool,
    /// How long it asks to be left alone.
    throttles: Mutex<Option<Duration>>,
    calls: AtomicUsize,
    /// Bytes of text in the largest write so far.
    largest: AtomicUsize,
    slow: Mutex<Option<(Arc<ManualClock>, Duration)>>,
    stuck: AtomicBool,
    reached: Notify,
    written: Notify,
    waits_for: Mutex<Option<Arc<Switch>>>,
}

impl Switch {
    pub(crate) fn turn(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
        *self.throttles.lock().expect("a lock") = None;
    }

    /// Lets every call be refused with the wish to be left alone for so long.
    pub(crate) fn throttle(&self, wait: Duration) {
        *self.throttles.lock().expect("a lock") = Some(wait);
    }

    /// Lets every call take this long, and takes one row at a time from now on.
    pub(crate) fn slow(&self, clock: &Arc<ManualClock>, time: Duration) {
        *self.slow.lock().expect("a lock") = Some((Arc::clone(clock), time));
    }

    /// Lets calls be as fast as they can.
    pub(crate) fn hurry(&self) {
        *self.slow.lock().expect("a lock") = None;
    }

    fn is_slow(&self) -> bool {
        self.slow.lock().expect("a lock").is_some()
    }

    /// Lets the next end of a bulk load take for ever.
    pub(crate) fn stick(&self) {
        self.stuck.store(true, Ordering::SeqCst);
    }

    /// Waits until a worker is stuck.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets the next call wait until something was written to another system. The clock of a test
    /// may be past a deadline before that one had its turn.
    pub(crate) fn let_pass(&self, other: &Arc<Self>) {
        *self.waits_for.lock().expect("a lock") = Some(Arc::clone(other));
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn largest(&self) -> usize {
        self.largest.load(Ordering::SeqCst)
    }

    fn weigh(&self, rows: &Rows<'_>) {
        let texts = rows.iter().flatten().map(|cell| match cell {
            Value::Text(text) => text.len(),
            _ => 0,
        });
        self.largest.fetch_max(texts.sum(), Ordering::SeqCst);
    }

    async fn call(&self) -> Result<(), TargetError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let waits_for = self.waits_for.lock().expect("a lock").take();
        if let Some(other) = waits_for {
            let written = tokio::time::timeout(PATIENCE, other.written.notified());
            written
                .await
                .expect("the other system has its turn meanwhile");
        }
        if let Some((clock, time)) = &*self.slow.lock().expect("a lock") {
            clock.advance(*time);
        }
        if let Some(wait) = *self.throttles.lock().expect("a lock") {
            return Err(TargetError::Throttled {
                what: "the warehouse is busy".into(),
                retry_after: Some(wait),
            });
        }
        if !self.down.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(TargetError::Unavailable {
            what: "the warehouse does not answer".into(),
            retry_after: None,
        })
    }
}

/// What a test puts in the place of a map's target.
pub(crate) type Wrap = dyn Fn(&MapName, Arc<dyn Target>) -> Arc<dyn Target> + Send + Sync;

struct Wrapped {
    systems: Arc<dyn Systems>,
    wrap: Box<Wrap>,
}

impl std::fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wrapped").finish_non_exhaustive()
    }
}

#[async_trait]
impl Systems for Wrapped {
    async fn source(&self, map: &MapName) -> Result<Arc<dyn Source>, SystemsError> {
        self.systems.source(map).await
    }

    async fn target(&self, map: &MapName) -> Result<Arc<dyn Target>, SystemsError> {
        Ok((self.wrap)(map, self.systems.target(map).await?))
    }
}

impl Deployment {
    /// Puts other targets in the place of those that the definition names.
    pub(crate) fn wrap_targets(
        &mut self,
        wrap: impl Fn(&MapName, Arc<dyn Target>) -> Arc<dyn Target> + Send + Sync + 'static,
    ) {
        let home = &mut self.home;
        let operations = &mut home.operations;
        let systems: Arc<dyn Systems> = Arc::new(Wrapped {
            systems: Arc::clone(&operations.systems),
            wrap: Box::new(wrap),
        });
        operations.systems = Arc::clone(&systems);
        operations.plans = Arc::new(DefinedPlans::new(
            Arc::clone(&operations.definition),
            Arc::clone(&systems),
            Arc::clone(&operations.checkpoints),
        ));
        home.functions.apply = Arc::new(Apply {
            definition: Arc::clone(&operations.definition),
            plans: Arc::clone(&operations.plans),
            systems: Arc::clone(&systems),
            outbox: operations.outbox.clone(),
            parking: operations.parking.clone(),
            states: operations.states.clone(),
            breakers: operations.breakers.clone(),
            ledger: Arc::clone(&operations.ledger),
            checkpoints: Arc::clone(&operations.checkpoints),
            clock: Arc::clone(&operations.clock),
            metrics: home.functions.apply.metrics.clone(),
            traces: home.functions.apply.traces,
            grace: None,
        });
        home.functions.load = Arc::new(InitialLoad {
            definition: Arc::clone(&operations.definition),
            plans: Arc::clone(&operations.plans),
            systems,
            outbox: operations.outbox.clone(),
            checkpoints: Arc::clone(&operations.checkpoints),
            ledger: Arc::clone(&operations.ledger),
            states: operations.states.clone(),
            clock: Arc::clone(&operations.clock),
            metrics: home.functions.load.metrics.clone(),
        });
    }

    /// Makes the targets of some maps go up and down together.
    pub(crate) fn switch_targets(&mut self, maps: &'static [&'static str]) -> Arc<Switch> {
        let switch = Arc::new(Switch::default());
        let shared = Arc::clone(&switch);
        self.wrap_targets(move |map, target| {
            if !maps.contains(&map.as_str()) {
                return target;
            }
            let switch = Arc::clone(&shared);
            Arc::new(Switched { target, switch })
        });
        switch
    }
}

#[derive(Debug)]
struct Switched {
    target: Arc<dyn Target>,
    switch: Arc<Switch>,
}

#[async_trait]
impl Target for Switched {
    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TargetError> {
        self.switch.call().await?;
        self.target.describe(table).await
    }

    async fn prepare(&self, table: &TableSpec) -> Result<(), TargetError> {
        self.switch.call().await?;
        self.target.prepare(table).await
    }

    async fn begin_load(
        &self,
        table: &TableSpec,
        generation: u32,
    ) -> Result<LoadMode, TargetError> {
        self.switch.call().await?;
        self.target.begin_load(table, generation).await
    }

    async fn end_bulk(&self, table: &TableSpec, generation: u32) -> Result<LoadEnd, TargetError> {
        self.switch.call().await?;
        if self.switch.stuck.swap(false, Ordering::SeqCst) {
            self.switch.reached.notify_one();
            std::future::pending::<()>().await;
        }
        self.target.end_bulk(table, generation).await
    }

    async fn missing(
        &self,
        table: &TableSpec,
        generation: u32,
        after: Option<&[Value<'static>]>,
        limit: usize,
    ) -> Result<Sweep, TargetError> {
        self.switch.call().await?;
        self.target.missing(table, generation, after, limit).await
    }

    async fn end_load(&self, table: &TableSpec, generation: u32) -> Result<(), TargetError> {
        self.switch.call().await?;
        self.target.end_load(table, generation).await
    }

    fn rows_at_once(&self) -> usize {
        if self.switch.is_slow() {
            1
        } else {
            self.target.rows_at_once()
        }
    }

    async fn write(
        &self,
        table: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> Result<Vec<RowOutcome>, TargetError> {
        self.switch.call().await?;
        self.switch.weigh(&batch.rows);
        let written = self.target.write(table, batch).await;
        self.switch.written.notify_one();
        written
    }

    async fn look(
        &self,
        table: &TableSpec,
        keys: &Rows<'_>,
    ) -> Result<Vec<TargetRow>, TargetError> {
        self.switch.call().await?;
        self.target.look(table, keys).await
    }

    async fn show(&self, table: &TableSpec, key: &Rows<'_>) -> Result<Option<String>, TargetError> {
        self.switch.call().await?;
        self.target.show(table, key).await
    }
}
