//! Breakers: a target that is down is left alone until it is likely to be up again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use model::{AlertKind, ConnectionName, full_jitter};
use ports::{
    Alerts, CheckpointError, Checkpoints, CheckpointsExt, Clock, Revision, StoreError, TargetError,
};
use serde::{Deserialize, Serialize};

use crate::teller::Teller;

/// Whether a connection may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It may.
    Open,
    /// It may, by the one that is told so: it has been down. Whoever does not use it after all says
    /// so by [`Breakers::unused`].
    Try(Trial),
    /// It may not.
    Wait(Wait),
}

/// The permission to find out whether a connection works again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial(Revision);

/// How long a connection may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// For this long.
    pub left: Duration,
    /// It has been down since then, unless it only asks to be called less often.
    pub since: Option<Timestamp>,
}

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It works, as far as anybody knows.
    Works,
    /// It has been found down and not been seen to work since.
    Down {
        /// Since when, unless it only asks to be called less often.
        since: Option<Timestamp>,
        /// Until when nobody may use it. Then one may try.
        until: Timestamp,
    },
}

/// What is kept of a connection that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tripped {
    /// Until when nobody may use it; then one may try.
    until: Timestamp,
    /// How often in a row it has been found down.
    trips: u32,
    /// Since when.
    since: Timestamp,
    /// Since when it does not answer, and not only asks to be called less often.
    #[serde(default)]
    down: Option<Timestamp>,
    /// What was found.
    error: String,
}

#[derive(Debug, Default)]
struct Local {
    failures: u32,
    known: Option<(Timestamp, Option<(Revision, Tripped)>)>,
}

/// The breakers of all connections, shared by all workers through the checkpoint table.
#[derive(Debug, Clone)]
pub struct Breakers {
    checkpoints: Arc<dyn Checkpoints>,
    clock: Arc<dyn Clock>,
    local: Arc<Mutex<HashMap<ConnectionName, Local>>>,
    teller: Teller,
}

/// Failures in a row, seen by one worker, that trip the breaker.
const TRIP_AFTER: u32 = 3;
/// Bounds of the wait after the first and after every trip.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// How long the one that tries has before another may.
const PROBE: Duration = Duration::from_secs(30);
/// How long it may take until all workers know. One that does not finds the target down by itself.
const FRESH: Duration = Duration::from_secs(5);

fn key(connection: &ConnectionName) -> String {
    format!("breaker/{connection}")
}

impl Breakers {
    /// Breakers kept in a checkpoint table.
    #[must_use]
    pub fn new(checkpoints: Arc<dyn Checkpoints>, clock: Arc<dyn Clock>) -> Self {
        Self {
            checkpoints,
            clock,
            local: Arc::default(),
            teller: Teller::default(),
        }
    }

    /// The same, telling people of each connection that is found down.
    #[must_use]
    pub fn telling(self, alerts: Arc<dyn Alerts>) -> Self {
        let teller = Teller::new(alerts);
        Self { teller, ..self }
    }

    fn with_local<T>(&self, connection: &ConnectionName, work: impl FnOnce(&mut Local) -> T) -> T {
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        work(local.entry(connection.clone()).or_default())
    }

    async fn known(
        &self,
        connection: &ConnectionName,
    ) -> Result<Option<(Revision, Tripped)>, StoreError> {
        let now = self.clock.now();
        let cached = self.with_local(connection, |local| {
            local
                .known
                .clone()
                .filter(|(at, _)| now < *at + FRESH)
                .map(|(_, known)| known)
        });
        if let Some(known) = cached {
            return Ok(known);
        }
        let stored = self.checkpoints.load::<Tripped>(&key(connection)).await?;
        let known = stored.map(|stored| (stored.revision, stored.value));
        self.with_local(connection, |local| local.known = Some((now, known.clone())));
        Ok(known)
    }

    /// Asks before a connection is used. Of all that ask after a wait is over, one may try.
    pub async fn pass(&self, connection: &ConnectionName) -> Result<Pass, StoreError> {
        let Some((revision, tripped)) = self.known(connection).await? else {
            return Ok(Pass::Open);
        };
        if let Some(wait) = self.left(&tripped) {
            return Ok(Pass::Wait(wait));
        }
        let probe = Tripped {
            until: self.clock.now() + PROBE,
            ..tripped
        };
        let taken = self
            .checkpoints
            .store(&key(connection), Some(revision), &probe)
            .await;
        self.with_local(connection, |local| local.known = None);
        match taken {
            Ok(mine) => Ok(Pass::Try(Trial(mine))),
            // Another one tries, or has found it back.
            Err(CheckpointError::Conflict { .. }) => {
                let known = self.known(connection).await?;
                let wait = |(_, tripped): (_, Tripped)| Wait {
                    left: FIRST_WAIT,
                    since: tripped.down,
                };
                Ok(known.map_or(Pass::Open, |known| Pass::Wait(wait(known))))
            }
            Err(CheckpointError::Store(error)) => Err(error),
        }
    }

    /// How long whoever asked now would have to wait, if at all. Nobody tries by that.
    pub async fn look(&self, connection: &ConnectionName) -> Result<Option<Wait>, StoreError> {
        let known = self.known(connection).await?;
        Ok(known.and_then(|(_, tripped)| self.left(&tripped)))
    }

