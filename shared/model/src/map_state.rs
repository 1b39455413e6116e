//! The states of a map and the ways between them.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Lane;

/// Where a map stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapState {
    /// Not loaded yet, or stopped by a person: nothing is read, webhooks are kept.
    Stopped,
    /// The initial load or a re-load is under way; live changes are kept until it is done.
    Initializing,
    /// Changes flow.
    Running,
    /// A person has paused it: nothing is read, what arrives is kept.
    Paused,
    /// Changes flow again, and what was kept is being released, in order.
    Resuming,
    /// Syncline has paused it, for the reason given.
    Broken,
}

impl MapState {
    /// The name in stores, logs and commands.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Initializing => "initializing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Resuming => "resuming",
            Self::Broken => "broken",
        }
    }
}

impl fmt::Display for MapState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What makes a map change its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapEvent {
    /// A load begins; it makes a new generation.
    Load {
        /// Its generation, the one after the newest. One job for it may come to two workers:
        /// only one of them begins it.
        generation: u32,
        /// Whether the load writes in bulk, so that live changes have to wait for its end.
        bulk: bool,
    },
    /// A load is done.
    Loaded {
        /// Its generation. A load that another one has overtaken ends nothing.
        generation: u32,
    },
    /// The map is to run without a load.
    Start,
    /// A person pauses the map.
    Pause {
        /// Why, in the person's words.
        reason: String,
    },
    /// Syncline pauses the map.
    Break {
        /// What is wrong and what to do.
        reason: String,
    },
    /// A person lets a paused or broken map go on.
    Resume,
    /// All that was kept has been released.
    Released,
}

/// A map cannot do this in the state it is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a map that is {from} cannot {wish}")]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: MapState,
    /// What was asked.
    pub wish: &'static str,
}

/// What is kept of a map between invocations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRecord {
    /// Where it stands.
    pub state: MapState,
    /// Number of the newest load; slices of older ones stop when they see it.
    pub generation: u32,
    /// Since when it stands there.
    pub since: Timestamp,
    /// Why, where a reason was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where a paused or broken map goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<MapState>,
    /// Whether the load under way writes in bulk.
    #[serde(default)]
    pub bulk: bool,
    /// When it broke, while people may not have been told of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<Timestamp>,
    /// When the newest load began: what was read before says nothing of what it finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading: Option<Timestamp>,
}

