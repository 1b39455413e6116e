//! Releasing what was parked.

use std::time::Duration;

use jiff::Timestamp;
use model::{Lane, MapEvent, MapName, MapState, QueueName, RetryJob};

use runtime::{RELEASE_STEP, Standing};

use crate::{Retry, RetryError, held::Comes};

/// How long one invocation releases; what is left is for the next one.
const LONGEST: Duration = Duration::from_secs(20);

impl Retry {
    /// Releases parked packs of a map, oldest first, of the lanes that may be applied: while a
    /// map is loaded in bulk that is its load alone. When nothing is left of a map that is
    /// resuming, it runs.
    pub(crate) async fn release(
        &self,
        map: &MapName,
        deadline: Timestamp,
    ) -> Result<(), RetryError> {
        let end = self.end(LONGEST, deadline);
        if !self
            .release_alone(map, (end, deadline), Comes::Once)
            .await?
        {
            return Ok(());
        }
        let again = RetryJob::Release { map: map.clone() };
        let name = format!("release/{map}");
        self.outbox
            .send(QueueName::Retries, Some(map), &name, &again, Duration::ZERO)
            .await?;
        Ok(())
    }

    /// When who releases for so long has to stop.
    fn end(&self, time: Duration, deadline: Timestamp) -> Timestamp {
        let now = self.clock.now();
        now.saturating_add(time).unwrap_or(deadline).min(deadline)
    }

    /// Releases until `end` unless another worker does so, and holds the map meanwhile; says
    /// whether something is left, or somebody has come for it since.
    async fn release_alone(
        &self,
        map: &MapName,
        (end, deadline): (Timestamp, Timestamp),
        comes: Comes,
    ) -> Result<bool, RetryError> {
        // Nobody can apply them; they are kept until the map is back.
        let Some(defined) = self.definition.maps.get(map) else {
            return Ok(false);
        };
        // A map that is paused costs no more than this look.
        let state = self.states.get(map).await?;
        if !Lane::ALL.into_iter().any(|lane| state.applies(lane)) {
            return Ok(false);
        }
        let target = self.breakers.standing(&defined.to.connection).await?;
        let now = self.clock.now();
        // That there is nothing to release ends a resumption all the same.
        let down = target != Standing::Works && self.parking.holds(map).await?;
        if down && matches!(target, Standing::Down { until, .. } if now < until) {
            return Ok(false);
        }
        let Some(held) = self.hold(map, deadline, comes).await? else {
            return Ok(false);
        };
        let released = if down {
            self.release_probe(map).await
        } else {
            self.release_until(map, end).await
        };
        let asked = self.give_back(held).await?;
        Ok(released? || asked)
    }

    /// Releases one blob, whose packs find out whether the target is back. What `apply` lets wait
    /// in the queue for that does not wait there for ever. What is left is for another tick.
    async fn release_probe(&self, map: &MapName) -> Result<bool, RetryError> {
        let state = self.states.get(map).await?;
        let mut failed = None;
        for lane in Lane::ALL.into_iter().filter(|lane| state.applies(*lane)) {
            match self.parking.release(map, lane, 1, &self.outbox).await {
                Ok(true) => return Ok(false),
                Ok(false) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(false), |error| Err(error.into()))
    }

    /// Releases until then, one step at least; says whether something is left.
    async fn release_until(&self, map: &MapName, end: Timestamp) -> Result<bool, RetryError> {
        loop {
            let state = self.states.get(map).await?;
            let mut more = false;
            let mut failed = None;
            for lane in Lane::ALL.into_iter().filter(|lane| state.applies(*lane)) {
                match self
                    .parking
                    .release(map, lane, RELEASE_STEP, &self.outbox)
                    .await
                {
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
            if self.clock.now() >= end {
                return Ok(true);
            }
        }
    }

    /// Ends what was left in the middle: maps that are resuming although nobody releases
    /// anything for them any more.
    pub(crate) async fn resume_stragglers(&self, deadline: Timestamp) -> Result<(), RetryError> {
        let resuming = self.states.in_state(MapState::Resuming).await?;
        self.release_each(resuming, deadline).await;
        Ok(())
    }

    /// Releases what is parked of maps that may be applied.
    pub(crate) async fn release_parked(&self, deadline: Timestamp) -> Result<(), RetryError> {
        let parked = self.parking.maps().await?;
        self.release_each(parked, deadline).await;
        Ok(())
    }

    /// Releases what is parked of some maps. What one of them is stopped by stops no other. What
    /// is left is for the next tick.
    async fn release_each(&self, mut maps: Vec<MapName>, deadline: Timestamp) {
        let each = LONGEST / u32::try_from(maps.len().max(1)).unwrap_or(u32::MAX);
        // Those that this tick has no time for come sooner in another one.
        let first = self.any_of(maps.len());
        maps.rotate_left(first);
        for map in maps {
            if self.clock.now() >= deadline {
                return;
            }
            let end = self.end(each, deadline);
            if let Err(error) = self.release_until_end(&map, (end, deadline)).await {
                tracing::error!(map.name = %map, "what is parked for map `{map}` cannot be released: {error}");
            }
        }
    }

    /// Releases until `end`, for those who come for it meanwhile as well.
    async fn release_until_end(
        &self,
        map: &MapName,
        (end, deadline): (Timestamp, Timestamp),
    ) -> Result<(), RetryError> {
        while self
            .release_alone(map, (end, deadline), Comes::Again)
            .await?
        {
            if self.clock.now() >= end {
                break;
            }
        }
        Ok(())
    }

    /// A number below `count`, or 0.
    fn any_of(&self, count: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count of maps"
        )]
        let any = (self.clock.random() * count as f64) as usize;
        any.min(count.saturating_sub(1))
    }
}
