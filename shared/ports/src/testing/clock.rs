use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::Clock;

/// A clock that stands still until it is moved, and counts identifiers up. Who sleeps on it
/// moves it: no test waits.
#[derive(Debug)]
pub struct ManualClock {
    micros: AtomicI64,
    ids: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self {
            micros: AtomicI64::new(now.as_microsecond()),
            ids: AtomicU64::new(1),
        }
    }

    /// Sets it, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.micros.store(now.as_microsecond(), Ordering::SeqCst);
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).expect("a duration a test can mean");
        self.micros.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::at("2026-01-01T00:00:00Z".parse().expect("a valid time"))
    }
}

#[async_trait]
impl Clock for ManualClock {
    async fn sleep(&self, time: Duration) {
        self.advance(time);
        tokio::task::yield_now().await;
    }

    fn now(&self) -> Timestamp {
        let micros = self.micros.load(Ordering::SeqCst);
        Timestamp::from_microsecond(micros).expect("a time in range")
    }

    fn new_id(&self) -> Uuid {
        Uuid::from_u128(self.ids.fetch_add(1, Ordering::SeqCst).into())
    }

    fn random(&self) -> f64 {
        0.5
    }
}