    /// Whoever might have tried a connection has not used it: the next one may. If it has been used,
    /// this changes nothing.
    pub async fn unused(
        &self,
        connection: &ConnectionName,
        trial: Trial,
    ) -> Result<(), StoreError> {
        let key = key(connection);
        let stored = self.checkpoints.load::<Tripped>(&key).await?;
        let Some(stored) = stored.filter(|stored| stored.revision == trial.0) else {
            return Ok(());
        };
        let tripped = Tripped {
            until: self.clock.now(),
            ..stored.value
        };
        let given_up = self.checkpoints.store(&key, Some(trial.0), &tripped).await;
        self.with_local(connection, |local| local.known = None);
        match given_up {
            Ok(_) | Err(CheckpointError::Conflict { .. }) => Ok(()),
            Err(CheckpointError::Store(error)) => Err(error),
        }
    }

    /// What is left of a wait.
    fn left(&self, tripped: &Tripped) -> Option<Wait> {
        let left = Duration::try_from(tripped.until.duration_since(self.clock.now()));
        let left = left.ok().filter(|left| !left.is_zero())?;
        Some(Wait {
            left: left + FIRST_WAIT.mul_f64(self.clock.random()),
            since: tripped.down,
        })
    }

    /// How a connection stands, for those who do not use it now.
    pub async fn standing(&self, connection: &ConnectionName) -> Result<Standing, StoreError> {
        let known = self.known(connection).await?;
        Ok(
            known.map_or(Standing::Works, |(_, tripped)| Standing::Down {
                since: tripped.down,
                until: tripped.until,
            }),
        )
    }

    /// The connection worked.
    pub async fn worked(&self, connection: &ConnectionName) -> Result<(), StoreError> {
        let (failures, known) = self.with_local(connection, |local| {
            (std::mem::take(&mut local.failures), local.known.clone())
        });
        // The common case costs no read: nothing has failed here, and nothing is known to
        // have failed elsewhere.
        if failures == 0 && matches!(known, Some((_, None))) {
            return Ok(());
        }
        let now = self.clock.now();
        let stored = self.checkpoints.load::<Tripped>(&key(connection)).await?;
        if let Some(stored) = stored {
            tracing::info!(connection.name = %connection, "`{connection}` works again");
            match self
                .checkpoints
                .delete(&key(connection), stored.revision)
                .await
            {
                // A conflict means that somebody else has seen something newer.
                Ok(()) | Err(CheckpointError::Conflict { .. }) => {}
                Err(CheckpointError::Store(error)) => return Err(error),
            }
        }
        self.with_local(connection, |local| local.known = Some((now, None)));
        Ok(())
    }

    /// The connection did not work. Returns how long to leave it alone.
    pub async fn failed(
        &self,
        connection: &ConnectionName,
        error: &TargetError,
    ) -> Result<Duration, StoreError> {
        let retry_after = error.retry_after();
        let failures = self.with_local(connection, |local| {
            local.failures += 1;
            local.failures
        });
        let stored = self.checkpoints.load::<Tripped>(&key(connection)).await?;
        let trips = stored.as_ref().map_or(0, |stored| stored.value.trips);
        let jittered = full_jitter(FIRST_WAIT, LONGEST_WAIT, trips, self.clock.random());
        let wait = jittered
            .max(FIRST_WAIT / 4)
            .max(retry_after.unwrap_or_default());
        if failures < TRIP_AFTER && stored.is_none() && retry_after.is_none() {
            return Ok(wait);
        }
        let now = self.clock.now();
        if trips == 0 {
            tracing::warn!(connection.name = %connection, "`{connection}` is left alone for a while: {error}");
        }
        let known = stored.as_ref().map(|stored| &stored.value);
        let throttles = matches!(error, TargetError::Throttled { .. });
        let tripped = Tripped {
            until: now.saturating_add(wait).unwrap_or(Timestamp::MAX),
            trips: trips + 1,
            since: known.map_or(now, |known| known.since),
            down: known
                .and_then(|known| known.down)
                .or_else(|| (!throttles).then_some(now)),
            error: error.to_string().chars().take(500).collect(),
        };
        let revision = stored.map(|stored| stored.revision);
        let key = key(connection);
        let stored = self.checkpoints.store(&key, revision, &tripped).await;
        self.with_local(connection, |local| local.known = None);
        match stored {
            // One that only asks to be called less often is not down.
            Ok(_) if !throttles => {
                // Should this worker die over it, the next one that finds it down tells.
                let kind = AlertKind::BreakerOpen(connection.clone());
                self.teller.tell(kind, now).await;
            }
            Ok(_) | Err(CheckpointError::Conflict { .. }) => {}
            Err(CheckpointError::Store(error)) => return Err(error),
        }
        Ok(wait)
    }

    /// The connections that are being left alone, since when, and why.
    pub async fn tripped(&self) -> Result<Vec<(String, Timestamp, String)>, StoreError> {
        let all = self.checkpoints.load_all::<Tripped>("breaker/").await?;
        let describe = |(key, stored): (String, ports::Stored<Tripped>)| {
            let name = key.trim_start_matches("breaker/").to_owned();
            (name, stored.value.since, stored.value.error)
        };
        Ok(all.into_iter().map(describe).collect())
    }
}
