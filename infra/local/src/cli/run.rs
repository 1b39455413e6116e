//! Commands that let something happen.

use std::{sync::Arc, time::Duration};

use embedded::LockError;
use jiff::Timestamp;
use model::{MapName, MapState};
use operations::Operations;
use serde_json::json;

use super::{
    CliError, Context,
    args::{LoadArgs, MapArgs, PauseArgs, UpArgs},
    code,
    definition::chosen,
};
use crate::{
    Home, Host, HostOptions,
    host::interrupted,
    output::{self, Format, line, note, number},
    progress::{Ended, LoadSummary, watch_loads},
    server::Server,
};

/// How often it is looked whether something has come to its end.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn up(context: &Context, args: &UpArgs) -> Result<(), CliError> {
    let home = context.open()?;
    let options = HostOptions {
        pulls: !args.no_pulls,
        ..HostOptions::default()
    };
    let host = Host::start(&home, &context.paths, options).await?;
    let listening = Server::start(args.listen, Arc::clone(&home.functions.intake)).await;
    let server = match listening {
        Ok(server) => server,
        Err(error) => {
            host.stop().await;
            return Err(CliError::Other(format!(
                "cannot listen on {}: {error}: choose another address with --listen",
                args.listen
            )));
        }
    };
    tracing::info!("webhooks are taken at http://{}/hooks/", server.address);
    for map in home.definition.maps.values() {
        let state = home
            .operations
            .states
            .get(&map.name)
            .await
            .map_err(CliError::other)?;
        tracing::info!(map.name = %map.name, "map `{}` is {}", map.name, state.state);
        if args.load && state.state == MapState::Stopped {
            home.operations.load(&map.name).await?;
        }
    }
    interrupted().await;
    note("stopping: what is under way comes to its end; Ctrl-C again ends at once");
    tokio::select! {
        () = async { server.stop().await; host.stop().await; } => Ok(()),
        () = interrupted() => Err(CliError::Said(130)),
    }
}

