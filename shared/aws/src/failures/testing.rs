//! The items of the failure table, for models of load.

use model::Failure;

use super::item::attributes;
use crate::dynamo::text_of;

/// The partitions that storing a failure writes to: those of the indexes it is in, each with the
/// name of its index. Its own item has a partition to itself.
#[must_use]
pub fn failure_keys(failure: &Failure) -> Vec<(&'static str, String)> {
    let item = attributes(failure);
    let indexes = [
        ("by_age", "shard"),
        ("by_map", "map_shard"),
        ("by_news", "said"),
        ("by_due", "due_shard"),
    ];
    let of = |(index, hash)| Some((index, text_of(&item, hash)?.to_owned()));
    indexes.into_iter().filter_map(of).collect()
}
