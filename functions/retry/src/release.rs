//! Releasing what was parked.

use model::{Lane, MapEvent, MapName, MapState, QueueName, RetryJob};

use crate::{Retry, RetryError};

/// Steps of one invocation; what is left is for the next one.
const STEPS: usize = 20;

impl Retry {
    /// Releases parked packs of a map, oldest first, of the lanes that may be applied: while a
    /// map is loaded in bulk that is its load alone. When nothing is left of a map that is
    /// resuming, it runs.
    pub(crate) async fn release(&self, map: &MapName) -> Result<(), RetryError> {
        for _ in 0..STEPS {
            let state = self.states.get(map).await?;
            let mut more = false;
            for lane in Lane::ALL.into_iter().filter(|lane| state.applies(*lane)) {
                more |= self.parking.release(map, lane, &self.outbox).await?;
            }
            if !more {
                if state.state == MapState::Resuming {
                    // An error means that somebody has paused it meanwhile.
                    let _ = self.states.transition(map, MapEvent::Released).await;
                }
                return Ok(());
            }
        }
        let again = RetryJob::Release { map: map.clone() };
        let name = format!("release/{map}");
        self.outbox
            .send(
                QueueName::Retries,
                Some(map),
                &name,
                &again,
                std::time::Duration::ZERO,
            )
            .await?;
        Ok(())
    }

    /// Ends what was left in the middle: maps that are resuming although nobody releases
    /// anything for them any more.
    pub(crate) async fn resume_stragglers(&self) -> Result<(), RetryError> {
        for map in self.states.in_state(MapState::Resuming).await? {
            self.release(&map).await?;
        }
        Ok(())
    }
}
