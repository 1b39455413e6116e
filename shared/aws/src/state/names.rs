//! Names of deliveries that were taken.

use std::collections::HashSet;

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use ports::{Dedupe, StoreError};
use sha2::{Digest, Sha256};

use super::{
    StateTable,
    item::{get_number, get_text, key, number, unavailable},
};

/// Writes of one call.
const WRITES_PER_CALL: usize = 25;

/// The partition of a name: a digest, because senders choose names of any length.
pub(super) fn partition(name: &str) -> String {
    let digest = Sha256::digest(name);
    format!("N#{}", hex::encode(&digest[..16]))
}

impl StateTable {
    /// Of each name, in order, whether it is remembered now. What was remembered within the last
    /// second may not be known yet: a read that is certain costs twice as much, and a message
    /// that comes twice does no harm.
    pub(crate) async fn known_names(&self, names: &[&Dedupe]) -> Result<Vec<bool>, StoreError> {
        let partitions: Vec<String> = names.iter().map(|name| partition(&name.name)).collect();
        let different: HashSet<&String> = partitions.iter().collect();
        let keys = different.into_iter().map(|pk| key(pk, "N")).collect();
        let now = self.clock.now().as_microsecond();
        let items = self.items("looking for deliveries", keys, false).await?;
        let known: HashSet<&str> = items
            .iter()
            .filter(|item| get_number::<i64>(item, "until") > now)
            .filter_map(|item| get_text(item, "pk"))
            .collect();
        let is_known = |pk: &String| known.contains(pk.as_str());
        Ok(partitions.iter().map(is_known).collect())
    }

    /// Remembers names, each until its time.
    pub(crate) async fn remember_names(&self, names: &[&Dedupe]) -> Result<(), StoreError> {
        let what = "remembering deliveries";
        let mut waits = 0;
        for names in names.chunks(WRITES_PER_CALL) {
            let mut left = Vec::with_capacity(names.len());
            let mut seen = HashSet::new();
            for name in names {
                let pk = partition(&name.name);
                let mut item = key(&pk, "N");
                item.insert("until".into(), number(name.until.as_microsecond()));
                item.insert("ttl".into(), number(name.until.as_second()));
                if seen.insert(pk) {
                    let put = PutRequest::builder().set_item(Some(item)).build();
                    let put = put.map_err(StoreError::unavailable(what))?;
                    left.push(WriteRequest::builder().put_request(put).build());
                }
            }
            while !left.is_empty() {
                let written = self
                    .client
                    .batch_write_item()
                    .request_items(&self.table, std::mem::take(&mut left))
                    .send()
                    .await
                    .map_err(unavailable(what))?;
                let unwritten = written.unprocessed_items.into_iter().flatten();
                left.extend(unwritten.flat_map(|(_, writes)| writes));
                if !left.is_empty() {
                    self.pause(what, &mut waits).await?;
                }
            }
        }
        Ok(())
    }
}