/// A host of this process, unless another one runs: then that one does the work.
async fn host_if_free(context: &Context, home: &Home) -> Result<Option<Host>, CliError> {
    let options = HostOptions {
        pulls: false,
        ..HostOptions::default()
    };
    match Host::start(home, &context.paths, options).await {
        Ok(host) => Ok(Some(host)),
        Err(LockError::Taken { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn stop(host: Option<Host>) {
    if let Some(host) = host {
        host.stop().await;
    }
}

pub(super) async fn load(context: &Context, args: &LoadArgs) -> Result<(), CliError> {
    let home = context.open()?;
    let maps = chosen(&home, &args.maps)?;
    if args.no_wait {
        for map in &maps {
            let generation = home.operations.load(map).await?;
            line(format!("load {generation} of map `{map}` is asked for"));
        }
        return Ok(());
    }
    let host = host_if_free(context, &home).await?;
    let result = load_and_watch(&home.operations, &maps).await;
    stop(host).await;
    show_loads(context.format, &result?)
}

/// Begins loads and watches them. A load that is under way is only watched.
pub(crate) async fn load_and_watch(
    operations: &Operations,
    maps: &[MapName],
) -> Result<Vec<Ended>, CliError> {
    let asked = operations.clock.now();
    let mut wanted = Vec::with_capacity(maps.len());
    for map in maps {
        let status = operations.map_status(map).await?;
        let generation = match (status.state, &status.load) {
            (MapState::Initializing, Some(load)) => load.generation,
            _ => operations.load(map).await?,
        };
        wanted.push((map.clone(), generation));
    }
    tokio::select! {
        ended = watch_loads(operations, &wanted, asked) => Ok(ended?),
        () = interrupted() => {
            note("interrupted: the same command goes on where this one was");
            Err(CliError::Said(130))
        }
    }
}

fn show_loads(format: Format, ended: &[Ended]) -> Result<(), CliError> {
    let loaded: Vec<&LoadSummary> = ended
        .iter()
        .filter_map(|end| {
            if let Ended::Loaded(summary) = end {
                Some(summary.as_ref())
            } else {
                None
            }
        })
        .collect();
    let stopped: Vec<&String> = ended
        .iter()
        .filter_map(|end| {
            if let Ended::Stopped(reason) = end {
                Some(reason)
            } else {
                None
            }
        })
        .collect();
    let failures: u64 = loaded.iter().map(|summary| summary.failures).sum();
    if format == Format::Json {
        output::json(&json!({ "loaded": loaded, "stopped": stopped }));
    } else {
        for summary in &loaded {
            let rate = summary.rows * 1_000 / summary.took_ms.max(1);
            let failed = if summary.failures > 0 {
                format!(", {} failures", number(summary.failures))
            } else {
                String::new()
            };
            line(format!(
                "{}: {} rows, {} rows/s{failed}",
                summary.map,
                number(summary.rows),
                number(rate)
            ));
        }
        for reason in &stopped {
            note(format!("error: {reason}"));
        }
        if failures > 0 {
            line("`syncline failures groups` shows what failed and why");
        }
    }
    if !stopped.is_empty() {
        return Err(CliError::Said(code::FAILED));
    }
    if failures > 0 {
        Err(CliError::Said(code::FAILURES))
    } else {
        Ok(())
    }
}

pub(super) async fn pull(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let home = context.open()?;
    let maps = chosen(&home, &args.maps)?;
    let host = host_if_free(context, &home).await?;
    let result = pull_and_wait(&home.operations, &maps).await;
    stop(host).await;
    let pulled = result?;
    if context.format == Format::Json {
        output::json(&pulled);
    } else {
        for one in &pulled {
            line(format!("{}: {} changes", one.map, number(one.changes)));
        }
    }
    Ok(())
}

/// A pull in numbers.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Pulled {
    /// The map.
    pub(crate) map: MapName,
    /// Changes read.
    pub(crate) changes: u64,
}

/// Pulls maps and waits until all of it has been applied.
pub(crate) async fn pull_and_wait(
    operations: &Operations,
    maps: &[MapName],
) -> Result<Vec<Pulled>, CliError> {
    let mut before = Vec::with_capacity(maps.len());
    for map in maps {
        let status = operations.map_status(map).await?;
        if !matches!(status.state, MapState::Running | MapState::Resuming) {
            let help = match status.state {
                MapState::Stopped => "load it first: `syncline load`",
                MapState::Initializing => "its load pulls when it is done",
                _ => "resume it first: `syncline resume`",
            };
            return Err(CliError::Other(format!(
                "map `{map}` is {}: {help}",
                status.state
            )));
        }
        before.push((operations.clock.now(), status.books.read));
        operations.pull(map).await?;
    }
    let mut pulled = Vec::with_capacity(maps.len());
    for (map, (asked, read)) in maps.iter().zip(before) {
        let changes = tokio::select! {
            done = wait_for_pull(operations, map, asked) => done? - read,
            () = interrupted() => return Err(CliError::Said(130)),
        };
        pulled.push(Pulled {
            map: map.clone(),
            changes,
        });
    }
    Ok(pulled)
}

/// Waits for a pull that ended after `asked` and for what it brought; returns all changes
/// read so far.
async fn wait_for_pull(
    operations: &Operations,
    map: &MapName,
    asked: Timestamp,
) -> Result<u64, CliError> {
    loop {
        let status = operations.map_status(map).await?;
        if status.state == MapState::Broken {
            return Err(CliError::Other(format!(
                "map `{map}` is broken: {}",
                status.reason.unwrap_or_default()
            )));
        }
        let pull = &status.pull;
        if pull.failed > 0 && pull.due.is_some_and(|due| due > asked) {
            let error = pull.error.clone().unwrap_or_default();
            return Err(CliError::Other(format!(
                "the pull of map `{map}` failed and is tried again later: {error}"
            )));
        }
        if pull.succeeded.is_some_and(|end| end > asked)
            && status.books.in_flight == 0
            && status.books.failing == 0
        {
            return Ok(status.books.read);
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) async fn start(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let home = context.open()?;
    for map in chosen(&home, &args.maps)? {
        home.operations.start_without_load(&map).await?;
        line(format!("map `{map}` runs without a load"));
    }
    Ok(())
}

pub(super) async fn pause(context: &Context, args: &PauseArgs) -> Result<(), CliError> {
    let home = context.open()?;
    for map in chosen(&home, &args.maps)? {
        let record = home.operations.pause(&map, &args.reason).await?;
        line(format!("map `{map}` is {}", record.state));
    }
    Ok(())
}

pub(super) async fn resume(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let home = context.open()?;
    let maps = if args.maps.is_empty() {
        let status = home.operations.status().await?;
        let resting = |state| matches!(state, MapState::Paused | MapState::Broken);
        status
            .maps
            .into_iter()
            .filter(|map| resting(map.state))
            .map(|map| map.map)
            .collect()
    } else {
        chosen(&home, &args.maps)?
    };
    for map in maps {
        let record = home.operations.resume(&map).await?;
        line(format!("map `{map}` is {}", record.state));
    }
    Ok(())
}
