//! Commands that run the functions: `up` and `load`.

use std::{sync::Arc, time::Duration};

use embedded::{Holder, LockError};
use model::{MapName, MapState};
use operations::Operations;
use serde_json::json;

use super::{
    CliError, Context,
    args::{LoadArgs, UpArgs},
    code,
    definition::chosen,
    wait,
};
use crate::{
    Home, Host, HostOptions,
    interrupts::Interrupts,
    output::{self, Format, count, line, note, number},
    progress::{Ended, LoadSummary, watch_loads},
    server::Server,
};

/// How often it is looked whether the data folder is free.
const LOOK: Duration = Duration::from_millis(100);
/// How long `up` waits for a command that has the data folder.
const MOMENT: Duration = Duration::from_secs(10);

pub(super) async fn up(context: &Context, args: &UpArgs) -> Result<(), CliError> {
    let mut interrupts = Interrupts::listen();
    let home = context.home()?;
    let options = HostOptions {
        pulls: !args.no_pulls,
        ..HostOptions::default()
    };
    let host = host_when_free(context, &home, options).await?;
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
    interrupts.next().await;
    context.note(wait::STOPPING);
    tokio::select! {
        () = async { server.stop().await; host.stop().await; } => Ok(()),
        () = interrupts.next() => Err(CliError::Said(130)),
    }
}

/// Whether a process has the data folder for more than a moment.
fn stays(holder: &Holder) -> bool {
    ["up", "demo"].contains(&holder.command.as_str())
}

/// A host, for which a command that has the data folder for a moment is waited for.
async fn host_when_free(
    context: &Context,
    home: &Home,
    options: HostOptions,
) -> Result<Host, LockError> {
    let end = tokio::time::Instant::now() + MOMENT;
    let mut told = false;
    loop {
        let refused = match Host::start(home, &context.paths, options).await {
            Err(LockError::Taken { folder, holder }) => LockError::Taken { folder, holder },
            other => return other,
        };
        let LockError::Taken { holder, .. } = &refused else {
            return Err(refused);
        };
        if holder.as_ref().is_some_and(stays) || tokio::time::Instant::now() >= end {
            return Err(refused);
        }
        if let Some(holder) = holder
            && !told
        {
            context.note(format!("waiting a moment for {holder}"));
            told = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) async fn load(context: &Context, args: &LoadArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let maps = chosen(&home.operations, &args.maps)?;
    if args.no_wait {
        let mut asked = Vec::with_capacity(maps.len());
        for map in maps {
            let generation = home.operations.load(&map).await?;
            asked.push(json!({ "map": map, "generation": generation }));
            if context.format == Format::Text {
                line(format!("load {generation} of map `{map}` is asked for"));
            }
        }
        if context.format == Format::Json {
            output::json(&asked);
        }
        return Ok(());
    }
    let command = load_and_watch(context.format, &home.operations, &maps);
    let ended = wait::hosted(context, &home, "load", command).await?;
    show_loads(context.format, &ended)
}

/// Begins loads and watches them. A load that is under way is only watched.
async fn load_and_watch(
    format: Format,
    operations: &Operations,
    maps: &[MapName],
) -> Result<Vec<Ended>, CliError> {
    let asked = operations.clock.now();
    let mut wanted = Vec::with_capacity(maps.len());
    for map in maps {
        let record = operations.states.get(map).await.map_err(CliError::other)?;
        let generation = match record.state {
            MapState::Initializing => record.generation,
            _ => operations.load(map).await?,
        };
        wanted.push((map.clone(), generation));
    }
    Ok(watch_loads(format, operations, &wanted, asked).await?)
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
