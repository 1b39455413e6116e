//! From queue messages to outcomes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use definition::Definition;
use futures_util::{FutureExt, StreamExt, stream};
use mapping::{Plan, Plans, PlansError};
use model::{
    Cause, ConnectionName, Counts, DecodeError, ErrorClass, Failure, FailureId, FailureReport,
    FailureStatus, Fingerprint, Lane, MAX_RECEIVES, MapEvent, MapName, Op, Origin, Outcome, Pack,
    PackId, QueueName, RetryJob, RunId, decode_pack,
};
use ports::{
    Checkpoints, Clock, Ledger, Settlement, Source, StoreError, Systems, Target, TargetError,
};
use runtime::{Breakers, MapStates, Outbox, OutboxError, Parking, Pass};

use crate::{batch::Batch, bisect::Bisect, verdict::Verdict};

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
}

/// Maps of one invocation that are worked on side by side.
const MAPS_AT_ONCE: usize = 4;
/// Receives after which a pack is tried part by part: something in it may break the worker.
const SUSPICIOUS: u32 = 4;
/// Receives after which a pack whose target stays down is parked, so that it does not become
/// a dead letter.
const PARK_AFTER: u32 = MAX_RECEIVES / 2;
/// When parked packs of a target that is down are tried again.
const RELEASE_AFTER: Duration = Duration::from_mins(10);

/// One message and what is known of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    receipt: String,
    receives: u32,
    blob: Option<String>,
    body: String,
    pub(crate) pack: Pack,
}

/// All messages of one map in an invocation.
pub(crate) struct Work<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) target: &'a dyn Target,
    pub(crate) source: Option<&'a dyn Source>,
    pub(crate) connection: &'a ConnectionName,
    pub(crate) lane: Lane,
    pub(crate) bulk: bool,
    pub(crate) found_in: Option<u32>,
}

/// Why messages of a map come back.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The target, or what it needs, is not available.
    Wait(Duration),
    /// Only a person can help: the map is broken and its packs are parked.
    Broken(String),
    /// One of Syncline's own stores did not work.
    Store(StoreError),
}

