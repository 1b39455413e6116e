//! Pulling at once.

use std::collections::HashMap;

use jiff::Timestamp;
use model::{MapName, MapState, RunId};
use operations::{MapStatus, Operations, RunBooks};

use super::{CliError, Context, Looks, args::MapArgs, code, definition::chosen, wait};
use crate::output::{self, Format, count, line, note};

/// Runs among which those of a pull are looked for.
const RUNS: usize = 100;

/// A pull in numbers.
#[derive(Debug, Clone, serde::Serialize)]
struct Pulled {
    /// The map.
    map: MapName,
    /// Changes read.
    changes: u64,
    /// Why it did not come to its end.
    error: Option<String>,
}

pub(super) async fn pull(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let maps = chosen(&home.operations, &args.maps)?;
    let command = async { Ok(pull_and_wait(&home.operations, &maps).await) };
    let pulled = wait::hosted(context, &home, "pull", command).await?;
    if context.format == Format::Json {
        output::json(&pulled);
    } else {
        for one in &pulled {
            match &one.error {
                None => line(format!("{}: {}", one.map, count(one.changes, "change"))),
                Some(error) => note(format!("error: {error}")),
            }
        }
    }
    if pulled.iter().any(|one| one.error.is_some()) {
        return Err(CliError::Said(code::FAILED));
    }
    Ok(())
}

/// Pulls maps and waits until all of it has been applied. A map that cannot be pulled keeps no
/// other from it.
async fn pull_and_wait(operations: &Operations, maps: &[MapName]) -> Vec<Pulled> {
    let mut asked = Vec::with_capacity(maps.len());
    for map in maps {
        asked.push(Asked::begin(operations, map).await);
    }
    let mut pulled = Vec::with_capacity(maps.len());
    for (map, asked) in maps.iter().zip(asked) {
        let changes = match asked {
            Ok(asked) => asked.wait(operations, map).await,
            Err(error) => Err(error),
        };
        pulled.push(Pulled {
            map: map.clone(),
            changes: *changes.as_ref().unwrap_or(&0),
            error: changes.err().map(|error| error.to_string()),
        });
    }
    pulled
}

/// A pull that was asked for, and how the map stood then.
#[derive(Debug)]
struct Asked {
    at: Timestamp,
    due: Option<Timestamp>,
    read: HashMap<RunId, u64>,
}

impl Asked {
    async fn begin(operations: &Operations, map: &MapName) -> Result<Self, CliError> {
        let status = operations.map_status(map).await?;
        may_pull(&status)?;
        let runs = runs(operations, map).await?;
        let asked = Self {
            at: operations.clock.now(),
            due: status.pull.due,
            read: runs.iter().map(|run| (run.run, run.books.read)).collect(),
        };
        operations.pull(map).await?;
        Ok(asked)
    }

    /// Waits for a pull that began since, and for what it brought; returns how many changes
    /// that were.
    async fn wait(&self, operations: &Operations, map: &MapName) -> Result<u64, CliError> {
        let looks = Looks::begin();
        while !self.has_ended(&operations.map_status(map).await?)? {
            looks.next().await;
        }
        let brought = runs(operations, map).await?;
        let before = |run: &RunBooks| self.read.get(&run.run).copied().unwrap_or(0);
        let changes = brought
            .iter()
            .map(|run| run.books.read.saturating_sub(before(run)))
            .sum();
        loop {
            // What came meanwhile is not waited for: there may always be more of it.
            let mut now = runs(operations, map).await?;
            now.retain(|run| brought.iter().any(|one| one.run == run.run));
            if now
                .iter()
                .all(|run| run.books.in_flight == 0 && run.books.failing == 0)
            {
                return Ok(changes);
            }
            // Whatever holds the map now holds those changes too.
            may_pull(&operations.map_status(map).await?)?;
            looks.next().await;
        }
    }

    /// Whether a pull that began since has reached the end of the stream, or why none will.
    fn has_ended(&self, status: &MapStatus) -> Result<bool, CliError> {
        let pull = &status.pull;
        if pull.covers.is_some_and(|began| began > self.at) {
            return Ok(true);
        }
        may_pull(status)?;
        // A pull that was put off without an attempt has an older error, and another time.
        let failed = pull.failed_at.is_some_and(|at| at > self.at) || pull.due != self.due;
        match &pull.error {
            Some(error) if failed => Err(CliError::Other(format!(
                "the pull of map `{}` failed and is tried again later: {error}",
                status.map
            ))),
            _ => Ok(false),
        }
    }
}

/// The books of loads and pulls, the newest first; those of webhooks are apart.
async fn runs(operations: &Operations, map: &MapName) -> Result<Vec<RunBooks>, CliError> {
    let mut runs = operations.balance(map, RUNS).await?.runs;
    let live = RunId::live(map);
    runs.retain(|run| run.run != live);
    Ok(runs)
}

fn may_pull(status: &MapStatus) -> Result<(), CliError> {
    let help = match status.state {
        MapState::Running | MapState::Resuming => return Ok(()),
        MapState::Stopped => "load it first: `syncline load`",
        MapState::Initializing => "its load pulls when it is done",
        MapState::Paused | MapState::Broken => "resume it first: `syncline resume`",
    };
    let reason = status.reason.as_ref();
    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    Err(CliError::Other(format!(
        "map `{}` is {}{reason}: {help}",
        status.map, status.state
    )))
}
