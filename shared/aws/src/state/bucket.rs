//! The packs of a run that were made within eight seconds, in one item.
//!
//! To count a pack once, it has to be remembered. An item for each pack would cost as much as
//! sending it; one for all of a few seconds costs a fraction, and is as easily found, because a
//! pack's identifier begins with the time at which it was made. [`super::place`] has what happens
//! when there are very many.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use model::{Attempt, Counts, MapName, Outcome, PackId, PackRef, RunId, Settlement};
use ports::{PackEntry, Revision};

use super::{
    item::{Item, get_number, key, number, revision},
    place::{Place, partition, sort_key},
};

/// How long packs are remembered: longer than any queue keeps a message.
const REMEMBERED: i64 = 15 * 24 * 3600;

/// An item for news of old buckets that came now: it is counted like a bucket of this time.
pub(super) fn late(map: &MapName, run: RunId, now: i64, sums: &Sums) -> Item {
    let sk = format!("{}x{:016x}", sort_key(now), fastrand::u64(..));
    let mut item = key(partition(map, run), sk);
    item.insert("ttl".into(), number(now + REMEMBERED));
    sums.enter_into(&mut item);
    item
}

/// The half of a pack's identifier that is random; enough to tell the packs of a bucket apart.
pub(super) type ShortId = [u8; 8];

pub(super) fn short(id: PackId) -> ShortId {
    let (_, low) = id.as_uuid().as_u64_pair();
    low.to_be_bytes()
}

/// News of a pack.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Open {
        id: PackId,
        count: u32,
    },
    Settle {
        id: PackId,
        counts: Counts,
        attempt: Attempt,
    },
}

impl Entry {
    fn id(&self) -> PackId {
        match self {
            Self::Open { id, .. } | Self::Settle { id, .. } => *id,
        }
    }
}

/// A part of the books. One that takes back what another has is below zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    read: i64,
    /// In the order of [`OUTCOMES`].
    ended: [i64; OUTCOMES.len()],
}

pub(super) const OUTCOMES: [Outcome; 5] = [
    Outcome::Applied,
    Outcome::Unchanged,
    Outcome::Superseded,
    Outcome::Filtered,
    Outcome::Failed,
];
const NAMES: [&str; OUTCOMES.len()] = ["applied", "unchanged", "superseded", "filtered", "failed"];

fn ended(counts: &Counts) -> [i64; OUTCOMES.len()] {
    let Counts {
        applied,
        unchanged,
        superseded,
        filtered,
        failed,
    } = *counts;
    [applied, unchanged, superseded, filtered, failed]
        .map(|count| count.try_into().unwrap_or(i64::MAX))
}

fn count(sum: i64) -> u64 {
    // A sum below zero would be a mistake; it must not hide all the others.
    sum.try_into().unwrap_or(0)
}

impl Sums {
    pub(super) fn of_item(item: &Item) -> Self {
        Self {
            read: get_number(item, "read"),
            ended: NAMES.map(|name| get_number(item, name)),
        }
    }

    /// What changes come to that are read when they end.
    pub(super) fn ended(counts: &Counts) -> Self {
        let ended = ended(counts);
        Self {
            read: ended.iter().sum(),
            ended,
        }
    }

    /// What moves outcomes from one to another.
    pub(super) fn moving(from: &Counts, to: &Counts) -> Self {
        let mut moved = Self::ended(to);
        moved.merge(&Self::ended(from).times(-1));
        Self { read: 0, ..moved }
    }

    pub(super) fn times(self, n: i64) -> Self {
        Self {
            read: self.read * n,
            ended: self.ended.map(|sum| sum * n),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.read += other.read;
        for (sum, more) in self.ended.iter_mut().zip(other.ended) {
            *sum += more;
        }
    }

    pub(super) fn read(&self) -> u64 {
        count(self.read)
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (sum, outcome) in self.ended.iter().zip(OUTCOMES) {
            counts.add(outcome, count(*sum));
        }
        counts
    }

    /// Changes read of which nobody has said what became.
    pub(super) fn in_flight(&self) -> u64 {
        count(self.read - self.ended.iter().sum::<i64>())
    }

    /// Those that are not nothing, by the names of their attributes.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let all = [("read", self.read)]
            .into_iter()
            .chain(NAMES.into_iter().zip(self.ended));
        all.filter(|(_, sum)| *sum != 0)
    }

