//! Links.

use async_trait::async_trait;
use model::MapName;
use ports::{Claim, ClaimBatch, Claimed, Link, Links, Revision, StoreError, Stored};
use rusqlite::OptionalExtension;

use crate::{Store, checkpoints::next_revision};

#[async_trait]
impl Links for Store {
    async fn get(
        &self,
        map: &MapName,
        keys: &[String],
    ) -> Result<Vec<Option<Stored<Link>>>, StoreError> {
        let (map, keys) = (map.clone(), keys.to_vec());
        let rows: Vec<Option<(u64, String)>> = self
            .db
            .read("reading links", move |db| {
                let mut get = db.prepare_cached(
                    "SELECT revision, link FROM links WHERE map = ?1 AND key = ?2",
                )?;
                keys.iter()
                    .map(|key| {
                        get.query_row((map.as_str(), key), |row| Ok((row.get(0)?, row.get(1)?)))
                            .optional()
                    })
                    .collect()
            })
            .await?;
        rows.into_iter()
            .map(|row| row.map(parse).transpose())
            .collect()
    }

    /// Nothing is noted of a batch: confirming it writes each of its links.
    async fn begin(&self, _map: &MapName, _batch: &ClaimBatch) -> Result<(), StoreError> {
        Ok(())
    }

    async fn claim(
        &self,
        map: &MapName,
        claims: Vec<(String, Claim)>,
    ) -> Result<Vec<Claimed>, StoreError> {
        let keys: Vec<String> = claims.iter().map(|(key, _)| key.clone()).collect();
        let (found, now) = (self.get(map, &keys).await?, self.clock.now());
        let mut claimed = vec![Claimed::Look; claims.len()];
        let (mut puts, mut places) = (Vec::new(), Vec::new());
        for (at, ((key, claim), before)) in claims.into_iter().zip(found).enumerate() {
            let yields = |stored: &Stored<Link>| stored.value.yields_to(claim.version, now);
            if before.as_ref().map_or(claim.version.is_some(), yields) {
                let revision = before.as_ref().map(|before| before.revision);
                let before = before.map(|before| before.value);
                let link = before.clone().unwrap_or_default().claimed(claim);
                puts.push((key, revision, link));
                places.push((at, before));
            }
        }
        let written = self.put(map, puts).await?;
        for ((at, before), revision) in places.into_iter().zip(written) {
            if let Some(revision) = revision {
                claimed[at] = Claimed::Ours { before, revision };
            }
        }
        Ok(claimed)
    }

    async fn confirm(
        &self,
        map: &MapName,
        _batch: &ClaimBatch,
        links: Vec<(String, Revision, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError> {
        let links = links.into_iter();
        let links = links.map(|(key, revision, link)| (key, Some(revision), link));
        self.put(map, links.collect()).await
    }

    async fn put(
        &self,
        map: &MapName,
        links: Vec<(String, Option<Revision>, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError> {
        let map = map.clone();
        let links = links
            .into_iter()
            .map(|(key, expected, link)| Ok((key, expected, serde_json::to_string(&link)?)))
            .collect::<Result<Vec<_>, serde_json::Error>>()
            .map_err(StoreError::corrupt("a link"))?;
        self.db
            .write("writing links", move |db| {
                let mut insert =
                    db.prepare_cached("INSERT INTO links VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?;
                let mut update = db.prepare_cached(
                    "UPDATE links SET revision = ?3, link = ?4 WHERE map = ?1 AND key = ?2 AND revision = ?5",
                )?;
                let mut put = |(key, expected, link): (String, Option<Revision>, String)| {
                    let revision = next_revision(db)?;
                    let written = match expected {
                        None => insert.execute((map.as_str(), key, revision, link))?,
                        Some(Revision(at)) => update.execute((map.as_str(), key, revision, link, at))?,
                    };
                    Ok((written > 0).then_some(Revision(revision)))
                };
                links.into_iter().map(&mut put).collect()
            })
            .await
    }

    async fn list(
        &self,
        map: &MapName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Stored<Link>)>, StoreError> {
        let (map, after) = (map.clone(), after.map(str::to_owned));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<(String, u64, String)> = self
            .db
            .read("listing links", move |db| {
                db.prepare_cached(
                    "SELECT key, revision, link FROM links
                     WHERE map = ?1 AND (?2 IS NULL OR key > ?2) ORDER BY key LIMIT ?3",
                )?
                .query_map((map.as_str(), after, limit), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?
                .collect()
            })
            .await?;
        rows.into_iter()
            .map(|(key, revision, link)| Ok((key, parse((revision, link))?)))
            .collect()
    }
}

fn parse((revision, text): (u64, String)) -> Result<Stored<Link>, StoreError> {
    let value = serde_json::from_str(&text).map_err(StoreError::corrupt("a link"))?;
    Ok(Stored {
        value,
        revision: Revision(revision),
    })
}
