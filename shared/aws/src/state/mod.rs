//! One DynamoDB table for all that is small: checkpoints, links, incidents, delivery names, books.
//!
//! Keys are `pk` and `sk`, both strings; the attribute `ttl` holds the second at which an item
//! may be deleted.
//!
//! | item | `pk` | `sk` |
//! |---|---|---|
//! | checkpoint | `C#<first part of its key>#<shard>` | its key |
//! | link | `L#<map>#<shard>` | `K<key>` |
//! | open batch of claims | `W#<its name>` | `W` |
//! | incident | `A#<its name>` | `A` |
//! | delivery name | `N#<digest>` | `N` |
//! | totals of a map | `B#<map>` | `T` |
//! | totals of a run with news | `B#<map>` | `A#<run>` |
//! | totals of a run without | `B#<map>` | `R#<run>` |
//! | an amendment | `B#<map>` | `X#<run>#<reason>` |
//! | packs of webhooks ([`journal`]) | `J#<64 s of time>#<shard>` | `<milliseconds>e<random>`, `<milliseconds>w<pack>` |
//! | how far these are added up | `J` | `cursor` |
//! | packs of eight seconds of a run | `H#<map>#<run>` | `s<the first of them>` |
//! | those of a part of these | `H#<map>#<run>#s<the first>.<part>` | `s<the first>.<part>` |
//! | late news of older packs | `H#<map>#<run>` | `s<second>x<random>` |

mod active;
mod books;
mod bucket;
mod checkpoints;
mod fold;
mod incidents;
mod item;
mod journal;
mod ledger;
mod links;
mod names;
mod place;
#[cfg(feature = "testing")]
pub(crate) mod testing;

use std::sync::{Arc, atomic::AtomicBool};

use aws_sdk_dynamodb::Client;
use model::MapName;
use ports::Clock;

use crate::ready::Found;

pub(crate) use incidents::Incident;
pub use ledger::{DynamoLedger, ReportsWaiting, StoredFailures};

/// Shards of what is listed as a whole and written by many.
const SHARDS: u32 = 8;

/// The table of a deployment's state.
#[derive(Debug, Clone)]
pub struct StateTable {
    client: Client,
    table: String,
    clock: Arc<dyn Clock>,
    active: active::Known,
    buckets: bucket::Recent,
    /// Whether it is known that the journal has begun.
    journal: Arc<AtomicBool>,
}

impl StateTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            table: table.into(),
            clock,
            active: active::Known::default(),
            buckets: bucket::Recent::default(),
            journal: Arc::default(),
        }
    }

    /// Whether the table is there and may be read.
    pub(crate) async fn may_read(&self) -> Found {
        self.as_table().may_read().await
    }

    /// Whether the journal is added up in this minute.
    pub(crate) fn is_turn_of_journal(&self) -> bool {
        let minute = self.now().div_euclid(60);
        minute.rem_euclid(i64::from(TURNS)) == 0
    }

    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }
}

/// A revision that no other write has.
fn new_revision() -> u64 {
    // DynamoDB's numbers hold more; `u64` read back as `i64` would not.
    fastrand::u64(1..=u64::MAX >> 1)
}

/// A number for a name. FNV-1a: it must be the same in every version of this program.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The shard of a name.
fn shard(name: &str) -> u32 {
    hash(name) % SHARDS
}

/// Minutes in which each map, and the journal, has its turn once.
const TURNS: u32 = 5;

/// Whether it is the turn of a map in this minute: to look after the books of each in every
/// minute would cost ten thousand idle maps a hundred dollars a month.
pub(crate) fn is_turn_of(map: &MapName, minute: i64) -> bool {
    minute.rem_euclid(i64::from(TURNS)) == i64::from(hash(map.as_str()) / SHARDS % TURNS)
}
