//! Where is my record?

use jiff::Timestamp;
use mapping::{Mapped, Scratch};
use model::{Change, FailureStatus, Lane, MapName, MapState, Op, Rows, Value, Version};
use ports::FailureFilter;
use serde::Serialize;

use crate::{FailureView, OperationError, Operations};

/// What is known of one record on its way.
#[derive(Debug, Clone, Serialize)]
pub struct Trace {
    /// The map.
    pub map: MapName,
    /// The record's key.
    pub key: String,
    /// Where it is, in one sentence.
    pub answer: String,
    /// The map's state.
    pub state: MapState,
    /// At the source.
    pub source: Sighting,
    /// At the target.
    pub target: Sighting,
    /// When news of it came that is kept because its map may not be applied, the oldest first.
    pub parked: Vec<Timestamp>,
    /// Its failures, those that ask for something first.
    pub failures: Vec<FailureView>,
}

/// A record at one end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sighting {
    /// Whether it is there; `None` when that could not be found out.
    pub exists: Option<bool>,
    /// Its version there.
    pub version: Option<Version>,
    /// The record, as JSON.
    pub record: Option<Box<serde_json::value::RawValue>>,
    /// Why it could not be found out.
    pub error: Option<String>,
}

impl Sighting {
    fn unknown(error: impl Into<String>) -> Self {
        Self {
            error: Some(error.into()),
            ..Self::default()
        }
    }
}

/// Failures that are shown of one record.
const FAILURES: usize = 20;
/// Parked packs that are looked into for one record.
const PARKED: usize = 2_000;

impl Operations {
    /// Looks for a record at the source, on the way, and at the target.
    pub async fn trace(&self, map: &MapName, key: &str) -> Result<Trace, OperationError> {
        let plan = self.plans.plan(map).await?;
        let cells = plan.parse_key(key).map_err(OperationError::Key)?;
        let state = self.states.get(map).await?;
        let source = self.at_source(map, &plan, &cells).await;
        let target = self.at_target(map, &plan, &cells).await;
        let key = mapping::key_text(&cells);
        let failures = self.failures_of(map, &key).await?;
        let in_flight = self.ledger.books(map).await?.in_flight;
        let is_it = |change: &Change| plan.key_of(change).as_deref() == Some(&key);
        let parked = self.parking.find(map, PARKED, is_it).await?;
        let answer = match (parked.first(), state.state) {
            (Some(since), at) if failures.iter().all(|one| !one.status.is_unresolved()) => {
                let (why, when) = if state.applies(Lane::Live) {
                    let why = "its target was down, or the map was held";
                    (why.to_owned(), "that is over")
                } else {
                    (format!("the map is {at}"), "the map goes on")
                };
                format!(
                    "News of it has been kept since {since:.0}: {why}. It is applied, in order, when {when}."
                )
            }
            _ => answer(&source, &target, &failures, state.state, in_flight),
        };
        Ok(Trace {
            map: map.clone(),
            key,
            answer,
            state: state.state,
            source,
            target,
            parked,
            failures,
        })
    }

    /// Failures of a record: first those that ask for something, however many have ended.
    async fn failures_of(
        &self,
        map: &MapName,
        key: &str,
    ) -> Result<Vec<FailureView>, OperationError> {
        let unresolved = FailureFilter {
            map: Some(map.clone()),
            key: Some(key.to_owned()),
            ..FailureFilter::unresolved()
        };
        let mut found = self.failures(&unresolved, FAILURES).await?;
        let ended = FailureFilter {
            status: vec![FailureStatus::Resolved, FailureStatus::Discarded],
            ..unresolved
        };
        let left = FAILURES - found.len();
        found.extend(self.failures(&ended, left).await?);
        Ok(found)
    }

