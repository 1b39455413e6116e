//! Reading a slice.

use std::time::Duration;

use jiff::Timestamp;
use model::{
    Change, Lane, LoadJob, LoadPlan, LoadStatus, MapName, MapState, Origin, PackHead, PackId,
    Packer, Slice, SliceStatus, plan_key, slice_key,
};
use ports::{CheckpointsExt, Next, Page, ReadFrom, Revision, Source, SourceError, Stored};

use crate::{InitialLoad, LoadError, handler::GRACE};

/// Changes of a load that may be on their way to the target before reading waits.
const MOST_IN_FLIGHT: u64 = 100_000;
/// How often it is looked whether reading may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The longest wait between two looks.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// A slice that is being read.
struct Reading<'r> {
    map: &'r MapName,
    plan: &'r LoadPlan,
    key: String,
    slice: Slice,
    revision: Revision,
}

impl InitialLoad {
    /// Reads a slice on, until its end or the deadline.
    pub(crate) async fn slice(
        &self,
        map: &MapName,
        generation: u32,
        index: u32,
        deadline: Timestamp,
    ) -> Result<(), LoadError> {
        let Some(plan) = self.plan_to_read(map, generation).await? else {
            return Ok(());
        };
        let key = slice_key(map, generation, index);
        let Some(range) = plan.ranges.get(index as usize) else {
            return self.slices(map, &plan).await.map(drop);
        };
        let stored = self.checkpoints.load::<Slice>(&key).await?;
        let (revision, slice) = stored.map_or((None, Slice::new(range.clone())), |stored| {
            (Some(stored.revision), stored.value)
        });
        if slice.status == SliceStatus::Done {
            return self.end_of_slices(map, generation).await;
        }
        let lease = slice.lease.take(self.clock.now(), deadline + GRACE);
        let Some(lease) = lease else { return Ok(()) };
        let slice = Slice { lease, ..slice };
        let revision = self.checkpoints.store(&key, revision, &slice).await?;
        let source = self.systems.source(map).await?;
        let mut reading = Reading {
            map,
            plan: &plan,
            key,
            slice,
            revision,
        };
        let before = reading.slice.rows;
        let read = self
            .read_pages(&mut reading, source.as_ref(), deadline)
            .await;
        let received = reading.slice.rows - before;
        self.metrics.received(self.clock.now(), map, received);
        let again = LoadJob::Slice {
            map: map.clone(),
            generation,
            index,
        };
        self.after_reading(reading, read, again).await
    }

    /// The plan of a load whose slices may be read now.
    async fn plan_to_read(
        &self,
        map: &MapName,
        generation: u32,
    ) -> Result<Option<LoadPlan>, LoadError> {
        let record = self.states.get(map).await?;
        if record.generation != generation || record.state != MapState::Initializing {
            let state = record.state;
            tracing::debug!(map.name = %map, load.generation = generation, "load {generation} rests: map `{map}` is {state} in load {}", record.generation);
            return Ok(None);
        }
        Ok(self.plan(map, generation).await?.map(|stored| stored.value))
    }

    async fn after_reading(
        &self,
        mut reading: Reading<'_>,
        read: Result<bool, LoadError>,
        again: LoadJob,
    ) -> Result<(), LoadError> {
        if let Err(LoadError::Overtaken(what)) = read {
            return Err(LoadError::Overtaken(what));
        }
        let (map, generation) = (reading.map, reading.plan.generation);
        reading.slice.lease = reading.slice.lease.released();
        match read {
            Ok(true) => {
                reading.slice.status = SliceStatus::Done;
                self.save(&mut reading).await?;
                ports::crash_point("load.sliced");
                self.end_of_slices(map, generation).await
            }
            Ok(false) => {
                self.save(&mut reading).await?;
                self.send(&again, Duration::ZERO).await
            }
            Err(LoadError::Source(SourceError::Expired { what }))
                if reading.slice.cursor.is_some() =>
            {
                tracing::warn!(map.name = %map, "a slice of map `{map}` begins anew: {what}");
                reading.slice.cursor = None;
                self.save(&mut reading).await?;
                self.send(&again, Duration::ZERO).await
            }
            Err(error) => {
                self.save(&mut reading).await?;
                Err(error)
            }
        }
    }

