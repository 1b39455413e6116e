//! Releasing what was parked.

use std::time::Duration;

use model::{Lane, MapEvent, MapName, MapState, QueueName, RetryJob};

use crate::{Retry, RetryError};

/// How long one invocation releases; what is left is for the next one.
const LONGEST: Duration = Duration::from_secs(20);

impl Retry {
    /// Releases parked packs of a map, oldest first, of the lanes that may be applied: while a
    /// map is loaded in bulk that is its load alone. When nothing is left of a map that is
    /// resuming, it runs.
    pub(crate) async fn release(&self, map: &MapName) -> Result<(), RetryError> {
        if !self.release_for(map, LONGEST).await? {
            return Ok(());
        }
        let again = RetryJob::Release { map: map.clone() };
        let name = format!("release/{map}");
        self.outbox
            .send(QueueName::Retries, Some(map), &name, &again, Duration::ZERO)
            .await?;
        Ok(())
    }

    /// Releases for so long, one step at least; says whether something is left.
    async fn release_for(&self, map: &MapName, time: Duration) -> Result<bool, RetryError> {
        // Nobody can apply them; they are kept until the map is back.
        if !self.definition.maps.contains_key(map) {
            return Ok(false);
        }
        let began = self.clock.now();
        loop {
            let state = self.states.get(map).await?;
            let mut more = false;
            let mut failed = None;
            for lane in Lane::ALL.into_iter().filter(|lane| state.applies(*lane)) {
                match self.parking.release(map, lane, &self.outbox).await {
                    Ok(left) => more |= left,
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error.into());
            }
            if !more {
                if state.state == MapState::Resuming {
                    // An error means that somebody has paused it meanwhile.
                    let _ = self.states.transition(map, MapEvent::Released).await;
                }
                return Ok(false);
            }
            if self.clock.now() >= began + time {
                return Ok(true);
            }
        }
    }

    /// Ends what was left in the middle: maps that are resuming although nobody releases
    /// anything for them any more.
    pub(crate) async fn resume_stragglers(&self) -> Result<(), RetryError> {
        self.release_each(self.states.in_state(MapState::Resuming).await?)
            .await;
        Ok(())
    }

    /// Releases what is parked of some maps. What one of them is stopped by stops no other. What
    /// is left is for the next tick: a job for it would be one more with every tick, and all of
    /// them would send the same packs.
    pub(crate) async fn release_each(&self, maps: Vec<MapName>) {
        let each = LONGEST / u32::try_from(maps.len().max(1)).unwrap_or(u32::MAX);
        for map in maps {
            if let Err(error) = self.release_for(&map, each).await {
                tracing::error!(map.name = %map, "what is parked for map `{map}` cannot be released: {error}");
            }
        }
    }
}
