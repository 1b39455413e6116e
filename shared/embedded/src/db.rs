//! One file, one writer, many readers.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use ports::StoreError;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use crate::schema;

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder cannot be made.
    #[error("cannot make the data folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be opened or brought up to date.
    #[error("cannot open {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file was written by a newer Syncline.
    #[error(
        "{path} has format {found}, and this version of syncline reads up to {known}: use the version that wrote it, or a newer one",
        known = schema::CURRENT
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// Runs inside the transaction, or not at all when there is none; what it returns runs after
/// the commit, or after that failed.
type Job = Box<dyn FnOnce(Option<&Connection>) -> Finish + Send>;
type Finish = Box<dyn FnOnce(Result<(), &CommitError>) + Send>;

/// Why a whole transaction was lost; shared by all jobs in it.
type CommitError = Arc<rusqlite::Error>;

/// Most jobs that share one commit. More would make the first of them wait for no gain.
const MAX_JOBS_PER_COMMIT: usize = 512;

pub(crate) struct Db {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    readers: Mutex<Vec<Connection>>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Db {
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(folder).map_err(|source| OpenError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        let path = folder.join("syncline.db");
        let file = |source| OpenError::File {
            path: path.clone(),
            source,
        };
        let mut writer = Connection::open(&path).map_err(file)?;
        configure(&writer).map_err(file)?;
        if let Some(found) = schema::migrate(&mut writer).map_err(file)? {
            return Err(OpenError::Newer { path, found });
        }
        let (jobs, queue) = mpsc::channel();
        std::thread::Builder::new()
            .name("syncline-writer".into())
            .spawn(move || write_loop(&writer, &queue))
            .map_err(|source| OpenError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        Ok(Self {
            path,
            jobs,
            readers: Mutex::default(),
        })
    }

    /// Runs `work` in a transaction and returns when it is durable. If it fails, nothing of it
    /// happens; others in the same commit are not affected.
    pub(crate) async fn write<T, F>(&self, what: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, wait) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            let done = db.map(|db| in_savepoint(db, work).map_err(Arc::new));
            Box::new(move |committed| {
                let result = match (done, committed) {
                    (Some(Err(error)), _) => Err(error),
                    (_, Err(lost)) => Err(Arc::clone(lost)),
                    (Some(done), Ok(())) => done,
                    (None, Ok(())) => Err(Arc::new(rusqlite::Error::InvalidQuery)),
                };
                // Nobody waiting any more is no error: the work is done all the same.
                let _ = answer.send(result);
            })
        });
        let stopped = || StoreError::unavailable(what)("the writer of the store has stopped");
        self.jobs.send(job).map_err(|_| stopped())?;
        wait.await
            .map_err(|_| stopped())?
            .map_err(|error| store_error(what, error))
    }

    /// Runs `work` on a snapshot.
    pub(crate) async fn read<T, F>(
        self: &Arc<Self>,
        what: &'static str,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let db = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let reader = db.reader().map_err(StoreError::unavailable(what))?;
            let result = work(&reader).map_err(StoreError::unavailable(what));
            db.readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(reader);
            result
        })
        .await
        .map_err(StoreError::unavailable(what))?
    }

    fn reader(&self) -> rusqlite::Result<Connection> {
        let pooled = self
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        if let Some(reader) = pooled {
            return Ok(reader);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags)?;
        reader.busy_timeout(Duration::from_secs(10))?;
        Ok(reader)
    }
}

fn store_error(what: &'static str, error: Arc<rusqlite::Error>) -> StoreError {
    let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
    if full {
        let remedy = format!("{error}: free some space on the disk of the data folder");
        return StoreError::unavailable(what)(remedy);
    }
    StoreError::unavailable(what)(error)
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::from_secs(10))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    // FULL syncs the log at every commit: what is acknowledged survives a loss of power.
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    db.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    db.pragma_update(None, "cache_size", -4 * 1024)?;
    db.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn write_loop(db: &Connection, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut finishes = Vec::new();
        let committed = commit_all(db, first, queue, &mut finishes).map_err(Arc::new);
        for finish in finishes {
            finish(committed.as_ref().copied());
        }
        ports::crash_point("store.committed");
    }
}

/// Runs `first` and all that has gathered meanwhile in one transaction.
fn commit_all(
    db: &Connection,
    first: Job,
    queue: &mpsc::Receiver<Job>,
    finishes: &mut Vec<Finish>,
) -> rusqlite::Result<()> {
    if let Err(error) = db.execute_batch("BEGIN IMMEDIATE") {
        finishes.push(first(None));
        return Err(error);
    }
    finishes.push(first(Some(db)));
    // A full disk can end the transaction inside a job: whatever ran on would then commit by
    // itself.
    while !db.is_autocommit()
        && finishes.len() < MAX_JOBS_PER_COMMIT
        && let Ok(job) = queue.try_recv()
    {
        finishes.push(job(Some(db)));
    }
    ports::crash_point("store.commit");
    let committed = db.execute_batch("COMMIT");
    if committed.is_err() && !db.is_autocommit() {
        let _ = db.execute_batch("ROLLBACK");
    }
    committed
}

fn in_savepoint<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    db.prepare_cached("SAVEPOINT job")?.execute([])?;
    let result = work(db);
    if result.is_err() {
        // A full disk takes the whole transaction back, and the savepoint with it.
        if db.is_autocommit() {
            return result;
        }
        db.prepare_cached("ROLLBACK TO job")?.execute([])?;
    }
    db.prepare_cached("RELEASE job")?.execute([])?;
    result
}
