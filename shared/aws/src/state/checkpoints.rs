//! Checkpoints.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use ports::{CheckpointError, Checkpoints, Revision, StoreError, Stored};

use super::{
    SHARDS, StateTable,
    item::{Item, Refused, delete_refused, get_text, key, number, revision, text, unavailable},
    shard,
};

/// The partition of a checkpoint: by the first part of its key, which says what it is, and by
/// the second, which says whose.
pub(super) fn partition(name: &str) -> String {
    let mut parts = name.splitn(3, '/');
    let kind = parts.next().unwrap_or_default();
    of_shard(kind, shard(parts.next().unwrap_or_default()))
}

fn of_shard(kind: &str, shard: u32) -> String {
    format!("C#{kind}#{shard}")
}

/// The partitions in which the checkpoints are whose key begins with `prefix`.
fn partitions(prefix: &str) -> Vec<String> {
    if prefix.splitn(3, '/').count() == 3 {
        return vec![partition(prefix)];
    }
    let kind = prefix.split('/').next().unwrap_or_default();
    (0..SHARDS).map(|shard| of_shard(kind, shard)).collect()
}

fn stored(item: &Item) -> Result<Stored<String>, StoreError> {
    let value = get_text(item, "value").ok_or("it has no value");
    let name = get_text(item, "sk").unwrap_or_default();
    Ok(Stored {
        value: value
            .map_err(StoreError::corrupt(format!("checkpoint `{name}`")))?
            .to_owned(),
        revision: revision(item),
    })
}

fn conflict(name: &str) -> CheckpointError {
    CheckpointError::Conflict {
        key: name.to_owned(),
    }
}

#[async_trait]
impl Checkpoints for StateTable {
    async fn get(&self, name: &str) -> Result<Option<Stored<String>>, StoreError> {
        let found = self
            .item("reading a checkpoint", &partition(name), name)
            .await?;
        found.as_ref().map(stored).transpose()
    }

    async fn put(
        &self,
        name: &str,
        expected: Option<Revision>,
        value: String,
    ) -> Result<Revision, CheckpointError> {
        let mut item = key(partition(name), name);
        item.insert("value".into(), text(value));
        let put = self.put_if("writing a checkpoint", item, expected).await?;
        put.ok_or_else(|| conflict(name))
    }

    async fn delete(&self, name: &str, expected: Revision) -> Result<(), CheckpointError> {
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key(partition(name), name)))
            .condition_expression("rev = :expected")
            .expression_attribute_values(":expected", number(expected.0))
            .send()
            .await;
        match deleted.map_err(|error| delete_refused("deleting a checkpoint", error)) {
            Ok(_) => Ok(()),
            Err(Refused::Condition(_)) => Err(conflict(name)),
            Err(Refused::Store(error)) => Err(error.into()),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Stored<String>)>, StoreError> {
        let what = "listing checkpoints";
        let partitions = partitions(prefix);
        let lists = partitions.iter().map(|pk| async move {
            let mut pages = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                .expression_attribute_values(":pk", text(pk))
                .expression_attribute_values(":prefix", text(prefix))
                .into_paginator()
                .items()
                .send();
            let mut found = Vec::new();
            while let Some(item) = pages.next().await {
                let item = item.map_err(unavailable(what))?;
                let name = get_text(&item, "sk").unwrap_or_default().to_owned();
                found.push((name, stored(&item)?));
            }
            Ok::<_, StoreError>(found)
        });
        let mut all: Vec<_> = try_join_all(lists).await?.into_iter().flatten().collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_looks_where_the_checkpoints_are() {
        for name in [
            "load/customers/00000001/slice/3",
            "pull/orders",
            "k",
            "map/a%",
        ] {
            for end in (0..=name.len()).filter(|end| name.is_char_boundary(*end)) {
                let prefix = &name[..end];
                if prefix.contains('/') {
                    assert!(partitions(prefix).contains(&partition(name)), "{prefix}");
                }
            }
        }
        assert_eq!(partitions("load/customers/00000001/").len(), 1);
    }
}
