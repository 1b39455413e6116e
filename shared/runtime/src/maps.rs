//! The states of maps.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use model::{AlertKind, IllegalTransition, MapEvent, MapName, MapRecord, MapState};
use ports::{
    Alerts, CheckpointError, Checkpoints, CheckpointsExt, Clock, Revision, StoreError, Stored,
};

use crate::teller::Teller;

/// A map did not change its state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransitionError {
    /// It cannot, in the state it is in.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The store did not do it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl From<StoreError> for TransitionError {
    fn from(error: StoreError) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// How long a state that was read may be relied on for applying. A map that was paused may
/// go on for as long.
const FRESH: Duration = Duration::from_millis(500);

/// How long whoever has broken a map has to tell people, before a tick does.
const MOMENT: Duration = Duration::from_mins(1);
/// Maps that one tick tells of.
const LATE_AT_ONCE: usize = 100;

/// Reads and changes the states of maps.
#[derive(Debug, Clone)]
pub struct MapStates {
    checkpoints: Arc<dyn Checkpoints>,
    clock: Arc<dyn Clock>,
    cache: Arc<Mutex<HashMap<MapName, (Timestamp, MapRecord)>>>,
    teller: Teller,
}

fn key(map: &MapName) -> String {
    format!("state/{map}")
}

impl MapStates {
    /// States kept in a checkpoint table.
    #[must_use]
    pub fn new(checkpoints: Arc<dyn Checkpoints>, clock: Arc<dyn Clock>) -> Self {
        Self {
            checkpoints,
            clock,
            cache: Arc::default(),
            teller: Teller::default(),
        }
    }

    /// The same, telling people of each map that breaks. What may break one has to.
    #[must_use]
    pub fn telling(self, alerts: Arc<dyn Alerts>) -> Self {
        let teller = Teller::new(alerts);
        Self { teller, ..self }
    }

    /// The state of a map now.
    pub async fn get(&self, map: &MapName) -> Result<MapRecord, StoreError> {
        let stored = self.checkpoints.load::<MapRecord>(&key(map)).await?;
        let now = self.clock.now();
        let record = stored.map_or_else(|| MapRecord::new(now), |stored| stored.value);
        self.remember(map, now, &record);
        Ok(record)
    }

    /// What is kept of all maps that ever had a state.
    pub async fn all(&self) -> Result<Vec<(MapName, Stored<MapRecord>)>, StoreError> {
        let all = self.checkpoints.load_all::<MapRecord>("state/").await?;
        let named = |(key, stored): (String, _)| {
            let map = MapName::new(key.trim_start_matches("state/")).ok()?;
            Some((map, stored))
        };
        Ok(all.into_iter().filter_map(named).collect())
    }

    /// The maps that are in a state.
    pub async fn in_state(&self, state: MapState) -> Result<Vec<MapName>, StoreError> {
        let all = self.all().await?.into_iter();
        let found = all.filter(|(_, stored)| stored.value.state == state);
        Ok(found.map(|(map, _)| map).collect())
    }

    /// Tells people of maps that are broken, where whoever broke one has died over telling them,
    /// or could not. For a tick, which has just read what is kept of `all` maps.
    pub async fn tell_late(&self, all: &[(MapName, Stored<MapRecord>)]) {
        let now = self.clock.now();
        let late = |record: &MapRecord| record.untold.is_some_and(|at| now >= at + MOMENT);
        let untold = all.iter().filter(|(_, stored)| late(&stored.value));
        for (map, stored) in untold.take(LATE_AT_ONCE) {
            // The next tick tries again.
            if !self.tell(map, &stored.value, stored.revision).await {
                return;
            }
        }
    }

    /// The state of a map as it was at most half a second ago.
    pub async fn recent(&self, map: &MapName) -> Result<MapRecord, StoreError> {
        let now = self.clock.now();
        let known = {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache
                .get(map)
                .filter(|(at, _)| now < *at + FRESH)
                .map(|(_, record)| record.clone())
        };
        match known {
            Some(record) => Ok(record),
            None => self.get(map).await,
        }
    }

    fn remember(&self, map: &MapName, now: Timestamp, record: &MapRecord) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(map.clone(), (now, record.clone()));
    }

    /// Lets `event` happen to a map, whoever else changes it meanwhile; returns the state
    /// before and after.
    pub async fn transition(
        &self,
        map: &MapName,
        event: MapEvent,
    ) -> Result<(MapRecord, MapRecord), TransitionError> {
        loop {
            let stored: Option<Stored<MapRecord>> = self.checkpoints.load(&key(map)).await?;
            let now = self.clock.now();
            let (revision, before) = match stored {
                Some(stored) => (Some(stored.revision), stored.value),
                None => (None, MapRecord::new(now)),
            };
            let after = before.after(event.clone(), now)?;
            match self.checkpoints.store(&key(map), revision, &after).await {
                Ok(revision) => {
                    self.remember(map, now, &after);
                    tracing::info!(map.name = %map, "map `{map}` was {}, is {}", before.state, after.state);
                    if after.untold != before.untold {
                        self.tell(map, &after, revision).await;
                    }
                    return Ok((before, after));
                }
                Err(CheckpointError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tells people of a map that is broken and of which they may not know, and notes that they
    /// do; says whether they do.
    async fn tell(&self, map: &MapName, record: &MapRecord, revision: Revision) -> bool {
        let Some(at) = record.untold else {
            return true;
        };
        if !self
            .teller
            .tell(AlertKind::MapBroken(map.clone()), at)
            .await
        {
            return false;
        }
        let told = MapRecord {
            untold: None,
            ..record.clone()
        };
        // Where this fails a tick raises the incident once more, which people know of by now.
        let _ = self
            .checkpoints
            .store(&key(map), Some(revision), &told)
            .await;
        true
    }
}
