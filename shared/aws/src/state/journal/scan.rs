//! Adding the journal up, each pack once.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use model::MapName;
use ports::StoreError;

use super::{WINDOW, entry::Entry};
use crate::state::{
    StateTable,
    bucket::{ShortId, Sums},
};

/// What is known of a pack: what stands about it.
#[derive(Debug)]
struct Word {
    /// Where it stands.
    at: i64,
    rank: i64,
    sums: Sums,
}

/// Entries in order of time, and what they come to.
///
/// A pack that two attempts settled without finding it in the journal is in two entries, which stand
/// within [`WINDOW`] of each other. So it is enough to remember the packs of so long.
#[derive(Debug, Default)]
pub(super) struct Scan {
    known: HashMap<ShortId, Arc<Word>>,
    /// The packs that are known, oldest first.
    order: VecDeque<(i64, Vec<ShortId>)>,
    sums: HashMap<MapName, Sums>,
}

impl Scan {
    /// Takes in the next entry.
    pub(super) fn take(&mut self, entry: Entry) {
        self.forget(entry.at - WINDOW);
        let ids: Vec<ShortId> = entry.ids().collect();
        for (map, alike) in entry.packs {
            let mut more = Sums::default();
            for alike in alike {
                let word = Arc::new(Word {
                    at: entry.at,
                    rank: entry.rank,
                    sums: Sums::ended(&alike.counts),
                });
                for id in alike.ids {
                    more.merge(&self.news(id, &word));
                }
            }
            if more != Sums::default() {
                self.sums.entry(map).or_default().merge(&more);
            }
        }
        self.order.push_back((entry.at, ids));
    }

    /// What a word about a pack adds to what is known of it.
    fn news(&mut self, id: ShortId, word: &Arc<Word>) -> Sums {
        let known = self.known.get(&id);
        if known.is_some_and(|known| known.rank <= word.rank) {
            return Sums::default();
        }
        let mut sums = word.sums;
        if let Some(known) = known {
            sums.merge(&known.sums.times(-1));
        }
        self.known.insert(id, Arc::clone(word));
        sums
    }

    fn forget(&mut self, before: i64) {
        while let Some((at, ids)) = self.order.pop_front_if(|(at, _)| *at < before) {
            for id in ids {
                // Another entry may have said it since.
                if self.known.get(&id).is_some_and(|word| word.at <= at) {
                    self.known.remove(&id);
                }
            }
        }
    }
}

impl StateTable {
    /// What stands in the journal after one moment, up to another.
    pub(super) async fn sums_between(
        &self,
        after: i64,
        until: i64,
    ) -> Result<HashMap<MapName, Sums>, StoreError> {
        let mut scan = Scan::default();
        let mut entries = self.entries(after - WINDOW, until);
        let mut counting = false;
        while let Some(item) = entries.next().await? {
            let entry = Entry::of_item(&item)?;
            if !counting && entry.at > after {
                // What was before is counted; it is here for what stands in it again.
                scan.sums.clear();
                counting = true;
            }
            scan.take(entry);
        }
        Ok(if counting { scan.sums } else { HashMap::new() })
    }
}

#[cfg(test)]
mod tests {
    use model::{Attempt, Counts, Outcome};

    use super::{super::entry::Alike, *};

    /// An entry with packs that all came to the same; to nothing, where it says that they are counted
    /// elsewhere.
    fn entry(at: i64, rank: i64, outcome: Option<Outcome>, ids: &[u8]) -> Entry {
        let mut counts = Counts::default();
        if let Some(outcome) = outcome {
            counts.add(outcome, 1);
        }
        let ids = ids.iter().map(|id| [*id; 8]).collect();
        Entry {
            at,
            rank,
            attempt: Some(Attempt(1)),
            packs: vec![(map(), vec![Alike { counts, ids }])],
        }
    }

    fn map() -> MapName {
        MapName::new("customers").unwrap()
    }

    fn counted(entries: impl IntoIterator<Item = Entry>) -> (u64, Counts) {
        let mut scan = Scan::default();
        for entry in entries {
            scan.take(entry);
        }
        let sums = scan.sums.remove(&map()).unwrap_or_default();
        (sums.read(), sums.counts())
    }

    fn of(applied: u64, unchanged: u64, failed: u64) -> (u64, Counts) {
        let counts = Counts {
            applied,
            unchanged,
            failed,
            ..Counts::default()
        };
        (counts.total(), counts)
    }

    const APPLIED: Option<Outcome> = Some(Outcome::Applied);
    const UNCHANGED: Option<Outcome> = Some(Outcome::Unchanged);
    const FAILED: Option<Outcome> = Some(Outcome::Failed);

    #[test]
    fn what_was_written_first_stands_wherever_it_is() {
        let first = |at| entry(at, 1_000, APPLIED, &[1, 2]);
        let again = |at| entry(at, 1_001, UNCHANGED, &[2, 3]);
        assert_eq!(counted([first(10), again(20)]), of(2, 1, 0));
        assert_eq!(counted([again(10), first(20)]), of(2, 1, 0));
        let more = entry(WINDOW + 10, 2_000, UNCHANGED, &[1, 3, 4]);
        assert_eq!(counted([first(10), again(20), more]), of(2, 2, 0));
    }

    #[test]
    fn a_word_about_failures_stands_before_entries() {
        let word = |at| entry(at, 0, FAILED, &[2]);
        let well = |at| entry(at, 1_000, APPLIED, &[1, 2]);
        assert_eq!(counted([well(10), word(11)]), of(1, 0, 1));
        assert_eq!(counted([word(10), well(11)]), of(1, 0, 1));
        let again = entry(12, 2_000, UNCHANGED, &[1, 2]);
        assert_eq!(counted([well(10), word(11), again]), of(1, 0, 1));
    }

    #[test]
    fn what_is_counted_elsewhere_is_not_counted_here() {
        let mark = |at| entry(at, -1, None, &[2]);
        let well = |at| entry(at, 1_000, APPLIED, &[1, 2]);
        assert_eq!(counted([mark(10), well(11)]), of(1, 0, 0));
        assert_eq!(counted([well(10), mark(11)]), of(1, 0, 0));
    }

    #[test]
    fn no_more_is_remembered_than_has_to_be() {
        let mut scan = Scan::default();
        for at in 0..10_000_i64 {
            let ids = [at.to_be_bytes(), (at / 2).to_be_bytes()];
            let mut one = entry(at * 100, at, APPLIED, &[]);
            one.packs[0].1[0].ids = ids.to_vec();
            scan.take(one);
        }
        let window = usize::try_from(WINDOW / 100).unwrap();
        assert!(scan.order.len() <= window + 1, "{}", scan.order.len());
        assert!(scan.known.len() <= 2 * window + 2, "{}", scan.known.len());
    }
}
