//! What the journal is made of.

use std::collections::BTreeMap;

use model::{Attempt, Counts, MapName, PackId, Settlement};
use ports::StoreError;

use super::{REMEMBERED, SHARDS, SLOT, SPAN, WHAT};
use crate::{
    dynamo::{Item, binary, binary_of, key, number, number_of, text_of},
    state::bucket::{OUTCOMES, ShortId, short},
};

/// Packs of one entry: with names of maps as long as may be it stays below half of what an item takes.
pub(super) const PACKS: usize = 2_000;

/// How the word of an attempt ranks: the lowest of those about a pack stands.
const LATE: i64 = -1;
const FAILED: i64 = 0;

/// Packs of a map that came to the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alike {
    pub(super) counts: Counts,
    pub(super) ids: Vec<ShortId>,
}

/// An item of the journal: what became of some packs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Where it stands in time, in milliseconds of Unix time.
    pub(super) at: i64,
    /// How it ranks among others about the same packs: by the time at which it was written, after
    /// those that tell of failures, after those that say that a pack is counted elsewhere.
    pub(super) rank: i64,
    /// Whose word it is, where that matters later.
    pub(super) attempt: Option<Attempt>,
    pub(super) packs: Vec<(MapName, Vec<Alike>)>,
}

/// A settled webhook, and when it was made.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct Webhook<'s> {
    pub(super) made: i64,
    pub(super) settled: &'s Settlement,
}

impl Webhook<'_> {
    pub(super) fn failed(&self) -> bool {
        self.settled.counts.failed > 0
    }

    pub(super) fn id(&self) -> PackId {
        self.settled.pack.id
    }

    /// The key of what says that it had failures: one for each pack, so that the first attempt to say
    /// so is the only one.
    fn word_key(&self) -> Item {
        let id = u64::from_be_bytes(short(self.id()));
        let shard = u32::try_from(id % u64::from(SHARDS)).unwrap_or(0);
        let sk = format!("{}w{id:016x}", sort_key(self.made));
        key(partition(slot(self.made), shard), sk)
    }

    /// What says that it had failures; `counted` elsewhere, or here.
    pub(super) fn word(&self, counted: bool, now: i64) -> Item {
        let entry = Entry {
            at: self.made,
            rank: if counted { LATE } else { FAILED },
            attempt: Some(self.settled.attempt),
            packs: alike([*self].into_iter(), !counted),
        };
        let mut item = self.word_key();
        entry.fill(&mut item, now);
        item
    }
}

/// The slot of a moment.
pub(super) fn slot(millis: i64) -> i64 {
    millis.max(0) / SLOT
}

pub(super) fn partition(slot: i64, shard: u32) -> String {
    format!("J#{slot}#{shard}")
}

/// The beginning of the sort keys of a time.
pub(super) fn sort_key(millis: i64) -> String {
    format!("{:015}", millis.max(0))
}

/// Webhooks in runs that one entry can have: made within [`SPAN`] of each other.
pub(super) fn spans<'w, 's>(webhooks: &'w mut [Webhook<'s>]) -> Vec<&'w [Webhook<'s>]> {
    webhooks.sort_unstable_by_key(|webhook| webhook.made);
    let mut spans = Vec::new();
    let mut rest = &*webhooks;
    while let Some(first) = rest.first() {
        let near = rest.partition_point(|webhook| webhook.made <= first.made + SPAN);
        let (span, later) = rest.split_at(near.min(PACKS));
        spans.push(span);
        rest = later;
    }
    spans
}

