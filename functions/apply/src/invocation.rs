//! The time of an invocation, and what its maps share.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::{self, Either};
use jiff::Timestamp;
use ports::Clock;

use crate::{conclude::Kept, hold::Probes, stop::Stop};

/// One invocation.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// From then on nothing more is begun with.
    deadline: Timestamp,
    /// From then on nothing is waited for.
    end: Option<Timestamp>,
    /// Whether anything was begun with.
    begun: AtomicBool,
    pub(crate) probes: Probes,
    /// Packs that are to be settled with others.
    pub(crate) kept: Mutex<Kept>,
}

impl Invocation {
    pub(crate) fn new(deadline: Timestamp, grace: Option<Duration>) -> Self {
        Self {
            deadline,
            end: grace.and_then(|grace| deadline.saturating_add(grace).ok()),
            begun: AtomicBool::new(false),
            probes: Probes::default(),
            kept: Mutex::default(),
        }
    }

    /// Whether it is too late to begin with something; never before anything was.
    pub(crate) fn is_late(&self, clock: &dyn Clock) -> bool {
        self.begun.load(Ordering::Relaxed) && clock.now() >= self.deadline
    }

    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// What comes of some work, if it ends while there is time to say so. A worker that is ended in
    /// the middle of it says nothing, and its packs seem to be what it died of. Who was slow, the
    /// target, the source or nobody, is not known: calls that are not answered end before.
    pub(crate) async fn wait_for<T>(
        &self,
        clock: &dyn Clock,
        answer: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let Some(end) = self.end else {
            return Ok(answer.await);
        };
        let left = Duration::try_from(end.duration_since(clock.now())).unwrap_or_default();
        let answer = std::pin::pin!(answer);
        match future::select(answer, clock.sleep(left)).await {
            Either::Left((answer, _)) => Ok(answer),
            Either::Right(_) => Err(Stop::Slow),
        }
    }
}
