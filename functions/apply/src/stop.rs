//! Why messages come back.

use std::{fmt, time::Duration};

use mapping::PlansError;
use ports::{StoreError, SystemsError};
use runtime::OutboxError;

/// Why messages of a map come back.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The target, or what it needs, is not available.
    Wait(Duration),
    /// The same for some time already: it is tried again after this.
    Down(Duration),
    /// Only a person can help: the map is broken and its packs are parked.
    Broken(String),
    /// Time is up.
    Late,
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
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Stop {
    /// Of a system that cannot be had.
    pub(crate) fn of_systems(error: &SystemsError) -> Self {
        if error.passes() {
            Self::Wait(Duration::from_secs(5))
        } else {
            Self::Broken(error.to_string())
        }
    }

    /// Of a plan that cannot be had.
    pub(crate) fn of_plans(error: &PlansError) -> Self {
        if error.passes() {
            Self::Wait(Duration::from_secs(5))
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
