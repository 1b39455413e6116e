//! One process of a function, and what it costs.

use std::{
    io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use nix::{time::ClockId, unistd::Pid};
use tokio::sync::oneshot;

use super::api::{Did, RuntimeApi};
use crate::measure::{Running, peak};

/// What a process has cost up to some point of its life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// When it was there.
    pub(crate) at: Instant,
    /// Seconds of processor time of all its threads.
    pub(crate) cpu: f64,
    /// Its largest resident set, in MiB.
    pub(crate) peak: f64,
}

/// A process that waits for an event.
#[derive(Debug)]
pub(crate) struct Waiting {
    process: Running,
    next: oneshot::Sender<Bytes>,
}

/// Longest that a process has for one step.
const PATIENCE: Duration = Duration::from_mins(1);

fn spent(process: &Running, at: Instant) -> io::Result<Spent> {
    let pid = Pid::from_raw(process.id().cast_signed());
    let time = ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now);
    Ok(Spent {
        at,
        cpu: Duration::from(time.map_err(io::Error::from)?).as_secs_f64(),
        peak: peak(process.id()),
    })
}

async fn seen(api: &mut RuntimeApi) -> io::Result<(Instant, Did)> {
    match tokio::time::timeout(PATIENCE, api.seen()).await {
        Ok(Ok((_, Did::Failed(error)))) => {
            let error = String::from_utf8_lossy(&error).into_owned();
            Err(io::Error::other(format!("the function failed: {error}")))
        }
        Ok(seen) => seen,
        Err(_) => Err(io::Error::other(
            "the function does nothing; does it begin at all?",
        )),
    }
}

/// Starts a program and waits until it asks for an event. What it says on standard error is ours.
pub(crate) async fn start(
    command: &mut Command,
    api: &mut RuntimeApi,
) -> io::Result<(Instant, Spent, Waiting)> {
    command
        .env("AWS_LAMBDA_RUNTIME_API", &api.address)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let started = Instant::now();
    let process = Running(command.spawn()?);
    match seen(api).await? {
        (at, Did::Next(next)) => {
            let spent = spent(&process, at)?;
            Ok((started, spent, Waiting { process, next }))
        }
        _ => Err(io::Error::other("it answers before it has asked")),
    }
}

impl Waiting {
    /// Gives it an event. Returns what it had spent when it answered and its answer, and itself
    /// when it waits again.
    pub(crate) async fn give(
        self,
        event: Bytes,
        api: &mut RuntimeApi,
    ) -> io::Result<(Spent, Bytes, Self)> {
        let Self { process, next } = self;
        next.send(event)
            .map_err(|_| io::Error::other("the function has gone away"))?;
        let (at, Did::Answered(answer, go)) = seen(api).await? else {
            return Err(io::Error::other("it asks before it has answered"));
        };
        let spent = spent(&process, at)?;
        // It has gone away if nobody waits: the next step says so.
        let _ = go.send(());
        match seen(api).await? {
            (_, Did::Next(next)) => Ok((spent, answer, Self { process, next })),
            _ => Err(io::Error::other("it answers twice")),
        }
    }

    /// What it has spent so far.
    pub(crate) fn spent(&self) -> io::Result<Spent> {
        spent(&self.process, Instant::now())
    }
}
