//! SQLite files as targets.
//!
//! A table of Syncline's own has the map's columns and `_syncline_version`; a unique index is
//! its key. Beside each table stands `_syncline_side_<table>`: tombstones, how often a row was
//! settled, and for an existing table the versions of all rows written. Everything a batch
//! does happens in one transaction.

mod bind;
mod bulk;
mod error;
mod prepare;
mod sql;
mod write;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use model::{LoadMode, Rows, Value};
use ports::{
    LoadEnd, RowOutcome, Seen, Sweep, TableSchema, TableSpec, Target, TargetError, TargetRow,
    WriteBatch,
};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use error::target_error;

/// One SQLite file.
#[derive(Clone)]
pub struct SqliteTarget {
    path: PathBuf,
    connection: Arc<Mutex<Option<Connection>>>,
}

impl fmt::Debug for SqliteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteTarget")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl SqliteTarget {
    /// A target in the file at `path`, which is made when it is first used.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            connection: Arc::default(),
        }
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let new = !self.path.exists();
        let db = Connection::open(&self.path)?;
        db.busy_timeout(Duration::from_secs(10))?;
        if new {
            db.pragma_update(None, "journal_mode", "wal")?;
        }
        db.pragma_update(None, "synchronous", "full")?;
        db.pragma_update(None, "foreign_keys", true)?;
        db.pragma_update(None, "cache_size", -16 * 1024)?;
        Ok(db)
    }

    /// Runs `work` in a transaction on this file. What it returns is durable.
    fn blocking<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, TargetError> {
        let mut slot = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let explain = |error| target_error(&self.path, &error);
        let mut db = match slot.take() {
            Some(db) => db,
            None => self.open().map_err(explain)?,
        };
        let result = in_transaction(&mut db, work).map_err(explain);
        // After an error the file is opened anew: it may have been replaced.
        if result.is_ok() {
            *slot = Some(db);
        }
        result
    }

    /// The same in the caller's thread, which SQLite blocks for as long as a batch takes.
    fn run<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, TargetError> {
        let runtime = tokio::runtime::Handle::current().runtime_flavor();
        if runtime == tokio::runtime::RuntimeFlavor::MultiThread {
            return tokio::task::block_in_place(|| self.blocking(work));
        }
        self.blocking(work)
    }
}

fn in_transaction<T>(
    db: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    ports::crash_point("target.commit");
    transaction.commit()?;
    ports::crash_point("target.committed");
    Ok(done)
}

#[async_trait]
impl Target for SqliteTarget {
    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TargetError> {
        self.run(|db| prepare::describe(db, table))
    }

    async fn prepare(&self, table: &TableSpec) -> Result<(), TargetError> {
        self.run(|db| prepare::prepare(db, table))
    }

    async fn begin_load(
        &self,
        table: &TableSpec,
        generation: u32,
    ) -> Result<LoadMode, TargetError> {
        self.run(|db| bulk::begin(db, table, generation))
    }

    async fn end_bulk(&self, table: &TableSpec) -> Result<LoadEnd, TargetError> {
        self.run(|db| bulk::end(db, table))
    }

    async fn missing(
        &self,
        table: &TableSpec,
        _generation: u32,
        after: Option<&[Value<'static>]>,
        limit: usize,
    ) -> Result<Sweep, TargetError> {
        self.run(|db| bulk::missing(db, table, after, limit))
    }

    async fn end_load(&self, table: &TableSpec, _generation: u32) -> Result<(), TargetError> {
        self.run(|db| bulk::forget(db, table))
    }

    async fn write(
        &self,
        table: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> Result<Vec<RowOutcome>, TargetError> {
        self.run(|db| write::write(db, table, batch))
    }

    async fn look(
        &self,
        table: &TableSpec,
        keys: &Rows<'_>,
    ) -> Result<Vec<TargetRow>, TargetError> {
        self.run(|db| {
            let mut writer = write::Writer::new(db, table)?;
            keys.iter().map(|row| writer.look(row)).collect()
        })
    }

    async fn show(&self, table: &TableSpec, key: &Rows<'_>) -> Result<Option<String>, TargetError> {
        self.run(|db| write::show(db, table, key.row(0)))
    }
}

/// The state of a row in one text; see [`Seen`].
fn seen(version: Option<i64>, exists: bool, settles: i64) -> Seen {
    let version = version.map_or_else(String::new, |version| version.to_string());
    Seen(format!("{version}/{exists}/{settles}").into())
}
