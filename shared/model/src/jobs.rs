//! What functions tell themselves and each other to do.

use serde::{Deserialize, Serialize};

use jiff::Timestamp;

use crate::{FailureId, MapName};

/// Work for `recurring-pull`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum PullJob {
    /// Pull this map's changes until there are no more.
    #[serde(rename = "pull.v1")]
    Pull {
        /// The map.
        map: MapName,
        /// Whether somebody waits for what changed until now: a pull that is under way may have
        /// read past it, so this one comes after it. Without, one pull is as good as another.
        #[serde(default)]
        wanted: bool,
        /// When it was asked for. One pull answers all who asked before its end, unless somebody
        /// waits; a job that does not tell is always done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked: Option<Timestamp>,
    },
}

/// Work for `initial-load`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum LoadJob {
    /// Begin a load.
    #[serde(rename = "load-start.v1")]
    Start {
        /// The map.
        map: MapName,
        /// Whether the pull's mark is of no use any more, so that the load has to make a new one.
        #[serde(default)]
        replaces_mark: bool,
        /// The generation that was current when this was asked; a later one makes it void.
        generation: u32,
    },
    /// Read a slice on.
    #[serde(rename = "load-slice.v1")]
    Slice {
        /// The map.
        map: MapName,
        /// The load.
        generation: u32,
        /// The slice.
        index: u32,
    },
    /// Finish the load as soon as all its packs are settled.
    #[serde(rename = "load-finish.v1")]
    Finish {
        /// The map.
        map: MapName,
        /// The load.
        generation: u32,
        /// The load's ticket when this was sent: while one job waits for the packs to be
        /// settled, another one would only wait beside it.
        #[serde(default)]
        ticket: u32,
    },
}

impl LoadJob {
    /// The map it is about.
    #[must_use]
    pub fn map(&self) -> &MapName {
        match self {
            Self::Start { map, .. } | Self::Slice { map, .. } | Self::Finish { map, .. } => map,
        }
    }
}

/// Work for `retry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum RetryJob {
    /// Send these failures round again.
    #[serde(rename = "replay.v1")]
    Replay {
        /// Which.
        failures: Vec<FailureId>,
    },
    /// Release what was parked for a map, from the oldest on.
    #[serde(rename = "release.v1")]
    Release {
        /// The map.
        map: MapName,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_refused_not_guessed() {
        let known = r#"{"type":"pull.v1","map":"customers"}"#;
        assert!(serde_json::from_str::<PullJob>(known).is_ok());
        let newer = r#"{"type":"pull.v2","map":"customers"}"#;
        assert!(serde_json::from_str::<PullJob>(newer).is_err());
    }
}
