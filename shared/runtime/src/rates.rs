//! Rate limits that all workers share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use model::{ConnectionName, Lane};
use ports::{CheckpointError, Checkpoints, CheckpointsExt, Clock, StoreError};
use serde::{Deserialize, Serialize};

/// A declared rate: so many calls per second on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Calls per second.
    pub per_second: f64,
}

impl Rate {
    /// Calls that may be made at once after a pause: those of a second.
    fn capacity(self) -> f64 {
        self.per_second.max(1.0)
    }

    /// Calls that a worker takes at once: those of a tenth of a second.
    fn lease(self) -> f64 {
        (self.per_second / 10.0).max(1.0).floor()
    }

    /// When so many calls have come to be allowed.
    fn time_for(self, calls: f64) -> Duration {
        Duration::from_secs_f64((calls / self.per_second).clamp(0.001, 60.0))
    }
}

/// How long a worker may keep what it has taken; then it counts as not made. A Lambda function
/// can stand still for minutes with calls in its hands, and many of them would make theirs at
/// once when they wake.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// How far ahead of time the live lane may take, in seconds. Whoever comes then knows when it is
/// its turn and need not ask again.
const AHEAD: f64 = 2.0;
/// How far the clocks of workers may differ.
const SKEW: Duration = Duration::from_secs(5);
/// Longest wait, at the first and at every time, after somebody else took at the same moment.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// What all workers share: calls that may be made, as of a moment. Below zero they have been
/// taken ahead of time.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// Calls in the hands of one worker.
#[derive(Debug)]
struct Lease {
    tokens: f64,
    from: Timestamp,
}

impl Lease {
    fn is_over(&self, now: Timestamp) -> bool {
        self.from + GOOD_FOR < now
    }
}

/// The leases of one worker on one connection and lane.
type Leases = Vec<Lease>;

/// Token buckets over the checkpoint table.
///
/// A worker takes the calls of about a tenth of a second at once and spends them from memory,
/// so that the shared record is written some ten times a second and not once per call. What it
/// has not spent after a second it gives back. Over any time no more calls are made than the rate
/// allows for it and for two seconds more, by however many workers.
///
/// The lanes share one bucket, but `load` may take only while it is half full and `retry` only
/// while it is a quarter full: what is left is for `live`, which may take ahead of time as well.
/// A bucket that holds one call is shared as it comes.
#[derive(Debug, Clone)]
pub struct Rates {
    checkpoints: Arc<dyn Checkpoints>,
    clock: Arc<dyn Clock>,
    held: Arc<Mutex<HashMap<(ConnectionName, Lane), Leases>>>,
}

/// Share of the bucket that has to stay when this lane takes.
fn reserve(lane: Lane) -> f64 {
    match lane {
        Lane::Live => 0.0,
        Lane::Retry => 0.25,
        Lane::Load => 0.5,
    }
}

/// How it ends when a lane asks for calls while there are `tokens`.
fn grant(rate: Rate, lane: Lane, tokens: f64, random: f64) -> Result<(f64, Duration), Duration> {
    let lease = rate.lease();
    // However slow the rate, one call fits in beside what is kept for others.
    let kept = (rate.capacity() - 1.0) * reserve(lane);
    let free = tokens - kept;
    if free >= 1.0 {
        return Ok((lease.min(free.floor()), Duration::ZERO));
    }
    let ahead = AHEAD * rate.per_second;
    if lane == Lane::Live && tokens - lease >= -ahead {
        return Ok((lease, rate.time_for(lease - tokens)));
    }
    // Who asks late finds more, as long as the bucket has room: so all come at other times.
    let (missing, room) = if lane == Lane::Live && ahead >= lease {
        (lease - ahead - tokens, ahead)
    } else {
        let wanted = lease.min(rate.capacity() - kept);
        (wanted - free, lease.min(rate.capacity() - kept - wanted))
    };
    Err(rate.time_for(missing + room * random))
}

/// Until when the bucket has been filled: it must not be filled for the same time again because a
/// worker's clock is behind another's. One that is far ahead holds nobody up.
fn later(filled: Timestamp, now: Timestamp) -> Timestamp {
    if filled <= now + SKEW {
        filled.max(now)
    } else {
        now
    }
}

impl Rates {
    /// Buckets kept in a checkpoint table.
    #[must_use]
    pub fn new(checkpoints: Arc<dyn Checkpoints>, clock: Arc<dyn Clock>) -> Self {
        Self {
            checkpoints,
            clock,
            held: Arc::default(),
        }
    }

