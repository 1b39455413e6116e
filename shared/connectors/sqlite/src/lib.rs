//! SQLite files as targets.
//!
//! A table of Syncline's own has the map's columns and `_syncline_version`; a unique index is
//! its key. Beside each table stands `_syncline_side_<table>`: tombstones, how often a row was
//! settled, and for an existing table the versions of all rows written. Everything a batch
//! does happens in one transaction.
//!
//! SQLite has no exact decimals, so those of many digits are text in a table of Syncline's own:
//! a decimal of up to 15 digits, or of up to 18 without any after the point, is a number there.
//! A column of a table that was there before refuses what it would cut off.

mod bind;
mod bulk;
mod error;
mod number;
mod prepare;
mod sql;
mod write;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use model::{Lane, LoadMode, Rows, Value};
use ports::{
    LoadEnd, RowOutcome, Seen, Sweep, TableSchema, TableSpec, Target, TargetError, TargetRow,
    WriteBatch,
};
use runtime::Pace;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use error::{row_error, target_error};

/// One SQLite file.
#[derive(Clone)]
pub struct SqliteTarget {
    path: PathBuf,
    patience: Duration,
    most_pages: Arc<AtomicU32>,
    pace: Option<Pace>,
    open: Arc<Mutex<Option<Open>>>,
}

/// A file that is open.
struct Open {
    db: Connection,
    file: Option<FileId>,
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
            patience: Duration::from_secs(10),
            most_pages: Arc::default(),
            pace: None,
            open: Arc::default(),
        }
    }

    /// Waits at most so long for another program that keeps the file locked.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Keeps to a rate. A batch is one call.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        Self {
            pace: Some(pace),
            ..self
        }
    }

    async fn turn(&self, lane: Lane) -> Result<(), TargetError> {
        let Some(pace) = &self.pace else {
            return Ok(());
        };
        let turn = pace.turn(lane).await;
        turn.map_err(|error| TargetError::Unavailable {
            what: format!(
                "{}: its declared rate is not known: {error}",
                self.path.display()
            ),
            retry_after: None,
        })
    }

    /// Lets the file grow to so many pages at the most, as if the disk were full then.
    pub fn limit_size(&self, pages: u32) {
        self.most_pages.store(pages, Ordering::SeqCst);
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn open(&self) -> rusqlite::Result<Open> {
        let new = !self.path.exists();
        let db = Connection::open(&self.path)?;
        db.busy_timeout(self.patience)?;
        if new {
            db.pragma_update(None, "journal_mode", "wal")?;
        }
        db.pragma_update(None, "synchronous", "full")?;
        db.pragma_update(None, "foreign_keys", true)?;
        db.pragma_update(None, "cache_size", -4 * 1024)?;
        let most = self.most_pages.load(Ordering::SeqCst);
        if most > 0 {
            db.pragma_update(None, "max_page_count", most)?;
        }
        let file = file_id(&self.path);
        Ok(Open { db, file })
    }

    /// Runs `work` in a transaction on this file. What it returns is durable.
    fn transact<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that was replaced is open all the same: what is written there is lost.
        let known = slot.take().filter(|open| open.file == file_id(&self.path));
        let mut open = match known {
            Some(open) => open,
            None => self.open()?,
        };
        let done = in_transaction(&mut open.db, work);
        // After an error the file is opened anew: it may not be what it was.
        if done.is_ok() {
            *slot = Some(open);
        }
        done
    }

    /// Does `work` in the caller's thread, which SQLite blocks for as long as it takes.
    fn blocking<T>(
        &self,
        work: impl FnOnce(&Self) -> rusqlite::Result<T>,
    ) -> Result<T, TargetError> {
        let runtime = tokio::runtime::Handle::current().runtime_flavor();
        let done = if runtime == tokio::runtime::RuntimeFlavor::MultiThread {
            tokio::task::block_in_place(|| work(self))
        } else {
            work(self)
        };
        done.map_err(|error| target_error(&self.path, &error))
    }

    fn run<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, TargetError> {
        self.blocking(|target| target.transact(work))
    }

    /// Writes each row in a transaction of its own.
    fn write_singly(
        &self,
        table: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> rusqlite::Result<Vec<RowOutcome>> {
        let mut outcomes = Vec::with_capacity(batch.ops.len());
        for (row, op) in batch.rows.iter().zip(&batch.ops) {
            let written = self.transact(|db| write::write_row(db, table, row, op));
            outcomes.push(match written {
                Ok(outcome) => outcome,
                Err(error) => match row_error(&error) {
                    Some(cause) => RowOutcome::Failed(Box::new(cause)),
                    None => return Err(error),
                },
            });
        }
        if let Some(generation) = batch.found_in {
            self.transact(|db| bulk::remember(db, table, generation, &batch.rows))?;
        }
        Ok(outcomes)
    }
}

