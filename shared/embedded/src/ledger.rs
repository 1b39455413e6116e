//! The books.

use std::collections::HashSet;

use async_trait::async_trait;
use model::{Books, Counts, MapName, Outcome, PackId, PackRef, QueueName, RunId, Settlement};
use ports::{Ledger, PackEntry, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use uuid::Uuid;

use crate::Store;

/// Opens the books of a pack, once.
pub(crate) fn open(db: &Connection, now: i64, pack: &PackEntry) -> rusqlite::Result<()> {
    let (id, run) = (pack.id.as_uuid(), pack.run.as_uuid());
    let map = pack.map.as_str();
    let fresh = db
        .prepare_cached(
            "INSERT INTO packs (id, map, run, n) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute((id, map, run, pack.count))?;
    if fresh > 0 {
        db.prepare_cached(
            "INSERT INTO books (map, run, opened, read) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (map, run) DO UPDATE SET read = read + excluded.read",
        )?
        .execute((map, run, now, pack.count))?;
    }
    Ok(())
}

/// Settles a pack, unless it is settled; says whether what another attempt said of it stands.
pub(crate) fn settle(db: &Connection, now: i64, settlement: &Settlement) -> rusqlite::Result<bool> {
    let (pack, attempt) = (settlement.pack.id.as_uuid(), settlement.attempt.0);
    let closed: Option<(String, Uuid)> = db
        .prepare_cached(
            "UPDATE packs SET settled = ?2, attempt = ?3
             WHERE id = ?1 AND settled IS NULL RETURNING map, run",
        )?
        .query_row((pack, now, attempt), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((map, run)) = closed else {
        return db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM packs WHERE id = ?1 AND attempt <> ?2)")?
            .query_row((pack, attempt), |row| row.get(0));
    };
    add(db, &map, run, settlement.counts, 1)?;
    Ok(false)
}

/// Adds `counts` to a run, or takes them off with `sign` -1.
pub(crate) fn add(
    db: &Connection,
    map: &str,
    run: Uuid,
    counts: Counts,
    sign: i64,
) -> rusqlite::Result<()> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(sign);
    db.prepare_cached(
        "UPDATE books SET applied = applied + :applied, unchanged = unchanged + :unchanged,
         superseded = superseded + :superseded, filtered = filtered + :filtered, failed = failed + :failed
         WHERE map = :map AND run = :run",
    )?
    .execute(named_params! {
        ":applied": signed(counts.applied),
        ":unchanged": signed(counts.unchanged),
        ":superseded": signed(counts.superseded),
        ":filtered": signed(counts.filtered),
        ":failed": signed(counts.failed),
        ":map": map,
        ":run": run,
    })?;
    Ok(())
}

#[async_trait]
impl Ledger for Store {
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<HashSet<PackId>, StoreError> {
        let now = self.clock.now().as_microsecond();
        self.db
            .write("settling packs", move |db| {
                let mut overruled = HashSet::new();
                for one in &settlements {
                    if settle(db, now, one)? {
                        overruled.insert(one.pack.id);
                    }
                }
                Ok(overruled)
            })
            .await
    }

    async fn settled(&self, packs: &[PackRef]) -> Result<HashSet<PackId>, StoreError> {
        let packs: Vec<PackId> = packs.iter().map(|pack| pack.id).collect();
        self.db
            .read("looking for settled packs", move |db| {
                let mut look = db.prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM packs WHERE id = ?1 AND settled IS NOT NULL)",
                )?;
                let mut settled = HashSet::new();
                for pack in packs {
                    if look.query_row([pack.as_uuid()], |row| row.get(0))? {
                        settled.insert(pack);
                    }
                }
                Ok(settled)
            })
            .await
    }

    async fn amend(
        &self,
        map: &MapName,
        run: RunId,
        reason: &str,
        from: Counts,
        to: Counts,
    ) -> Result<(), StoreError> {
        let (map, run, reason) = (map.clone(), run.as_uuid(), reason.to_owned());
        self.db
            .write("amending the books", move |db| {
                let fresh = db
                    .prepare_cached(
                        "INSERT INTO amendments VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                    )?
                    .execute((map.as_str(), run, &reason))?;
                if fresh > 0 {
                    add(db, map.as_str(), run, from, -1)?;
                    add(db, map.as_str(), run, to, 1)?;
                }
                Ok(())
            })
            .await
    }

    async fn in_flight(&self, map: &MapName, run: RunId) -> Result<u64, StoreError> {
        let (map, run) = (map.clone(), run.as_uuid());
        self.db
            .read("counting packs in flight", move |db| {
                db.prepare_cached(
                    "SELECT COALESCE(SUM(n), 0) FROM packs WHERE map = ?1 AND run = ?2 AND settled IS NULL",
                )?
                .query_row((map.as_str(), run), |row| row.get(0))
            })
            .await
    }

    async fn runs(&self, map: &MapName, limit: usize) -> Result<Vec<(RunId, Books)>, StoreError> {
        let map = map.clone();
        self.db
            .read("reading the books", move |db| {
                let mut runs = db.prepare_cached(
                    "SELECT run FROM books WHERE map = ?1 ORDER BY opened DESC, run DESC LIMIT ?2",
                )?;
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let runs = runs.query_map((map.as_str(), limit), |row| row.get::<_, Uuid>(0))?;
                runs.map(|run| {
                    let run = run?;
                    Ok((RunId::from_uuid(run), books(db, map.as_str(), Some(run))?))
                })
                .collect()
            })
            .await
    }

    async fn books(&self, map: &MapName) -> Result<Books, StoreError> {
        let map = map.clone();
        self.db
            .read("reading the books", move |db| books(db, map.as_str(), None))
            .await
    }
}

