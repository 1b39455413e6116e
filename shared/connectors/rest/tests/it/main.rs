//! JSON services as sources, against a server of the tests' own.

#![cfg(test)]

mod changes;
mod faults;
mod fetch;
mod paging;
mod shop;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use connector_http::HttpClient;
use connector_rest::RestSource;
use definition::Definition;
use model::{ConnectionName, MapName, SourceMark};
use ports::{
    CheckpointError, Checkpoints, Clock, Next, ReadFrom, Revision, Secret, SecretError, Secrets,
    Source, SourceError, StoreError, Stored, testing::ManualClock,
};
use runtime::Rates;
use serde_json::Value as Json;

pub(crate) use shop::Shop;

#[derive(Debug)]
struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn get(&self, name: &str) -> Result<Secret, SecretError> {
        panic!("nobody needs {name}")
    }
}

/// A connection without a rate keeps nothing.
#[derive(Debug)]
struct NoCheckpoints;

#[async_trait]
impl Checkpoints for NoCheckpoints {
    async fn get(&self, key: &str) -> Result<Option<Stored<String>>, StoreError> {
        panic!("nobody reads {key}")
    }
    async fn put(
        &self,
        key: &str,
        _: Option<Revision>,
        _: String,
    ) -> Result<Revision, CheckpointError> {
        panic!("nobody writes {key}")
    }
    async fn delete(&self, key: &str, _: Revision) -> Result<(), CheckpointError> {
        panic!("nobody deletes {key}")
    }
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Stored<String>)>, StoreError> {
        panic!("nobody lists {prefix}")
    }
}

/// The stream of the shop's items, read as `rest` says.
pub(crate) async fn source(shop: &Shop, rest: &str) -> RestSource {
    versioned(shop, rest, "version: updated_at").await
}

pub(crate) async fn versioned(shop: &Shop, rest: &str, version: &str) -> RestSource {
    let text = format!(
        "connections:
  shop: {{ kind: rest, url: \"{}\" }}
  warehouse: {{ kind: sqlite, url: warehouse.db }}
maps:
  items:
    from: {{ stream: shop.items, key: id, {version}, rest: {rest} }}
    to: {{ stream: warehouse.items, key: id }}
    fields: {{ id: id, name: name }}
    pull: {{ overlap: 60s }}
",
        shop.url
    );
    let reading = Definition::read(&text);
    let problems = reading.problems;
    let definition = reading
        .definition
        .unwrap_or_else(|| panic!("{problems:#?}"));
    let name = ConnectionName::new("shop").unwrap();
    let connection = definition.connection(&name).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let rates = Rates::new(Arc::new(NoCheckpoints), Arc::clone(&clock));
    let client = HttpClient::new(name, connection, Arc::new(NoSecrets), rates, clock);
    let client = Arc::new(client.await.unwrap());
    RestSource::new(client, &definition.maps[&MapName::new("items").unwrap()]).unwrap()
}

pub(crate) fn id(record: &Bytes) -> i64 {
    let record: Json = serde_json::from_slice(record).unwrap();
    record["id"].as_i64().unwrap()
}

/// What a read brought.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Bytes>,
    /// The cursors it went along, and how many records there were before each.
    pub(crate) cursors: Vec<(String, usize)>,
    pub(crate) mark: Option<SourceMark>,
}

impl Found {
    pub(crate) fn ids(&self) -> Vec<i64> {
        self.records.iter().map(id).collect()
    }

    pub(crate) fn set(&self) -> BTreeSet<i64> {
        self.ids().into_iter().collect()
    }
}

/// Reads to the end, from a cursor or the beginning.
pub(crate) async fn read(
    source: &RestSource,
    from: ReadFrom<'_>,
    cursor: Option<&str>,
) -> Result<Found, SourceError> {
    let mut found = Found::default();
    let mut cursor = cursor.map(str::to_owned);
    for _ in 0..10_000 {
        let page = source.read(from, cursor.as_deref()).await?;
        found
            .records
            .extend(page.records.into_iter().map(|record| record.raw));
        match page.next {
            Next::Page(next) => {
                found.cursors.push((next.clone(), found.records.len()));
                cursor = Some(next);
            }
            Next::End(mark) => {
                found.mark = mark;
                return Ok(found);
            }
        }
    }
    panic!("it never ends")
}

pub(crate) async fn read_all(source: &RestSource) -> Result<Found, SourceError> {
    read(source, ReadFrom::Rows(None), None).await
}
