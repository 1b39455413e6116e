//! The failure store.

use async_trait::async_trait;
use jiff::Timestamp;
use model::{AuditEntry, Counts, Failure, FailureId, Fingerprint, Outcome};
use ports::{
    CheckpointError, FailureFilter, FailureGroup, FailurePage, Failures, Revision, StoreError,
    Stored,
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params_from_iter};
use uuid::Uuid;

use crate::{
    Store,
    checkpoints::next_revision,
    ledger::{self, outcome_name, parse_outcome},
};

type RawRow = (u64, String);

fn raw_row(row: &Row<'_>) -> rusqlite::Result<RawRow> {
    Ok((row.get("revision")?, row.get("record")?))
}

fn parse((revision, record): RawRow) -> Result<Stored<Failure>, StoreError> {
    let value = serde_json::from_str(&record).map_err(StoreError::corrupt("a failure"))?;
    Ok(Stored {
        value,
        revision: Revision(revision),
    })
}

/// Writes a failure: a new one when `expected` is `None`, else the one at that revision.
/// Returns the new revision, or `None` if there is no such place.
fn write(
    db: &Connection,
    expected: Option<Revision>,
    failure: &Failure,
    record: &str,
) -> rusqlite::Result<Option<Revision>> {
    let revision = next_revision(db)?;
    let sql = match expected {
        None => {
            "INSERT INTO failures VALUES (:id, :revision, :map, :key, :class, :fingerprint, :status, :run,
             :weight, :first, :last, :due, :outcome, :ended, :record, :news)
             ON CONFLICT DO NOTHING"
        }
        Some(_) => {
            "UPDATE failures SET revision = :revision, map = :map, key = :key, class = :class,
             fingerprint = :fingerprint, status = :status, run = :run, weight = :weight, first = :first,
             last = :last, due = :due, outcome = :outcome, ended = :ended, record = :record,
             news = :news
             WHERE id = :id AND revision = :expected"
        }
    };
    let ended = failure.resolution.as_ref();
    let mut params: Vec<(&str, Box<dyn ToSql>)> = vec![
        (":id", Box::new(failure.id.as_uuid())),
        (":revision", Box::new(revision)),
        (":map", Box::new(failure.map.as_str())),
        (":key", Box::new(failure.key.as_deref())),
        (":class", Box::new(failure.cause.class.as_str())),
        (":fingerprint", Box::new(failure.fingerprint.0.as_str())),
        (":status", Box::new(failure.status.as_str())),
        (":run", Box::new(failure.run.as_uuid())),
        (":weight", Box::new(failure.weight)),
        (":first", Box::new(failure.first.as_microsecond())),
        (":last", Box::new(failure.last.as_microsecond())),
        (":due", Box::new(failure.due.map(Timestamp::as_microsecond))),
        (
            ":outcome",
            Box::new(ended.map(|end| outcome_name(end.outcome))),
        ),
        (":ended", Box::new(ended.map(|end| end.at.as_microsecond()))),
        (":record", Box::new(record)),
        (":news", Box::new(failure.news())),
    ];
    if let Some(Revision(expected)) = expected {
        params.push((":expected", Box::new(expected)));
    }
    let params: Vec<(&str, &dyn ToSql)> = params
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let written = db.prepare_cached(sql)?.execute(params.as_slice())?;
    Ok((written > 0).then_some(Revision(revision)))
}

