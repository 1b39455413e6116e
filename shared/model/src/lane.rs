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
}

impl QueueName {
    /// All queues.
    pub const ALL: [Self; 7] = [
        Self::Live,
        Self::Retry,
        Self::Load,
        Self::Failures,
        Self::Pulls,
        Self::Loads,
        Self::Retries,
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
