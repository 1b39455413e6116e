//! Ending a load.

use std::time::Duration;

use definition::Map;
use jiff::Timestamp;
use mapping::Plan;
use model::{
    Change, Counts, Lane, LoadJob, LoadMode, LoadPlan, LoadStatus, MapEvent, MapName, MapState, Op,
    Origin, PackHead, PackId, Packer, PullJob, PullState, QueueName, RetryJob, RunId, SourceMark,
    Value, plan_key, pull_key,
};
use ports::{CheckpointsExt, Source, Stored, Target};
use runtime::TransitionError;

use crate::{InitialLoad, LoadError, handler::GRACE};

/// How long to wait before looking again whether all has been applied.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long to wait before looking again whether somebody else has ended it.
const HELD: Duration = Duration::from_secs(5);
/// Keys per step of a sweep.
const SWEEP_STEP: usize = 1_000;

impl InitialLoad {
    /// Ends a load once all its packs are settled. Every step may be done twice.
    pub(crate) async fn finish(
        &self,
        map: &MapName,
        generation: u32,
        ticket: u32,
        deadline: Timestamp,
    ) -> Result<(), LoadError> {
        let Some(defined) = self.definition.maps.get(map) else {
            return Ok(());
        };
        let record = self.states.get(map).await?;
        if record.generation != generation {
            return Ok(());
        }
        let Some(Stored {
            value: load,
            revision,
        }) = self.plan(map, generation).await?
        else {
            return Ok(());
        };
        if load.ticket != ticket {
            return Ok(());
        }
        let loading = record.state == MapState::Initializing;
        if load.status == LoadStatus::Done {
            // The worker that ended it may have died before it handed the map over, and the map
            // have been paused since.
            let not_handed = loading || record.resumes == Some(MapState::Initializing);
            return self.hand_over(map, generation, not_handed).await;
        }
        if !loading {
            return Ok(());
        }
        let again = LoadJob::Finish {
            map: map.clone(),
            generation,
            ticket,
        };
        if self.ledger.in_flight(map, load.run).await? > 0 {
            return self.send(&again, LOOK_AGAIN).await;
        }
        let Some(lease) = load.lease.take(self.clock.now(), deadline + GRACE) else {
            // Whoever holds it is ending it, or has died over it.
            return self.send(&again, HELD).await;
        };
        let held = Stored {
            value: LoadPlan { lease, ..load },
            revision,
        };
        self.end(defined, held).await
    }

    /// Does what is left of a load whose lease has been taken, and gives that back.
    async fn end(&self, defined: &Map, held: Stored<LoadPlan>) -> Result<(), LoadError> {
        let (map, load) = (&defined.name, held.value);
        let generation = load.generation;
        let key = plan_key(map, generation);
        let taken = self.checkpoints.store(&key, Some(held.revision), &load);
        let revision = taken.await?;
        let ended = self.end_in_target(defined, &load).await;
        let done = matches!(ended, Ok(None));
        let load = LoadPlan {
            status: if done { LoadStatus::Done } else { load.status },
            finished: done.then(|| self.clock.now()),
            lease: load.lease.released(),
            ..load
        };
        self.checkpoints.store(&key, Some(revision), &load).await?;
        if let Some(reason) = ended? {
            if self.states.get(map).await?.generation != generation {
                return Err(LoadError::Overtaken(reason));
            }
            let braked = MapEvent::Break { reason };
            self.states.transition(map, braked).await?;
            return Ok(());
        }
        ports::crash_point("load.done");
        tracing::info!(map.name = %map, load.generation = generation, "load {generation} of map `{map}` is done");
        self.hand_over(map, generation, true).await
    }

    /// Lets the map run, lets what was parked go, and pulls what changed since the load began.
    async fn hand_over(
        &self,
        map: &MapName,
        generation: u32,
        loading: bool,
    ) -> Result<(), LoadError> {
        if loading {
            let loaded = MapEvent::Loaded { generation };
            match self.states.transition(map, loaded).await {
                Err(error @ TransitionError::Illegal(_)) => {
                    self.handed_over(map, generation, error).await?;
                }
                loaded => drop(loaded?),
            }
            ports::crash_point("load.loaded");
        }
        let release = RetryJob::Release { map: map.clone() };
        self.outbox
            .send(
                QueueName::Retries,
                Some(map),
                map.as_str(),
                &release,
                Duration::ZERO,
            )
            .await?;
        let pull = PullJob::Pull {
            asked: None,
            map: map.clone(),
            wanted: true,
        };
        self.outbox
            .send(
                QueueName::Pulls,
                Some(map),
                map.as_str(),
                &pull,
                Duration::ZERO,
            )
            .await?;
        Ok(())
    }

    /// The map would not run: an error, unless another job for the same end was faster.
    async fn handed_over(
        &self,
        map: &MapName,
        generation: u32,
        error: TransitionError,
    ) -> Result<(), LoadError> {
        let now = self.states.get(map).await?;
        if now.generation != generation {
            return Err(LoadError::Overtaken(error.to_string()));
        }
        let initializing = Some(MapState::Initializing);
        if Some(now.state) == initializing || now.resumes == initializing {
            return Err(error.into());
        }
        Ok(())
    }

