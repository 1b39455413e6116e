//! Adding to the totals of maps what is old in the journal.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::atomic::Ordering,
};

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use futures_util::{StreamExt, TryStreamExt, stream};
use model::{MapName, RunId};
use ports::{Revision, StoreError};

use super::YOUNG;
use crate::{
    dynamo::after_transactions,
    state::{
        StateTable,
        active::{active_key, books_partition},
        bucket::Sums,
        fold::Adds,
        item::{Item, get_number, key, number, revision, unavailable},
    },
};

/// What is older than this, in milliseconds, is added up. Nobody who took a pack for young enters it so
/// late.
const OLD: i64 = 2 * YOUNG;
/// What is added up at once, at most, in milliseconds: a few minutes of a hundred megabytes.
const AT_ONCE: i64 = 5 * 60 * 1_000;
/// Maps whose totals are written side by side.
const MAPS_AT_ONCE: usize = 16;

const WHAT: &str = "adding the journal up";

/// How far the journal is added up.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    /// What stands up to this moment is in the totals of its maps.
    done: i64,
    /// What stands up to this one is in those of some.
    next: Option<i64>,
    revision: Option<Revision>,
}

/// What the journal has that is in no totals.
#[derive(Debug)]
pub(in crate::state) struct Unfolded {
    /// Up to where it is in the totals of all maps.
    done: Option<i64>,
    /// What came after a moment.
    after: HashMap<i64, HashMap<MapName, Sums>>,
}

impl StateTable {
    /// How far it is added up; `None` if nothing was ever entered.
    async fn cursor(&self) -> Result<Option<Cursor>, StoreError> {
        let item = self.item(WHAT, "J", "cursor").await?;
        let read = |item: Item| Cursor {
            done: get_number(&item, "done"),
            next: item.contains_key("next").then(|| get_number(&item, "next")),
            revision: Some(revision(&item)),
        };
        Ok(item.map(read))
    }

    /// Writes the cursor; `None` if somebody else has.
    async fn put_cursor(&self, cursor: Cursor) -> Result<Option<Cursor>, StoreError> {
        let mut item = key("J", "cursor");
        item.insert("done".into(), number(cursor.done));
        item.extend(cursor.next.map(|next| ("next".into(), number(next))));
        let revision = self.put_if(WHAT, item, cursor.revision).await?;
        Ok(revision.map(|revision| Cursor {
            revision: Some(revision),
            ..cursor
        }))
    }

    /// Says from when on the journal is to be added up, before this process makes its first entry.
    pub(super) async fn begin_journal(&self) -> Result<(), StoreError> {
        if self.journal.load(Ordering::Relaxed) {
            return Ok(());
        }
        let begin = Cursor {
            done: self.now_millis() - OLD,
            next: None,
            revision: None,
        };
        // Mostly others have.
        self.put_cursor(begin).await?;
        self.journal.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Adds what is old to the totals of its maps, some minutes of it; returns whether there is more.
    /// Who ends in the middle leaves to the next one to add up the same: what is so old does not
    /// change, and a map knows what it has.
    pub async fn fold_journal(&self) -> Result<bool, StoreError> {
        let Some(mut cursor) = self.cursor().await? else {
            return Ok(false);
        };
        let old = self.clock.now().as_millisecond() - OLD;
        let until = cursor.next.unwrap_or(old.min(cursor.done + AT_ONCE));
        if until <= cursor.done {
            return Ok(false);
        }
        let sums = self.sums_between(cursor.done, until).await?;
        if cursor.next.is_none() && !sums.is_empty() {
            let next = Some(until);
            let Some(mine) = self.put_cursor(Cursor { next, ..cursor }).await? else {
                return Ok(false);
            };
            cursor = mine;
        }
        stream::iter(sums)
            .map(|(map, sums)| self.add_journal(map, sums, until))
            .buffer_unordered(MAPS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        let done = Cursor {
            done: until,
            next: None,
            ..cursor
        };
        let put = self.put_cursor(done).await?;
        Ok(put.is_some() && until < old)
    }

    async fn add_journal(&self, map: MapName, sums: Sums, until: i64) -> Result<(), StoreError> {
        let mut adds = Adds::new(&sums);
        adds.set = "SET journal = :until";
        adds.values.insert(":until".into(), number(until));
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(
                books_partition(&map),
                active_key(RunId::live(&map)),
            )))
            .update_expression(adds.expression())
            .condition_expression("attribute_not_exists(journal) OR journal < :until")
            .set_expression_attribute_names(adds.names())
            .set_expression_attribute_values(Some(adds.values));
        match after_transactions(|| update.clone().send()).await {
            Ok(_) => Ok(()),
            // It has them already.
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(error) => Err(unavailable(WHAT)(error)),
        }
    }

    /// What the journal has that is in no totals. To be asked before any totals are read.
    pub(in crate::state) async fn unfolded(&self) -> Result<Unfolded, StoreError> {
        Ok(Unfolded {
            done: self.cursor().await?.map(|cursor| cursor.done),
            after: HashMap::new(),
        })
    }

    /// What it has of a map, beyond the totals of its webhooks, if there are any.
    pub(in crate::state) async fn unfolded_of(
        &self,
        unfolded: &mut Unfolded,
        map: &MapName,
        totals: Option<&Item>,
    ) -> Result<Sums, StoreError> {
        let folded = totals.map_or(0, |item| get_number(item, "journal"));
        let Some(done) = unfolded.done else {
            return Ok(Sums::default());
        };
        let after = done.max(folded);
        // Clocks differ.
        let ahead = self.now_millis() + YOUNG;
        let sums = match unfolded.after.entry(after) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(self.sums_between(after, ahead).await?),
        };
        Ok(sums.get(map).copied().unwrap_or_default())
    }
}
