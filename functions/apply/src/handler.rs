//! From queue messages to outcomes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use definition::{Definition, Map};
use futures_util::{FutureExt, StreamExt, future, stream};
use jiff::Timestamp;
use mapping::{Plan, Plans};
use model::{ConnectionName, Lane, MapName, MapRecord, MapState, PackId, PackRef};
use ports::{Checkpoints, Clock, Ledger, Source, StoreError, Systems, SystemsError, Target};
use runtime::{Breakers, MapStates, Metrics, Outbox, Parking, Pass, Tally, Traces};

use crate::{
    batch::Batch,
    bisect::Bisect,
    conclude::Applied,
    invocation::Invocation,
    open::{Item, Messages, SUSPICIOUS},
    stop::Stop,
    verdict::Verdict,
};

/// The function.
#[derive(Debug)]
pub struct Apply {
    /// The deployment.
    pub definition: Arc<Definition>,
    /// Its maps, compiled.
    pub plans: Arc<dyn Plans>,
    /// The systems it reads again and writes to.
    pub systems: Arc<dyn Systems>,
    /// Where it reports failures and gives packs back.
    pub outbox: Outbox,
    /// Where it leaves packs of maps that may not be applied.
    pub parking: Parking,
    /// The states of maps.
    pub states: MapStates,
    /// The breakers of connections.
    pub breakers: Breakers,
    /// The books.
    pub ledger: Arc<dyn Ledger>,
    /// Where it notes what it is trying when a pack has failed before.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it says what became of changes, and how late they were.
    pub metrics: Metrics,
    /// The traces whose end it logs, and that it passes on to targets.
    pub traces: Traces,
    /// How long after its deadline an invocation waits for a target, where it is ended soon after.
    pub grace: Option<Duration>,
}

/// Webhooks that were made within so many milliseconds and come for the first time are not looked for
/// in the books. One that comes twice at once is applied twice, as the guard lets it, and counts
/// once; to look for each would cost more than that ever does.
const FRESH: i64 = 30_000;
/// Maps of one invocation that are worked on side by side.
const MAPS_AT_ONCE: usize = 4;

/// All messages of one map in an invocation.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) target: &'a dyn Target,
    pub(crate) source: Option<&'a dyn Source>,
    pub(crate) connection: &'a ConnectionName,
    pub(crate) lane: Lane,
    /// The newest load of the map.
    pub(crate) generation: u32,
    pub(crate) bulk: bool,
    pub(crate) found_in: Option<u32>,
    /// When the newest load began.
    loading: Option<Timestamp>,
    /// What there is to say of the map.
    pub(crate) tally: &'a Mutex<Tally>,
    pub(crate) invocation: &'a Invocation,
    /// The traces that are passed on to the target.
    pub(crate) traces: Traces,
}

impl Work<'_> {
    /// The same for some changes: only what was read since the load under way began has been
    /// found by it. A row that went before could otherwise hide behind old news of it.
    fn of(&self, items: &[Item]) -> Self {
        let fresh = items.first().is_some_and(|item| item.since(self.loading));
        Self {
            found_in: self.found_in.filter(|_| fresh),
            ..*self
        }
    }
}

impl Apply {
    /// Applies all packs of an event. Messages that are named in the answer come back. Packs that
    /// are not begun with by `deadline` are sent anew, so that a slow target keeps no other one
    /// waiting.
    pub async fn handle(&self, event: SqsEvent, deadline: Timestamp) -> SqsBatchResponse {
        let mut messages = Messages::new(event);
        let invocation = &Invocation::new(deadline, self.grace);
        let mut failed = Vec::new();
        loop {
            let groups = self.open_some(&mut messages, deadline, &mut failed).await;
            let applied = stream::iter(groups)
                .map(|((map, lane), items)| self.apply_group(map, lane, items, invocation))
                .buffer_unordered(MAPS_AT_ONCE);
            failed.extend(self.finish(invocation, applied.collect().await).await);
            if messages.is_empty() {
                break;
            }
            if self.clock.now() >= deadline {
                failed.extend(self.send_anew(messages).await);
                break;
            }
        }
        runtime::failed_items(failed)
    }

