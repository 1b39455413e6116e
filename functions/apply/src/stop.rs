//! Why messages come back.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use mapping::{Plan, PlansError};
use model::{ConnectionName, MapName};
use ports::{StoreError, SystemsError, TargetError};
use runtime::{OutboxError, Standing, Tally, Wait};

use crate::{
    handler::{Apply, Work, note},
    invocation::Invocation,
};

/// How long a target may be down before its packs are taken out of their queue.
const PATIENCE: Duration = Duration::from_secs(10);
/// Those of one that asks to be left alone for longer are taken out at once.
const LONG: Duration = Duration::from_mins(1);
/// How long packs wait for what was not there, and is not the target.
const SOON: Duration = Duration::from_secs(5);

/// Why messages of a map come back.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The target, or what it needs, is not available.
    Wait(Duration),
    /// The same for some time already: it is tried again after this.
    Down(Duration),
    /// Only a person can help: the map is broken and its packs are parked.
    Broken(String),
    /// Time is up, and nothing was begun with.
    Late,
    /// Time was up in the middle.
    Slow,
    /// One of Syncline's own stores did not work.
    Store(StoreError),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(wait) | Self::Down(wait) => {
                write!(f, "it has to wait for {} ms", wait.as_millis())
            }
            Self::Broken(reason) => f.write_str(reason),
            Self::Late => f.write_str("time is up"),
            Self::Slow => f.write_str("it was not done in time"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Stop {
    /// Of a system that cannot be had.
    pub(crate) fn of_systems(error: &SystemsError) -> Self {
        if error.passes() {
            Self::Wait(SOON)
        } else {
            Self::Broken(error.to_string())
        }
    }

    /// Of a plan that cannot be had.
    pub(crate) fn of_plans(error: &PlansError) -> Self {
        if error.passes() {
            Self::Wait(SOON)
        } else {
            Self::Broken(error.to_string())
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<OutboxError> for Stop {
    fn from(error: OutboxError) -> Self {
        Self::Store(StoreError::unavailable("reporting outcomes")(error))
    }
}

impl Apply {
    /// The plan of a map.
    pub(crate) async fn plan(
        &self,
        map: &MapName,
        connection: &ConnectionName,
        invocation: &Invocation,
        tally: &Mutex<Tally>,
    ) -> Result<Arc<Plan>, Stop> {
        let plan = self.plans.plan(map);
        match invocation.wait_for(self.clock.as_ref(), plan).await? {
            Ok(plan) => Ok(plan),
            Err(PlansError::Target(error)) if error.passes() => {
                Err(self.left_alone(map, connection, &error, tally).await)
            }
            Err(error) => Err(Stop::of_plans(&error)),
        }
    }

    /// What becomes of packs that their target did not take.
    pub(crate) async fn target_stop(&self, work: &Work<'_>, error: TargetError) -> Stop {
        let map = work.plan.map();
        if error.passes() {
            let left = self.left_alone(map, work.connection, &error, work.tally);
            return left.await;
        }
        self.plans.forget(map).await;
        Stop::Broken(error.to_string())
    }

    /// Notes that a target did not work, and how long it is left alone.
    async fn left_alone(
        &self,
        map: &MapName,
        connection: &ConnectionName,
        error: &TargetError,
        tally: &Mutex<Tally>,
    ) -> Stop {
        let wait = match self.breakers.failed(connection, error).await {
            Ok(wait) => wait,
            Err(error) => return Stop::Store(error),
        };
        let wait_ms = wait.as_millis();
        tracing::warn!(
            map.name = %map,
            connection.name = %connection,
            wait_ms,
            "packs of map `{map}` wait {wait_ms} ms: {error}"
        );
        let standing = self.breakers.standing(connection).await;
        // One that nobody could read is as good as open.
        let open = !matches!(standing, Ok(Standing::Works));
        note(tally, |tally| tally.breaker_open = Some(open));
        match standing {
            Ok(Standing::Down { since, .. }) => self.waiting(wait, since),
            _ => Stop::Wait(wait),
        }
    }

    /// What has to wait for a target that may not be used, which is said.
    pub(crate) fn alone(&self, wait: Wait, tally: &Mutex<Tally>) -> Stop {
        note(tally, |tally| tally.breaker_open = Some(true));
        self.waiting(wait.left, wait.since)
    }

    /// What has to wait for a target that may have been down since then.
    fn waiting(&self, wait: Duration, since: Option<Timestamp>) -> Stop {
        let now = self.clock.now();
        if wait > LONG || since.is_some_and(|since| now >= since + PATIENCE) {
            Stop::Down(wait)
        } else {
            Stop::Wait(wait)
        }
    }
}