    pub(super) fn enter_into(&self, item: &mut Item) {
        item.extend(self.fields().map(|(name, sum)| (name.into(), number(sum))));
    }
}

/// The packs of one time.
#[derive(Debug, Clone, Default)]
pub(super) struct Bucket {
    pub(super) revision: Option<Revision>,
    open: BTreeSet<ShortId>,
    settled: BTreeSet<ShortId>,
    /// Whose word it is that packs had failures.
    failed: BTreeMap<ShortId, Attempt>,
    /// What was entered while it was young; what comes later is in items of its own.
    pub(super) sums: Sums,
}

fn ids(item: &Item, name: &str) -> BTreeSet<ShortId> {
    let bytes = item.get(name).and_then(|value| value.as_b().ok());
    let chunks = bytes.map(|bytes| bytes.as_ref().chunks_exact(8));
    chunks
        .into_iter()
        .flatten()
        .filter_map(|id| id.try_into().ok())
        .collect()
}

fn bytes(ids: &BTreeSet<ShortId>) -> AttributeValue {
    AttributeValue::B(Blob::new(
        ids.iter().flatten().copied().collect::<Vec<u8>>(),
    ))
}

/// Packs with the attempts that settled them, 12 bytes each.
fn attempts(item: &Item, name: &str) -> BTreeMap<ShortId, Attempt> {
    let bytes = item.get(name).and_then(|value| value.as_b().ok());
    let chunks = bytes.map(|bytes| bytes.as_ref().chunks_exact(12));
    let read = |chunk: &[u8]| {
        let (id, attempt) = chunk.split_first_chunk()?;
        Some((*id, Attempt(u32::from_be_bytes(attempt.try_into().ok()?))))
    };
    chunks.into_iter().flatten().filter_map(read).collect()
}

fn attempt_bytes(attempts: &BTreeMap<ShortId, Attempt>) -> AttributeValue {
    let bytes = attempts
        .iter()
        .flat_map(|(id, attempt)| id.iter().copied().chain(attempt.0.to_be_bytes()));
    AttributeValue::B(Blob::new(bytes.collect::<Vec<u8>>()))
}

impl Bucket {
    pub(super) fn of_item(item: &Item) -> Self {
        Self {
            revision: Some(revision(item)),
            open: ids(item, "o"),
            settled: ids(item, "s"),
            failed: attempts(item, "f"),
            sums: Sums::of_item(item),
        }
    }

    pub(super) fn item(&self, place: &Place, mine: Revision, now: i64) -> Item {
        let mut item = place.key();
        item.insert("rev".into(), number(mine.0));
        // What is open is counted as under way until it is settled, however late that is; and it
        // is found through what is full above it.
        let leads = self.is_full(place) && place.leads_to_open();
        if self.open.is_empty() && !leads {
            item.insert("ttl".into(), number(now + REMEMBERED));
        }
        for (name, ids) in [("o", &self.open), ("s", &self.settled)] {
            if !ids.is_empty() {
                item.insert(name.into(), bytes(ids));
            }
        }
        if !self.failed.is_empty() {
            item.insert("f".into(), attempt_bytes(&self.failed));
        }
        self.sums.enter_into(&mut item);
        item
    }

    pub(super) fn is_settled(&self, id: PackId) -> bool {
        self.settled.contains(&short(id))
    }

    /// Whether it will take in no pack that it does not have. That stays so.
    pub(super) fn is_full(&self, place: &Place) -> bool {
        self.open.len() + self.settled.len() >= place.room()
    }

    /// Whether others write to it, so that as it was seen a moment ago it is out of date by now. A
    /// refused write costs five times what another look does, or more.
    pub(super) fn is_busy(&self, place: &Place) -> bool {
        let shared = self.open.len() + self.settled.len() > 0;
        (shared || place.is_part()) && !self.is_full(place)
    }

    fn has(&self, id: PackId) -> bool {
        let id = short(id);
        self.open.contains(&id) || self.settled.contains(&id)
    }

    /// Whether a pack has to be looked for below.
    pub(super) fn is_elsewhere(&self, id: PackId, place: &Place) -> bool {
        !self.has(id) && self.is_full(place)
    }

