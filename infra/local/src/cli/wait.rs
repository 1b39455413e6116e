//! Waiting for what a command has set off.

use std::time::Duration;

use jiff::Timestamp;
use model::{FailureId, FailureStatus, Lane, MapName, MapState};
use operations::Operations;

use super::{CliError, Context, run::host_if_free};
use crate::{Home, host::interrupted};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);
/// How long a command waits before it leaves the rest to `syncline up`.
const PATIENCE: Duration = Duration::from_mins(1);

/// What became of failures that were sent round again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Retried {
    /// Failures sent.
    pub(super) count: usize,
    /// Those that landed.
    pub(super) landed: usize,
    /// Those that failed again.
    pub(super) failed: usize,
    /// Those that are still on their way, or wait for their map.
    pub(super) waiting: usize,
}

/// How long a command goes on waiting.
pub(super) struct Patience {
    end: tokio::time::Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            end: tokio::time::Instant::now() + PATIENCE,
        }
    }

    /// Waits a moment; says whether it is worth looking again.
    pub(super) async fn goes_on(&self) -> bool {
        tokio::time::sleep(LOOK).await;
        tokio::time::Instant::now() < self.end
    }
}

/// Does what `command` asks for in this process, unless a running `up` does, until `command`
/// ends or Ctrl-C.
pub(super) async fn hosted<T: Send>(
    context: &Context,
    home: &Home,
    command: impl Future<Output = Result<T, CliError>> + Send,
) -> Result<T, CliError> {
    let host = host_if_free(context, home).await?;
    let result = tokio::select! {
        result = command => result,
        () = interrupted() => Err(CliError::Said(130)),
    };
    if let Some(host) = host {
        host.stop().await;
    }
    result
}

/// Whether a map has left the state in which what was kept for it is released.
pub(super) async fn is_released(operations: &Operations, map: &MapName) -> Result<bool, CliError> {
    let state = operations.map_status(map).await?.state;
    Ok(state != MapState::Resuming)
}

/// What has become of failures that were sent round again after `asked`.
pub(super) async fn retried(
    operations: &Operations,
    sent: &[FailureId],
    asked: Timestamp,
) -> Result<Retried, CliError> {
    let mut retried = Retried {
        count: sent.len(),
        ..Retried::default()
    };
    for id in sent {
        let failure = operations.failure(&id.to_string()).await?;
        match failure.status {
            FailureStatus::Resolved | FailureStatus::Discarded => retried.landed += 1,
            FailureStatus::Open | FailureStatus::Waiting if failure.last >= asked => {
                retried.failed += 1;
            }
            _ => retried.waiting += 1,
        }
    }
    Ok(retried)
}

/// Whether nothing more is to be expected of failures: all have ended, or the maps of those
/// that have not may not be applied.
pub(super) async fn is_settled(
    operations: &Operations,
    sent: &[FailureId],
    asked: Timestamp,
) -> Result<bool, CliError> {
    for id in sent {
        let failure = operations.failure(&id.to_string()).await?;
        let moving = match failure.status {
            FailureStatus::Retrying => true,
            FailureStatus::Open | FailureStatus::Waiting => failure.last < asked,
            FailureStatus::Resolved | FailureStatus::Discarded => false,
        };
        let state = operations.states.get(&failure.map).await;
        let state = state.map_err(CliError::other)?;
        if moving && state.applies(Lane::Retry) {
            return Ok(false);
        }
    }
    Ok(true)
}
