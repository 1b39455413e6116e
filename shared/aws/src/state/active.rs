//! Runs with news.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::{
    error::ProvideErrorMetadata,
    types::{ConditionCheck, Put, TransactWriteItem},
};
use model::{MapName, RunId};
use ports::StoreError;

use super::{
    StateTable,
    item::{Item, get_text, key, number, text, unavailable},
    new_revision,
};
use crate::dynamo::{Transacted, after_transactions};

/// How long a run that was seen with news is taken to be marked as such, in seconds. Much less
/// than what has to pass before the mark is taken away.
const KNOWN: i64 = 5 * 60;

/// Runs that this process has marked, and when.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<HashMap<(MapName, RunId), i64>>>);

impl Known {
    /// More than a worker meets in its life.
    const MOST: usize = 32_768;

    fn is(&self, map: &MapName, run: RunId, now: i64) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody takes the mark of the webhooks' run away.
        let stays = run == RunId::live(map);
        known
            .get(&(map.clone(), run))
            .is_some_and(|at| stays || now < at + KNOWN)
    }

    fn add(&self, map: &MapName, run: RunId, now: i64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::MOST {
            known.clear();
        }
        known.insert((map.clone(), run), now);
    }
}

pub(super) fn books_partition(map: &MapName) -> String {
    format!("B#{map}")
}

pub(super) fn active_key(run: RunId) -> String {
    format!("A#{}", run.as_uuid())
}

pub(super) fn retired_key(run: RunId) -> String {
    format!("R#{}", run.as_uuid())
}

/// The sort key of the bucket up to which all are counted in an item's totals.
pub(super) fn folded(item: &Item) -> &str {
    get_text(item, "folded").unwrap_or("s")
}

const WHAT: &str = "marking a run";

impl StateTable {
    /// Marks a run as one with news, so that its buckets are counted.
    pub(super) async fn mark(&self, map: &MapName, run: RunId) -> Result<(), StoreError> {
        let now = self.now();
        if self.active.is(map, run, now) {
            return Ok(());
        }
        let mut waits = 0;
        while !self.touch(map, run, now).await? && !self.create(map, run, now).await? {
            self.pause(WHAT, &mut waits).await?;
        }
        self.active.add(map, run, now);
        Ok(())
    }

    /// Says that a run has news; `false` if it is not marked.
    async fn touch(&self, map: &MapName, run: RunId, now: i64) -> Result<bool, StoreError> {
        let touch = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(books_partition(map), active_key(run))))
            .condition_expression("attribute_exists(pk)")
            .update_expression("SET seen = :now ADD rev :one")
            .expression_attribute_values(":now", number(now))
            .expression_attribute_values(":one", number(1));
        let touched = after_transactions(|| touch.clone().send()).await;
        match touched {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(unavailable(WHAT)(error)),
        }
    }

    /// Marks a run that is not; `false` if somebody else changed it meanwhile.
    async fn create(&self, map: &MapName, run: RunId, now: i64) -> Result<bool, StoreError> {
        let pk = books_partition(map);
        let retired = self.item(WHAT, &pk, &retired_key(run)).await?;
        let mut item = key(&pk, active_key(run));
        item.insert("seen".into(), number(now));
        // Never that of an earlier life: whoever has read that must not retire this one.
        item.insert("rev".into(), number(new_revision() / 2));
        let unchanged = ConditionCheck::builder()
            .table_name(&self.table)
            .set_key(Some(key(&pk, retired_key(run))));
        // A run that comes back goes on where its buckets have been counted to.
        let unchanged = match &retired {
            None => unchanged.condition_expression("attribute_not_exists(pk)"),
            Some(retired) => {
                item.insert("folded".into(), text(folded(retired)));
                unchanged
                    .condition_expression("folded = :folded")
                    .expression_attribute_values(":folded", text(folded(retired)))
            }
        };
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .build()
            .map_err(StoreError::unavailable(WHAT))?;
        let unchanged = unchanged.build().map_err(StoreError::unavailable(WHAT))?;
        let put = TransactWriteItem::builder().put(put).build();
        let check = TransactWriteItem::builder()
            .condition_check(unchanged)
            .build();
        let table = self.as_table();
        match table
            .transact(WHAT, || vec![put.clone(), check.clone()])
            .await?
        {
            Transacted::Done => Ok(true),
            Transacted::Refused(_) => Ok(false),
        }
    }
}