    /// Applies the packs of one map.
    async fn apply_group(
        &self,
        map: MapName,
        lane: Lane,
        mut items: Vec<Item>,
        invocation: &Invocation,
    ) -> Applied {
        let tally = Mutex::default();
        let applied = self.apply_map(&map, lane, &mut items, invocation, &tally);
        let applied = std::panic::AssertUnwindSafe(applied).catch_unwind().await;
        let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = match applied {
            Ok(Ok(())) => Vec::new(),
            Ok(Err(stop)) => self.stop(&map, lane, items, stop, invocation).await,
            Err(_) => {
                tracing::error!(map.name = %map, "applying packs of map `{map}` panicked; they come back");
                let stop = Stop::Wait(Duration::from_secs(1));
                self.stop(&map, lane, items, stop, invocation).await
            }
        };
        Applied { map, failed, tally }
    }

    /// Does with packs what is to be done when it is not their time; returns the messages that come
    /// back.
    async fn stop(
        &self,
        map: &MapName,
        lane: Lane,
        items: Vec<Item>,
        stop: Stop,
        invocation: &Invocation,
    ) -> Vec<String> {
        match stop {
            Stop::Wait(wait) => self.put_off(map, lane, items, wait).await,
            Stop::Down(wait) => self.set_aside(map, lane, items, wait, invocation).await,
            Stop::Broken(reason) => self.break_map(map, lane, items, reason).await,
            Stop::Late => self.give_back(map, lane, items).await,
            Stop::Slow => self.put_off_slow(map, lane, items).await,
            Stop::Store(error) => {
                tracing::warn!(map.name = %map, "packs of map `{map}` come back: {error}");
                items.into_iter().map(|item| item.id).collect()
            }
        }
    }

    /// Applies `items`, and takes out what it has come to the end with.
    async fn apply_map(
        &self,
        map: &MapName,
        lane: Lane,
        items: &mut Vec<Item>,
        invocation: &Invocation,
        tally: &Mutex<Tally>,
    ) -> Result<(), Stop> {
        if invocation.is_late(self.clock.as_ref()) {
            return Err(Stop::Late);
        }
        drop_copies(items);
        let (settled, state) =
            future::join(self.settled(lane, items), self.states.recent(map)).await;
        self.drop_settled(&settled?, items).await?;
        if items.is_empty() {
            return Ok(());
        }
        let Some(defined) = self.definition.maps.get(map) else {
            return Err(Stop::Broken(format!(
                "map `{map}` is not defined in this deployment (any more)"
            )));
        };
        let mut state = state?;
        if !state.applies(lane) {
            // It may have been resumed since: what is parked after its packs have been released
            // waits until somebody looks for such packs.
            state = self.states.get(map).await?;
        }
        if !state.applies(lane) {
            return self.park(map, lane, items).await;
        }
        self.apply_running(defined, (lane, &state), items, invocation, tally)
            .await
    }

    /// Applies `items` of a map that runs, unless its target has to be left alone.
    async fn apply_running(
        &self,
        map: &Map,
        (lane, state): (Lane, &MapRecord),
        items: &mut Vec<Item>,
        invocation: &Invocation,
        tally: &Mutex<Tally>,
    ) -> Result<(), Stop> {
        let (map, connection) = (&map.name, &map.to.connection);
        // A target that is down is not asked for its tables either.
        if let Some(wait) = self.breakers.look(connection).await? {
            return Err(self.alone(wait, tally));
        }
        let plan = self.plan(map, connection, invocation, tally).await?;
        let of_systems = |error: SystemsError| Stop::of_systems(&error);
        let target = self.systems.target(map).await.map_err(of_systems)?;
        let source = self.systems.source(map).await.map_err(of_systems)?;
        // Only now: who may try and does not keeps all others from it for a while.
        let trial = match self.breakers.pass(connection).await? {
            Pass::Wait(wait) => return Err(self.alone(wait, tally)),
            Pass::Try(trial) => Some(trial),
            Pass::Open => None,
        };
        note(tally, |tally| tally.breaker_open = Some(trial.is_some()));
        let initializing = state.state == MapState::Initializing;
        let work = Work {
            plan: &plan,
            target: target.as_ref(),
            source: source.can_fetch().then_some(source.as_ref()),
            connection,
            lane,
            generation: state.generation,
            bulk: initializing && state.bulk && lane == Lane::Load,
            found_in: (initializing && !state.bulk).then_some(state.generation),
            loading: state.loading,
            tally,
            invocation,
            traces: self.traces,
        };
        let applied = self.apply_items(&work, items).await;
        if let Some(trial) = trial
            && let Err(error) = self.breakers.unused(connection, trial).await
        {
            tracing::warn!(connection.name = %connection, "others wait for `{connection}` a while longer: {error}");
        }
        applied
    }