/// What tells a file from another one under the same name.
type FileId = (u64, u64);

#[cfg(unix)]
fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Elsewhere a file that is open cannot be replaced.
#[cfg(not(unix))]
fn file_id(_: &Path) -> Option<FileId> {
    None
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
        self.turn(Lane::Live).await?;
        self.run(|db| prepare::describe(db, table))
    }

    async fn prepare(&self, table: &TableSpec) -> Result<(), TargetError> {
        self.turn(Lane::Load).await?;
        self.run(|db| match number::unfit_key(db, table)? {
            Some(key) => Ok(Err(TargetError::Schema { what: key })),
            None => prepare::prepare(db, table).map(Ok),
        })?
    }

    async fn begin_load(
        &self,
        table: &TableSpec,
        generation: u32,
    ) -> Result<LoadMode, TargetError> {
        self.turn(Lane::Load).await?;
        self.run(|db| bulk::begin(db, table, generation))
    }

    async fn end_bulk(&self, table: &TableSpec, generation: u32) -> Result<LoadEnd, TargetError> {
        self.turn(Lane::Load).await?;
        self.run(|db| bulk::unless_overtaken(db, table, generation, || bulk::end(db, table)))?
    }

    async fn missing(
        &self,
        table: &TableSpec,
        generation: u32,
        after: Option<&[Value<'static>]>,
        limit: usize,
    ) -> Result<Sweep, TargetError> {
        self.turn(Lane::Load).await?;
        self.run(|db| {
            bulk::unless_overtaken(db, table, generation, || {
                bulk::missing(db, table, after, limit)
            })
        })?
    }

    async fn end_load(&self, table: &TableSpec, generation: u32) -> Result<(), TargetError> {
        self.turn(Lane::Load).await?;
        self.run(|db| bulk::unless_overtaken(db, table, generation, || bulk::forget(db, table)))?
    }

    async fn write(
        &self,
        table: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> Result<Vec<RowOutcome>, TargetError> {
        self.turn(batch.lane).await?;
        self.blocking(|target| {
            let written = target.transact(|db| write::write(db, table, batch));
            match written {
                // A constraint that is looked at only at the end of a transaction, or that ends
                // it: which row it was shows when each is alone.
                Err(error) if row_error(&error).is_some() && batch.bulk.is_none() => {
                    target.write_singly(table, batch)
                }
                written => written,
            }
        })
    }

    async fn look(
        &self,
        table: &TableSpec,
        keys: &Rows<'_>,
    ) -> Result<Vec<TargetRow>, TargetError> {
        self.turn(Lane::Live).await?;
        self.run(|db| {
            let mut writer = write::Writer::new(db, table)?;
            keys.iter().map(|row| writer.look(row)).collect()
        })
    }

    async fn show(&self, table: &TableSpec, key: &Rows<'_>) -> Result<Option<String>, TargetError> {
        self.turn(Lane::Live).await?;
        self.run(|db| write::show(db, table, key.row(0)))
    }
}

/// The state of a row in one text; see [`Seen`].
fn seen(version: Option<i64>, exists: bool, settles: i64) -> Seen {
    let version = version.map_or_else(String::new, |version| version.to_string());
    Seen(format!("{version}/{exists}/{settles}").into())
}
