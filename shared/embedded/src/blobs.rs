//! Blobs.

use async_trait::async_trait;
use bytes::Bytes;
use ports::{Blobs, StoreError};
use rusqlite::OptionalExtension;

use crate::{Store, checkpoints::end_of_prefix};

#[async_trait]
impl Blobs for Store {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.db
            .write("storing a blob", move |db| {
                let put = db
                    .prepare_cached("INSERT INTO blobs VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                    .execute((name, bytes.as_ref()))?;
                Ok(put > 0)
            })
            .await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        self.db
            .read("reading a blob", move |db| {
                db.prepare_cached("SELECT bytes FROM blobs WHERE name = ?1")?
                    .query_row([name], |row| row.get::<_, Vec<u8>>(0).map(Bytes::from))
                    .optional()
            })
            .await
    }

    async fn delete(&self, names: &[String]) -> Result<(), StoreError> {
        let names = names.to_vec();
        self.db
            .write("deleting blobs", move |db| {
                let mut delete = db.prepare_cached("DELETE FROM blobs WHERE name = ?1")?;
                names
                    .iter()
                    .try_for_each(|name| delete.execute([name]).map(|_| ()))
            })
            .await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let (from, to) = (prefix.to_owned(), end_of_prefix(prefix));
        let after = after.map(str::to_owned);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.db
            .read("listing blobs", move |db| {
                let mut list = db.prepare_cached(
                    "SELECT name FROM blobs WHERE name >= ?1 AND (?2 IS NULL OR name < ?2)
                     AND (?3 IS NULL OR name > ?3) ORDER BY name LIMIT ?4",
                )?;
                let names = list.query_map((from, to, after, limit), |row| row.get(0))?;
                names.collect()
            })
            .await
    }

    async fn measure(&self, prefix: &str) -> Result<(u64, u64), StoreError> {
        let (from, to) = (prefix.to_owned(), end_of_prefix(prefix));
        self.db
            .read("measuring blobs", move |db| {
                db.prepare_cached(
                    "SELECT COUNT(*), COALESCE(SUM(LENGTH(bytes)), 0) FROM blobs
                     WHERE name >= ?1 AND (?2 IS NULL OR name < ?2)",
                )?
                .query_row((from, to), |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .await
    }
}
