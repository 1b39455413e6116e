//! The items of the state table, for models of load.

use model::{MapName, Settlement};
use ports::{Link, Revision, StoreError};

use super::{
    active::{active_key, books_partition},
    bucket::{Bucket, Entry, Groups, Places},
    checkpoints, is_turn_of, links, names, new_revision,
    place::Place,
};
use crate::testing::bytes_of;

/// The keys of an item: of its partition, and within it.
pub type Key = (String, String);

/// Packs of a run in the books, as they stand in one item.
#[derive(Debug, Clone, Default)]
pub struct BookItem(Bucket);

impl super::StateTable {
    /// What is said of a link whose item was read before `meanwhile` happened, and its batch after.
    pub async fn link_read_before<F: Future<Output = ()> + Send>(
        &self,
        map: &MapName,
        name: &str,
        meanwhile: F,
    ) -> Result<Option<Link>, StoreError> {
        let keys = vec![links::link_key(map, name)];
        let items = self.items("reading links", keys, true).await?;
        meanwhile.await;
        let told = self.told(items).await?;
        Ok(told.into_iter().next().map(|(_, stored)| stored.value))
    }
}

/// News for one item of the books.
#[derive(Debug, Clone)]
pub struct BookStep {
    place: Place,
    entries: Vec<Entry>,
}

fn steps(places: Places) -> Vec<BookStep> {
    let step = |(place, entries)| BookStep { place, entries };
    let mut steps: Vec<BookStep> = places.into_iter().map(step).collect();
    steps.sort_by(|one, other| one.place.cmp(&other.place));
    steps
}

/// What settling packs begins with.
#[must_use]
pub fn settling(settlements: &[Settlement]) -> Vec<BookStep> {
    let groups = Groups::settled(settlements);
    steps(groups.0.into_values().flatten().collect())
}

impl BookStep {
    /// The item it is for.
    #[must_use]
    pub fn key(&self) -> Key {
        (self.place.pk.clone(), self.place.sk.clone())
    }

    /// Whether the item is read once more before it is written.
    #[must_use]
    pub fn looks_again(&self, seen: &BookItem) -> bool {
        seen.0.is_busy(&self.place)
    }

    /// What the item becomes, unless there is nothing new in it, and what comes after it is
    /// written. `seen` is the item as it was read, or nothing.
    #[must_use]
    pub fn enter(&self, seen: &BookItem) -> (Option<BookItem>, Vec<BookStep>) {
        let entered = seen.0.enter(&self.place, &self.entries);
        let after = entered.after.map(|(mut after, sums)| {
            after.sums.merge(&sums);
            after.revision = Some(Revision(new_revision()));
            BookItem(after)
        });
        (after, steps(entered.below))
    }

    /// Bytes of the item.
    #[must_use]
    pub fn bytes(&self, item: &BookItem) -> usize {
        let longest = Revision(u64::MAX);
        bytes_of(&item.0.item(&self.place, longest, 1_000_000_000))
    }
}

impl BookItem {
    /// Whether nobody has changed it since it was `seen`.
    #[must_use]
    pub fn is(&self, seen: &Self) -> bool {
        self.0.revision == seen.0.revision
    }

    /// Changes whose end it counts.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.0.sums.counts().total()
    }
}

/// Where the totals of a map's webhooks are.
#[must_use]
pub fn books_key(map: &MapName) -> Key {
    let live = model::RunId::live(map);
    (books_partition(map), active_key(live))
}

/// Where a checkpoint is.
#[must_use]
pub fn checkpoint_key(name: &str) -> Key {
    (checkpoints::partition(name), name.to_owned())
}

/// Where the link of a row is.
#[must_use]
pub fn link_key(map: &MapName, row: &str) -> Key {
    (links::partition(map, row), row.to_owned())
}

/// Where the name of a delivery is.
#[must_use]
pub fn name_key(name: &str) -> Key {
    (names::partition(name), "N".to_owned())
}

/// Whether the books of a map are looked after in this minute.
#[must_use]
pub fn fold_turn(map: &MapName, minute: i64) -> bool {
    is_turn_of(map, minute)
}