    /// Enters what is new in `entries` and belongs here.
    pub(super) fn enter(&self, place: &Place, entries: &[Entry]) -> Entered {
        let mut after = self.clone();
        let mut new = None;
        let mut below = Places::new();
        let mut overruled = Vec::new();
        for entry in entries {
            let id = entry.id();
            if after.is_elsewhere(id, place) {
                below
                    .entry(place.below(id))
                    .or_default()
                    .push(entry.clone());
            } else {
                if let Some(sums) = after.take(entry) {
                    new.get_or_insert_with(Sums::default).merge(&sums);
                }
                overruled.extend(after.overrules(entry).then_some(id));
            }
        }
        Entered {
            after: new.map(|new| (after, new)),
            below,
            overruled,
        }
    }

    /// Whether another attempt has settled the pack of an entry that settles it.
    fn overrules(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Settle {
                id,
                counts,
                attempt,
            } => {
                let word = self.failed.get(&short(*id));
                word.map_or(counts.failed > 0, |word| word != attempt)
            }
            Entry::Open { .. } => false,
        }
    }

    /// Takes an entry in; `None` if it is not new.
    fn take(&mut self, entry: &Entry) -> Option<Sums> {
        let id = short(entry.id());
        match entry {
            Entry::Open { count, .. } => {
                let new = !self.settled.contains(&id) && self.open.insert(id);
                new.then(|| Sums {
                    read: (*count).into(),
                    ..Sums::default()
                })
            }
            Entry::Settle {
                counts, attempt, ..
            } => {
                let ended = ended(counts);
                let opens = !self.open.remove(&id);
                let new = self.settled.insert(id);
                if new && counts.failed > 0 {
                    self.failed.insert(id, *attempt);
                }
                new.then(|| Sums {
                    read: if opens { ended.iter().sum() } else { 0 },
                    ended,
                })
            }
        }
    }
}

/// Entries by their places.
pub(super) type Places = HashMap<Place, Vec<Entry>>;

/// What comes of entries in a bucket.
#[derive(Debug)]
pub(super) struct Entered {
    /// The bucket with what is new, and what that comes to; `None` if nothing is.
    pub(super) after: Option<(Bucket, Sums)>,
    /// What belongs further below. Only once the bucket is written like this: it is full then.
    pub(super) below: Places,
    /// Packs that stand here as others said. Two that say that nothing failed say the same.
    pub(super) overruled: Vec<PackId>,
}

/// Entries of runs, by their places.
#[derive(Debug, Default)]
pub(super) struct Groups(pub(super) HashMap<(MapName, RunId), Places>);

impl Groups {
    fn add(&mut self, id: PackId, map: &MapName, run: RunId, entry: Entry) {
        let places = self.0.entry((map.clone(), run)).or_default();
        places
            .entry(Place::of(id, map, run))
            .or_default()
            .push(entry);
    }

    pub(super) fn opened(packs: &[PackEntry]) -> Self {
        let mut groups = Self::default();
        for PackEntry {
            id,
            map,
            run,
            count,
        } in packs
        {
            let (id, count) = (*id, *count);
            groups.add(id, map, *run, Entry::Open { id, count });
        }
        groups
    }

    pub(super) fn settled<'s>(settlements: impl IntoIterator<Item = &'s Settlement>) -> Self {
        let mut groups = Self::default();
        for Settlement {
            pack,
            counts,
            attempt,
        } in settlements
        {
            let PackRef { id, map, run } = pack;
            let entry = Entry::Settle {
                id: *id,
                counts: *counts,
                attempt: *attempt,
            };
            groups.add(*id, map, *run, entry);
        }
        groups
    }
}

/// Buckets as they were when they were last seen. One that is out of date costs a refused
/// write; one that is not saves a read.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(Arc<Mutex<HashMap<Place, Bucket>>>);

impl Recent {
    /// More than a worker has under way.
    const MOST: usize = 1024;

    pub(super) fn take(&self, place: &Place) -> Bucket {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.remove(place).unwrap_or_default()
    }

    /// Whether a bucket is busy, as far as is known.
    pub(super) fn is_busy(&self, place: &Place) -> bool {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.get(place) {
            Some(bucket) => bucket.is_busy(place),
            None => Bucket::default().is_busy(place),
        }
    }

    pub(super) fn keep(&self, place: Place, bucket: Bucket) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= Self::MOST {
            recent.clear();
        }
        recent.insert(place, bucket);
    }
}
