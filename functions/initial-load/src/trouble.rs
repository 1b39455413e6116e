//! What keeps loads from going on for now.

use std::time::Duration;

use model::{LoadTrouble, MapName, full_jitter, trouble_key};
use ports::{CheckpointsExt, StoreError, Stored};

use crate::{InitialLoad, LoadError};

/// Bounds of the wait after a job that met something that passes.
const LATER: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_mins(2);
/// How late an attempt may be before its job counts as lost.
const LATE: Duration = Duration::from_mins(1);

impl InitialLoad {
    /// Notes what a load waits for, so that whoever asks is told, and says how long it should
    /// wait: as long as it was asked to, and longer from attempt to attempt.
    pub(crate) async fn note_trouble(&self, map: &MapName, error: &LoadError) -> Duration {
        let key = trouble_key(map);
        let now = self.clock.now();
        let known = self.checkpoints.load::<LoadTrouble>(&key).await;
        let known = known.ok().flatten();
        let tries = known.as_ref().map_or(1, |known| known.value.tries + 1);
        let jitter = full_jitter(LATER, LONGEST, tries, self.clock.random());
        let wait = error.retry_after().unwrap_or(LATER).max(jitter).max(LATER);
        let trouble = LoadTrouble {
            tries,
            since: known.as_ref().map_or(now, |known| known.value.since),
            next: now.saturating_add(wait).unwrap_or(now),
            message: error.to_string(),
        };
        let revision = known.map(|known| known.revision);
        // Another slice may have met the same; and without a note the load waits all the same.
        let _ = self.checkpoints.store(&key, revision, &trouble).await;
        wait
    }

    /// Whether the load of a map waits for its next attempt, for which a job is on its way.
    pub(crate) async fn is_waiting(&self, map: &MapName) -> Result<bool, StoreError> {
        let key = trouble_key(map);
        let known = self.checkpoints.load::<LoadTrouble>(&key).await?;
        Ok(known.is_some_and(|known| {
            let late = known.value.next.saturating_add(LATE);
            self.clock.now() < late.unwrap_or(known.value.next)
        }))
    }

    /// A job has succeeded: nothing keeps the load any more.
    pub(crate) async fn forget_trouble(&self, map: &MapName) {
        let key = trouble_key(map);
        if let Ok(Some(Stored { revision, .. })) = self.checkpoints.load::<LoadTrouble>(&key).await
        {
            // Whoever changed it meanwhile knows better.
            let _ = self.checkpoints.delete(&key, revision).await;
        }
    }
}
