//! Watching loads.

use std::{collections::HashMap, io::IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use model::{LoadStatus, MapName, MapState};
use operations::{LoadView, MapStatus, OperationError, Operations};

use crate::{
    cli::Looks,
    output::{Format, note, number},
};

/// How a load that was watched ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is in the target.
    Loaded(Box<LoadSummary>),
    /// It stopped for a reason.
    Stopped(String),
}

/// A load in numbers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LoadSummary {
    /// The map.
    pub(crate) map: MapName,
    /// Rows read.
    pub(crate) rows: u64,
    /// How long it took, in milliseconds.
    pub(crate) took_ms: u64,
    /// Failures that still ask for something.
    pub(crate) failures: u64,
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix:<14} [{bar:28}] {human_pos:>9} of {human_len:<9} {per_sec:>14} {msg} ETA {eta}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("=> ")
}

/// Shows the progress of loads until all have ended; one result per map in order.
///
/// `generation` is the least number a map's load must have to be the one meant, and a map that
/// was stopped before `asked` is one that this load is to bring back.
pub(crate) async fn watch_loads(
    format: Format,
    operations: &Operations,
    maps: &[(MapName, u32)],
    asked: Timestamp,
) -> Result<Vec<Ended>, OperationError> {
    let bars = MultiProgress::new();
    let said = format == Format::Text;
    let terminal = said && std::io::stderr().is_terminal();
    let mut shown: HashMap<MapName, ProgressBar> = HashMap::new();
    let mut ended: HashMap<MapName, Ended> = HashMap::new();
    let mut troubles: HashMap<MapName, String> = HashMap::new();
    let looks = Looks::begin();
    while ended.len() < maps.len() {
        for (map, generation) in maps {
            if ended.contains_key(map) {
                continue;
            }
            let status = operations.map_status(map).await?;
            let load = status
                .load
                .as_ref()
                .filter(|load| load.generation >= *generation);
            if terminal && let Some(load) = load {
                let bar = shown.entry(map.clone()).or_insert_with(|| {
                    bars.add(
                        ProgressBar::new(1)
                            .with_style(bar_style())
                            .with_prefix(map.to_string()),
                    )
                });
                show(bar, load);
            }
            if let Some(trouble) = &status.trouble
                && said
                && troubles.get(map) != Some(&trouble.message)
            {
                bars.suspend(|| note(format!("{map} waits and tries again: {}", trouble.message)));
                troubles.insert(map.clone(), trouble.message.clone());
            }
            let begun = operations.states.get(map).await?.generation >= *generation;
            if let Some(end) = end(&status, load, begun, asked) {
                if let Some(bar) = shown.get(map) {
                    bar.finish_with_message("done");
                } else if let Ended::Loaded(summary) = &end
                    && said
                {
                    note(format!(
                        "{map}: {} rows in {} ms",
                        number(summary.rows),
                        summary.took_ms
                    ));
                }
                ended.insert(map.clone(), end);
            }
        }
        looks.next().await;
    }
    let stopped = || Ended::Stopped("it was not watched".into());
    Ok(maps
        .iter()
        .map(|(map, _)| ended.remove(map).unwrap_or_else(stopped))
        .collect())
}

fn show(bar: &ProgressBar, load: &LoadView) {
    let reading = load.status == LoadStatus::Reading;
    let whole = if reading {
        load.estimate.unwrap_or(load.read).max(load.read)
    } else {
        load.read
    };
    bar.set_length(whole.max(1));
    bar.set_position(load.settled);
    bar.set_message(match load.status {
        LoadStatus::Reading => "loading",
        LoadStatus::Draining => "finishing",
        LoadStatus::Done => "done",
    });
}

/// Whether it was a load that broke a map: one that cannot even begin has no number.
fn broken_by_load(status: &MapStatus) -> bool {
    let reason = status.reason.as_deref();
    reason.is_some_and(|reason| reason.starts_with("its load: "))
}

fn end(
    status: &MapStatus,
    load: Option<&LoadView>,
    begun: bool,
    asked: Timestamp,
) -> Option<Ended> {
    match (status.state, load) {
        // A map that something else broke before the load has begun is mended by it.
        (MapState::Broken | MapState::Paused, _)
            if status.since >= asked
                && (begun || status.state == MapState::Paused || broken_by_load(status)) =>
        {
            let reason = status.reason.clone().unwrap_or_default();
            Some(Ended::Stopped(format!(
                "map `{}` is {}: {reason}",
                status.map, status.state
            )))
        }
        // What failed is in the queue by now, and has to be in the failure store to be told of.
        (MapState::Running | MapState::Resuming, Some(load))
            if load.status == LoadStatus::Done && status.books.failing == 0 =>
        {
            let took = load
                .finished
                .map_or(0, |end| end.duration_since(load.started).as_millis());
            Some(Ended::Loaded(Box::new(LoadSummary {
                map: status.map.clone(),
                rows: load.read,
                took_ms: u64::try_from(took).unwrap_or(0),
                failures: status.failures,
            })))
        }
        _ => None,
    }
}
