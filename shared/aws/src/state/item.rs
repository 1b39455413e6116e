//! Items and calls.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{delete_item::DeleteItemError, put_item::PutItemError},
    types::ReturnValuesOnConditionCheckFailure as OnFailure,
};
use ports::{Revision, StoreError};

use super::{StateTable, new_revision};
pub(super) use crate::dynamo::{Item, key, number, text, text_of as get_text, unavailable};
use crate::dynamo::{Table, number_of};

/// The number `name` of an item; a missing one counts as nothing.
pub(super) fn get_number<T: std::str::FromStr + Default>(item: &Item, name: &str) -> T {
    number_of(item, name).unwrap_or_default()
}

pub(super) fn revision(item: &Item) -> Revision {
    Revision(get_number(item, "rev"))
}

/// Why a conditional write did not happen.
pub(super) enum Refused {
    /// The condition does not hold for the item there is, if there is one.
    Condition(Option<Item>),
    /// DynamoDB did not do it.
    Store(StoreError),
}

pub(super) fn put_refused(what: &'static str, error: SdkError<PutItemError>) -> Refused {
    match error.as_service_error() {
        Some(PutItemError::ConditionalCheckFailedException(failed)) => {
            Refused::Condition(failed.item().cloned())
        }
        _ => Refused::Store(unavailable(what)(error)),
    }
}

pub(super) fn delete_refused(what: &'static str, error: SdkError<DeleteItemError>) -> Refused {
    match error.as_service_error() {
        Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
            Refused::Condition(failed.item().cloned())
        }
        _ => Refused::Store(unavailable(what)(error)),
    }
}

impl StateTable {
    pub(super) fn as_table(&self) -> Table {
        Table {
            client: self.client.clone(),
            name: self.table.clone(),
        }
    }

    pub(super) async fn item(
        &self,
        what: &'static str,
        pk: &str,
        sk: &str,
    ) -> Result<Option<Item>, StoreError> {
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(pk, sk)))
            .consistent_read(true)
            .send()
            .await
            .map_err(unavailable(what))?;
        Ok(read.item)
    }

    /// Writes an item with a new revision, if it is still at `expected` (`None`: does not exist);
    /// otherwise nothing is written and there is no revision.
    pub(super) async fn put_if(
        &self,
        what: &'static str,
        mut item: Item,
        expected: Option<Revision>,
    ) -> Result<Option<Revision>, StoreError> {
        let mine = Revision(new_revision());
        item.insert("rev".into(), number(mine.0));
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        let put = match expected {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(expected) => put
                .condition_expression("rev = :expected")
                .expression_attribute_values(":expected", number(expected.0)),
        };
        match put.send().await.map_err(|error| put_refused(what, error)) {
            Ok(_) => Ok(Some(mine)),
            // The answer to an attempt that succeeded was lost.
            Err(Refused::Condition(Some(item))) if revision(&item) == mine => Ok(Some(mine)),
            Err(Refused::Condition(_)) => Ok(None),
            Err(Refused::Store(error)) => Err(error),
        }
    }

    /// The items of these keys that exist, in any order. A key may not come twice.
    pub(super) async fn items(
        &self,
        what: &'static str,
        keys: Vec<Item>,
        consistent: bool,
    ) -> Result<Vec<Item>, StoreError> {
        self.as_table().batch_get(what, keys, consistent).await
    }

    /// All items of a partition between two sort keys, both included, in order.
    pub(super) async fn range(
        &self,
        what: &'static str,
        pk: &str,
        from: &str,
        to: &str,
    ) -> Result<Vec<Item>, StoreError> {
        let mut all = Vec::new();
        let mut start = None;
        loop {
            let read = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
                .expression_attribute_values(":pk", text(pk))
                .expression_attribute_values(":from", text(from))
                .expression_attribute_values(":to", text(to))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(unavailable(what))?;
            all.extend(read.items.into_iter().flatten());
            start = read.last_evaluated_key;
            if start.is_none() {
                return Ok(all);
            }
        }
    }

    /// Waits before a call is repeated, longer each time, and gives up in the end.
    pub(super) async fn pause(
        &self,
        what: &'static str,
        waits: &mut u32,
    ) -> Result<(), StoreError> {
        const MOST: u32 = 10;
        const FIRST_MILLIS: f64 = 20.0;
        if *waits == MOST {
            let busy = "too many others write or read the same items: it is tried again later";
            return Err(StoreError::unavailable(what)(busy));
        }
        let longest = FIRST_MILLIS * f64::from(1 << (*waits).min(6));
        *waits += 1;
        let wait = std::time::Duration::from_secs_f64(longest * self.clock.random() / 1_000.0);
        self.clock.sleep(wait).await;
        Ok(())
    }
}
