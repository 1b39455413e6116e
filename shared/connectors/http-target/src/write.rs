//! A batch, round by round.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use mapping::RequestKind;
use model::{Cause, ErrorClass, Lane, Value};
use ports::{RowOp, RowOutcome, TableSpec, TargetError, WriteBatch};
use tokio::time::Instant;

use crate::{
    HttpTarget,
    claims::Claims,
    keys,
    send::Group,
    state::{Errand, Step, step},
};

/// How long a row is waited for that somebody else is writing, longer than most rounds last, and
/// how often it is looked at: less and less, because each look costs.
const PATIENCE: Duration = Duration::from_secs(4);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_millis(160);
/// Failed requests in a row, and none that was answered otherwise, after which an endpoint
/// counts as down.
const MANY: usize = 10;

/// A row that the endpoint has to be called for.
#[derive(Debug)]
pub(crate) struct Job<'b> {
    /// Its place in the batch.
    pub(crate) at: usize,
    pub(crate) key: String,
    pub(crate) row: &'b [Value<'b>],
    pub(crate) errand: Errand,
    /// Whether its link has not been read.
    pub(crate) blind: bool,
}

/// What became of a row in a round.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It is decided.
    Done(RowOutcome),
    /// Its link is looked at, and what is to be done decided again.
    Open,
    /// It has not been begun.
    Later,
    /// It is tried again among fewer others.
    Among(usize),
}

/// What the answers to a batch say of the endpoint.
#[derive(Debug)]
pub(crate) struct Health {
    lane: Lane,
    good: bool,
    strikes: usize,
    stop: Option<TargetError>,
    gone: Option<TargetError>,
}

impl Health {
    /// It took a record, or refused one.
    pub(crate) fn works(&mut self) {
        self.good = true;
        self.strikes = 0;
    }

    /// It failed with a record, which may be the record's fault or its own. `gone` says that
    /// a proxy has nobody behind it.
    pub(crate) fn fails(&mut self, cause: &Cause, gone: bool) {
        self.strikes += 1;
        let down = || TargetError::Unavailable {
            what: cause.message.clone(),
            retry_after: cause.retry_after,
        };
        if gone && self.gone.is_none() {
            self.gone = Some(down());
        }
        // Failures that are tried again are no proof, however many they are.
        if self.strikes >= MANY && !self.good && self.lane != Lane::Retry {
            self.stop(down());
        }
    }

    /// No record has a chance now.
    pub(crate) fn stop(&mut self, error: TargetError) {
        self.stop.get_or_insert(error);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.is_some()
    }

    fn verdict(&mut self) -> Result<(), TargetError> {
        let gone = self.gone.take().filter(|_| !self.good);
        self.stop.take().or(gone).map_or(Ok(()), Err)
    }
}

/// A batch that is being written.
pub(crate) struct Writing<'b> {
    pub(crate) batch: &'b WriteBatch<'b>,
    keys: Vec<String>,
    digests: Vec<String>,
    outcomes: Vec<Option<RowOutcome>>,
    /// Rows that are written without a look at their links.
    blind: Vec<bool>,
    /// Among how many others a row may be sent.
    among: Vec<usize>,
    health: Mutex<Health>,
}

impl<'b> Writing<'b> {
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Vec<usize> {
        let all = self.outcomes.iter().enumerate();
        all.filter(|(_, outcome)| outcome.is_none())
            .map(|(at, _)| at)
            .collect()
    }

    /// A job for a row whose link has not been read.
    fn unread(&self, at: usize) -> Option<Job<'b>> {
        let RowOp::Upsert { version } = self.batch.ops[at] else {
            return None;
        };
        Some(Job {
            at,
            key: self.keys[at].clone(),
            row: self.batch.rows.row(at),
            errand: Errand::unread(version, &self.digests[at]),
            blind: true,
        })
    }

    fn conclude(&mut self, at: usize, fate: Fate) {
        self.blind[at] &= matches!(fate, Fate::Later);
        match fate {
            Fate::Done(outcome) => self.outcomes[at] = Some(outcome),
            Fate::Open | Fate::Later => {}
            Fate::Among(others) => self.among[at] = others,
        }
    }
}

/// What a round finds.
#[derive(Default)]
struct Round<'b> {
    jobs: Vec<Job<'b>>,
    /// Rows that others are writing, and until when.
    busy: Vec<(usize, jiff::Timestamp)>,
}

