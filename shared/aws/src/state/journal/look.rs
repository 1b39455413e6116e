//! Finding packs in the journal.

use std::collections::HashMap;

use model::{Attempt, PackId};
use ports::StoreError;

use super::{
    PAGE, SHARDS, SPAN, WHAT, WINDOW,
    entry::{Entry, partition, sort_key},
};
use crate::{
    dynamo::{Bound, Conditions, Merge, Range},
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
            while let Some((_, item)) = entries.next().await? {
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
    pub(super) fn entries(&self, from: i64, to: i64) -> Merge {
        let range = |shard| Range {
            index: None,
            shard: ("pk", partition(shard)),
            sort: "sk",
            bound: Bound::Within(sort_key(from), format!("{}~", sort_key(to))),
            filter: Conditions::default(),
        };
        let ranges = (0..SHARDS).map(range).collect();
        Merge::new(WHAT, &self.as_table(), ranges, PAGE)
    }
}
