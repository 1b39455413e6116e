//! Links.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use model::MapName;
use ports::{Claim, ClaimBatch, Claimed, Link, Links, Revision, StoreError, Stored};
use sha2::{Digest, Sha256};

use super::{
    SHARDS, StateTable,
    item::{Item, get_text, key, text, unavailable},
    shard,
};

mod claims;
mod trace;

use trace::Trace;

/// Writes under way at once.
const AT_ONCE: usize = 16;

fn of_shard(map: &MapName, shard: u32) -> String {
    format!("L#{map}#{shard}")
}

pub(super) fn partition(map: &MapName, name: &str) -> String {
    of_shard(map, shard(name))
}

/// More bytes of a row's key than this do not go into a sort key, which has 1024 at most.
const LONGEST: usize = 900;

/// A sort key may not be empty, and the key of a row may. Of a long one it has the beginning and
/// a digest.
fn sort_key(name: &str) -> String {
    if name.len() <= LONGEST {
        return format!("K{name}");
    }
    let begin = &name[..name.floor_char_boundary(LONGEST)];
    format!("K{begin}#{}", hex::encode(Sha256::digest(name)))
}

pub(super) fn link_key(map: &MapName, name: &str) -> Item {
    key(partition(map, name), sort_key(name))
}

fn name(item: &Item) -> &str {
    let short = || get_text(item, "sk").and_then(|sk| sk.strip_prefix('K'));
    get_text(item, "name").or_else(short).unwrap_or_default()
}

impl StateTable {
    async fn put_link(
        &self,
        map: &MapName,
        name: &str,
        expected: Option<Revision>,
        link: &Link,
    ) -> Result<Option<Revision>, StoreError> {
        let mut item = trace::item(link)?;
        item.extend(link_key(map, name));
        if name.len() > LONGEST {
            item.insert("name".into(), text(name));
        }
        self.put_if("writing a link", item, expected).await
    }

    /// Up to `limit` links of one shard.
    async fn list_shard(
        &self,
        pk: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let what = "listing links";
        let after = after.map_or_else(|| "J".to_owned(), sort_key);
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk > :after")
            .expression_attribute_values(":pk", text(pk))
            .expression_attribute_values(":after", text(after))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .into_paginator()
            .items()
            .send();
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(item) = pages.next().await
        {
            found.push(item.map_err(unavailable(what))?);
        }
        Ok(found)
    }
}

#[async_trait]
impl Links for StateTable {
    async fn get(
        &self,
        map: &MapName,
        names: &[String],
    ) -> Result<Vec<Option<Stored<Link>>>, StoreError> {
        let different: HashSet<&String> = names.iter().collect();
        let keys = different
            .into_iter()
            .map(|name| link_key(map, name))
            .collect();
        let items = self.items("reading links", keys, true).await?;
        let found: HashMap<String, Stored<Link>> = self.told(items).await?.into_iter().collect();
        Ok(names.iter().map(|name| found.get(name).cloned()).collect())
    }

    async fn begin(&self, map: &MapName, batch: &ClaimBatch) -> Result<(), StoreError> {
        self.begin_batch(map, batch).await
    }

    async fn claim(
        &self,
        map: &MapName,
        claims: Vec<(String, Claim)>,
    ) -> Result<Vec<Claimed>, StoreError> {
        stream::iter(claims)
            .map(|(name, claim)| async move { self.claim_row(map, &name, &claim).await })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn confirm(
        &self,
        map: &MapName,
        batch: &ClaimBatch,
        links: Vec<(String, Revision, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError> {
        if self.is_in_time(batch) {
            self.end_batch(batch).await?;
            return Ok(links.iter().map(|(_, at, _)| Some(*at)).collect());
        }
        let links = links.into_iter();
        let links = links.map(|(name, at, link)| (name, Some(at), link));
        self.put(map, links.collect()).await
    }

    async fn put(
        &self,
        map: &MapName,
        links: Vec<(String, Option<Revision>, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError> {
        let mut answers = vec![None; links.len()];
        // Links of one key are written one after the other, in their order.
        let mut of_key: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, (name, ..)) in links.iter().enumerate() {
            of_key.entry(name).or_default().push(index);
        }
        let links = &links;
        let written: Vec<Vec<(usize, Option<Revision>)>> = stream::iter(of_key.into_values())
            .map(|indices| async move {
                let mut written = Vec::with_capacity(indices.len());
                for index in indices {
                    let (name, expected, link) = &links[index];
                    written.push((index, self.put_link(map, name, *expected, link).await?));
                }
                Ok::<_, StoreError>(written)
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (index, revision) in written.into_iter().flatten() {
            answers[index] = revision;
        }
        Ok(answers)
    }

    async fn list(
        &self,
        map: &MapName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Stored<Link>)>, StoreError> {
        let shards: Vec<String> = (0..SHARDS).map(|shard| of_shard(map, shard)).collect();
        let lists = shards.iter().map(|pk| self.list_shard(pk, after, limit));
        let mut all: Vec<Item> = try_join_all(lists).await?.into_iter().flatten().collect();
        all.sort_unstable_by(|one, other| get_text(one, "sk").cmp(&get_text(other, "sk")));
        all.truncate(limit);
        self.told(all).await
    }
}