    fn with_held<T>(&self, id: &(ConnectionName, Lane), work: impl FnOnce(&mut Leases) -> T) -> T {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        work(held.entry(id.clone()).or_default())
    }

    /// Takes a call out of what this worker has; says how long to wait where that is for later,
    /// and what it has kept for too long where it has nothing.
    fn take_held(&self, id: &(ConnectionName, Lane)) -> Result<Option<Duration>, f64> {
        let now = self.clock.now();
        self.with_held(id, |leases| {
            leases.retain(|lease| lease.tokens > 0.0);
            let mut good = leases.iter_mut().filter(|lease| !lease.is_over(now));
            if let Some(lease) = good.find(|lease| lease.from <= now) {
                lease.tokens -= 1.0;
                return Ok(None);
            }
            let good = leases.iter().filter(|lease| !lease.is_over(now));
            if let Some(from) = good.map(|lease| lease.from).min() {
                let wait = Duration::try_from(from.duration_since(now)).unwrap_or_default();
                return Ok(Some(wait.max(Duration::from_millis(1))));
            }
            Err(leases.drain(..).map(|lease| lease.tokens).sum())
        })
    }

    /// Keeps what could not be given back yet.
    fn keep(&self, id: &(ConnectionName, Lane), unspent: f64, now: Timestamp) {
        let from = now - GOOD_FOR * 2;
        let tokens = unspent;
        self.with_held(id, |leases| leases.push(Lease { tokens, from }));
    }

    /// Takes one call, or says how long to wait before asking again.
    pub async fn take(
        &self,
        connection: &ConnectionName,
        rate: Rate,
        lane: Lane,
    ) -> Result<Option<Duration>, StoreError> {
        let id = (connection.clone(), lane);
        let unspent = match self.take_held(&id) {
            Ok(taken) => return Ok(taken),
            Err(unspent) => unspent,
        };
        let key = format!("rate/{connection}");
        let mut backoff = FIRST_BACKOFF;
        loop {
            let stored = self.checkpoints.load::<Bucket>(&key).await?;
            let now = self.clock.now();
            let (revision, tokens, at) = match stored {
                Some(stored) => {
                    let Bucket { tokens, at } = stored.value;
                    let passed = now.duration_since(at).as_secs_f64().max(0.0);
                    let filled = tokens + passed * rate.per_second;
                    (Some(stored.revision), filled, later(at, now))
                }
                None => (None, rate.capacity(), now),
            };
            let tokens = (tokens + unspent).min(rate.capacity());
            let (taken, wait) = match grant(rate, lane, tokens, self.clock.random()) {
                Ok(granted) => granted,
                Err(wait) => {
                    self.keep(&id, unspent, now);
                    return Ok(Some(wait));
                }
            };
            let left = Bucket {
                tokens: tokens - taken,
                at,
            };
            match self.checkpoints.store(&key, revision, &left).await {
                Ok(_) => {
                    let (tokens, from) = (taken, now + wait);
                    self.with_held(&id, |leases| leases.push(Lease { tokens, from }));
                    return Ok(self.take_held(&id).unwrap_or(Some(wait)));
                }
                Err(CheckpointError::Conflict { .. }) => {
                    self.clock.sleep(backoff.mul_f64(self.clock.random())).await;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
                Err(CheckpointError::Store(error)) => return Err(error),
            }
        }
    }
}

/// The rate that a connection has declared, kept together with all others that call it.
#[derive(Debug, Clone)]
pub struct Pace {
    connection: ConnectionName,
    rate: Option<Rate>,
    rates: Rates,
}

impl Pace {
    /// The pace of a connection; without a declared rate nobody ever waits.
    #[must_use]
    pub fn new(connection: ConnectionName, per_second: Option<f64>, rates: Rates) -> Self {
        Self {
            connection,
            rate: per_second.map(|per_second| Rate { per_second }),
            rates,
        }
    }

    /// Waits until the rate allows one more call on `lane`.
    pub async fn turn(&self, lane: Lane) -> Result<(), StoreError> {
        let Some(rate) = self.rate else { return Ok(()) };
        while let Some(wait) = self.rates.take(&self.connection, rate, lane).await? {
            self.rates.clock.sleep(wait).await;
        }
        Ok(())
    }
}