    /// Applies items in steps of what the target takes at once, none of which begins too late.
    async fn apply_items(&self, work: &Work<'_>, items: &mut Vec<Item>) -> Result<(), Stop> {
        items.sort_by_key(|item| (item.receives >= SUSPICIOUS, item.since(work.loading)));
        while let Some(first) = items.first() {
            if work.invocation.is_late(self.clock.as_ref()) {
                return Err(Stop::Late);
            }
            work.invocation.begin();
            if first.receives >= SUSPICIOUS {
                // It may be the last thing this worker does.
                self.settle_kept(work.invocation).await;
                let work = &work.of(&items[..1]);
                let verdicts = Bisect::new(self, work, first).run().await?;
                self.conclude(work, &items[..1], verdicts).await?;
                items.remove(0);
                continue;
            }
            let step = step(items, work.loading, work.target.rows_at_once());
            let work = &work.of(&items[..step]);
            let verdicts = self.write(work, &items[..step]).await?;
            self.conclude(work, &items[..step], verdicts).await?;
            items.drain(..step);
        }
        Ok(())
    }

    /// The packs that come once more although they have been settled. A pack can come again in a
    /// message of its own, so how often one was received says little.
    async fn settled(&self, lane: Lane, items: &[Item]) -> Result<HashSet<PackId>, StoreError> {
        // What comes from the failure store is in the books already.
        if lane == Lane::Retry {
            return Ok(HashSet::new());
        }
        let fresh = self.clock.now().as_millisecond() - FRESH;
        let packs: Vec<PackRef> = items
            .iter()
            .filter(|item| !(lane == Lane::Live && item.is_first(fresh)))
            .map(|item| (&item.pack.head).into())
            .collect();
        if packs.is_empty() {
            return Ok(HashSet::new());
        }
        self.ledger.settled(&packs).await
    }

    /// Takes out packs that have been settled: applied again they could end otherwise, and stand in
    /// the books twice.
    async fn drop_settled(
        &self,
        settled: &HashSet<PackId>,
        items: &mut Vec<Item>,
    ) -> Result<(), Stop> {
        let (done, open): (Vec<Item>, Vec<Item>) = std::mem::take(items)
            .into_iter()
            .partition(|item| settled.contains(&item.pack.head.id));
        *items = open;
        if done.is_empty() {
            return Ok(());
        }
        let blobs: Vec<String> = done.into_iter().filter_map(|item| item.blob).collect();
        Ok(self.outbox.close(&blobs).await?)
    }

    /// Writes the changes of packs in one batch; one verdict per change, pack after pack.
    pub(crate) async fn write(
        &self,
        work: &Work<'_>,
        items: &[Item],
    ) -> Result<Vec<Verdict>, Stop> {
        let mut batch = Batch::new(work, items.iter().map(|item| &item.pack));
        let written = self.write_batch(work, &mut batch);
        let written = work.invocation.wait_for(self.clock.as_ref(), written);
        match written.await? {
            Ok(asked) => {
                if asked {
                    self.breakers.worked(work.connection).await?;
                    note(work.tally, |tally| tally.breaker_open = Some(false));
                }
                let now = self.clock.now().as_microsecond();
                note(work.tally, |tally| batch.measure(now, &mut tally.lag));
                Ok(batch.into_verdicts())
            }
            Err(error) => Err(self.target_stop(work, error).await),
        }
    }
}

/// Leaves one message of each pack, the one that was received most often. A pack that came twice
/// at once would have two ends, of which one attempt can say but one.
fn drop_copies(items: &mut Vec<Item>) {
    let mut most: HashMap<PackId, u32> = HashMap::with_capacity(items.len());
    for item in &*items {
        let receives = most.entry(item.pack.head.id).or_default();
        *receives = item.receives.max(*receives);
    }
    items.retain(|item| {
        let id = item.pack.head.id;
        most.get(&id) == Some(&item.receives) && most.remove(&id).is_some()
    });
}

/// Adds to what there is to say of a map.
pub(crate) fn note(tally: &Mutex<Tally>, what: impl FnOnce(&mut Tally)) {
    what(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
}

/// How many of the first items are written at once: as many as have `rows` changes, at least
/// one, none that is suspicious, and all of them read before the load began or all since.
fn step(items: &[Item], loading: Option<Timestamp>, rows: usize) -> usize {
    let since = items.first().is_some_and(|item| item.since(loading));
    let mut changes = 0;
    let fits = |item: &&Item| {
        let fits = item.receives < SUSPICIOUS
            && item.since(loading) == since
            && (changes == 0 || changes < rows);
        changes += item.pack.changes.len();
        fits
    };
    items.iter().take_while(fits).count().max(1)
}
