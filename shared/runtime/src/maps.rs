//! The states of maps.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use model::{AlertKind, IllegalTransition, MapEvent, MapName, MapRecord, MapState};
use ports::{Alerts, CheckpointError, Checkpoints, CheckpointsExt, Clock, StoreError, Stored};

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

    /// The maps that are in a state.
    pub async fn in_state(&self, state: MapState) -> Result<Vec<MapName>, StoreError> {
        let all = self.checkpoints.load_all::<MapRecord>("state/").await?;
        let found = all
            .into_iter()
            .filter(|(_, stored)| stored.value.state == state);
        Ok(found
            .filter_map(|(key, _)| MapName::new(key.trim_start_matches("state/")).ok())
            .collect())
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
                Ok(_) => {
                    self.remember(map, now, &after);
                    tracing::info!(map.name = %map, "map `{map}` was {}, is {}", before.state, after.state);
                    self.tell(map, &before, &after).await;
                    return Ok((before, after));
                }
                Err(CheckpointError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A map that was broken before is no news.
    async fn tell(&self, map: &MapName, before: &MapRecord, after: &MapRecord) {
        if after.state == MapState::Broken && before.state != MapState::Broken {
            let kind = AlertKind::MapBroken(map.clone());
            self.teller.tell(kind, after.since).await;
        }
    }
}