/// The conditions of a filter as SQL with its parameters.
fn conditions(filter: &FailureFilter) -> (String, Vec<Box<dyn ToSql + Send>>) {
    let mut sql = String::from("1");
    let mut params: Vec<Box<dyn ToSql + Send>> = Vec::new();
    let mut equals = |column: &str, value: Option<Box<dyn ToSql + Send>>| {
        if let Some(value) = value {
            sql.push_str(" AND ");
            sql.push_str(column);
            sql.push_str(" = ?");
            params.push(value);
        }
    };
    let text = |text: &str| -> Box<dyn ToSql + Send> { Box::new(text.to_owned()) };
    equals("map", filter.map.as_ref().map(|map| text(map.as_str())));
    equals("class", filter.class.map(|class| text(class.as_str())));
    equals(
        "fingerprint",
        filter.fingerprint.as_ref().map(|group| text(&group.0)),
    );
    equals("key", filter.key.as_deref().map(text));
    equals(
        "run",
        filter
            .run
            .map(|run| -> Box<dyn ToSql + Send> { Box::new(run.as_uuid()) }),
    );
    equals("news", filter.news.as_deref().map(text));
    if !filter.status.is_empty() {
        let marks = vec!["?"; filter.status.len()].join(", ");
        sql.push_str(" AND status IN (");
        sql.push_str(&marks);
        sql.push(')');
        params.extend(filter.status.iter().map(|status| text(status.as_str())));
    }
    (sql, params)
}

/// A place in the list by age.
fn parse_after(after: &str) -> Option<(i64, Uuid)> {
    let (first, id) = after.split_once('_')?;
    Some((first.parse().ok()?, id.parse().ok()?))
}

#[async_trait]
impl Failures for Store {
    async fn get(&self, id: FailureId) -> Result<Option<Stored<Failure>>, StoreError> {
        let found = self
            .db
            .read("reading a failure", move |db| {
                db.prepare_cached("SELECT revision, record FROM failures WHERE id = ?1")?
                    .query_row([id.as_uuid()], raw_row)
                    .optional()
            })
            .await?;
        found.map(parse).transpose()
    }

    async fn put(
        &self,
        expected: Option<Revision>,
        failure: &Failure,
    ) -> Result<Revision, CheckpointError> {
        let record = serde_json::to_string(failure).map_err(StoreError::corrupt("a failure"))?;
        let owned = failure.clone();
        let revision = self
            .db
            .write("storing a failure", move |db| {
                write(db, expected, &owned, &record)
            })
            .await?;
        revision.ok_or_else(|| CheckpointError::Conflict {
            key: format!("failure {}", failure.id),
        })
    }

    async fn put_new(&self, failures: &[Failure]) -> Result<Vec<bool>, StoreError> {
        let records = failures
            .iter()
            .map(|failure| Ok((failure.clone(), serde_json::to_string(failure)?)))
            .collect::<Result<Vec<_>, serde_json::Error>>()
            .map_err(StoreError::corrupt("a failure"))?;
        self.db
            .write("storing failures", move |db| {
                let put = |(failure, record): &(Failure, String)| {
                    Ok(write(db, None, failure, record)?.is_some())
                };
                records.iter().map(put).collect()
            })
            .await
    }