    async fn at_source(
        &self,
        map: &MapName,
        plan: &mapping::Plan,
        cells: &[Value<'static>],
    ) -> Sighting {
        let source = match self.systems.source(map).await {
            Ok(source) if source.can_fetch() => source,
            Ok(_) => return Sighting::unknown("the source cannot be asked for single records"),
            Err(error) => return Sighting::unknown(error.to_string()),
        };
        let key = plan.source_key(cells);
        let observed = self.clock.now().as_microsecond();
        match source.fetch(&[key.into()]).await {
            Ok(mut found) => match found.pop().flatten() {
                Some(raw) => {
                    let change = Change {
                        op: Op::Upsert,
                        observed,
                        raw,
                        failure: None,
                    };
                    let mut rows = Rows::new(plan.table().columns.len());
                    let mapped = plan.map_change(&change, &mut rows, &mut Scratch::default());
                    let version = match mapped {
                        Mapped::Upsert { version } | Mapped::Delete { version, .. } => version,
                        Mapped::Touch | Mapped::Failed(_) => None,
                    };
                    let record = serde_json::from_slice(&change.raw).ok();
                    let version = version.filter(|_| !plan.orders_by_arrival());
                    Sighting {
                        exists: Some(true),
                        version,
                        record,
                        error: None,
                    }
                }
                None => Sighting {
                    exists: Some(false),
                    ..Sighting::default()
                },
            },
            Err(error) => Sighting::unknown(error.to_string()),
        }
    }

    async fn at_target(
        &self,
        map: &MapName,
        plan: &mapping::Plan,
        cells: &[Value<'static>],
    ) -> Sighting {
        let target = match self.systems.target(map).await {
            Ok(target) => target,
            Err(error) => return Sighting::unknown(error.to_string()),
        };
        let table = plan.table();
        let mut rows = Rows::new(table.columns.len());
        let row = rows.push_empty();
        for (at, cell) in table.key.iter().zip(cells) {
            row[*at] = cell.clone();
        }
        let looked = target.look(table, &rows).await;
        let shown = target.show(table, &rows).await;
        match (looked, shown) {
            (Ok(mut states), Ok(shown)) => {
                let state = states.pop();
                Sighting {
                    exists: state.as_ref().map(|state| state.exists),
                    version: state.and_then(|state| state.version),
                    record: shown
                        .and_then(|text| serde_json::value::RawValue::from_string(text).ok()),
                    error: None,
                }
            }
            (Err(error), _) | (_, Err(error)) => Sighting::unknown(error.to_string()),
        }
    }
}

fn answer(
    source: &Sighting,
    target: &Sighting,
    failures: &[FailureView],
    state: MapState,
    in_flight: u64,
) -> String {
    let open = failures
        .iter()
        .find(|failure| failure.status.is_unresolved());
    if let Some(failure) = open {
        return format!(
            "It failed and is kept as failure {}: {}",
            failure.id, failure.message
        );
    }
    let moving = || match state {
        MapState::Running | MapState::Resuming if in_flight > 0 => {
            format!("It may be among the {in_flight} changes on their way.")
        }
        MapState::Running | MapState::Resuming => "The next pull or webhook brings it.".to_owned(),
        other => format!("The map is {other}: nothing moves until that changes."),
    };
    match (source.exists, target.exists) {
        (Some(true), Some(true)) => match (source.version, target.version) {
            (Some(at_source), Some(at_target)) if at_source > at_target => {
                format!(
                    "The source has a newer version than the target. {}",
                    moving()
                )
            }
            (Some(at_source), Some(at_target)) if at_source == at_target => {
                "It is in the target, in the version that the source has.".to_owned()
            }
            _ => "It is in the source and in the target.".to_owned(),
        },
        (Some(true), Some(false)) if target.version.is_some() => {
            format!(
                "It was deleted in the target, but the source has it. {}",
                moving()
            )
        }
        (Some(true), Some(false)) => format!(
            "It is in the source and not yet in the target. {}",
            moving()
        ),
        (Some(false), Some(true)) => {
            format!(
                "The source does not have it (or it is outside the map's condition), but the target does. {}",
                moving()
            )
        }
        (Some(false), Some(false)) => "Neither the source nor the target has it.".to_owned(),
        (None, _) => "The source could not be asked; see its error.".to_owned(),
        (_, None) => "The target could not be asked; see its error.".to_owned(),
    }
}