    async fn read_pages(
        &self,
        reading: &mut Reading<'_>,
        source: &dyn Source,
        deadline: Timestamp,
    ) -> Result<bool, LoadError> {
        loop {
            if !self.wait_for_target(reading, deadline).await? {
                return Ok(false);
            }
            let from = ReadFrom::Rows(reading.slice.range.as_ref());
            let page = source.read(from, reading.slice.cursor.as_deref()).await?;
            self.send_page(reading, &page).await?;
            ports::crash_point("load.sent");
            reading.slice.rows += page.records.len() as u64;
            match page.next {
                Next::Page(cursor) => reading.slice.cursor = Some(cursor),
                Next::End(mark) => {
                    reading.slice.cursor = None;
                    reading.slice.mark = mark;
                    return Ok(true);
                }
            }
            if self.clock.now() >= deadline {
                return Ok(false);
            }
            self.save(reading).await?;
            ports::crash_point("load.saved");
        }
    }

    /// Waits while the target is far behind, so that a queue is never much longer than what a
    /// target does in some seconds. Says whether there is time left.
    async fn wait_for_target(
        &self,
        reading: &Reading<'_>,
        deadline: Timestamp,
    ) -> Result<bool, LoadError> {
        let mut wait = LOOK_AGAIN;
        loop {
            let waiting = self.ledger.in_flight(reading.map, reading.plan.run).await?;
            if waiting < MOST_IN_FLIGHT {
                return Ok(true);
            }
            if self.clock.now() >= deadline {
                return Ok(false);
            }
            // A target that is slow takes long, and every look costs.
            self.clock.sleep(wait).await;
            wait = (wait * 2).min(LONGEST_LOOK);
        }
    }

    async fn send_page(&self, reading: &Reading<'_>, page: &Page) -> Result<(), LoadError> {
        let new_id = || PackId::from_uuid(self.clock.new_id());
        let head = PackHead {
            id: new_id(),
            map: reading.map.clone(),
            run: reading.plan.run,
            origin: Origin::Load,
            generation: reading.plan.generation,
            created: self.clock.now(),
            trace: None,
        };
        let mut packer = Packer::new(head, new_id);
        for record in &page.records {
            packer.push(&Change {
                op: record.op,
                observed: page.observed,
                raw: record.raw.clone(),
                failure: None,
            });
        }
        Ok(self.outbox.send_packs(Lane::Load, packer.finish()).await?)
    }

    async fn save(&self, reading: &mut Reading<'_>) -> Result<(), LoadError> {
        reading.revision = self
            .checkpoints
            .store(&reading.key, Some(reading.revision), &reading.slice)
            .await?;
        Ok(())
    }

    /// When the last slice is done, the load drains.
    async fn end_of_slices(&self, map: &MapName, generation: u32) -> Result<(), LoadError> {
        let Some(Stored { value: plan, .. }) = self.plan(map, generation).await? else {
            return Ok(());
        };
        let slices = self.slices(map, &plan).await?;
        if slices.iter().any(|slice| slice.status == SliceStatus::Open) {
            return Ok(());
        }
        self.send_finish(map, generation).await
    }

    /// Asks for the end of a load, by a job that is the only one from now on.
    pub(crate) async fn send_finish(
        &self,
        map: &MapName,
        generation: u32,
    ) -> Result<(), LoadError> {
        let Some(Stored {
            value: plan,
            revision,
        }) = self.plan(map, generation).await?
        else {
            return Ok(());
        };
        // A job that comes once more after the end must not open the load again, nor call back
        // whoever is just ending it.
        let held = plan
            .lease
            .until
            .is_some_and(|until| self.clock.now() < until);
        if plan.status == LoadStatus::Done || held {
            return Ok(());
        }
        let ticket = plan.ticket + 1;
        let draining = LoadPlan {
            status: LoadStatus::Draining,
            ticket,
            ..plan
        };
        self.checkpoints
            .store(&plan_key(map, generation), Some(revision), &draining)
            .await?;
        self.send_end(map, generation, ticket).await
    }

    /// Sends the job that ends a load.
    pub(crate) async fn send_end(
        &self,
        map: &MapName,
        generation: u32,
        ticket: u32,
    ) -> Result<(), LoadError> {
        let job = LoadJob::Finish {
            map: map.clone(),
            generation,
            ticket,
        };
        self.send(&job, Duration::ZERO).await
    }
}
