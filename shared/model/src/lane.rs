//! Which queue a message travels on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The way of a pack to `apply`. When a target's rate is scarce, `Live` is served first,
/// then `Retry`, then `Load`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// Webhooks and pulls.
    Live,
    /// Failures on their next attempt, replays, and packs released after a pause.
    Retry,
    /// Initial loads and re-loads.
    Load,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Self; 3] = [Self::Live, Self::Retry, Self::Load];

    /// The lane of an event source such as `arn:aws:sqs:eu-west-1:123456789012:crm-live`: its
    /// name ends with the lane's. What is not known is served as the most urgent.
    #[must_use]
    pub fn of_source(source: &str) -> Self {
        let name = source.rsplit([':', '-']).next().unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|lane| lane.queue().as_str() == name)
            .unwrap_or(Self::Live)
    }

    /// The queue that carries this lane.
    #[must_use]
    pub fn queue(self) -> QueueName {
        match self {
            Self::Live => QueueName::Live,
            Self::Retry => QueueName::Retry,
            Self::Load => QueueName::Load,
        }
    }
}

/// Every queue of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueName {
    /// Packs of [`Lane::Live`].
    Live,
    /// Packs of [`Lane::Retry`].
    Retry,
    /// Packs of [`Lane::Load`].
    Load,
    /// [`crate::FailureReport`]s for `retry`.
    Failures,
    /// [`crate::PullJob`]s for `recurring-pull`.
    Pulls,
    /// [`crate::LoadJob`]s for `initial-load`.
    Loads,
    /// [`crate::RetryJob`]s for `retry`.
    Retries,
    /// Messages of all other queues that were received too often, for `retry`.
    Dead,
}

impl QueueName {
    /// All queues.
    pub const ALL: [Self; 8] = [
        Self::Live,
        Self::Retry,
        Self::Load,
        Self::Failures,
        Self::Pulls,
        Self::Loads,
        Self::Retries,
        Self::Dead,
    ];

    /// The name in stores, logs and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Retry => "retry",
            Self::Load => "load",
            Self::Failures => "failures",
            Self::Pulls => "pulls",
            Self::Loads => "loads",
            Self::Retries => "retries",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.queue().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_known_by_its_source() {
        assert_eq!(
            Lane::of_source("arn:aws:sqs:eu-west-1:123456789012:crm-load"),
            Lane::Load
        );
        assert_eq!(Lane::of_source("local:retry"), Lane::Retry);
        assert_eq!(
            Lane::of_source("arn:aws:sqs:eu-west-1:123456789012:other"),
            Lane::Live
        );
    }
}
