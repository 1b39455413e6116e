//! The time of an invocation, and what its maps share.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::{self, Either};
use jiff::Timestamp;
use model::ConnectionName;
use ports::{Clock, TargetError};

use crate::hold::Probes;

/// One invocation.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// From then on nothing more is begun with.
    pub(crate) deadline: Timestamp,
    /// From then on nothing is waited for: what a target has not done by then it did not do.
    end: Option<Timestamp>,
    /// Whether anything was begun with.
    begun: AtomicBool,
    pub(crate) probes: Probes,
}

impl Invocation {
    pub(crate) fn new(deadline: Timestamp, grace: Option<Duration>) -> Self {
        Self {
            deadline,
            end: grace.and_then(|grace| deadline.saturating_add(grace).ok()),
            begun: AtomicBool::new(false),
            probes: Probes::default(),
        }
    }

    /// Whether it is too late to begin with something; never before anything was.
    pub(crate) fn is_late(&self, clock: &dyn Clock) -> bool {
        self.begun.load(Ordering::Relaxed) && clock.now() >= self.deadline
    }

    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// What a system answers, if it does while there is time to say what became of it. A worker
    /// that is ended while it waits tells nobody that the system is down, and its packs seem to be
    /// what it died of.
    pub(crate) async fn wait_for<T>(
        &self,
        clock: &dyn Clock,
        connection: &ConnectionName,
        answer: impl Future<Output = T>,
    ) -> Result<T, TargetError> {
        let Some(end) = self.end else {
            return Ok(answer.await);
        };
        let left = Duration::try_from(end.duration_since(clock.now())).unwrap_or_default();
        let answer = std::pin::pin!(answer);
        match future::select(answer, clock.sleep(left)).await {
            Either::Left((answer, _)) => Ok(answer),
            Either::Right(_) => Err(TargetError::Unavailable {
                what: format!(
                    "`{connection}`, or what is read to write to it, did not answer before the time of the function was up"
                ),
                retry_after: None,
            }),
        }
    }
}