    /// What is left to do in the target, and where pulls go on. Returns why the load must not
    /// end, if it must not.
    async fn end_in_target(
        &self,
        defined: &Map,
        load: &LoadPlan,
    ) -> Result<Option<String>, LoadError> {
        let map = &defined.name;
        let plan = self.plans.plan(map).await?;
        let target = self.systems.target(map).await?;
        let source = self.systems.source(map).await?;
        if load.mode == LoadMode::Bulk {
            self.end_bulk(map, load, &plan, target.as_ref()).await?;
            ports::crash_point("load.keyed");
        }
        if load.sweep {
            let stopped = self
                .sweep(defined, load, &plan, target.as_ref(), source.as_ref())
                .await?;
            if stopped.is_some() {
                return Ok(stopped);
            }
        }
        target.end_load(plan.table(), load.generation).await?;
        self.set_mark(map, load, source.as_ref()).await?;
        ports::crash_point("load.marked");
        Ok(None)
    }

    /// Makes the key. What the load brought twice was counted as applied twice, and is
    /// entered as what it was.
    async fn end_bulk(
        &self,
        map: &MapName,
        load: &LoadPlan,
        plan: &Plan,
        target: &dyn Target,
    ) -> Result<(), LoadError> {
        let end = target.end_bulk(plan.table(), load.generation).await?;
        if end.superseded + end.unchanged > 0 {
            let from = Counts {
                applied: end.superseded + end.unchanged,
                ..Counts::default()
            };
            let to = Counts {
                superseded: end.superseded,
                unchanged: end.unchanged,
                ..Counts::default()
            };
            self.ledger
                .amend(map, load.run, "doubles", from, to)
                .await?;
        }
        self.ask_again(plan, Op::Touch, &end.ties).await
    }

    /// Asks the source for every row that the load did not bring. What it does not have any
    /// more is deleted. Returns why this was not done, if it was not.
    async fn sweep(
        &self,
        defined: &Map,
        load: &LoadPlan,
        plan: &Plan,
        target: &dyn Target,
        source: &dyn Source,
    ) -> Result<Option<String>, LoadError> {
        let table = plan.table();
        let mut after: Option<Vec<Value<'static>>> = None;
        loop {
            let sweep = target
                .missing(table, load.generation, after.as_deref(), SWEEP_STEP)
                .await?;
            if after.is_none() && braked(defined, sweep.rows, sweep.missing) {
                return Ok(Some(format!(
                    "load {} did not find {} of {} rows of `{}`, more than the {:.0}% that `deletes.brake` allows: nothing was deleted. If they are gone from the source, raise the brake and resume; if not, correct the map",
                    load.generation,
                    sweep.missing,
                    sweep.rows,
                    table.name,
                    defined.deletes.brake * 100.0
                )));
            }
            let op = if source.can_fetch() {
                Op::Touch
            } else {
                Op::Delete
            };
            self.ask_again(plan, op, &sweep.keys).await?;
            let Some(last) = sweep.keys.into_iter().next_back() else {
                return Ok(None);
            };
            after = Some(last);
        }
    }

    /// Sends changes for rows of the target, by their keys.
    async fn ask_again(
        &self,
        plan: &Plan,
        op: Op,
        keys: &[Vec<Value<'static>>],
    ) -> Result<(), LoadError> {
        let map = plan.map();
        let now = self.clock.now();
        let new_id = || PackId::from_uuid(self.clock.new_id());
        let head = PackHead {
            id: new_id(),
            map: map.clone(),
            run: RunId::live(map),
            origin: Origin::Webhook,
            generation: 0,
            created: now,
            trace: None,
        };
        let mut packer = Packer::new(head, new_id);
        for key in keys {
            let raw = plan.source_key(key).into();
            packer.push(&Change {
                op,
                observed: now.as_microsecond(),
                raw,
                failure: None,
            });
        }
        self.outbox.send_packs(Lane::Live, packer.finish()).await?;
        let asked = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        self.metrics.received(now, map, asked);
        Ok(())
    }

    /// Where recurring pulls go on. A re-load leaves a good mark alone: it never moves the
    /// live cursor.
    async fn set_mark(
        &self,
        map: &MapName,
        load: &LoadPlan,
        source: &dyn Source,
    ) -> Result<(), LoadError> {
        let slices = self.slices(map, load).await?;
        let ends: Vec<SourceMark> = slices.into_iter().filter_map(|slice| slice.mark).collect();
        let mark = source.after_load(load.low_water.clone(), ends);
        let key = pull_key(map);
        let stored = self.checkpoints.load::<PullState>(&key).await?;
        let (revision, mut pull) = stored.map_or((None, PullState::default()), |stored| {
            (Some(stored.revision), stored.value)
        });
        if pull.mark.is_some() && !load.replaces_mark {
            return Ok(());
        }
        // A pull that is under way reads from elsewhere: it finds that it has lost its lease.
        pull.lease = pull.lease.released();
        pull.needs_load = false;
        pull.mark = mark;
        pull.cursor = None;
        pull.run = None;
        pull.error = None;
        pull.failed = 0;
        pull.due = Some(self.clock.now());
        self.checkpoints.store(&key, revision, &pull).await?;
        Ok(())
    }
}

/// Whether so many rows are missing that no machine should delete them. A handful may always go.
fn braked(defined: &Map, rows: u64, missing: u64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a share of a count of rows")]
    let share = missing as f64 / rows.max(1) as f64;
    missing > 10 && share > defined.deletes.brake
}
