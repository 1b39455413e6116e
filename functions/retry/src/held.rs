//! One worker releases for a map at a time: two would send the same packs.

use std::time::Duration;

use jiff::Timestamp;
use model::{Lease, MapName};
use ports::{CheckpointError, CheckpointsExt, Revision, StoreError, Stored};
use serde::{Deserialize, Serialize};

use crate::{Retry, RetryError};

/// How long a worker holds a map beyond its deadline, for the packs it is sending then. In the
/// cloud it does not live so long.
const GRACE: Duration = Duration::from_mins(1);

/// What is kept of a map's releases.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct Releases {
    /// Who releases right now.
    lease: Lease,
    /// Whether somebody else came for the same meanwhile: the holder may have looked already, and
    /// has to look again.
    asked: bool,
}

/// Whether who finds a map held comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comes {
    /// It is a job, and the holder has to do what it came for.
    Once,
    /// It is a tick, and looks again with the next one.
    Again,
}

/// A map held by this worker.
#[derive(Debug)]
pub(crate) struct Held {
    key: String,
    lease: Lease,
    revision: Revision,
}

fn key(map: &MapName) -> String {
    format!("release/{map}")
}

impl Retry {
    /// Holds a map until its releases are given back, or a while after `deadline`. `None` while
    /// another worker holds it, which is told if this one does not come again.
    pub(crate) async fn hold(
        &self,
        map: &MapName,
        deadline: Timestamp,
        comes: Comes,
    ) -> Result<Option<Held>, RetryError> {
        let key = key(map);
        let until = deadline.saturating_add(GRACE).unwrap_or(Timestamp::MAX);
        loop {
            let (revision, found) = self.releases(&key).await?;
            let taken = found.lease.take(self.clock.now(), until);
            if taken.is_none() && (found.asked || comes == Comes::Again) {
                return Ok(None);
            }
            let next = Releases {
                lease: taken.unwrap_or(found.lease),
                asked: taken.is_none(),
            };
            match self.checkpoints.store(&key, revision, &next).await {
                Ok(revision) => {
                    return Ok(taken.map(|lease| Held {
                        key,
                        lease,
                        revision,
                    }));
                }
                Err(CheckpointError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives a map back; says whether somebody came for it meanwhile.
    pub(crate) async fn give_back(&self, held: Held) -> Result<bool, RetryError> {
        let (mut revision, mut asked) = (Some(held.revision), false);
        loop {
            let free = Releases {
                lease: held.lease.released(),
                asked: false,
            };
            match self.checkpoints.store(&held.key, revision, &free).await {
                Ok(_) => return Ok(asked),
                Err(CheckpointError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let found;
            (revision, found) = self.releases(&held.key).await?;
            // Whoever has taken it over does what is left.
            if found.lease != held.lease {
                return Ok(false);
            }
            asked = found.asked;
        }
    }

    async fn releases(&self, key: &str) -> Result<(Option<Revision>, Releases), StoreError> {
        let stored = self.checkpoints.load::<Releases>(key).await?;
        Ok(
            stored.map_or_else(Default::default, |Stored { value, revision }| {
                (Some(revision), value)
            }),
        )
    }
}
