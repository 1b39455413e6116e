//! Beginning a load.

use std::{collections::HashMap, time::Duration};

use definition::{DeletePolicy, Map};
use model::{
    Lease, LoadJob, LoadMode, LoadPlan, LoadStatus, MapEvent, MapName, RunId, Slice, SliceStatus,
    plan_key, slice_key, slice_prefix,
};
use ports::{CheckpointError, CheckpointsExt, Stored};
use runtime::TransitionError;

use crate::{InitialLoad, LoadError};

impl InitialLoad {
    /// Begins the load after `generation`. Done twice, it goes on where it was.
    pub(crate) async fn start(
        &self,
        map: &MapName,
        replaces_mark: bool,
        generation: u32,
    ) -> Result<(), LoadError> {
        let Some(defined) = self.definition.maps.get(map) else {
            tracing::warn!(map.name = %map, "map `{map}` is not defined in this deployment (any more): not loaded");
            return Ok(());
        };
        let record = self.states.get(map).await?;
        let next = generation + 1;
        if record.generation == next {
            // The worker that began it may have died before it sent the slices.
            return self.send_slices(map, next).await;
        }
        if record.generation != generation {
            tracing::info!(map.name = %map, "another load of map `{map}` has begun since this one was asked for");
            return Ok(());
        }
        let mode = self.prepare(defined, next, replaces_mark).await?;
        ports::crash_point("load.planned");
        let begun = MapEvent::Load {
            generation: next,
            bulk: mode == LoadMode::Bulk,
        };
        match self.states.transition(map, begun).await {
            // Another worker got the same job and was faster; it may die before the slices.
            Err(TransitionError::Illegal(_)) if self.states.get(map).await?.generation == next => {}
            begun => drop(begun?),
        }
        ports::crash_point("load.started");
        tracing::info!(map.name = %map, load.generation = next, "load {next} of map `{map}` has begun, {mode:?}");
        self.send_slices(map, next).await
    }

    /// Makes the target ready, asks the source for a place in the stream, and plans slices.
    async fn prepare(
        &self,
        defined: &Map,
        next: u32,
        replaces_mark: bool,
    ) -> Result<LoadMode, LoadError> {
        let map = &defined.name;
        let plan = self.plans.plan(map).await?;
        let target = self.systems.target(map).await?;
        let source = self.systems.source(map).await?;
        target.prepare(plan.table()).await?;
        // The place in the stream comes first: whatever changes from here on is found again
        // from there, wherever the slices were at the time.
        let low_water = source.low_water().await?;
        // The source may have taken its time. A load that has been overtaken must not empty what
        // the newer one has brought.
        if self.states.get(map).await?.generation >= next {
            return Err(LoadError::Overtaken(format!(
                "load {next} of map `{map}` has begun"
            )));
        }
        let mode = target.begin_load(plan.table(), next).await?;
        ports::crash_point("load.begun");
        let fresh = LoadPlan {
            generation: next,
            run: RunId::from_uuid(self.clock.new_id()),
            mode,
            sweep: mode == LoadMode::Guarded && defined.deletes.policy != DeletePolicy::Ignore,
            status: LoadStatus::Reading,
            ticket: 0,
            ranges: source.slices(defined.load.slices).await?,
            estimate: low_water.rows,
            low_water: low_water.mark,
            replaces_mark,
            started: self.clock.now(),
            finished: None,
            lease: Lease::default(),
        };
        match self
            .checkpoints
            .store(&plan_key(map, next), None, &fresh)
            .await
        {
            // Whoever had planned it already may be at work on it: that plan stands.
            Ok(_) | Err(CheckpointError::Conflict { .. }) => Ok(mode),
            Err(error) => Err(error.into()),
        }
    }

    /// All slices of a load, in order. What the plan names and nobody has begun is new.
    pub(crate) async fn slices(
        &self,
        map: &MapName,
        plan: &LoadPlan,
    ) -> Result<Vec<Slice>, LoadError> {
        // Without a slice the load would seem to have read all, and the sweep take all for gone.
        if plan.ranges.is_empty() {
            return Err(LoadError::Outdated {
                map: map.clone(),
                generation: plan.generation,
            });
        }
        let begun = self
            .checkpoints
            .load_all::<Slice>(&slice_prefix(map, plan.generation))
            .await?;
        let mut begun: HashMap<String, Slice> = begun
            .into_iter()
            .map(|(key, stored)| (key, stored.value))
            .collect();
        let slices = (0..).zip(&plan.ranges).map(|(index, range)| {
            begun
                .remove(&slice_key(map, plan.generation, index))
                .unwrap_or_else(|| Slice::new(range.clone()))
        });
        Ok(slices.collect())
    }

    /// Asks for the work on every slice that is not done, or for the end if all are.
    pub(crate) async fn send_slices(
        &self,
        map: &MapName,
        generation: u32,
    ) -> Result<(), LoadError> {
        let Some(Stored { value: plan, .. }) = self.plan(map, generation).await? else {
            return Ok(());
        };
        let now = self.clock.now();
        let mut open = 0;
        for (index, slice) in (0..).zip(self.slices(map, &plan).await?) {
            if slice.status == SliceStatus::Done {
                continue;
            }
            open += 1;
            let held = slice.lease.until.is_some_and(|until| now < until);
            if !held {
                let job = LoadJob::Slice {
                    map: map.clone(),
                    generation,
                    index,
                };
                self.send(&job, Duration::ZERO).await?;
            }
        }
        if open == 0 {
            return self.send_finish(map, generation).await;
        }
        Ok(())
    }
}
