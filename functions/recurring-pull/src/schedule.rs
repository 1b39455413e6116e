//! When which map is due.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use definition::Definition;
use jiff::Timestamp;
use model::{MapName, PullState};
use ports::{Checkpoints, CheckpointsExt, StoreError};

/// A worker that lives long remembers when maps are due, so that ten thousand idle maps cost
/// nothing between their pulls; one that is new reads it once.
#[derive(Debug, Default)]
pub struct Schedule {
    state: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    read: Option<Timestamp>,
    order: BTreeSet<(Timestamp, MapName)>,
    due: HashMap<MapName, Timestamp>,
}

/// After this long the checkpoints are read again: another process may have changed them.
const FRESH: Duration = Duration::from_mins(5);

impl Remembered {
    fn set(&mut self, map: &MapName, due: Timestamp) {
        if let Some(before) = self.due.insert(map.clone(), due) {
            self.order.remove(&(before, map.clone()));
        }
        self.order.insert((due, map.clone()));
    }
}

impl Schedule {
    /// Notes when a map is due next.
    pub fn set(&self, map: &MapName, due: Timestamp) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .set(map, due);
    }

    /// The maps that are due at `now`.
    pub(crate) async fn due(
        &self,
        definition: &Definition,
        checkpoints: &dyn Checkpoints,
        now: Timestamp,
    ) -> Result<Vec<MapName>, StoreError> {
        self.refresh(definition, checkpoints, now).await?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state
            .order
            .iter()
            .take_while(|(due, _)| *due <= now)
            .map(|(_, map)| map.clone())
            .collect())
    }

    async fn refresh(
        &self,
        definition: &Definition,
        checkpoints: &dyn Checkpoints,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.read.is_some_and(|read| now < read + FRESH) {
                return Ok(());
            }
        }
        let stored = checkpoints.load_all::<PullState>("pull/").await?;
        let known: HashMap<&str, Option<Timestamp>> = stored
            .iter()
            .map(|(key, pull)| (key.trim_start_matches("pull/"), pull.value.due))
            .collect();
        let mut fresh = Remembered {
            read: Some(now),
            ..Remembered::default()
        };
        for (map, defined) in &definition.maps {
            if defined.pull.every.is_some() {
                let due = known.get(map.as_str()).copied().flatten();
                fresh.set(map, due.unwrap_or(now));
            }
        }
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}
