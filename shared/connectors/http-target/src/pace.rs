//! How much is written before whoever writes may look at the time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Rows of a step while nothing is known of calls.
const FIRST: usize = 100;
/// Rows of a step while calls are quick. Each step is claimed, confirmed and entered in the books by
/// itself, which costs some ten writes in the cloud.
const MOST: usize = 500;
/// How long a step should take where calls are slow.
const STEP: Duration = Duration::from_secs(5);

/// How long calls have taken of late, with what they waited for before.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// Notes how long a call took. Two that end at once count as one: it is an estimate.
    pub(crate) fn note(&self, call: Duration) {
        let took = u64::try_from(call.as_micros()).unwrap_or(u64::MAX);
        let before = self.0.load(Ordering::Relaxed);
        let now = if before == 0 {
            took
        } else {
            before - before / 4 + took / 4
        };
        self.0.store(now, Ordering::Relaxed);
    }

    /// Rows of a step, with so many calls at once.
    pub(crate) fn rows(&self, at_once: usize) -> usize {
        let call = self.0.load(Ordering::Relaxed);
        if call == 0 {
            return FIRST;
        }
        let calls = STEP.as_micros() / u128::from(call);
        let calls = usize::try_from(calls).unwrap_or(usize::MAX);
        calls.max(1).saturating_mul(at_once).clamp(1, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_endpoint_gets_short_steps_and_a_quick_one_long_ones() {
        let pace = Pace::default();
        assert_eq!(pace.rows(8), 100);
        pace.note(Duration::from_millis(50));
        assert_eq!(pace.rows(8), 500);
        for _ in 0..20 {
            pace.note(Duration::from_secs(5));
        }
        assert_eq!(pace.rows(8), 8);
        for _ in 0..20 {
            pace.note(Duration::from_mins(1));
        }
        assert_eq!((pace.rows(8), pace.rows(1)), (8, 1));
        for _ in 0..40 {
            pace.note(Duration::from_millis(20));
        }
        assert_eq!(pace.rows(8), 500);
        pace.note(Duration::MAX);
        assert!(pace.rows(1) >= 1);
    }
}
