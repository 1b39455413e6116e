//! Loads that nobody works on.

use model::{LoadStatus, MapName, MapState};

use crate::{InitialLoad, LoadError};

impl InitialLoad {
    /// The tick of a slow timer: asks again for the work on loads that are under way. A job
    /// that was lost, or that rested while its map was paused, goes on; one that somebody
    /// holds, or that waits for its next attempt, is left alone. Tells people of broken maps of
    /// which nobody has told them.
    pub async fn watch(&self) -> Result<(), LoadError> {
        let all = self.states.all().await?;
        self.states.tell_late(&all).await;
        let loading = all
            .into_iter()
            .filter(|(_, stored)| stored.value.state == MapState::Initializing);
        for (map, _) in loading {
            match self.look_after(&map).await {
                Err(error @ LoadError::Outdated { .. }) => self.break_map(&map, &error).await,
                looked => looked?,
            }
        }
        Ok(())
    }

    async fn look_after(&self, map: &MapName) -> Result<(), LoadError> {
        let generation = self.states.get(map).await?.generation;
        let Some(plan) = self.plan(map, generation).await? else {
            return Ok(());
        };
        if plan.value.status == LoadStatus::Done {
            // Whoever ended it has not handed the map over.
            return self.send_end(map, generation, plan.value.ticket).await;
        }
        if self.is_waiting(map).await? {
            return Ok(());
        }
        self.send_slices(map, generation).await
    }
}