/// Packs by their maps and what they came to; nothing, where they are counted elsewhere.
fn alike<'s>(
    webhooks: impl Iterator<Item = Webhook<'s>>,
    counted: bool,
) -> Vec<(MapName, Vec<Alike>)> {
    let mut maps: BTreeMap<&MapName, BTreeMap<[u64; 5], Vec<ShortId>>> = BTreeMap::new();
    for webhook in webhooks {
        let pack = &webhook.settled.pack;
        let counts = if counted {
            numbers(&webhook.settled.counts)
        } else {
            [0; 5]
        };
        let map = maps.entry(&pack.map).or_default();
        map.entry(counts).or_default().push(short(pack.id));
    }
    let of_map = |(map, alike): (&MapName, BTreeMap<[u64; 5], Vec<ShortId>>)| {
        let alike = alike.into_iter().map(|(numbers, ids)| Alike {
            counts: counts(numbers),
            ids,
        });
        (map.clone(), alike.collect())
    };
    maps.into_iter().map(of_map).collect()
}

impl Entry {
    /// Packs of a span without failures, written at `now`.
    pub(super) fn of_span(span: &[Webhook<'_>], now: i64) -> Self {
        Self {
            at: span.first().map_or(now, |first| first.made),
            rank: now,
            attempt: None,
            packs: alike(span.iter().copied(), true),
        }
    }

    /// What says of packs of a span that they are counted elsewhere.
    pub(super) fn mark(span: &[Webhook<'_>]) -> Self {
        Self {
            rank: LATE,
            packs: alike(span.iter().copied(), false),
            ..Self::of_span(span, 0)
        }
    }

    /// Packs of any time that are counted at `now`, with failures or without.
    pub(super) fn late<'s>(
        webhooks: impl Iterator<Item = Webhook<'s>>,
        failed: bool,
        now: i64,
    ) -> Self {
        Self {
            at: now,
            rank: if failed { FAILED } else { now },
            attempt: None,
            packs: alike(webhooks, true),
        }
    }

    /// The item, at a place that no other has.
    pub(super) fn item(&self, now: i64) -> Item {
        let shard = fastrand::u32(..SHARDS);
        let sk = format!("{}e{:016x}", sort_key(self.at), fastrand::u64(..));
        let mut item = key(partition(slot(self.at), shard), sk);
        self.fill(&mut item, now);
        item
    }

    fn fill(&self, item: &mut Item, now: i64) {
        let packs = self.packs.iter();
        let packs = packs.map(|(map, alike)| (map.as_str().to_owned(), binary(encoded(alike))));
        item.insert(
            "e".into(),
            aws_sdk_dynamodb::types::AttributeValue::M(packs.collect()),
        );
        item.insert("w".into(), number(self.rank));
        if let Some(attempt) = self.attempt {
            item.insert("a".into(), number(attempt.0));
        }
        item.insert("ttl".into(), number(now / 1_000 + REMEMBERED));
    }

    /// Reads an item.
    pub(super) fn of_item(item: &Item) -> Result<Self, StoreError> {
        Self::read(item).ok_or_else(|| {
            let place = text_of(item, "sk").unwrap_or_default();
            let error = format!("`{place}` is no entry that this version understands");
            StoreError::unavailable(WHAT)(error)
        })
    }

    fn read(item: &Item) -> Option<Self> {
        let of_map = |(map, _): (&String, &_), packs: &Item| {
            Some((MapName::new(map).ok()?, decoded(binary_of(packs, map)?)?))
        };
        let packs = item.get("e")?.as_m().ok()?;
        Some(Self {
            at: text_of(item, "sk")?.get(..15)?.parse().ok()?,
            rank: number_of(item, "w")?,
            attempt: number_of(item, "a").map(Attempt),
            packs: packs
                .iter()
                .map(|entry| of_map(entry, packs))
                .collect::<Option<_>>()?,
        })
    }

    /// Its packs.
    pub(super) fn ids(&self) -> impl Iterator<Item = ShortId> {
        let alike = self.packs.iter().flat_map(|(_, alike)| alike);
        alike.flat_map(|alike| alike.ids.iter().copied())
    }
}

fn numbers(counts: &Counts) -> [u64; 5] {
    let Counts {
        applied,
        unchanged,
        superseded,
        filtered,
        failed,
    } = *counts;
    [applied, unchanged, superseded, filtered, failed]
}

fn counts(numbers: [u64; 5]) -> Counts {
    let mut counts = Counts::default();
    for (outcome, n) in OUTCOMES.into_iter().zip(numbers) {
        counts.add(outcome, n);
    }
    counts
}

/// In place of an outcome: the numbers of all five follow.
const MIXED: u8 = 0xff;

/// Packs of a map as bytes: for all that came to the same the outcome of their one change, or
/// [`MIXED`] and the number of each outcome in four bytes; how many they are in two; eight bytes of each.
fn encoded(all: &[Alike]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(all.iter().map(|alike| 8 + 8 * alike.ids.len()).sum());
    for Alike { counts, ids } in all {
        let numbers = numbers(counts);
        let only = numbers.iter().position(|n| *n == 1);
        if let Some(outcome) = only.filter(|_| counts.total() == 1) {
            bytes.push(u8::try_from(outcome).unwrap_or(MIXED));
        } else {
            bytes.push(MIXED);
            let numbers = numbers.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            bytes.extend(numbers.map(u32::to_be_bytes).as_flattened());
        }
        let n = u16::try_from(ids.len()).unwrap_or(u16::MAX);
        bytes.extend(n.to_be_bytes());
        bytes.extend(ids.as_flattened());
    }
    bytes
}

fn decoded(mut bytes: &[u8]) -> Option<Vec<Alike>> {
    let mut all = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        bytes = rest;
        let mut numbers = [0; 5];
        if *kind == MIXED {
            for n in &mut numbers {
                *n = u32::from_be_bytes(pull(&mut bytes)?).into();
            }
        } else {
            *numbers.get_mut(usize::from(*kind))? = 1;
        }
        let n = u16::from_be_bytes(pull(&mut bytes)?);
        let ids = (0..n).map(|_| pull(&mut bytes)).collect::<Option<_>>()?;
        let counts = counts(numbers);
        all.push(Alike { counts, ids });
    }
    Some(all)
}

