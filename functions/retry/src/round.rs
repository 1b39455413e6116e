//! Sending failures round.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use model::{
    Change, Failure, FailureId, FailureStatus, Lane, Lease, MapName, Origin, PackHead, PackId,
    Packer, RunId, TraceId,
};
use ports::{CheckpointError, CheckpointsExt, Stored};
use runtime::Standing;
use serde::{Deserialize, Serialize};

use crate::{Retry, RetryError};

/// Failures sent round in one tick.
const DUE_AT_ONCE: usize = 2_000;
/// Failures marked and sent together.
const TOGETHER: usize = 200;
/// How long an attempt may be on its way before it counts as lost.
const LOST_AFTER: Duration = Duration::from_mins(15);
/// How long after the deadline of its worker a round counts as left behind. In the cloud a worker
/// does not live so long.
const GRACE: Duration = Duration::from_mins(1);
/// How long failures of a map that may not be applied wait before they are looked at again.
const LATER: Duration = Duration::from_secs(30);
/// The same for a map whose target is down.
const WHILE_DOWN: Duration = Duration::from_mins(2);
/// The same for a map that is not in the definition.
const MUCH_LATER: Duration = Duration::from_mins(10);

/// What the checkpoints of rounds begin with. They are few and short-lived, and looked for by
/// every tick: the second part is the same for all, so that they are in one place.
const ROUNDS: &str = "round/now/";

/// Failures that a worker is marking and sending. Should it die in between, nobody has sent those
/// that are marked, and this tells which they are.
#[derive(Debug, Serialize, Deserialize)]
struct Round {
    /// Who marks and sends them. It is taken away with the round; one that has ended is of a
    /// worker that is dead.
    lease: Lease,
    /// The due time of those it has marked.
    due: Timestamp,
    failures: Vec<FailureId>,
}

/// What failures must have in common to travel in one pack.
type Group = (MapName, RunId, Origin, u32, Option<TraceId>);

/// When a worker with this deadline is dead.
fn end_of(deadline: Timestamp) -> Timestamp {
    deadline.saturating_add(GRACE).unwrap_or(Timestamp::MAX)
}

fn group_of(failure: &Failure) -> Group {
    (
        failure.map.clone(),
        failure.run,
        failure.origin,
        failure.generation,
        failure.trace,
    )
}

impl Retry {
    /// Sends round what is due. What there is no time for stays due.
    pub(crate) async fn send_due(&self, deadline: Timestamp) -> Result<(), RetryError> {
        let due = self.failures.due(self.clock.now(), DUE_AT_ONCE).await?;
        self.send_round(due, deadline).await.map(drop)
    }

