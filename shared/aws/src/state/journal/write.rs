//! Entering webhooks.

use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure as OnFailure};
use futures_util::{StreamExt, TryStreamExt, future::try_join4, stream};
use model::{Attempt, PackId};
use ports::StoreError;

use super::{
    WHAT, YOUNG,
    entry::{Entry, PACKS, Webhook, spans},
};
use crate::{
    dynamo::{Item, Transacted, after_transactions, number_of, unavailable},
    state::{
        StateTable, books,
        item::{Refused, put_refused},
    },
};

/// Calls side by side.
const AT_ONCE: usize = 16;
/// Items of one transaction at their own times; with one more it is what DynamoDB allows.
const TOGETHER: usize = 99;
/// There is no item of this key.
const NONE: &str = "attribute_not_exists(pk)";

/// What enters webhooks without failures at their own time.
pub(in crate::state) fn items(mut webhooks: Vec<Webhook<'_>>, now: i64) -> Vec<Item> {
    let spans = spans(&mut webhooks).into_iter();
    spans
        .map(|span| Entry::of_span(span, now).item(now))
        .collect()
}

/// What enters the first of some webhooks late, and how many these are: items, and whether there may
/// be none of the same key.
fn late(webhooks: &mut [Webhook<'_>], failed: bool, now: i64) -> (usize, Vec<(Item, bool)>) {
    let (n, mut items): (usize, Vec<_>) = if failed {
        let some = webhooks.get(..TOGETHER).unwrap_or(webhooks);
        let words = some.iter().map(|one| (one.word(true, now), true));
        (some.len(), words.collect())
    } else {
        let spans = spans(webhooks).into_iter().take(TOGETHER);
        let some: Vec<_> = spans
            .scan(0, |n, span| {
                *n += span.len();
                (*n <= PACKS).then_some(span)
            })
            .collect();
        let marks = some.iter().map(|span| (Entry::mark(span).item(now), false));
        (some.iter().map(|span| span.len()).sum(), marks.collect())
    };
    let counted = webhooks.iter().take(n).copied();
    items.push((Entry::late(counted, failed, now).item(now), false));
    (n, items)
}

impl StateTable {
    pub(super) fn now_millis(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Enters webhooks; returns those that had failures and stand in the books as others said.
    pub(in crate::state) async fn enter_webhooks(
        &self,
        webhooks: Vec<Webhook<'_>>,
    ) -> Result<Vec<PackId>, StoreError> {
        if webhooks.is_empty() {
            return Ok(Vec::new());
        }
        self.begin_journal().await?;
        let born = self.now_millis() - YOUNG;
        let (young, old): (Vec<_>, Vec<_>) = webhooks.into_iter().partition(|one| one.made > born);
        let (failed, well) = young.into_iter().partition(Webhook::failed);
        let (late_failed, late_well) = old.into_iter().partition(Webhook::failed);
        let ((), overruled, late, _) = try_join4(
            self.append(well),
            self.say(failed),
            self.enter_late(late_failed, true),
            self.enter_late(late_well, false),
        )
        .await?;
        Ok([overruled, late].concat())
    }

    /// Enters webhooks without failures at their own time.
    async fn append(&self, webhooks: Vec<Webhook<'_>>) -> Result<(), StoreError> {
        let now = self.now_millis();
        stream::iter(items(webhooks, now))
            .map(async |item| {
                let put = self.client.put_item().table_name(&self.table);
                let put = put.set_item(Some(item)).send().await;
                put.map(drop).map_err(unavailable(WHAT))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Says that webhooks had failures, unless others have settled them.
    async fn say(&self, webhooks: Vec<Webhook<'_>>) -> Result<Vec<PackId>, StoreError> {
        let (mut overruled, new) = self.look(webhooks).await?;
        let now = self.now_millis();
        let words: Vec<_> = new
            .iter()
            .map(|one| (one.id(), one.settled.attempt, one.word(false, now)))
            .collect();
        let said: Vec<Option<PackId>> = stream::iter(words)
            .map(|(id, attempt, word)| self.say_one(id, attempt, word))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        overruled.extend(said.into_iter().flatten());
        Ok(overruled)
    }

    /// Says so of one; returns it if another attempt has.
    async fn say_one(
        &self,
        id: PackId,
        attempt: Attempt,
        word: Item,
    ) -> Result<Option<PackId>, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(word))
            .condition_expression(NONE)
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        let put = after_transactions(|| put.clone().send()).await;
        match put.map_err(|error| put_refused(WHAT, error)) {
            Ok(_) => Ok(None),
            Err(Refused::Condition(item)) => {
                let whose = item.and_then(|item| number_of(&item, "a")).map(Attempt);
                Ok((whose != Some(attempt)).then_some(id))
            }
            Err(Refused::Store(error)) => Err(error),
        }
    }

    /// Enters webhooks whose time may have been added up, all of which had failures or none.
    async fn enter_late(
        &self,
        mut left: Vec<Webhook<'_>>,
        failed: bool,
    ) -> Result<Vec<PackId>, StoreError> {
        let mut overruled = Vec::new();
        let mut waits = 0;
        while !left.is_empty() {
            let now = self.now_millis();
            let (others, mut new) = self.look(left).await?;
            overruled.extend(others);
            let (some, items) = late(&mut new, failed, now);
            if some > 0 {
                let puts = items.into_iter().map(|(item, alone)| {
                    let put = Put::builder().set_item(Some(item));
                    let condition = alone.then(|| NONE.to_owned());
                    self.put_here(put.set_condition_expression(condition))
                });
                let puts = puts.collect::<Result<Vec<_>, _>>()?;
                match self
                    .as_table()
                    .transact(WHAT, || books::puts(&puts))
                    .await?
                {
                    Transacted::Done => drop(new.drain(..some)),
                    // Somebody else has just said that one of them had failures.
                    Transacted::Refused(_) => self.pause(WHAT, &mut waits).await?,
                }
            }
            left = new;
        }
        Ok(overruled)
    }

    /// Those of some webhooks that had failures and are settled by others, and those that nobody
    /// has settled.
    async fn look<'s>(
        &self,
        webhooks: Vec<Webhook<'s>>,
    ) -> Result<(Vec<PackId>, Vec<Webhook<'s>>), StoreError> {
        let packs = webhooks.iter().map(|one| (one.id(), one.made));
        let known = self.entered(packs.collect()).await?;
        let (mut overruled, mut new) = (Vec::new(), Vec::new());
        for webhook in webhooks {
            let id = webhook.id();
            match known.get(&id) {
                None => new.push(webhook),
                Some(whose) if webhook.failed() && *whose != Some(webhook.settled.attempt) => {
                    overruled.push(id);
                }
                Some(_) => {}
            }
        }
        Ok((overruled, new))
    }
}
