//! Which traces are written into the logs.

use model::TraceId;

use crate::env::{self, EnvError};

/// The share of traces that are logged, in percent.
pub const TRACE_PERCENT: &str = "SYNCLINE_TRACE_PERCENT";

const DEFAULT_PERCENT: f64 = 1.0;

/// A sample of traces: a line for each pack would cost more than the packs do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traces {
    percent: f64,
}

impl Traces {
    /// None of them.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// So many of a hundred.
    #[must_use]
    pub fn percent(percent: f64) -> Self {
        Self { percent }
    }

    /// As many as [`TRACE_PERCENT`] says, or one of a hundred.
    pub fn of_function() -> Result<Self, EnvError> {
        let percent = env::parsed(TRACE_PERCENT, DEFAULT_PERCENT)?;
        if (0.0..=100.0).contains(&percent) {
            return Ok(Self::percent(percent));
        }
        Err(EnvError::Invalid {
            name: TRACE_PERCENT.to_owned(),
            value: percent.to_string(),
            why: "it has to be between 0 and 100".to_owned(),
        })
    }

    /// The trace, if it is one of the sample.
    #[must_use]
    pub fn sampled(&self, trace: Option<TraceId>) -> Option<TraceId> {
        trace.filter(|trace| trace.is_sampled(self.percent))
    }
}