fn read_counts(row: &Row<'_>, at: usize) -> rusqlite::Result<Counts> {
    // A count that fell below zero would be a mistake; it must not hide all the others.
    let count =
        |at| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(at)?.try_into().unwrap_or(0)) };
    Ok(Counts {
        applied: count(at)?,
        unchanged: count(at + 1)?,
        superseded: count(at + 2)?,
        filtered: count(at + 3)?,
        failed: count(at + 4)?,
    })
}

/// The books of a run, or of all runs of a map, in one snapshot.
fn books(db: &Connection, map: &str, run: Option<Uuid>) -> rusqlite::Result<Books> {
    let (read, mut counts): (u64, Counts) = db
        .prepare_cached(
            "SELECT COALESCE(SUM(read), 0), COALESCE(SUM(applied), 0), COALESCE(SUM(unchanged), 0),
                    COALESCE(SUM(superseded), 0), COALESCE(SUM(filtered), 0), COALESCE(SUM(failed), 0)
             FROM books WHERE map = ?1 AND (?2 IS NULL OR run = ?2)",
        )?
        .query_row((map, run), |row| Ok((row.get(0)?, read_counts(row, 1)?)))?;
    let unsettled: u64 = db
        .prepare_cached(
            "SELECT COALESCE(SUM(n), 0) FROM packs
             WHERE map = ?1 AND (?2 IS NULL OR run = ?2) AND settled IS NULL",
        )?
        .query_row((map, run), |row| row.get(0))?;
    let reported = counts.failed;
    counts.failed = 0;
    let mut stored = 0;
    let mut failures = db.prepare_cached(
        "SELECT outcome, SUM(weight) FROM failures
         WHERE map = ?1 AND (?2 IS NULL OR run = ?2) GROUP BY outcome",
    )?;
    let groups = failures.query_map((map, run), |row| Ok((row.get(0)?, row.get(1)?)))?;
    for group in groups {
        let (outcome, n): (Option<String>, u64) = group?;
        stored += n;
        counts.add(outcome.as_deref().map_or(Outcome::Failed, parse_outcome), n);
    }
    // A failure is stored before or after its pack is settled. Until both have happened it
    // stands in one place only: in flight, or among the reports on their way to the store.
    let early = stored.saturating_sub(reported);
    let late = if reports_waiting(db, map)? {
        reported.saturating_sub(stored)
    } else {
        0
    };
    Ok(Books {
        read,
        outcomes: counts,
        in_flight: unsettled.saturating_sub(early),
        failing: late,
    })
}

fn reports_waiting(db: &Connection, map: &str) -> rusqlite::Result<bool> {
    let queues = [QueueName::Failures, QueueName::Dead].map(|queue| queue as i64);
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM messages WHERE queue IN (?1, ?2) AND grp = ?3)",
    )?
    .query_row((queues[0], queues[1], map), |row| row.get(0))
}

/// The name of an outcome in the file.
pub(crate) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Unchanged => "unchanged",
        Outcome::Superseded => "superseded",
        Outcome::Filtered => "filtered",
        Outcome::Failed => "failed",
    }
}

pub(crate) fn parse_outcome(name: &str) -> Outcome {
    match name {
        "applied" => Outcome::Applied,
        "unchanged" => Outcome::Unchanged,
        "superseded" => Outcome::Superseded,
        "filtered" => Outcome::Filtered,
        _ => Outcome::Failed,
    }
}