impl HttpTarget {
    pub(crate) async fn write_rows(
        &self,
        table: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> Result<Vec<RowOutcome>, TargetError> {
        let count = batch.ops.len();
        let mut writing = Writing {
            batch,
            keys: keys(table, &batch.rows),
            digests: batch.rows.iter().map(|row| self.digest(row)).collect(),
            outcomes: vec![None; count],
            // A load has to note in the links what it has found.
            blind: batch
                .ops
                .iter()
                .map(|op| batch.found_in.is_none() && matches!(op, RowOp::Upsert { .. }))
                .collect(),
            among: vec![usize::MAX; count],
            health: Mutex::new(Health {
                lane: batch.lane,
                good: false,
                strikes: 0,
                stop: None,
                gone: None,
            }),
        };
        let (mut waiting_since, mut pause) = (Instant::now(), LOOK_AGAIN);
        loop {
            let open = writing.open();
            if open.is_empty() {
                break;
            }
            let round = self.decide(&mut writing, &open).await?;
            if !round.jobs.is_empty() {
                self.send_all(&mut writing, round.jobs).await?;
                (waiting_since, pause) = (Instant::now(), LOOK_AGAIN);
            } else if waiting_since.elapsed() >= PATIENCE {
                self.give_up(&mut writing, round.busy);
            } else if !round.busy.is_empty() {
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                pause = (pause * 2).min(SELDOM);
            }
        }
        writing.health().verdict()?;
        Ok(writing.outcomes.into_iter().flatten().collect())
    }

    /// Decides the rows whose links say all, and returns the others.
    async fn decide<'b>(
        &self,
        writing: &mut Writing<'b>,
        open: &[usize],
    ) -> Result<Round<'b>, TargetError> {
        let store_error = |error| self.store_error(&error);
        let mut round = Round::default();
        let (blind, open): (Vec<usize>, Vec<usize>) =
            open.iter().partition(|at| writing.blind[**at]);
        round.jobs = blind
            .into_iter()
            .filter_map(|at| writing.unread(at))
            .collect();
        let keys: Vec<String> = open.iter().map(|at| writing.keys[*at].clone()).collect();
        if keys.is_empty() {
            return Ok(round);
        }
        let links = self
            .links
            .get(&self.map, &keys)
            .await
            .map_err(store_error)?;
        let now = self.client.now();
        let batch = writing.batch;
        let (mut notes, mut rows) = (Vec::new(), Vec::new());
        for ((at, key), stored) in open.iter().copied().zip(keys).zip(links) {
            let (op, digest) = (&batch.ops[at], &writing.digests[at]);
            match step(stored.as_ref(), op, digest, batch.found_in, now) {
                Step::Leave(outcome) => writing.outcomes[at] = Some(outcome),
                Step::Note(link, outcome) => {
                    notes.push((key, stored.map(|stored| stored.revision), link));
                    rows.push((at, outcome));
                }
                Step::Busy(until) => round.busy.push((at, until)),
                // The map ignores deletes.
                Step::Call(errand) if self.requests.shape(errand.kind).is_none() => {
                    writing.outcomes[at] = Some(RowOutcome::Unchanged);
                }
                Step::Call(errand) => round.jobs.push(Job {
                    at,
                    key,
                    row: batch.rows.row(at),
                    errand,
                    blind: false,
                }),
            }
        }
        if !notes.is_empty() {
            let written = self
                .links
                .put(&self.map, notes)
                .await
                .map_err(store_error)?;
            for ((at, outcome), revision) in rows.into_iter().zip(written) {
                writing.outcomes[at] = revision.map(|_| outcome);
            }
        }
        Ok(round)
    }

    async fn send_all<'b>(
        &self,
        writing: &mut Writing<'b>,
        jobs: Vec<Job<'b>>,
    ) -> Result<(), TargetError> {
        let mut groups = self.groups(writing, jobs);
        // Records that make an endpoint fail tend to lie side by side. In any other order a
        // good one among them is soon found, which shows that the endpoint works.
        fastrand::shuffle(&mut groups);
        let (shared, claims) = (&*writing, Claims::new());
        let sent: Vec<_> = groups
            .into_iter()
            .map(|group| self.send(shared, &claims, group))
            .collect();
        let fates: Vec<_> = stream::iter(sent)
            .buffer_unordered(self.concurrency)
            .collect()
            .await;
        let confirmed = self.confirm(claims).await;
        let confirmed = confirmed.map_err(|error| self.store_error(&error))?;
        for (at, fate) in fates.into_iter().flatten().chain(confirmed) {
            writing.conclude(at, fate);
        }
        let mut health = writing.health();
        if health.stopped() {
            return health.verdict();
        }
        Ok(())
    }

    /// Rows that are sent together.
    fn groups<'b>(&self, writing: &Writing<'b>, jobs: Vec<Job<'b>>) -> Vec<Group<'b>> {
        let mut groups: Vec<Group<'b>> = Vec::new();
        let mut last: [Option<(usize, usize)>; 2] = [None; 2];
        for job in jobs {
            let kind = job.errand.kind;
            let at_once = self.requests.shape(kind).map_or(1, |shape| shape.at_once);
            let most = at_once.min(writing.among[job.at]);
            let slot = &mut last[usize::from(kind == RequestKind::Delete)];
            match slot {
                Some((group, room)) if groups[*group].jobs.len() < most.min(*room) => {
                    *room = most.min(*room);
                    groups[*group].jobs.push(job);
                }
                _ => {
                    *slot = Some((groups.len(), most));
                    groups.push(Group {
                        kind,
                        jobs: vec![job],
                    });
                }
            }
        }
        groups
    }

    fn give_up(&self, writing: &mut Writing<'_>, busy: Vec<(usize, jiff::Timestamp)>) {
        let now = self.client.now();
        for (at, until) in busy {
            let message = format!(
                "somebody else may still be writing this record, until {until} at the latest: it is tried again then"
            );
            let mut cause = Cause::new(ErrorClass::Transient, "claimed", message);
            cause.retry_after = Duration::try_from(until.duration_since(now)).ok();
            writing.outcomes[at] = Some(RowOutcome::Failed(Box::new(cause)));
        }
    }
}