impl Item {
    /// A part of a message, as if it were one of its own.
    pub(crate) fn part(whole: &Self, pack: Pack) -> Self {
        Self {
            id: whole.id.clone(),
            receipt: whole.receipt.clone(),
            receives: whole.receives,
            blob: None,
            body: String::new(),
            pack,
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<OutboxError> for Stop {
    fn from(error: OutboxError) -> Self {
        Self::Store(StoreError::unavailable("reporting outcomes")(error))
    }
}

impl Apply {
    /// Applies all packs of an event. Messages that are named in the answer come back.
    pub async fn handle(&self, event: SqsEvent) -> SqsBatchResponse {
        let mut groups: HashMap<(MapName, Lane), Vec<Item>> = HashMap::new();
        let mut failed = Vec::new();
        for message in event.records {
            let id = message.message_id.clone().unwrap_or_default();
            let lane = Lane::of_source(message.event_source_arn.as_deref().unwrap_or_default());
            match self.open(message, lane).await {
                Ok(Some(item)) => groups
                    .entry((item.pack.head.map.clone(), lane))
                    .or_default()
                    .push(item),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(message.id = %id, "a message comes back: {error:?}");
                    failed.push(id);
                }
            }
        }
        let applied = stream::iter(groups)
            .map(|((map, lane), items)| self.apply_group(map, lane, items))
            .buffer_unordered(MAPS_AT_ONCE)
            .collect::<Vec<_>>();
        failed.extend(applied.await.into_iter().flatten());
        runtime::failed_items(failed)
    }

    /// Opens a message. One that cannot be read goes to the failure store as it is.
    async fn open(&self, message: SqsMessage, lane: Lane) -> Result<Option<Item>, Stop> {
        let id = message.message_id.unwrap_or_default();
        let Some((body, blob)) = self.outbox.open(message.body.unwrap_or_default()).await? else {
            return Ok(None);
        };
        let receives = message
            .attributes
            .get("ApproximateReceiveCount")
            .and_then(|n| n.parse().ok());
        match decode_pack(&body) {
            Ok(pack) => Ok(Some(Item {
                id,
                receipt: message.receipt_handle.unwrap_or_default(),
                receives: receives.unwrap_or(1),
                blob,
                body,
                pack,
            })),
            Err(error) => {
                self.report_unreadable(&body, lane, &error).await?;
                Ok(None)
            }
        }
    }

    async fn report_unreadable(
        &self,
        body: &str,
        lane: Lane,
        error: &DecodeError,
    ) -> Result<(), Stop> {
        let failure = unreadable(body, lane, error, self.clock.now());
        tracing::error!(failure.id = %failure.id, "a message cannot be read and goes to the failure store: {error}");
        let (map, weight) = (failure.map.clone(), failure.weight);
        let name = format!("unreadable/{}", failure.id);
        let report = FailureReport::Failed {
            failures: vec![failure],
        };
        self.outbox
            .send(
                QueueName::Failures,
                Some(&map),
                &name,
                &report,
                Duration::ZERO,
            )
            .await?;
        if let Some(pack) = pack_of(body).filter(|_| lane != Lane::Retry) {
            let counts = Counts {
                failed: weight.into(),
                ..Counts::default()
            };
            self.ledger
                .settle(vec![Settlement { pack, counts }])
                .await?;
        }
        Ok(())
    }

    /// Applies the packs of one map; returns the messages that come back.
    async fn apply_group(&self, map: MapName, lane: Lane, items: Vec<Item>) -> Vec<String> {
        let attempt =
            std::panic::AssertUnwindSafe(self.apply_map(&map, lane, &items)).catch_unwind();
        let stop = match attempt.await {
            Ok(Ok(())) => return Vec::new(),
            Ok(Err(stop)) => stop,
            Err(_) => {
                tracing::error!(map.name = %map, "applying packs of map `{map}` panicked; they come back");
                Stop::Wait(Duration::from_secs(1))
            }
        };
        match stop {
            Stop::Wait(wait) => self.put_off(&map, lane, items, wait).await,
            Stop::Broken(reason) => self.break_map(&map, lane, items, reason).await,
            Stop::Store(error) => {
                tracing::warn!(map.name = %map, "packs of map `{map}` come back: {error}");
                items.into_iter().map(|item| item.id).collect()
            }
        }
    }

    async fn apply_map(&self, map: &MapName, lane: Lane, items: &[Item]) -> Result<(), Stop> {
        let Some(defined) = self.definition.maps.get(map) else {
            return Err(Stop::Broken(format!(
                "map `{map}` is not defined in this deployment (any more)"
            )));
        };
        let state = self.states.recent(map).await?;
        if !state.applies(lane) {
            return self.park(map, lane, items).await;
        }
        let plan = self
            .plans
            .plan(map)
            .await
            .map_err(|error| plan_stop(&error))?;
        let connection = &defined.to.connection;
        if let Pass::Wait(wait) = self.breakers.pass(connection).await? {
            return Err(Stop::Wait(wait));
        }
        let broken = |error: ports::SystemsError| Stop::Broken(error.to_string());
        let target = self.systems.target(map).await.map_err(broken)?;
        let source = self.systems.source(map).await.map_err(broken)?;
        let initializing = state.state == model::MapState::Initializing;
        let work = Work {
            plan: &plan,
            target: target.as_ref(),
            source: source.can_fetch().then_some(source.as_ref()),
            connection,
            lane,
            bulk: initializing && state.bulk && lane == Lane::Load,
            found_in: (initializing && !state.bulk).then_some(state.generation),
        };
        let (calm, suspicious): (Vec<&Item>, Vec<&Item>) =
            items.iter().partition(|item| item.receives < SUSPICIOUS);
        if !calm.is_empty() {
            let verdicts = self.write(&work, &calm).await?;
            self.conclude(&work, &calm, verdicts).await?;
        }
        for item in suspicious {
            let verdicts = Bisect::new(self, &work, item).run().await?;
            self.conclude(&work, &[item], verdicts).await?;
        }
        Ok(())
    }

    /// Writes the changes of packs in one batch; one verdict per change, pack after pack.
    pub(crate) async fn write(
        &self,
        work: &Work<'_>,
        items: &[&Item],
    ) -> Result<Vec<Verdict>, Stop> {
        let mut batch = Batch::new(work, items.iter().map(|item| &item.pack));
        let written = self.write_batch(work, &mut batch).await;
        match written {
            Ok(()) => {
                self.breakers.worked(work.connection).await?;
                Ok(batch.into_verdicts())
            }
            Err(error) => Err(self.target_stop(work, error).await),
        }
    }

    async fn target_stop(&self, work: &Work<'_>, error: TargetError) -> Stop {
        let waits = matches!(
            error,
            TargetError::Unavailable { .. } | TargetError::Throttled { .. }
        );
        if !waits {
            self.plans.forget(work.plan.map()).await;
            return Stop::Broken(error.to_string());
        }
        match self
            .breakers
            .failed(work.connection, &error.to_string(), error.retry_after())
            .await
        {
            Ok(wait) => {
                tracing::warn!(map.name = %work.plan.map(), "packs wait {} ms: {error}", wait.as_millis());
                Stop::Wait(wait)
            }
            Err(error) => Stop::Store(error),
        }
    }

    /// Reports, settles and cleans up, in this order: a failure is on its way to its store
    /// before its pack counts as done, and a pack counts once however often this is repeated.
    async fn conclude(
        &self,
        work: &Work<'_>,
        items: &[&Item],
        verdicts: Vec<Verdict>,
    ) -> Result<(), Stop> {
        ports::crash_point("apply.written");
        let mut verdicts = verdicts.into_iter();
        let mut settlements = Vec::with_capacity(items.len());
        let mut report = crate::verdict::Report::new(work.plan, self.clock.now());
        for item in items {
            let mut counts = Counts::default();
            for (index, change) in item.pack.changes.iter().enumerate() {
                let verdict = verdicts
                    .next()
                    .unwrap_or(Verdict::Ended(Outcome::Unchanged));
                counts.add(verdict.outcome(), 1);
                report.add(&item.pack.head, index, change, verdict);
            }
            settlements.push(Settlement {
                pack: item.pack.head.id,
                counts,
            });
        }
        report.send(&self.outbox).await?;
        ports::crash_point("apply.reported");
        if work.lane != Lane::Retry {
            self.ledger.settle(settlements).await?;
            ports::crash_point("apply.settled");
        }
        let blobs: Vec<String> = items.iter().filter_map(|item| item.blob.clone()).collect();
        Ok(self.outbox.close(&blobs).await?)
    }

    async fn park(&self, map: &MapName, lane: Lane, items: &[Item]) -> Result<(), Stop> {
        for item in items {
            self.parking
                .park(lane, &item.pack.head, &item.id, item.body.clone())
                .await?;
        }
        ports::crash_point("apply.parked");
        tracing::debug!(map.name = %map, pack.count = items.len(), "packs of map `{map}` are parked");
        Ok(())
    }

    /// Lets messages come back after a while. One that has come back very often is parked.
    async fn put_off(
        &self,
        map: &MapName,
        lane: Lane,
        items: Vec<Item>,
        wait: Duration,
    ) -> Vec<String> {
        let (old, young): (Vec<Item>, Vec<Item>) = items
            .into_iter()
            .partition(|item| item.receives >= PARK_AFTER);
        let mut failed = Vec::new();
        if !old.is_empty() {
            let release = RetryJob::Release { map: map.clone() };
            let parked = self.park(map, lane, &old).await;
            let sent = self
                .outbox
                .send(
                    QueueName::Retries,
                    Some(map),
                    "release",
                    &release,
                    RELEASE_AFTER,
                )
                .await;
            if parked.is_err() || sent.is_err() {
                failed.extend(old.into_iter().map(|item| item.id));
            }
        }
        for item in young {
            if let Err(error) = self
                .outbox
                .queue()
                .defer(lane.queue(), &item.receipt, wait)
                .await
            {
                tracing::debug!(message.id = %item.id, "a message comes back at its own time: {error}");
            }
            failed.push(item.id);
        }
        failed
    }

    /// Stops a map that only a person can help, and keeps its packs.
    async fn break_map(
        &self,
        map: &MapName,
        lane: Lane,
        items: Vec<Item>,
        reason: String,
    ) -> Vec<String> {
        tracing::error!(map.name = %map, "map `{map}` is stopped: {reason}");
        if self.definition.maps.contains_key(map) {
            // An error means that it is stopped already, or that the store is down: then the
            // packs come back and find it so.
            let _ = self
                .states
                .transition(map, MapEvent::Break { reason })
                .await;
        }
        match self.park(map, lane, &items).await {
            Ok(()) => Vec::new(),
            Err(_) => items.into_iter().map(|item| item.id).collect(),
        }
    }
}

fn plan_stop(error: &PlansError) -> Stop {
    if error.passes() {
        Stop::Wait(Duration::from_secs(5))
    } else {
        Stop::Broken(error.to_string())
    }
}

/// As much of a pack's envelope as may still be readable.
#[derive(serde::Deserialize)]
struct Remains {
    id: Option<PackId>,
    map: Option<MapName>,
    run: Option<RunId>,
    count: Option<u32>,
}

fn remains(body: &str) -> Remains {
    serde_json::from_str(body).unwrap_or(Remains {
        id: None,
        map: None,
        run: None,
        count: None,
    })
}

fn pack_of(body: &str) -> Option<PackId> {
    remains(body).id
}

fn unreadable(body: &str, lane: Lane, error: &DecodeError, now: jiff::Timestamp) -> Failure {
    let remains = remains(body);
    let map = remains.map.unwrap_or_else(MapName::unknown);
    let cause = Cause::new(
        ErrorClass::Invalid,
        Failure::UNREADABLE,
        format!(
            "a message on the {lane} lane cannot be read: {error}. If it comes from a newer version of syncline, update and retry it"
        ),
    );
    Failure {
        id: FailureId::of_message(body),
        key: None,
        op: Op::Upsert,
        origin: Origin::Webhook,
        fingerprint: Fingerprint::of(&map, &cause),
        cause,
        // Changes that were failures before are in the books already.
        weight: if lane == Lane::Retry {
            0
        } else {
            remains.count.unwrap_or(1)
        },
        run: remains.run.unwrap_or_else(|| RunId::live(&map)),
        map,
        generation: 0,
        map_version: String::new(),
        trace: None,
        attempts: 1,
        first: now,
        last: now,
        observed: now.as_microsecond(),
        due: None,
        status: FailureStatus::Open,
        raw: body.to_owned(),
        original: None,
        resolution: None,
    }
}
