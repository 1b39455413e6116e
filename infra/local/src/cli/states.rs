//! Commands that change the states of maps.

use std::time::Duration;

use model::{MapName, MapState};
use operations::{OperationError, Operations};

use super::{
    CliError, Context,
    args::{MapArgs, PauseArgs},
    code,
    definition::chosen,
    wait,
};
use crate::output::{self, Format, line, note};

/// How long it is waited for what was released; on a busy map there is always something new.
const MOMENT: Duration = Duration::from_secs(5);

/// A map and the state it has come to.
#[derive(Debug, serde::Serialize)]
struct Stands {
    map: MapName,
    state: MapState,
    /// Why it is in that state, where a reason was given.
    reason: Option<String>,
    /// Why what was asked for was not done.
    error: Option<String>,
}

impl Stands {
    async fn after(
        operations: &Operations,
        map: &MapName,
        error: Option<&OperationError>,
    ) -> Result<Self, CliError> {
        let record = operations.states.get(map).await.map_err(CliError::other)?;
        Ok(Self {
            map: map.clone(),
            state: record.state,
            reason: record.reason,
            error: error.map(ToString::to_string),
        })
    }

    /// What a person is told, where it was done.
    fn text(&self) -> String {
        let more = match (self.state, &self.reason) {
            (MapState::Resuming, _) => ": what was kept is being released".to_owned(),
            (MapState::Initializing, _) => {
                ": `syncline up` or `syncline load` goes on with its load".to_owned()
            }
            (_, Some(reason)) => format!(": {reason}"),
            (_, None) => String::new(),
        };
        format!("map `{}` is {}{more}", self.map, self.state)
    }
}

/// Shows what has become of maps; one that was refused, or is broken, is no success.
fn show(format: Format, all: &[Stands]) -> Result<(), CliError> {
    if format == Format::Json {
        output::json(&all);
    } else {
        for one in all {
            match &one.error {
                Some(error) => note(format!("error: {error}")),
                None if one.state == MapState::Broken => note(format!("error: {}", one.text())),
                None => line(one.text()),
            }
        }
    }
    let failed = |one: &Stands| one.error.is_some() || one.state == MapState::Broken;
    if all.iter().any(failed) {
        return Err(CliError::Said(code::FAILED));
    }
    Ok(())
}

/// Waits until what was kept for maps is released, and says where they have come to.
async fn released(
    operations: &Operations,
    asked: Vec<(&MapName, Result<(), OperationError>)>,
) -> Result<Vec<Stands>, CliError> {
    let patience = wait::Patience::new();
    let mut all = Vec::with_capacity(asked.len());
    for (map, done) in asked {
        let mut stands = Stands::after(operations, map, done.as_ref().err()).await?;
        while done.is_ok() && stands.state == MapState::Resuming && patience.goes_on().await {
            stands = Stands::after(operations, map, None).await?;
        }
        if done.is_ok() && stands.state == MapState::Running {
            applied(operations, map).await?;
            stands = Stands::after(operations, map, None).await?;
        }
        all.push(stands);
    }
    Ok(all)
}

/// Waits a moment for what was released to be applied: it may break the map once more.
async fn applied(operations: &Operations, map: &MapName) -> Result<(), CliError> {
    let patience = wait::Patience::of(MOMENT);
    while operations.map_status(map).await?.books.in_flight > 0 && patience.goes_on().await {}
    Ok(())
}

pub(super) async fn start(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let maps = chosen(&home.operations, &args.maps)?;
    let command = async {
        let mut asked = Vec::with_capacity(maps.len());
        for map in &maps {
            asked.push((map, home.operations.start_without_load(map).await));
        }
        released(&home.operations, asked).await
    };
    let all = wait::hosted(context, &home, "start", command).await?;
    show(context.format, &all)
}

pub(super) async fn pause(context: &Context, args: &PauseArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let mut all = Vec::with_capacity(args.maps.len());
    for map in chosen(&home.operations, &args.maps)? {
        let done = home.operations.pause(&map, &args.reason).await;
        all.push(Stands::after(&home.operations, &map, done.as_ref().err()).await?);
    }
    show(context.format, &all)
}

pub(super) async fn resume(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let maps = if args.maps.is_empty() {
        let status = home.operations.status().await?;
        let resting = |state| matches!(state, MapState::Paused | MapState::Broken);
        let resting = status.maps.into_iter().filter(|map| resting(map.state));
        resting.map(|map| map.map).collect()
    } else {
        chosen(&home.operations, &args.maps)?
    };
    let command = async {
        let mut asked = Vec::with_capacity(maps.len());
        for map in &maps {
            let done = home.operations.resume(map).await;
            asked.push((map, done.map(|_| ())));
        }
        released(&home.operations, asked).await
    };
    let all = wait::hosted(context, &home, "resume", command).await?;
    if all.is_empty() && context.format == Format::Text {
        line("no map is paused or broken");
    }
    show(context.format, &all)
}