impl MapRecord {
    /// A map nobody has started.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: MapState::Stopped,
            generation: 0,
            since: now,
            reason: None,
            resumes: None,
            bulk: false,
            untold: None,
            loading: None,
        }
    }

    /// Whether a pack on `lane` may be written to the target now. Otherwise it is parked.
    #[must_use]
    pub fn applies(&self, lane: Lane) -> bool {
        match self.state {
            MapState::Running | MapState::Resuming => true,
            MapState::Initializing => lane == Lane::Load || !self.bulk,
            MapState::Stopped | MapState::Paused | MapState::Broken => false,
        }
    }

    /// Whether the source may be read by recurring pulls.
    #[must_use]
    pub fn pulls(&self) -> bool {
        match self.state {
            MapState::Running | MapState::Resuming => true,
            MapState::Initializing => !self.bulk,
            MapState::Stopped | MapState::Paused | MapState::Broken => false,
        }
    }

    /// The record of the map held in `state`, to go on where it is now.
    fn held(&self, state: MapState, reason: String, now: Timestamp) -> Self {
        Self {
            state,
            since: now,
            reason: Some(reason),
            resumes: Some(self.resumes.unwrap_or(self.state)),
            ..self.clone()
        }
    }

    /// What people have to be told after it has come to be in `state`. What a person has dealt with
    /// is no news, and what breaks once more is the same.
    fn untold_in(&self, state: MapState, now: Timestamp) -> Option<Timestamp> {
        match (self.state, state) {
            (MapState::Broken, MapState::Broken) => self.untold,
            (_, MapState::Broken) => Some(now),
            _ => None,
        }
    }

    /// The record after `event`, or why it cannot happen now.
    pub fn after(&self, event: MapEvent, now: Timestamp) -> Result<Self, IllegalTransition> {
        use MapState::{Broken, Initializing, Paused, Resuming, Running, Stopped};
        let refuse = |wish| {
            Err(IllegalTransition {
                from: self.state,
                wish,
            })
        };
        let mut next = Self {
            since: now,
            reason: None,
            resumes: None,
            ..self.clone()
        };
        match (event, self.state) {
            (MapEvent::Load { .. }, Paused) => return refuse("be loaded; resume it first"),
            (MapEvent::Load { generation, .. }, _) if generation != self.generation + 1 => {
                return refuse("begin this load: it has begun already");
            }
            (MapEvent::Load { generation, bulk }, _) => {
                next.state = Initializing;
                next.generation = generation;
                next.bulk = bulk;
                next.loading = Some(now);
            }
            (MapEvent::Loaded { generation }, _) if generation != self.generation => {
                return refuse("finish this load: another one has begun since");
            }
            (MapEvent::Loaded { .. }, Initializing) | (MapEvent::Start, Stopped) => {
                next.state = Resuming;
                next.bulk = false;
            }
            (MapEvent::Start, _) => return refuse("be started: it is not stopped"),
            (MapEvent::Loaded { .. }, Paused | Broken) if self.resumes == Some(Initializing) => {
                next = Self {
                    resumes: Some(Resuming),
                    bulk: false,
                    ..self.clone()
                };
            }
            (MapEvent::Loaded { .. }, _) => return refuse("finish a load: none is under way"),
            (MapEvent::Pause { .. }, Paused) => return refuse("be paused again"),
            (MapEvent::Pause { reason }, _) => next = self.held(Paused, reason, now),
            (MapEvent::Break { .. }, Paused) => {
                return refuse("break: it already waits for a person");
            }
            (MapEvent::Break { reason }, _) => next = self.held(Broken, reason, now),
            (MapEvent::Resume, Paused | Broken) => {
                next.state = match self.resumes.unwrap_or(Running) {
                    Running | Resuming => Resuming,
                    other => other,
                };
            }
            (MapEvent::Resume, _) => return refuse("be resumed: it is not paused"),
            (MapEvent::Released, Resuming) => next.state = Running,
            (MapEvent::Released, _) => return refuse("end resuming"),
        }
        next.untold = self.untold_in(next.state, now);
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(events: &[MapEvent]) -> Result<MapRecord, IllegalTransition> {
        events
            .iter()
            .try_fold(MapRecord::new(Timestamp::UNIX_EPOCH), |record, event| {
                record.after(event.clone(), Timestamp::UNIX_EPOCH)
            })
    }

    fn load(generation: u32, bulk: bool) -> MapEvent {
        MapEvent::Load { generation, bulk }
    }

    fn loaded(generation: u32) -> MapEvent {
        MapEvent::Loaded { generation }
    }

    fn pause() -> MapEvent {
        MapEvent::Pause {
            reason: "maintenance".into(),
        }
    }

    fn broken() -> MapEvent {
        MapEvent::Break {
            reason: "column gone".into(),
        }
    }

    #[test]
    fn the_common_way() {
        let record = walk(&[
            load(1, true),
            loaded(1),
            MapEvent::Released,
            pause(),
            MapEvent::Resume,
        ])
        .unwrap();
        assert_eq!((record.state, record.generation), (MapState::Resuming, 1));
        assert_eq!(record.reason, None);
    }

    #[test]
    fn live_changes_wait_for_a_bulk_load_and_pass_any_other() {
        let bulk = walk(&[load(1, true)]).unwrap();
        assert!(bulk.applies(Lane::Load) && !bulk.applies(Lane::Live) && !bulk.pulls());
        let guarded = walk(&[load(1, false)]).unwrap();
        assert!(Lane::ALL.into_iter().all(|lane| guarded.applies(lane)) && guarded.pulls());
        let after = bulk.after(loaded(1), Timestamp::UNIX_EPOCH).unwrap();
        assert!(after.applies(Lane::Live) && after.pulls());
    }

    #[test]
    fn a_load_paused_half_way_goes_on_loading() {
        let record = walk(&[load(1, true), pause(), MapEvent::Resume]).unwrap();
        assert_eq!(record.state, MapState::Initializing);
    }

    #[test]
    fn a_load_that_ends_while_paused_leaves_the_map_paused() {
        let record = walk(&[load(1, true), pause(), loaded(1)]).unwrap();
        assert_eq!(record.state, MapState::Paused);
        let record = record
            .after(MapEvent::Resume, Timestamp::UNIX_EPOCH)
            .unwrap();
        assert_eq!(record.state, MapState::Resuming);
    }

    #[test]
    fn a_broken_map_that_is_paused_remembers_where_it_was() {
        let record = walk(&[load(1, true), broken(), pause(), MapEvent::Resume]).unwrap();
        assert_eq!(record.state, MapState::Initializing);
    }

    #[test]
    fn people_are_to_be_told_when_it_breaks_and_until_somebody_deals_with_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = walk(&[MapEvent::Start]).unwrap();
        let first = first.after(broken(), at(1)).unwrap();
        assert_eq!(first.untold, Some(at(1)));
        let again = first.after(broken(), at(2)).unwrap();
        assert_eq!(again.untold, Some(at(1)), "it is the same incident");
        for dealt in [pause(), MapEvent::Resume, load(1, true)] {
            assert_eq!(first.after(dealt, at(3)).unwrap().untold, None);
        }
        let told = MapRecord {
            untold: None,
            ..first
        };
        assert_eq!(told.after(broken(), at(4)).unwrap().untold, None);
    }

    #[test]
    fn a_record_of_an_earlier_version_has_nothing_to_tell() {
        let text =
            r#"{"state":"broken","generation":1,"since":"2026-01-01T00:00:00Z","bulk":false}"#;
        let record: MapRecord = serde_json::from_str(text).unwrap();
        assert_eq!(record.untold, None);
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }

    #[test]
    fn a_load_begins_once() {
        assert_eq!(
            walk(&[load(1, true), load(2, false)]).unwrap().generation,
            2
        );
        assert!(walk(&[load(1, true), load(1, true)]).is_err());
        assert!(walk(&[load(2, true)]).is_err());
    }

    #[test]
    fn a_load_that_was_overtaken_does_not_end_the_one_that_overtook_it() {
        let overtaken = [load(1, true), load(2, false), loaded(1)];
        assert!(walk(&overtaken).is_err());
        assert!(walk(&[load(1, true), load(2, false), pause(), loaded(1)]).is_err());
        let ended = walk(&[load(1, true), load(2, false), loaded(2)]).unwrap();
        assert_eq!(ended.state, MapState::Resuming);
    }

    #[test]
    fn a_map_that_is_stopped_can_run_without_a_load() {
        assert_eq!(walk(&[MapEvent::Start]).unwrap().state, MapState::Resuming);
        assert!(walk(&[load(1, true), MapEvent::Start]).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(walk(&[loaded(0)]).is_err());
        assert!(walk(&[MapEvent::Resume]).is_err());
        assert!(walk(&[MapEvent::Released]).is_err());
        assert!(walk(&[pause(), pause()]).is_err());
        assert!(walk(&[pause(), broken()]).is_err());
        assert!(walk(&[load(1, true), pause(), load(2, false)]).is_err());
    }
}
