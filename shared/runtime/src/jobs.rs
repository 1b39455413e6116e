//! Jobs: what functions ask one another, and people ask them, to do.

use serde::de::DeserializeOwned;

/// A job that cannot be read: it is of a newer version, or none of ours. The error says where, and
/// not what stands there. The message comes back until a function can read it, or is a dead letter.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is a job of {bytes} bytes that cannot be read from its column {column} on; if no newer version comes, it becomes a failure"
)]
pub struct UnreadableJob {
    bytes: usize,
    column: usize,
}

/// Reads a job.
pub fn read_job<J: DeserializeOwned>(body: &str) -> Result<J, UnreadableJob> {
    serde_json::from_str(body).map_err(|error| UnreadableJob {
        bytes: body.len(),
        column: error.column(),
    })
}
