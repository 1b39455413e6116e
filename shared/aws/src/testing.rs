//! What a workload writes and where, without a table to write it to: models of load count it.
//! Keys, items and the decisions about them are those of the adapters.

use crate::dynamo::Item;
pub use crate::{
    failures::testing::failure_keys,
    state::testing::{Key, books_key, checkpoint_key, entered, fold_turn, link_key, name_key},
};
use aws_sdk_dynamodb::types::AttributeValue;

/// Bytes of an item, as the DynamoDB guide counts them ("Item sizes and formats"): names, text in
/// UTF-8, two digits of a number in a byte and one more, three of a map and one for each entry.
pub(crate) fn bytes_of(item: &Item) -> usize {
    let value = |value: &AttributeValue| match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.len().div_ceil(2) + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::M(entries) => 3 + entries.len() + bytes_of(entries),
        // The adapters have no others.
        _ => 1,
    };
    item.iter().map(|(name, it)| name.len() + value(it)).sum()
}
