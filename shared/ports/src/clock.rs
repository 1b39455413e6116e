//! Time and identifiers.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

/// Tells the time and makes identifiers, so that tests can decide both.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// The time now, UTC.
    fn now(&self) -> Timestamp;

    /// Waits until so much time has passed on this clock.
    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// A new identifier; later ones sort after earlier ones of the same process.
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }

    /// A random number in `[0, 1)`, for jitter.
    fn random(&self) -> f64 {
        fastrand::f64()
    }
}

/// The computer's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the port they are disallowed in favour of"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