    /// Sends what workers have marked and did not live to send.
    pub(crate) async fn end_rounds(&self, deadline: Timestamp) -> Result<(), RetryError> {
        for (key, stored) in self.checkpoints.load_all::<Round>(ROUNDS).await? {
            let (round, now) = (stored.value, self.clock.now());
            if now >= deadline {
                return Ok(());
            }
            let Some(lease) = round.lease.take(now, end_of(deadline)) else {
                continue;
            };
            let round = Round { lease, ..round };
            let revision = match self
                .checkpoints
                .store(&key, Some(stored.revision), &round)
                .await
            {
                Ok(revision) => revision,
                // Another tick ends it.
                Err(CheckpointError::Conflict { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut left = Vec::new();
            for id in round.failures {
                // One that has been heard of since, or marked anew, is not as it was left.
                left.extend(self.failures.get(id).await?.filter(|stored| {
                    let failure = &stored.value;
                    failure.status == FailureStatus::Retrying && failure.due == Some(round.due)
                }));
            }
            if !left.is_empty() {
                let count = left.len();
                tracing::warn!(
                    failure.count = count,
                    "{count} failures that a worker marked and did not send are sent now"
                );
            }
            self.send_together(left, deadline).await?;
            self.forget(&key, revision).await?;
        }
        Ok(())
    }

    /// Sends failures to `apply`, some at least; returns those that there was no time for.
    pub(crate) async fn send_round(
        &self,
        chosen: Vec<Stored<Failure>>,
        deadline: Timestamp,
    ) -> Result<Vec<FailureId>, RetryError> {
        let mut chosen = chosen.into_iter();
        while chosen.len() > 0 {
            let some = chosen.by_ref().take(TOGETHER).collect();
            self.send_together(some, deadline).await?;
            if self.clock.now() >= deadline {
                break;
            }
        }
        Ok(chosen.map(|stored| stored.value.id).collect())
    }

    /// Marks failures as being tried and sends them. They are marked first: the outcome of a
    /// failure that is not marked is not taken for that of an attempt.
    async fn send_together(
        &self,
        chosen: Vec<Stored<Failure>>,
        deadline: Timestamp,
    ) -> Result<(), RetryError> {
        let now = self.clock.now();
        let mut ready = Vec::new();
        let mut waits = HashMap::new();
        for stored in chosen {
            if stored.value.is_message() {
                self.reread(stored, now).await?;
                continue;
            }
            let map = &stored.value.map;
            if !waits.contains_key(map) {
                waits.insert(map.clone(), self.waits(map).await?);
            }
            if let Some(wait) = waits.get(map).copied().flatten() {
                let status = stored.value.status;
                self.mark(&stored, status, now + wait).await?;
            } else {
                ready.push(stored);
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        let round = Round {
            lease: Lease {
                epoch: 1,
                until: Some(end_of(deadline)),
            },
            due: now + LOST_AFTER,
            failures: ready.iter().map(|stored| stored.value.id).collect(),
        };
        let key = format!("{ROUNDS}{}", self.clock.new_id());
        let revision = self.checkpoints.store(&key, None, &round).await?;
        let mut groups: BTreeMap<Group, Vec<Change>> = BTreeMap::new();
        for stored in &ready {
            if self
                .mark(stored, FailureStatus::Retrying, round.due)
                .await?
            {
                let group = groups.entry(group_of(&stored.value)).or_default();
                group.push(stored.value.to_change());
            }
        }
        ports::crash_point("retry.marked");
        for (group, changes) in groups {
            self.send_group(group, &changes, now).await?;
        }
        ports::crash_point("retry.sent");
        self.forget(&key, revision).await
    }

    /// Notes where a failure stands and when it is due; says whether nobody else has changed it.
    async fn mark(
        &self,
        stored: &Stored<Failure>,
        status: FailureStatus,
        due: Timestamp,
    ) -> Result<bool, RetryError> {
        let marked = Failure {
            status,
            due: Some(due),
            ..stored.value.clone()
        };
        match self.failures.put(Some(stored.revision), &marked).await {
            Ok(_) => Ok(true),
            Err(CheckpointError::Conflict { .. }) => Ok(false),
            Err(CheckpointError::Store(error)) => Err(error.into()),
        }
    }

    /// Ends a round, whoever else does.
    async fn forget(&self, key: &str, revision: ports::Revision) -> Result<(), RetryError> {
        match self.checkpoints.delete(key, revision).await {
            Ok(()) | Err(CheckpointError::Conflict { .. }) => Ok(()),
            Err(CheckpointError::Store(error)) => Err(error.into()),
        }
    }

    /// How long failures of a map wait that may not be applied now.
    async fn waits(&self, map: &MapName) -> Result<Option<Duration>, RetryError> {
        let Some(defined) = self.definition.maps.get(map) else {
            return Ok(Some(MUCH_LATER));
        };
        let state = self.states.recent(map).await?;
        if !state.applies(Lane::Retry) {
            return Ok(Some(LATER));
        }
        // They would be parked, and be sent again when they have been away for long.
        let now = self.clock.now();
        let waits = match self.breakers.standing(&defined.to.connection).await? {
            Standing::Works => false,
            // Somebody has to try again, and it may be that nothing else is there for it.
            Standing::Down { until, .. } => now < until || self.parking.holds(map).await?,
        };
        Ok(waits.then_some(WHILE_DOWN))
    }

    async fn send_group(
        &self,
        group: Group,
        changes: &[Change],
        now: Timestamp,
    ) -> Result<(), RetryError> {
        let (map, run, origin, generation, trace) = group;
        let new_id = || PackId::from_uuid(self.clock.new_id());
        let head = PackHead {
            id: new_id(),
            map,
            run,
            origin,
            generation,
            created: now,
            trace,
        };
        let mut packer = Packer::new(head, new_id);
        for change in changes {
            packer.push(change);
        }
        self.outbox.send_packs(Lane::Retry, packer.finish()).await?;
        Ok(())
    }
}
