//! What is spread over shards, read as one.

use std::collections::VecDeque;

use aws_sdk_dynamodb::{operation::query::builders::QueryFluentBuilder, types::Select};
use futures_util::future::try_join_all;
use ports::StoreError;

use super::{Conditions, Item, Table, text, text_of, unavailable};

/// Entries looked at for one page when hardly any of them is wanted.
const LARGEST_PAGE: usize = 1_000;

/// Where a range ends on one side.
#[derive(Debug, Clone)]
pub(crate) enum Bound {
    /// Nowhere.
    Open,
    /// What sorts after this.
    After(String),
    /// What sorts before this.
    Before(String),
    /// What sorts between these, both included.
    Within(String, String),
}

/// A part of one shard of an index, or of a table.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    /// The index; a table is read as it is now.
    pub(crate) index: Option<&'static str>,
    /// Its hash key, and the shard.
    pub(crate) shard: (&'static str, String),
    /// Its range key, which has to be text.
    pub(crate) sort: &'static str,
    /// Which part.
    pub(crate) bound: Bound,
    /// Which of them; about attributes that are no keys of the index.
    pub(crate) filter: Conditions,
}

impl Range {
    fn query(&self, table: &Table) -> QueryFluentBuilder {
        let (name, shard) = &self.shard;
        let place = Conditions::default().compare(name, "=", text(shard));
        let place = match &self.bound {
            Bound::Open => place,
            Bound::After(after) => place.compare(self.sort, ">", text(after)),
            Bound::Before(before) => place.compare(self.sort, "<", text(before)),
            Bound::Within(from, to) => place.between(self.sort, text(from), text(to)),
        };
        let expression = place.expression();
        let filter = self.filter.clone();
        let mut query = table
            .client
            .query()
            .table_name(&table.name)
            .set_index_name(self.index.map(str::to_owned))
            .consistent_read(self.index.is_none())
            .set_key_condition_expression(expression)
            .set_filter_expression(filter.expression());
        for (name, meaning) in place.names.into_iter().chain(filter.names) {
            query = query.expression_attribute_names(name, meaning);
        }
        for (name, value) in place.values.into_iter().chain(filter.values) {
            query = query.expression_attribute_values(name, value);
        }
        query
    }

    /// How many there are.
    pub(crate) async fn count(self, what: &'static str, table: &Table) -> Result<u64, StoreError> {
        let mut count = 0;
        let mut start = None;
        loop {
            let query = self.query(table).select(Select::Count);
            let query = query.set_exclusive_start_key(start);
            let page = query.send().await.map_err(unavailable(what))?;
            count += u64::try_from(page.count).unwrap_or(0);
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(count);
            }
        }
    }
}

/// The entries of several ranges, in order of their range key. It holds one page of
/// each at most.
#[derive(Debug)]
pub(crate) struct Merge {
    table: Table,
    what: &'static str,
    sort: &'static str,
    streams: Vec<Stream>,
}

#[derive(Debug)]
struct Stream {
    range: Range,
    page: usize,
    buffer: VecDeque<Item>,
    start: Option<Item>,
    ended: bool,
}

impl Merge {
    /// Begins with pages of `page` entries.
    pub(crate) fn new(what: &'static str, table: &Table, ranges: Vec<Range>, page: usize) -> Self {
        let stream = |range| Stream {
            range,
            page: page.clamp(1, LARGEST_PAGE),
            buffer: VecDeque::new(),
            start: None,
            ended: false,
        };
        Self {
            table: table.clone(),
            what,
            sort: ranges.first().map_or("sk", |range| range.sort),
            streams: ranges.into_iter().map(stream).collect(),
        }
    }

    /// The next entry, and where it is.
    pub(crate) async fn next(&mut self) -> Result<Option<(String, Item)>, StoreError> {
        let (table, what, sort) = (&self.table, self.what, self.sort);
        let empty = self.streams.iter_mut().filter(|stream| stream.is_due());
        try_join_all(empty.map(|stream| stream.fill(what, table))).await?;
        let firsts = self.streams.iter().enumerate();
        let firsts = firsts.filter_map(|(at, stream)| Some((stream.first(sort)?, at)));
        let Some((place, at)) = firsts.min() else {
            return Ok(None);
        };
        let place = place.to_owned();
        let entry = self.streams[at].buffer.pop_front();
        Ok(entry.map(|entry| (place, entry)))
    }

    /// Up to `n` of the next entries.
    pub(crate) async fn take(&mut self, n: usize) -> Result<Vec<(String, Item)>, StoreError> {
        let mut taken = Vec::new();
        while taken.len() < n {
            let Some(next) = self.next().await? else {
                break;
            };
            taken.push(next);
        }
        Ok(taken)
    }
}

impl Stream {
    fn is_due(&self) -> bool {
        self.buffer.is_empty() && !self.ended
    }

    /// Where its next entry is.
    fn first(&self, sort: &str) -> Option<&str> {
        text_of(self.buffer.front()?, sort)
    }

    async fn fill(&mut self, what: &'static str, table: &Table) -> Result<(), StoreError> {
        while self.is_due() {
            let page = self
                .range
                .query(table)
                .limit(i32::try_from(self.page).unwrap_or(i32::MAX))
                .set_exclusive_start_key(self.start.take())
                .send()
                .await
                .map_err(unavailable(what))?;
            let sort = self.range.sort;
            let items = page.items.unwrap_or_default().into_iter();
            self.buffer
                .extend(items.filter(|item| text_of(item, sort).is_some()));
            self.start = page.last_evaluated_key;
            self.ended = self.start.is_none();
            // Entries are counted before they are filtered.
            if self.buffer.is_empty() {
                self.page = (self.page * 2).min(LARGEST_PAGE);
            }
        }
        Ok(())
    }
}
