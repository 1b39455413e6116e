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

/// What all workers share: calls that may be made, as of a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// Token buckets over the checkpoint table.
///
/// A worker takes the calls of about a tenth of a second at once and spends them from memory,
/// so that the shared record is written some ten times a second and not once per call. The
/// lanes share one bucket, but `load` may take only while it is half full and `retry` only
/// while it is a quarter full: what is left is for `live`. A bucket that holds one call is
/// shared as it comes.
#[derive(Debug, Clone)]
pub struct Rates {
    checkpoints: Arc<dyn Checkpoints>,
    clock: Arc<dyn Clock>,
    held: Arc<Mutex<HashMap<(ConnectionName, Lane), f64>>>,
}

/// Share of the bucket that has to stay when this lane takes.
fn reserve(lane: Lane) -> f64 {
    match lane {
        Lane::Live => 0.0,
        Lane::Retry => 0.25,
        Lane::Load => 0.5,
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

    /// Takes one call, or says how long to wait before asking again.
    pub async fn take(
        &self,
        connection: &ConnectionName,
        rate: Rate,
        lane: Lane,
    ) -> Result<Option<Duration>, StoreError> {
        let id = (connection.clone(), lane);
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(tokens) = held.get_mut(&id).filter(|tokens| **tokens >= 1.0) {
                *tokens -= 1.0;
                return Ok(None);
            }
        }
        let capacity = rate.per_second.max(1.0);
        let wanted = (rate.per_second / 10.0).max(1.0).floor();
        let key = format!("rate/{connection}");
        loop {
            let stored = self.checkpoints.load::<Bucket>(&key).await?;
            let now = self.clock.now();
            let (revision, tokens) = match stored {
                Some(stored) => {
                    let passed = now.duration_since(stored.value.at).as_secs_f64().max(0.0);
                    let filled = (stored.value.tokens + passed * rate.per_second).min(capacity);
                    (Some(stored.revision), filled)
                }
                None => (None, capacity),
            };
            // However slow the rate, one call fits in beside what is kept for others.
            let free = tokens - (capacity - 1.0) * reserve(lane);
            if free < 1.0 {
                let missing = (1.0 - free) / rate.per_second;
                return Ok(Some(Duration::from_secs_f64(missing.clamp(0.001, 60.0))));
            }
            let taken = wanted.min(free.floor());
            let left = Bucket {
                tokens: tokens - taken,
                at: now,
            };
            match self.checkpoints.store(&key, revision, &left).await {
                Ok(_) => {
                    let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                    *held.entry(id).or_default() += taken - 1.0;
                    return Ok(None);
                }
                Err(CheckpointError::Conflict { .. }) => {}
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
