//! The weight of failures by outcome, kept in step with them, so that the ledger need not read
//! failures to know how many there are.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{TransactWriteItem, Update};
use model::{Counts, Failure, MapName, Outcome, RunId};
use ports::StoreError;

use super::{DynamoFailures, item::outcome_name};
use crate::dynamo::{Item, Table, key, number, number_of, text, text_of, unavailable};

/// Items the counts of a map or a run are spread over: a transaction refuses another one on the
/// same item.
const PARTS: u8 = 8;
/// Where the counts of a whole map are.
const MAP: &str = "T#";
/// The outcomes, in the order of [`Sums`].
const OUTCOMES: [Outcome; 5] = [
    Outcome::Applied,
    Outcome::Unchanged,
    Outcome::Superseded,
    Outcome::Filtered,
    Outcome::Failed,
];

/// One number for each outcome. In a part it may be below zero, in the sum of all parts it is not.
type Sums = [i64; OUTCOMES.len()];

/// What a failure is in the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    map: String,
    run: String,
    /// How it ended; [`Outcome::Failed`] until it has.
    outcome: Outcome,
    weight: i64,
}

impl Share {
    /// The attributes it is read from.
    pub(crate) const ATTRIBUTES: [&str; 4] = ["map", "run", "outcome", "weight"];

    pub(crate) fn of(failure: &Failure) -> Self {
        let end = failure.resolution.as_ref();
        Self {
            map: failure.map.to_string(),
            run: failure.run.to_string(),
            outcome: end.map_or(Outcome::Failed, |end| end.outcome),
            weight: failure.weight.into(),
        }
    }

    pub(crate) fn read(item: &Item) -> Option<Self> {
        let name = text_of(item, "outcome");
        let known = |outcome: &Outcome| Some(outcome_name(*outcome)) == name;
        Some(Self {
            map: text_of(item, "map")?.to_owned(),
            run: text_of(item, "run")?.to_owned(),
            outcome: OUTCOMES.into_iter().find(known).unwrap_or(Outcome::Failed),
            weight: number_of(item, "weight")?,
        })
    }
}

/// What one transaction changes in the books: of maps, and of their runs.
#[derive(Debug, Default)]
pub(crate) struct Moves(BTreeMap<(String, String), Sums>);

impl Moves {
    fn add(&mut self, share: &Share, outcome: Outcome, weight: i64) {
        let map = format!("B#{}", share.map);
        for account in [MAP.to_owned(), format!("R#{}#", share.run)] {
            let sums = self.0.entry((map.clone(), account)).or_default();
            for (sum, name) in sums.iter_mut().zip(OUTCOMES) {
                *sum += if name == outcome { weight } else { 0 };
            }
        }
    }

    /// A failure that is there now.
    pub(crate) fn enter(&mut self, share: &Share) {
        self.add(share, share.outcome, share.weight);
    }

    /// A failure that is not there any more, or not like this.
    pub(crate) fn take_off(&mut self, share: &Share) {
        self.add(share, share.outcome, -share.weight);
    }

    /// A failure that is deleted. The books keep what it became; a discarded one was left out by
    /// a person.
    pub(crate) fn forget(&mut self, share: &Share) {
        if share.outcome == Outcome::Failed {
            self.take_off(share);
            self.add(share, Outcome::Filtered, share.weight);
        }
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(|sums| *sums == Sums::default())
    }

    /// The updates, each of a part chosen at random.
    pub(crate) fn updates(&self, table: &Table) -> Vec<TransactWriteItem> {
        let changed = self.0.iter().filter(|(_, sums)| **sums != Sums::default());
        let write = |((map, account), sums): (&(String, String), &Sums)| {
            let part = format!("{account}{}", fastrand::u8(..PARTS));
            let mut adds = Vec::new();
            let mut update = Update::builder()
                .table_name(&table.name)
                .set_key(Some(key(map, part)));
            for (sum, outcome) in sums.iter().zip(OUTCOMES).filter(|(sum, _)| **sum != 0) {
                let name = outcome_name(outcome);
                adds.push(format!("#{name} :{name}"));
                update = update
                    .expression_attribute_names(format!("#{name}"), name)
                    .expression_attribute_values(format!(":{name}"), number(*sum));
            }
            let update = update.update_expression(format!("ADD {}", adds.join(", ")));
            let write = TransactWriteItem::builder().set_update(update.build().ok());
            write.build()
        };
        changed.map(write).collect()
    }
}

impl DynamoFailures {
    /// The weight of the stored failures of a map, or of one of its runs, by what became of them.
    /// Those that have expired are in it for good.
    pub async fn stored(&self, map: &MapName, run: Option<RunId>) -> Result<Counts, StoreError> {
        let account = run.map_or_else(|| MAP.to_owned(), |run| format!("R#{run}#"));
        let mut parts = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND begins_with(sk, :account)")
            .expression_attribute_values(":pk", text(format!("B#{map}")))
            .expression_attribute_values(":account", text(account))
            .into_paginator()
            .items()
            .send();
        let mut sums = Sums::default();
        while let Some(part) = parts.next().await {
            let part = part.map_err(unavailable("reading the books of failures"))?;
            for (sum, outcome) in sums.iter_mut().zip(OUTCOMES) {
                *sum += number_of::<i64>(&part, outcome_name(outcome)).unwrap_or(0);
            }
        }
        let mut counts = Counts::default();
        for (sum, outcome) in sums.into_iter().zip(OUTCOMES) {
            // A count that fell below zero would be a mistake; it must not hide all the others.
            counts.add(outcome, sum.try_into().unwrap_or(0));
        }
        Ok(counts)
    }
}
