//! The journal: the books of webhooks.
//!
//! A webhook is a pack of its own. To count it once it has to be remembered, and to write an item
//! for each would cost more than all else that is done for it. So whoever settles a batch writes one
//! entry with all its packs, of whatever map, and what became of each. Entries are never changed, and
//! nothing is read before one is written: workers do not meet, and what a webhook costs hardly
//! depends on how many maps there are.
//!
//! A pack can be in two entries, as it can be delivered twice, and must count once:
//!
//! - An entry stands at the time when the first of its packs was made, and has only packs made
//!   within [`SPAN`] of each other; a pack's identifier says when it was made. So where it may be is
//!   known.
//! - Who adds entries up goes through them in order of time and remembers the packs of the last
//!   [`WINDOW`] ([`scan`]). Of two entries the one that was written first stands.
//! - That a pack had failures is said in an item of its own, which two attempts cannot both make.
//!   It stands before all entries, so that what it says stays true; and who makes it looks
//!   before whether an entry has the pack.
//! - What is entered when its time may have been added up already ([`YOUNG`]) is looked for first,
//!   and counted now: a mark at its own time says so, to who looks there later and to who adds up.
//!
//! [`fold`] adds up what is old, for all maps at once.

mod entry;
mod fold;
mod look;
mod scan;
mod write;

use model::{MapName, PackId, RunId, Settlement};

pub(super) use self::fold::Unfolded;
#[cfg(feature = "testing")]
pub(super) use self::write::items;
use entry::Webhook;

/// Partitions of each [`SLOT`]. One takes a thousand units of writing a second, which is the entries
/// of a hundred thousand webhooks in full batches, and gives three thousand of reading.
const SHARDS: u32 = 2;
/// The time of which all entries have a partition of their own, in milliseconds.
const SLOT: i64 = 64_000;
/// How long after the first of its packs the others of an entry were made at most, in milliseconds.
const SPAN: i64 = 16_000;
/// How far apart entries can be that have the same pack, in milliseconds: made at the pack's own time,
/// [`SPAN`]; made now, as long as it takes from the look whether there is one to the write.
const WINDOW: i64 = 64_000;
/// Packs younger than this, in milliseconds, are entered at their own time.
const YOUNG: i64 = 4 * 60 * 1_000;
/// How long packs are remembered, in seconds: longer than any queue keeps a message.
const REMEMBERED: i64 = 15 * 24 * 3_600;
/// Entries of one page.
const PAGE: usize = 200;

const WHAT: &str = "entering webhooks in the books";

/// When a pack was made that belongs in the journal: all of the run of webhooks, but for parts of
/// packs, whose identifiers tell no time.
pub(super) fn made(id: PackId, map: &MapName, run: RunId) -> Option<i64> {
    id.made().filter(|_| run == RunId::live(map))
}

/// Those of some settlements that belong in the journal, and the others.
pub(super) fn divide(all: &[Settlement]) -> (Vec<Webhook<'_>>, Vec<&Settlement>) {
    let (mut webhooks, mut others) = (Vec::new(), Vec::new());
    for settled in all {
        let pack = &settled.pack;
        match made(pack.id, &pack.map, pack.run) {
            Some(made) => webhooks.push(Webhook { made, settled }),
            None => others.push(settled),
        }
    }
    (webhooks, others)
}