    async fn query(
        &self,
        filter: &FailureFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<FailurePage, StoreError> {
        let (mut sql, mut params) = conditions(filter);
        if let Some((first, id)) = after.and_then(parse_after) {
            sql.push_str(" AND (first, id) > (?, ?)");
            params.push(Box::new(first));
            params.push(Box::new(id));
        }
        params.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
        let rows: Vec<RawRow> = self
            .db
            .read("reading failures", move |db| {
                let sql = format!(
                    "SELECT revision, record FROM failures WHERE {sql} ORDER BY first, id LIMIT ?"
                );
                let mut query = db.prepare_cached(&sql)?;
                let rows = query.query_map(params_from_iter(&params), raw_row)?;
                rows.collect()
            })
            .await?;
        let failures = rows.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let next = failures
            .last()
            .filter(|_| failures.len() == limit)
            .map(|last| format!("{}_{}", last.value.first.as_microsecond(), last.value.id));
        Ok(FailurePage { failures, next })
    }

    async fn count(&self, filter: &FailureFilter) -> Result<u64, StoreError> {
        let (sql, params) = conditions(filter);
        self.db
            .read("counting failures", move |db| {
                db.prepare_cached(&format!("SELECT COUNT(*) FROM failures WHERE {sql}"))?
                    .query_row(params_from_iter(&params), |row| row.get(0))
            })
            .await
    }

    async fn groups(
        &self,
        filter: &FailureFilter,
        limit: usize,
    ) -> Result<Vec<FailureGroup>, StoreError> {
        type RawGroup = (String, u64, i64, i64, RawRow);
        let (sql, mut params) = conditions(filter);
        params.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
        let groups: Vec<RawGroup> = self
            .db
            .read("grouping failures", move |db| {
                // Bare columns in an aggregate query come from one row of the group: the sample.
                let sql = format!(
                    "SELECT fingerprint, COUNT(*) AS n, MIN(first), MAX(last), revision, record FROM failures
                     WHERE {sql} GROUP BY fingerprint ORDER BY n DESC, fingerprint LIMIT ?"
                );
                let mut query = db.prepare_cached(&sql)?;
                let rows = query.query_map(params_from_iter(&params), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, raw_row(row)?))
                })?;
                rows.collect()
            })
            .await?;
        let group = |(fingerprint, count, first, last, sample): RawGroup| {
            Ok(FailureGroup {
                fingerprint: Fingerprint(fingerprint),
                count,
                first: Timestamp::from_microsecond(first).unwrap_or_default(),
                last: Timestamp::from_microsecond(last).unwrap_or_default(),
                sample: parse(sample)?.value,
            })
        };
        groups.into_iter().map(group).collect()
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Stored<Failure>>, StoreError> {
        let rows: Vec<RawRow> = self
            .db
            .read("looking for due failures", move |db| {
                let mut query = db.prepare_cached(
                    "SELECT revision, record FROM failures WHERE due <= ?1 ORDER BY due, id LIMIT ?2",
                )?;
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let rows = query.query_map((now.as_microsecond(), limit), raw_row)?;
                rows.collect()
            })
            .await?;
        rows.into_iter().map(parse).collect()
    }

    async fn expire(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.db
            .write("expiring failures", move |db| {
                let mut delete = db.prepare_cached(
                    "DELETE FROM failures WHERE id IN (SELECT id FROM failures WHERE ended < ?1 LIMIT ?2)
                     RETURNING map, run, outcome, weight",
                )?;
                let rows = delete.query_map((before.as_microsecond(), limit), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?;
                let ended: Vec<(String, Uuid, String, u64)> =
                    rows.collect::<rusqlite::Result<_>>()?;
                for (map, run, outcome, weight) in &ended {
                    keep_in_books(db, map, *run, parse_outcome(outcome), *weight)?;
                }
                Ok(ended.len() as u64)
            })
            .await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let text = serde_json::to_string(entry).map_err(StoreError::corrupt("an audit entry"))?;
        self.db
            .write("writing the audit log", move |db| {
                db.prepare_cached("INSERT INTO audit (entry) VALUES (?1)")?
                    .execute([text])
                    .map(|_| ())
            })
            .await
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let entries: Vec<String> = self
            .db
            .read("reading the audit log", move |db| {
                let mut query =
                    db.prepare_cached("SELECT entry FROM audit ORDER BY id DESC LIMIT ?1")?;
                let rows = query.query_map([limit], |row| row.get(0))?;
                rows.collect()
            })
            .await?;
        let parse = |text: &String| {
            serde_json::from_str(text).map_err(StoreError::corrupt("an audit entry"))
        };
        entries.iter().map(parse).collect()
    }
}

/// The books count failures where they are stored; what is deleted has to be entered as what
/// it became. A discarded failure leaves a reported failure without a stored one, so it is
/// entered as filtered: a person has left it out.
fn keep_in_books(
    db: &Connection,
    map: &str,
    run: Uuid,
    outcome: Outcome,
    weight: u64,
) -> rusqlite::Result<()> {
    let mut became = Counts::default();
    became.add(
        if outcome == Outcome::Failed {
            Outcome::Filtered
        } else {
            outcome
        },
        weight,
    );
    let reported = Counts {
        failed: weight,
        ..Counts::default()
    };
    ledger::add(db, map, run, reported, -1)?;
    ledger::add(db, map, run, became, 1)
}
