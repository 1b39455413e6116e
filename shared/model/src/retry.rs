//! When to try again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Exponential backoff with full jitter and an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Upper bound of the first wait.
    pub base: Duration,
    /// Upper bound of every wait.
    pub max: Duration,
    /// Attempts, the first one included, after which a failure waits for a person.
    pub attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(2),
            max: Duration::from_hours(1),
            attempts: 12,
        }
    }
}

/// No other system is left alone for longer than this because it asks for it.
const LONGEST_ASKED: Duration = Duration::from_hours(24);

impl Backoff {
    /// The wait after `attempts` failed attempts, or `None` when there are no more.
    ///
    /// `random` is a number in `[0, 1)`. `at_least` is what the other system asked for
    /// (`Retry-After`); it is honoured even beyond [`Backoff::max`], up to a day.
    #[must_use]
    pub fn wait(&self, attempts: u32, random: f64, at_least: Option<Duration>) -> Option<Duration> {
        if attempts >= self.attempts {
            return None;
        }
        let jittered = full_jitter(self.base, self.max, attempts.saturating_sub(1), random);
        let Some(floor) = at_least else {
            return Some(jittered);
        };
        let floor = floor.min(LONGEST_ASKED);
        Some(floor.saturating_add(jittered.min(self.base)))
    }
}

/// A wait drawn evenly from zero to `base · 2^doublings`, at most `max`.
///
/// Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
#[must_use]
pub fn full_jitter(base: Duration, max: Duration, doublings: u32, random: f64) -> Duration {
    let factor = 2_u32.saturating_pow(doublings.min(31));
    let most = base.saturating_mul(factor).min(max);
    // Rounding may carry the largest of all durations over its end.
    Duration::try_from_secs_f64(most.as_secs_f64() * random.clamp(0.0, 1.0)).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Backoff = Backoff {
        base: Duration::from_secs(2),
        max: Duration::from_mins(1),
        attempts: 8,
    };

    #[test]
    fn waits_double_up_to_the_bound_and_end() {
        let bound = |attempts| POLICY.wait(attempts, 1.0, None).map(|wait| wait.as_secs());
        assert_eq!(
            (1..=8).map(bound).collect::<Vec<_>>(),
            [
                Some(2),
                Some(4),
                Some(8),
                Some(16),
                Some(32),
                Some(60),
                Some(60),
                None
            ]
        );
        assert_eq!(POLICY.wait(3, 0.0, None), Some(Duration::ZERO));
    }

    #[test]
    fn a_retry_after_is_a_floor_even_beyond_the_bound() {
        let asked = Duration::from_mins(5);
        let wait = POLICY.wait(1, 0.5, Some(asked)).unwrap();
        assert!(wait >= asked && wait <= asked + POLICY.base);
    }

    #[test]
    fn a_retry_after_without_end_is_a_day() {
        let day = Duration::from_hours(24);
        for asked in [day * 2, Duration::MAX] {
            let wait = POLICY.wait(1, 0.5, Some(asked)).unwrap();
            assert!(wait >= day && wait <= day + POLICY.base, "{wait:?}");
        }
        let endless = Backoff {
            base: Duration::MAX,
            max: Duration::MAX,
            attempts: 8,
        };
        for asked in [None, Some(Duration::MAX)] {
            assert!(endless.wait(1, 1.0, asked).is_some());
        }
    }

    #[test]
    fn no_number_of_doublings_overflows() {
        assert_eq!(
            full_jitter(Duration::MAX, Duration::from_secs(9), u32::MAX, 1.0).as_secs(),
            9
        );
    }
}
