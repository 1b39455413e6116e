//! The claims of a round: made before the calls, confirmed together after them.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use ports::{ClaimBatch, Claimed, Link, Revision, RowOutcome, StoreError};
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    HttpTarget,
    write::{Fate, Job},
};

/// How long calls are begun in a round. Until it ends nobody else may write its rows, and
/// ending it costs two writes in the cloud.
const ROUND: Duration = Duration::from_secs(2);

/// A row that the endpoint has, and that its link does not say yet.
#[derive(Debug)]
struct Done {
    at: usize,
    key: String,
    revision: Revision,
    link: Link,
    outcome: RowOutcome,
}

/// The claims of a round.
#[derive(Debug)]
pub(crate) struct Claims {
    began: Instant,
    batch: OnceCell<ClaimBatch>,
    done: Mutex<Vec<Done>>,
    /// Whether a row that was not done may still be claimed.
    spoiled: AtomicBool,
}

/// A row that is ours to write.
pub(crate) type Ours<'b> = (Job<'b>, Revision);

/// What became of the claims of a request.
#[derive(Default)]
pub(crate) struct ClaimedRows<'b> {
    pub(crate) ours: Vec<Ours<'b>>,
    /// Rows that somebody else writes, or whose links have to be read.
    pub(crate) others: Vec<usize>,
}

impl Claims {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            batch: OnceCell::new(),
            done: Mutex::default(),
            spoiled: AtomicBool::new(false),
        }
    }

    /// Whether no more calls are begun.
    pub(crate) fn is_over(&self) -> bool {
        self.began.elapsed() >= ROUND
    }

    pub(crate) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    /// Notes that the endpoint has a row.
    pub(crate) fn note(&self, (job, revision): Ours<'_>) {
        let done = Done {
            at: job.at,
            link: job.errand.done(),
            outcome: job.errand.outcome,
            key: job.key,
            revision,
        };
        let mut all = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(done);
    }
}

impl HttpTarget {
    /// Claims rows: those that nobody has looked at, and those whose links are known.
    pub(crate) async fn claim<'b>(
        &self,
        claims: &Claims,
        jobs: Vec<Job<'b>>,
    ) -> Result<ClaimedRows<'b>, StoreError> {
        let until = self.ends();
        let begin = || async {
            let batch = ClaimBatch::new(until);
            self.links.begin(&self.map, &batch).await.map(|()| batch)
        };
        let batch = claims.batch.get_or_try_init(begin).await?;
        let (mut blind, mut known) = (Vec::new(), Vec::new());
        for mut job in jobs {
            job.errand.is_claimed(until, &batch.name);
            if job.blind {
                blind.push(job);
            } else {
                known.push(job);
            }
        }
        let mut rows = ClaimedRows::default();
        self.claim_blind(blind, &mut rows).await?;
        self.claim_known(known, &mut rows).await?;
        ports::crash_point("http.claimed");
        Ok(rows)
    }

    fn ends(&self) -> Timestamp {
        let until = self.client.now().saturating_add(self.lease);
        until.unwrap_or(Timestamp::MAX)
    }

    async fn claim_blind<'b>(
        &self,
        jobs: Vec<Job<'b>>,
        rows: &mut ClaimedRows<'b>,
    ) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let claims = jobs.iter();
        let claims = claims.map(|job| (job.key.clone(), job.errand.claim()));
        let claimed = self.links.claim(&self.map, claims.collect()).await?;
        for (mut job, claimed) in jobs.into_iter().zip(claimed) {
            match claimed {
                Claimed::Ours { before, revision } => {
                    job.errand.learn(before);
                    rows.ours.push((job, revision));
                }
                Claimed::Look => rows.others.push(job.at),
            }
        }
        Ok(())
    }

    async fn claim_known<'b>(
        &self,
        jobs: Vec<Job<'b>>,
        rows: &mut ClaimedRows<'b>,
    ) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let links = jobs.iter();
        let links = links.map(|job| (job.key.clone(), job.errand.revision, job.errand.claimed()));
        let claimed = self.links.put(&self.map, links.collect()).await?;
        for (job, revision) in jobs.into_iter().zip(claimed) {
            match revision {
                Some(revision) => rows.ours.push((job, revision)),
                // Somebody else was first.
                None => rows.others.push(job.at),
            }
        }
        Ok(())
    }

    /// Ends a round: writes down what the endpoint has.
    pub(crate) async fn confirm(&self, claims: Claims) -> Result<Vec<(usize, Fate)>, StoreError> {
        let Some(batch) = claims.batch.into_inner() else {
            return Ok(Vec::new());
        };
        let done = claims.done.into_inner();
        let done = done.unwrap_or_else(PoisonError::into_inner);
        let (mut rows, mut links) = (Vec::new(), Vec::new());
        for done in done {
            rows.push((done.at, done.outcome));
            links.push((done.key, done.revision, done.link));
        }
        let written = if claims.spoiled.into_inner() {
            let links = links.into_iter();
            let links = links.map(|(key, revision, link)| (key, Some(revision), link));
            self.links.put(&self.map, links.collect()).await?
        } else {
            self.links.confirm(&self.map, &batch, links).await?
        };
        let fate = |((at, outcome), revision): ((usize, RowOutcome), Option<Revision>)| {
            // Without a revision the claim had ended, and somebody else wrote meanwhile.
            let outcome = revision.map_or(RowOutcome::Tie, |_| outcome);
            (at, Fate::Done(outcome))
        };
        Ok(rows.into_iter().zip(written).map(fate).collect())
    }
}
