//! The audit log: one partition, since people write it, in order of time.

use model::AuditEntry;
use ports::StoreError;
use uuid::Uuid;

use super::DynamoFailures;
use crate::dynamo::{after_transactions, key, sortable, text, unavailable};

const PARTITION: &str = "A";

impl DynamoFailures {
    pub(crate) async fn enter(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        // Of two entries of one moment the later one has the later name.
        let place = format!("{}#{}", sortable(entry.at), Uuid::now_v7());
        let mut item = self.record(entry, format!("audit/{place}")).await?;
        item.extend(key(PARTITION, place));
        let call = || {
            let put = self.table.client.put_item().table_name(&self.table.name);
            put.set_item(Some(item.clone())).send()
        };
        let written = after_transactions(call).await;
        written.map_err(unavailable("writing the audit log"))?;
        Ok(())
    }

    pub(crate) async fn entries(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let mut items = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX).max(1))
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(PARTITION))
            .into_paginator()
            .items()
            .send();
        let mut entries = Vec::new();
        while entries.len() < limit {
            let Some(item) = items.next().await else {
                break;
            };
            let item = item.map_err(unavailable("reading the audit log"))?;
            entries.extend(self.open(&item).await?);
        }
        Ok(entries)
    }
}
