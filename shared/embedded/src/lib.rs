//! The ports on one machine.
//!
//! Everything durable is in one SQLite file, `syncline.db`, in write-ahead mode: a backup is a
//! copy of it made by any SQLite tool, and a look inside needs no tool of ours. All writes go
//! through one thread that commits what has gathered meanwhile in one transaction, so that
//! many small writes share one sync to disk.

mod alerts;
mod blobs;
mod checkpoints;
mod db;
mod failures;
mod ledger;
mod links;
mod lock;
mod queue;
mod schema;
mod secrets;

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use model::QueueName;
use ports::Clock;
use tokio::sync::Notify;

pub use db::OpenError;
pub use lock::{DataLock, Holder, LockError};
pub use secrets::LocalSecrets;

use db::Db;

/// How long a settled pack is remembered, so that it does not count again when it is sent again.
const REMEMBER_SETTLED: Duration = Duration::from_hours(1);
/// How long it is kept what people were told of.
const KEEP_ALERTS: Duration = Duration::from_hours(30 * 24);

/// All stores of a deployment on one machine. Clones share the same file and writer.
#[derive(Debug, Clone)]
pub struct Store {
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    arrivals: Arc<[Notify; QueueName::ALL.len()]>,
    turn: Arc<Mutex<HashMap<QueueName, String>>>,
    wakes: Arc<Mutex<BTreeSet<(i64, usize)>>>,
    seen: Arc<AtomicI64>,
}

/// Messages that become visible within this time of each other wake a queue once.
const WAKE_STEP: i64 = 20_000;

impl Store {
    /// Opens the store in `folder`, making both if they do not exist.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Ok(Self {
            db: Arc::new(Db::open(folder)?),
            clock,
            arrivals: Arc::new(std::array::from_fn(|_| Notify::new())),
            turn: Arc::default(),
            wakes: Arc::default(),
            seen: Arc::default(),
        })
    }

    /// Waits until there may be something new in `queue`: this process has sent to it, or
    /// [`Store::look`] has found a reason. Returns at once if that was so since the last call.
    pub async fn arrival(&self, queue: QueueName) {
        self.arrivals[queue as usize].notified().await;
    }

    fn wake(&self, queue: QueueName) {
        self.arrivals[queue as usize].notify_one();
    }

    /// Wakes a queue when a message of it becomes visible, in microseconds of Unix time.
    fn wake_at(&self, queue: QueueName, visible: i64) {
        let step = visible.saturating_add(WAKE_STEP) / WAKE_STEP * WAKE_STEP;
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.insert((step, queue as usize));
    }

    /// Wakes the queues in which messages have become visible that this process has put off,
    /// and all of them when another process has written to the file. To be called now and then
    /// by whoever delivers; it costs much less than asking every queue.
    pub async fn look(&self) -> Result<(), ports::StoreError> {
        let now = self.clock.now().as_microsecond();
        {
            let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
            let later = wakes.split_off(&(now.saturating_add(1), 0));
            for (_, queue) in std::mem::replace(&mut *wakes, later) {
                self.arrivals[queue].notify_one();
            }
        }
        let version = self.foreign_writes().await?;
        if self.seen.swap(version, Ordering::Relaxed) != version {
            for queue in QueueName::ALL {
                self.wake(queue);
            }
        }
        Ok(())
    }

    /// A number that changes with every write to the file by another process.
    async fn foreign_writes(&self) -> Result<i64, ports::StoreError> {
        self.db
            .write("looking for writes of other processes", |db| {
                db.pragma_query_value(None, "data_version", |row| row.get(0))
            })
            .await
    }

    /// Makes every received message visible again, ends every lease, and lets every failure that
    /// was on its way be sent again. For a host that has just taken the data folder: whoever held
    /// them is dead. A failure whose attempt is still queued is tried twice, which the guard makes
    /// harmless; waiting until an attempt counts as lost would keep an operator waiting.
    pub async fn take_over(&self) -> Result<(), ports::StoreError> {
        let now = self.clock.now().as_microsecond();
        self.db
            .write("taking over", move |db| {
                db.execute(
                    "UPDATE messages SET visible = ?1 WHERE receives > 0 AND visible > ?1",
                    [now],
                )?;
                db.execute(
                    "UPDATE failures SET due = ?1 WHERE status = 'retrying' AND due > ?1",
                    [now],
                )?;
                // Leases are part of the records they fence; their epochs stay.
                db.execute(
                    "UPDATE checkpoints SET value = json_set(value, '$.lease.until', NULL)
                     WHERE json_extract(value, '$.lease.until') IS NOT NULL",
                    [],
                )
                .map(|_| ())
            })
            .await
    }

    /// Deletes what is remembered only for a time: delivery names, settled packs and alerts.
    /// Returns how much it was.
    pub async fn tidy(&self) -> Result<usize, ports::StoreError> {
        let now = self.clock.now();
        let settled = now.saturating_sub(REMEMBER_SETTLED).unwrap_or(now);
        let alerts = now.saturating_sub(KEEP_ALERTS).unwrap_or(now);
        self.db
            .write("tidying up", move |db| {
                let names =
                    db.execute("DELETE FROM seen WHERE until <= ?1", [now.as_microsecond()])?;
                let packs = db.execute(
                    "DELETE FROM packs WHERE settled <= ?1",
                    [settled.as_microsecond()],
                )?;
                let alerts = db.execute(
                    "DELETE FROM alerts WHERE raised <= ?1",
                    [alerts.as_microsecond()],
                )?;
                Ok(names + packs + alerts)
            })
            .await
    }

    /// Lets the file grow to `pages` of 4 KiB at the most, as if the disk were full then.
    pub async fn limit_size(&self, pages: u32) -> Result<(), ports::StoreError> {
        self.db
            .write("limiting the size", move |db| {
                db.pragma_update(None, "max_page_count", pages)
            })
            .await
    }
}