/// The next bytes.
fn pull<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (next, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*next)
}

#[cfg(test)]
mod tests {
    use model::Outcome;

    use super::*;

    fn alike(applied: u64, failed: u64, ids: &[ShortId]) -> Alike {
        let mut counts = Counts::default();
        counts.add(Outcome::Applied, applied);
        counts.add(Outcome::Failed, failed);
        Alike {
            counts,
            ids: ids.to_vec(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let ids: Vec<ShortId> = (0..300_u64).map(u64::to_be_bytes).collect();
        let entry = Entry {
            at: 1_795_608_000_123,
            rank: 1_795_608_000_456,
            attempt: Some(Attempt(u32::MAX)),
            packs: vec![(
                MapName::new("customers").unwrap(),
                vec![
                    alike(1, 0, &ids),
                    alike(0, 1, &ids[..1]),
                    alike(0, 0, &ids[..2]),
                    alike(70_000, 2, &[[0xff; 8]]),
                ],
            )],
        };
        let item = entry.item(entry.rank);
        assert_eq!(Entry::of_item(&item).unwrap(), entry);
        let bytes = crate::testing::bytes_of(&item);
        assert!(bytes < 304 * 8 + 250, "{bytes} bytes");
    }

    #[test]
    fn what_is_no_entry_is_an_error_that_names_it() {
        let whole = encoded(&[alike(1, 0, &[[1; 8]]), alike(5, 5, &[[2; 8]])]);
        assert!(decoded(&whole).is_some());
        let one = encoded(&[alike(1, 0, &[[1; 8]])]).len();
        for end in (1..whole.len()).filter(|end| *end != one) {
            assert_eq!(decoded(&whole[..end]), None, "{end} bytes");
        }
        assert_eq!(decoded(&[7, 0, 0]), None, "an outcome of a later version");
        let error = Entry::of_item(&key("J#0#0", "00179560800012eff")).unwrap_err();
        assert!(error.to_string().contains("00179560800012eff"), "{error}");
    }
}
