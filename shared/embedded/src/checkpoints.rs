//! Checkpoints.

use async_trait::async_trait;
use ports::{CheckpointError, Checkpoints, Revision, StoreError, Stored};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::Store;

/// A revision that was never used before.
pub(crate) fn next_revision(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("UPDATE revisions SET last = last + 1 RETURNING last")?
        .query_row([], |row| row.get(0))
}

fn stored(row: &Row<'_>, at: usize) -> rusqlite::Result<Stored<String>> {
    Ok(Stored {
        revision: Revision(row.get(at)?),
        value: row.get(at + 1)?,
    })
}

/// The smallest text that is greater than every text that begins with `prefix`; `None` when
/// there is none.
pub(crate) fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            end.push(next);
            return Some(end.into_iter().collect());
        }
    }
    None
}

#[async_trait]
impl Checkpoints for Store {
    async fn get(&self, key: &str) -> Result<Option<Stored<String>>, StoreError> {
        let key = key.to_owned();
        self.db
            .read("reading a checkpoint", move |db| {
                db.prepare_cached("SELECT revision, value FROM checkpoints WHERE key = ?1")?
                    .query_row([key], |row| stored(row, 0))
                    .optional()
            })
            .await
    }

    async fn put(
        &self,
        key: &str,
        expected: Option<Revision>,
        value: String,
    ) -> Result<Revision, CheckpointError> {
        let name = key.to_owned();
        let revision = self
            .db
            .write("writing a checkpoint", move |db| {
                let revision = next_revision(db)?;
                let written = match expected {
                    None => db
                        .prepare_cached("INSERT INTO checkpoints VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                        .execute((name, revision, value))?,
                    Some(Revision(expected)) => db
                        .prepare_cached(
                            "UPDATE checkpoints SET revision = ?2, value = ?3 WHERE key = ?1 AND revision = ?4",
                        )?
                        .execute((name, revision, value, expected))?,
                };
                Ok((written > 0).then_some(Revision(revision)))
            })
            .await?;
        revision.ok_or_else(|| CheckpointError::Conflict {
            key: key.to_owned(),
        })
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<(), CheckpointError> {
        let name = key.to_owned();
        let deleted = self
            .db
            .write("deleting a checkpoint", move |db| {
                db.prepare_cached("DELETE FROM checkpoints WHERE key = ?1 AND revision = ?2")?
                    .execute((name, expected.0))
            })
            .await?;
        if deleted == 0 {
            return Err(CheckpointError::Conflict {
                key: key.to_owned(),
            });
        }
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Stored<String>)>, StoreError> {
        let (from, to) = (prefix.to_owned(), end_of_prefix(prefix));
        self.db
            .read("listing checkpoints", move |db| {
                let mut list = db.prepare_cached(
                    "SELECT key, revision, value FROM checkpoints
                     WHERE key >= ?1 AND (?2 IS NULL OR key < ?2) ORDER BY key",
                )?;
                let rows = list.query_map((from, to), |row| Ok((row.get(0)?, stored(row, 1)?)))?;
                rows.collect()
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::end_of_prefix;

    #[test]
    fn the_end_of_a_prefix_is_above_all_that_begin_with_it() {
        for prefix in ["a", "map/a%", "\u{d7ff}", "z\u{10ffff}", "\u{10ffff}"] {
            match end_of_prefix(prefix) {
                Some(end) => assert!(*end > *format!("{prefix}\u{10ffff}"), "{prefix:?}"),
                None => assert_eq!(prefix, "\u{10ffff}"),
            }
        }
        assert_eq!(end_of_prefix("map/"), Some("map0".into()));
    }
}
