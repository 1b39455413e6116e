//! The items of the state table, for models of load.

use model::{MapName, Settlement};
use ports::{Link, StoreError};

use super::{
    active::{active_key, books_partition},
    checkpoints, is_turn_of,
    item::{Item, get_text},
    journal, links, names,
};
use crate::testing::bytes_of;

/// The keys of an item: of its partition, and within it.
pub type Key = (String, String);

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

/// What settling webhooks in this millisecond writes: where each item is, and its bytes.
#[must_use]
pub fn entered(settlements: &[Settlement], now: i64) -> Vec<(Key, usize)> {
    let (webhooks, _) = journal::divide(settlements);
    let place = |item: &Item| Some((get_text(item, "pk")?.into(), get_text(item, "sk")?.into()));
    let items = journal::items(webhooks, now).into_iter();
    items
        .filter_map(|item| Some((place(&item)?, bytes_of(&item))))
        .collect()
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
