//! Finding packs in the journal.

use std::{collections::HashMap, ops::RangeInclusive};

use model::{Attempt, PackId};
use ports::StoreError;

use super::{
    PAGE, SHARDS, SPAN, WHAT, WINDOW,
    entry::{Entry, partition, slot, sort_key},
};
use crate::{
    dynamo::{Bound, Conditions, Item, Merge, Range, Table},
    state::{
        StateTable,
        bucket::{ShortId, short},
    },
};

impl StateTable {
    /// Those of some packs, made at these times, that the journal has; each with whose word it is
    /// that it had failures.
    pub(in crate::state) async fn entered(
        &self,
        mut packs: Vec<(PackId, i64)>,
    ) -> Result<HashMap<PackId, Option<Attempt>>, StoreError> {
        packs.sort_unstable_by_key(|(_, made)| *made);
        let mut found = HashMap::new();
        // Where some may be others may be as well, and a little more to read costs less than a call.
        for near in packs.chunk_by(|(_, made), (_, next)| *next <= made + WINDOW) {
            let (Some((_, first)), Some((_, last))) = (near.first(), near.last()) else {
                continue;
            };
            let wanted: HashMap<ShortId, PackId> =
                near.iter().map(|(id, _)| (short(*id), *id)).collect();
            let mut entries = self.entries(first - SPAN, *last);
            while let Some(item) = entries.next().await? {
                let entry = Entry::of_item(&item)?;
                for id in entry.ids() {
                    if let Some(id) = wanted.get(&id) {
                        let whose = found.entry(*id).or_insert(None);
                        *whose = entry.attempt.or(*whose);
                    }
                }
            }
        }
        Ok(found)
    }

    /// What stands in the journal from one moment to another, in order.
    pub(super) fn entries(&self, from: i64, to: i64) -> Entries {
        Entries {
            table: self.as_table(),
            bound: Bound::Within(sort_key(from), format!("{}~", sort_key(to))),
            slots: slot(from)..=slot(to),
            slot: None,
        }
    }
}

/// Items of the journal, one slot after the other.
pub(super) struct Entries {
    table: Table,
    bound: Bound,
    /// Those that come after this one.
    slots: RangeInclusive<i64>,
    slot: Option<Merge>,
}

impl Entries {
    pub(super) async fn next(&mut self) -> Result<Option<Item>, StoreError> {
        loop {
            if let Some(slot) = &mut self.slot
                && let Some((_, item)) = slot.next().await?
            {
                return Ok(Some(item));
            }
            let Some(slot) = self.slots.next() else {
                return Ok(None);
            };
            let range = |shard| Range {
                index: None,
                shard: ("pk", partition(slot, shard)),
                sort: "sk",
                bound: self.bound.clone(),
                filter: Conditions::default(),
            };
            let ranges = (0..SHARDS).map(range).collect();
            self.slot = Some(Merge::new(WHAT, &self.table, ranges, PAGE));
        }
    }
}
