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
    wait,
};
use crate::{
    Home, Host, HostOptions,
    host::interrupted,
    output::{self, Format, count, line, note, number},
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
pub(super) async fn host_if_free(context: &Context, home: &Home) -> Result<Option<Host>, CliError> {
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
        let mut asked = Vec::with_capacity(maps.len());
        for map in maps {
            let generation = home.operations.load(&map).await?;
            asked.push(json!({ "map": map, "generation": generation }));
            say(context.format, || {
                format!("load {generation} of map `{map}` is asked for")
            });
        }
        if context.format == Format::Json {
            output::json(&asked);
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
                format!(", {}", count(summary.failures, "failure"))
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
            line(format!("{}: {}", one.map, count(one.changes, "change")));
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

/// A map and the state it has come to.
#[derive(Debug, serde::Serialize)]
struct Stands {
    map: MapName,
    state: MapState,
}

fn say(format: Format, text: impl FnOnce() -> String) {
    if format == Format::Text {
        line(text());
    }
}

fn show_states(format: Format, all: &[Stands]) {
    if format == Format::Json {
        output::json(&all);
    }
    for one in all {
        say(format, || {
            let more = match one.state {
                MapState::Resuming => ": what was kept is being released",
                MapState::Initializing => {
                    ": `syncline up` or `syncline load` goes on with its load"
                }
                _ => "",
            };
            format!("map `{}` is {}{more}", one.map, one.state)
        });
    }
}

/// Waits until what was kept for maps is released, and shows where they have come to.
async fn released(operations: &Operations, maps: &[MapName]) -> Result<Vec<Stands>, CliError> {
    let patience = wait::Patience::new();
    let mut all = Vec::with_capacity(maps.len());
    for map in maps {
        while !wait::is_released(operations, map).await? && patience.goes_on().await {}
        let state = operations.map_status(map).await?.state;
        let map = map.clone();
        all.push(Stands { map, state });
    }
    Ok(all)
}

pub(super) async fn start(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let home = context.open()?;
    let maps = chosen(&home, &args.maps)?;
    let command = async {
        for map in &maps {
            home.operations.start_without_load(map).await?;
        }
        released(&home.operations, &maps).await
    };
    let all = wait::hosted(context, &home, command).await?;
    show_states(context.format, &all);
    Ok(())
}

pub(super) async fn pause(context: &Context, args: &PauseArgs) -> Result<(), CliError> {
    let home = context.open()?;
    let mut all = Vec::with_capacity(args.maps.len());
    for map in chosen(&home, &args.maps)? {
        let state = home.operations.pause(&map, &args.reason).await?.state;
        all.push(Stands { map, state });
    }
    show_states(context.format, &all);
    Ok(())
}

pub(super) async fn resume(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let home = context.open()?;
    let maps = if args.maps.is_empty() {
        let status = home.operations.status().await?;
        let resting = |state| matches!(state, MapState::Paused | MapState::Broken);
        let resting = status.maps.into_iter().filter(|map| resting(map.state));
        resting.map(|map| map.map).collect()
    } else {
        chosen(&home, &args.maps)?
    };
    let command = async {
        for map in &maps {
            home.operations.resume(map).await?;
        }
        released(&home.operations, &maps).await
    };
    let all = wait::hosted(context, &home, command).await?;
    if all.is_empty() {
        say(context.format, || "no map is paused or broken".into());
    }
    show_states(context.format, &all);
    Ok(())
}
