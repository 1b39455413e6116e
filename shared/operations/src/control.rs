//! Loads, pulls, pauses.

use std::time::Duration;

use definition::Map;
use model::{
    AuditEntry, LoadJob, MapEvent, MapName, MapRecord, MapState, PullJob, QueueName, RetryJob,
};
use serde_json::{Value, json};

use crate::{OperationError, Operations};

impl Operations {
    /// The map of this name.
    pub fn map(&self, name: &str) -> Result<&Map, OperationError> {
        let found = MapName::new(name)
            .ok()
            .and_then(|name| self.definition.maps.get(&name));
        found.ok_or_else(|| {
            let names: Vec<&str> = self.definition.maps.keys().map(MapName::as_str).collect();
            OperationError::UnknownMap {
                name: name.to_owned(),
                help: format!("the maps are {}", names.join(", ")),
            }
        })
    }

    pub(crate) async fn audit(
        &self,
        action: &str,
        subject: String,
        detail: Value,
    ) -> Result<(), OperationError> {
        let entry = AuditEntry {
            at: self.clock.now(),
            who: self.who.clone(),
            action: action.to_owned(),
            subject,
            detail,
        };
        Ok(self.failures.audit(&entry).await?)
    }

    /// Begins a load of a map; returns the number it will have.
    pub async fn load(&self, map: &MapName) -> Result<u32, OperationError> {
        let record = self.states.get(map).await?;
        let begun = MapEvent::Load {
            generation: record.generation + 1,
            bulk: false,
        };
        // Found out now, and not only by the function that does it.
        record
            .after(begun, self.clock.now())
            .map_err(|error| OperationError::Transition {
                map: map.clone(),
                source: error.into(),
            })?;
        let generation = record.generation;
        self.send_load(map, generation).await?;
        self.audit(
            "map.load",
            map.to_string(),
            json!({ "generation": generation + 1 }),
        )
        .await?;
        Ok(generation + 1)
    }

    /// Asks for the load after `generation`.
    async fn send_load(&self, map: &MapName, generation: u32) -> Result<(), OperationError> {
        let job = LoadJob::Start {
            map: map.clone(),
            replaces_mark: false,
            generation,
        };
        let (queue, name) = (QueueName::Loads, map.as_str());
        let sent = self
            .outbox
            .send(queue, Some(map), name, &job, Duration::ZERO);
        Ok(sent.await?)
    }

    /// Lets a map run without a load: what is in the target already is as good as loaded.
    pub async fn start_without_load(&self, map: &MapName) -> Result<(), OperationError> {
        // In the middle of a load it would leave the target half-loaded.
        let state = self.states.get(map).await?.state;
        if state != MapState::Stopped {
            return Err(OperationError::NotStopped {
                map: map.clone(),
                state,
            });
        }
        self.transition(map, MapEvent::Start).await?;
        self.release(map).await?;
        self.audit("map.start", map.to_string(), json!({})).await
    }

    /// Pulls a map now.
    pub async fn pull(&self, map: &MapName) -> Result<(), OperationError> {
        let job = PullJob::Pull {
            asked: None,
            map: map.clone(),
            wanted: true,
        };
        Ok(self
            .outbox
            .send(
                QueueName::Pulls,
                Some(map),
                map.as_str(),
                &job,
                Duration::ZERO,
            )
            .await?)
    }

    /// Pauses a map: nothing is read or written, what arrives is kept.
    pub async fn pause(&self, map: &MapName, reason: &str) -> Result<MapRecord, OperationError> {
        let after = self
            .transition(
                map,
                MapEvent::Pause {
                    reason: reason.to_owned(),
                },
            )
            .await?;
        self.audit("map.pause", map.to_string(), json!({ "reason": reason }))
            .await?;
        Ok(after)
    }

    /// Lets a paused or broken map go on, with what was kept first.
    pub async fn resume(&self, map: &MapName) -> Result<MapRecord, OperationError> {
        // The systems may have been changed to what the map expects.
        self.plans.forget(map).await;
        let after = self.transition(map, MapEvent::Resume).await?;
        if after.state == MapState::Initializing {
            // A load that is asked for again goes on where it was.
            let generation = after.generation.saturating_sub(1);
            self.send_load(map, generation).await?;
        }
        self.release(map).await?;
        self.audit("map.resume", map.to_string(), json!({})).await?;
        Ok(after)
    }

    async fn release(&self, map: &MapName) -> Result<(), OperationError> {
        let job = RetryJob::Release { map: map.clone() };
        Ok(self
            .outbox
            .send(
                QueueName::Retries,
                Some(map),
                map.as_str(),
                &job,
                Duration::ZERO,
            )
            .await?)
    }

    async fn transition(
        &self,
        map: &MapName,
        event: MapEvent,
    ) -> Result<MapRecord, OperationError> {
        let done = self.states.transition(map, event).await;
        let (_, after) = done.map_err(|source| OperationError::Transition {
            map: map.clone(),
            source,
        })?;
        Ok(after)
    }
}
