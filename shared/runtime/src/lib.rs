//! What every function does the same way.

mod breaker;
mod driver;
pub mod env;
mod jobs;
mod maps;
mod metrics;
mod needs;
mod outbox;
mod parking;
mod rates;
mod sample;
mod telemetry;
mod teller;
mod traces;

pub use breaker::{Breakers, Pass, Standing, Trial, Wait};
pub use driver::{each_message, fail_all, failed_items};
pub use jobs::{UnreadableJob, read_job};
pub use maps::{MapStates, TransitionError};
pub use metrics::{METRICS_PER_MAP, Metrics, Tally};
pub use needs::{Environment, Needs, SecretsOf};
pub use outbox::{Outbox, OutboxError};
pub use parking::{Arrival, Parking, RELEASE_STEP};
pub use rates::{Pace, Rate, Rates};
pub use sample::Sample;
pub use telemetry::{json_lines, log_json, log_text};
pub use traces::{TRACE_PERCENT, Traces};

/// The errors below an error, outermost first, for a log field or a failure's chain.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Many errors repeat the one below in their own text.
        if chain.last().is_none_or(|above| !above.contains(&text)) {
            chain.push(text);
        }
        next = error.source();
    }
    chain
}
