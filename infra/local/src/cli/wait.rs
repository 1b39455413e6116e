//! Waiting for what a command has set off.

use std::time::Duration;

use embedded::LockError;
use jiff::Timestamp;
use model::{FailureId, FailureStatus, Lane};
use operations::Operations;

use super::{CliError, Context, Deployment};
use crate::{Home, Host, HostOptions, interrupts::Interrupts};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);
/// What is said after Ctrl-C.
pub(super) const STOPPING: &str =
    "stopping: what is under way comes to its end; Ctrl-C again ends at once";
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
        Self::of(PATIENCE)
    }

    pub(super) fn of(time: Duration) -> Self {
        Self {
            end: tokio::time::Instant::now() + time,
        }
    }

    /// Waits a moment; says whether it is worth looking again.
    pub(super) async fn goes_on(&self) -> bool {
        tokio::time::sleep(LOOK).await;
        tokio::time::Instant::now() < self.end
    }
}

/// Looks at something again and again: often at first, and seldom when it takes long, because on
/// AWS every look costs.
#[derive(Debug)]
pub(crate) struct Looks {
    began: tokio::time::Instant,
}

impl Looks {
    const OFTEN: Duration = Duration::from_millis(100);
    const SELDOM: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(20);

    pub(crate) fn begin() -> Self {
        Self {
            began: tokio::time::Instant::now(),
        }
    }

    /// Waits until it is worth looking again.
    pub(crate) async fn next(&self) {
        let long = self.began.elapsed() > Self::LONG;
        tokio::time::sleep(if long { Self::SELDOM } else { Self::OFTEN }).await;
    }
}

/// A host of this process, unless another one runs: then that one does the work.
async fn host_if_free(
    context: &Context,
    home: &Home,
    name: &'static str,
) -> Result<Option<Host>, CliError> {
    let options = HostOptions {
        command: name,
        pulls: false,
        ..HostOptions::default()
    };
    match Host::start(home, &context.paths, options).await {
        Ok(host) => Ok(Some(host)),
        Err(LockError::Taken { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Becomes the host as soon as no other process is; ends only if that cannot be.
async fn stand_in(
    context: &Context,
    home: &Home,
    name: &'static str,
    host: &mut Option<Host>,
) -> CliError {
    while host.is_none() {
        tokio::time::sleep(LOOK).await;
        match host_if_free(context, home, name).await {
            Ok(free) => *host = free,
            Err(error) => return error,
        }
    }
    std::future::pending().await
}

/// Does what `command`, which is called `name`, asks for in this process, as long as no other
/// process does, until `command` ends or Ctrl-C.
pub(super) async fn hosted<T: Send>(
    context: &Context,
    deployment: &Deployment,
    name: &'static str,
    command: impl Future<Output = Result<T, CliError>> + Send,
) -> Result<T, CliError> {
    let mut interrupts = Interrupts::listen();
    let Some(home) = &deployment.home else {
        return tokio::select! {
            result = command => result,
            () = interrupts.next() => Err(CliError::Interrupted(
                "what was asked for goes on without this command",
            )),
        };
    };
    let mut host = host_if_free(context, home, name).await?;
    let result = tokio::select! {
        result = command => result,
        error = stand_in(context, home, name, &mut host) => Err(error),
        () = interrupts.next() => Err(CliError::Interrupted(
            "what was asked for goes on with `syncline up`, or when the command is repeated",
        )),
    };
    if let Some(host) = host {
        if matches!(result, Err(CliError::Interrupted(_))) {
            context.note(STOPPING);
        }
        tokio::select! {
            () = host.stop() => {}
            () = interrupts.next() => {}
        }
    }
    result
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
