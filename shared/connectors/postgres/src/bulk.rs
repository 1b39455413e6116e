//! Loads in bulk: rows straight into a table without a key, each pack once.

use std::{collections::HashMap, ops::Range};

use model::{Cause, PackId, Value};
use ports::{RowOp, RowOutcome, WriteBatch};
use tokio_postgres::Statement;

use crate::{
    connect::Connection,
    error::Fault,
    guarded::Bits,
    names::split,
    parcel::{Packed, Packing, Parcel},
    singly::{Turn, each},
    sql::{Shape, Sql, WAITING},
    write::{self, Attempt, attempt, if_possible},
};

/// Rows of a pack that the server refused, by their place in it, when the pack came first.
type Refused = Vec<(usize, Cause)>;

/// Appends the rows of packs that have not been appended before. The packs are noted in the
/// same transaction, so a pack that comes again writes nothing and has the same outcomes.
pub(crate) async fn append(
    db: &mut Connection,
    sql: &Sql<'_>,
    batch: &WriteBatch<'_>,
    packs: &[(PackId, usize)],
) -> Result<Vec<RowOutcome>, Fault> {
    let known = claim(db, sql, packs).await?;
    let mut sorted = Sorted::new(batch.ops.len());
    let mut first = HashMap::new();
    let mut twins = Vec::new();
    for (pack, range) in ranges(packs, batch.ops.len()) {
        if let Some(before) = first.insert(pack, range.start) {
            twins.push((before, range));
            continue;
        }
        let before = known.get(&pack);
        for at in range.clone() {
            sorted.add(sql, batch, at, before.is_none());
        }
        for (index, cause) in before.into_iter().flatten() {
            if let Some(outcome) = sorted.outcomes.get_mut(range.start + index) {
                *outcome = RowOutcome::Failed(Box::new(cause.clone()));
            }
        }
    }
    let mut outcomes = sorted.outcomes;
    let mut failed = copy(db, sql, sorted.rows.close()).await?;
    let buried = sorted.tombstones.close();
    if !buried.rows.is_empty() {
        failed.extend(bury(db, sql, buried, batch.ops.len()).await?);
    }
    if !failed.is_empty() {
        note(db, sql, packs, &failed).await?;
    }
    for (at, cause) in failed {
        outcomes[at] = RowOutcome::Failed(cause);
    }
    for (before, twin) in twins {
        for (index, at) in twin.enumerate() {
            outcomes[at] = outcomes[before + index].clone();
        }
    }
    Ok(outcomes)
}

/// Each pack with the places of its rows in the batch.
fn ranges(packs: &[(PackId, usize)], rows: usize) -> impl Iterator<Item = (PackId, Range<usize>)> {
    let mut start = 0;
    packs.iter().map(move |(pack, end)| {
        let end = (*end).clamp(start, rows);
        (*pack, std::mem::replace(&mut start, end)..end)
    })
}

/// Notes packs that are new, and returns what is known of the others.
async fn claim(
    db: &mut Connection,
    sql: &Sql<'_>,
    packs: &[(PackId, usize)],
) -> Result<HashMap<PackId, Refused>, Fault> {
    let (_, table) = split(&sql.names.spec.name);
    let mut ids: Vec<String> = packs
        .iter()
        .map(|(pack, _)| pack.as_uuid().to_string())
        .collect();
    // In one order for all workers, so that none waits for one that waits for it.
    ids.sort();
    ids.dedup();
    let insert = format!(
        "INSERT INTO {} (name, pack) SELECT $1::text, unnest($2::text[])::uuid
         ON CONFLICT DO NOTHING RETURNING pack::text",
        sql.names.packs
    );
    let insert = db.prepare(&insert).await?;
    for row in db.client.query(&insert, &[&table, &ids]).await? {
        let fresh: String = row.try_get(0)?;
        ids.retain(|id| *id != fresh);
    }
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let select = format!(
        "SELECT pack::text, refused FROM {} WHERE name = $1 AND pack = ANY ($2::text[]::uuid[])",
        sql.names.packs
    );
    let select = db.prepare(&select).await?;
    let mut known = HashMap::new();
    for row in db.client.query(&select, &[&table, &ids]).await? {
        let (id, refused): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let refused = refused.and_then(|text| serde_json::from_str(&text).ok());
        let mut packs = packs.iter().map(|(pack, _)| *pack);
        let pack = packs.find(|pack| pack.as_uuid().to_string() == id);
        known.extend(pack.map(|pack| (pack, refused.unwrap_or_default())));
    }
    Ok(known)
}

/// The rows of packs, encoded, by what is done with them.
struct Sorted {
    rows: Packing,
    tombstones: Packing,
    /// Rows of packs that came before are only checked once more.
    again: Packing,
    outcomes: Vec<RowOutcome>,
}

impl Sorted {
    fn new(rows: usize) -> Self {
        Self {
            rows: Packing::new(0, rows),
            tombstones: Packing::new(0, 0),
            again: Packing::new(0, 0),
            outcomes: vec![RowOutcome::Applied; rows],
        }
    }

    fn add(&mut self, sql: &Sql<'_>, batch: &WriteBatch<'_>, at: usize, fresh: bool) {
        let (columns, row) = (&sql.layout.columns, batch.rows.row(at));
        let done = match &batch.ops[at] {
            RowOp::Upsert { version } | RowOp::SettleUpsert { version, .. } => {
                // There is nothing that a missing cell could leave as it is.
                let filled = row.iter().map(|cell| match cell {
                    Value::Missing => &Value::Null,
                    cell => cell,
                });
                let cells = columns.iter().zip(filled);
                let packing = if fresh {
                    &mut self.rows
                } else {
                    &mut self.again
                };
                packing.append(at, version.0, columns.len(), cells)
            }
            RowOp::Delete { version } => {
                let key = &sql.layout.spec.key;
                let cells = columns.iter().zip(row).enumerate();
                let cells = cells
                    .filter(|(column, _)| key.contains(column))
                    .map(|(_, cell)| cell);
                let packing = if fresh {
                    &mut self.tombstones
                } else {
                    &mut self.again
                };
                packing.stage(at, version.0, key.len(), cells)
            }
            RowOp::SettleDelete { .. } => Ok(()),
        };
        if let Err(cause) = done {
            self.outcomes[at] = RowOutcome::Failed(cause);
        }
    }
}

/// Copying rows into the table.
struct Copying<'c> {
    sql: &'c Sql<'c>,
    parcel: Parcel,
    statement: Statement,
}

impl Attempt for Copying<'_> {
    async fn run(&mut self, db: &mut Connection, rows: &[Packed]) -> Result<(), Fault> {
        self.parcel.copy(&db.client, &self.statement, rows).await
    }

    async fn singly(
        &mut self,
        db: &mut Connection,
        rows: &[Packed],
    ) -> Result<Option<write::Refused>, Fault> {
        if_possible(db, async |db| self.one_by_one(db, rows).await).await
    }
}

impl Copying<'_> {
    async fn one_by_one(
        &self,
        db: &mut Connection,
        rows: &[Packed],
    ) -> Result<write::Refused, Fault> {
        db.client.batch_execute(&self.sql.make_waiting()).await?;
        // The table is another one each time, so nothing is kept prepared.
        let copy = format!("COPY pg_temp.{WAITING} FROM STDIN BINARY");
        let copy = db.client.prepare(&copy).await?;
        self.parcel.copy(&db.client, &copy, rows).await?;
        let places = format!("SELECT s.ctid::text FROM pg_temp.{WAITING} AS s ORDER BY s.ctid");
        let mut turns = Vec::with_capacity(rows.len());
        for place in db.client.query(&places, &[]).await? {
            let (place, which) = (place.try_get(0)?, 1);
            turns.push(Turn { place, which });
        }
        let refused = each(db, &[self.sql.append_waiting()], &turns).await?;
        let drop = format!("DROP TABLE pg_temp.{WAITING}");
        db.client.batch_execute(&drop).await?;
        let row = |(at, cause): (usize, _)| (rows[at].clone(), cause);
        Ok(refused.into_iter().map(row).collect())
    }
}

async fn copy(
    db: &mut Connection,
    sql: &Sql<'_>,
    mut parcel: Parcel,
) -> Result<Vec<(usize, Box<Cause>)>, Fault> {
    if parcel.rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows = std::mem::take(&mut parcel.rows);
    let statement = db.prepare(&sql.copy_to_table()).await?;
    let mut copying = Copying {
        sql,
        parcel,
        statement,
    };
    attempt(db, &mut copying, &rows).await
}

/// Writing tombstones: a load may bring records that are deleted, or that the map leaves out.
struct Burying {
    parcel: Parcel,
    copy: Statement,
    insert: Statement,
    all: usize,
}

impl Attempt for Burying {
    async fn run(&mut self, db: &mut Connection, rows: &[Packed]) -> Result<(), Fault> {
        self.parcel.copy(&db.client, &self.copy, rows).await?;
        let chosen = Bits::of(rows, self.all);
        db.client.execute(&self.insert, &[&chosen.0]).await?;
        Ok(())
    }
}

async fn bury(
    db: &mut Connection,
    sql: &Sql<'_>,
    mut parcel: Parcel,
    all: usize,
) -> Result<Vec<(usize, Box<Cause>)>, Fault> {
    db.stage(sql.stage_id, &sql.make_stage()).await?;
    let shape: Shape = (0..sql.layout.columns.len())
        .map(|column| sql.layout.spec.key.contains(&column))
        .collect();
    let rows = std::mem::take(&mut parcel.rows);
    let copy = db.prepare(&sql.copy_to_stage(&shape)).await?;
    let insert = db.prepare(&sql.bury_newest()).await?;
    let mut burying = Burying {
        parcel,
        copy,
        insert,
        all,
    };
    attempt(db, &mut burying, &rows).await
}

/// Notes which rows of which packs were refused, so that they are when the pack comes again.
async fn note(
    db: &mut Connection,
    sql: &Sql<'_>,
    packs: &[(PackId, usize)],
    failed: &[(usize, Box<Cause>)],
) -> Result<(), Fault> {
    let (_, table) = split(&sql.names.spec.name);
    let update = format!(
        "UPDATE {} SET refused = $3 WHERE name = $1 AND pack = $2::text::uuid",
        sql.names.packs
    );
    let update = db.prepare(&update).await?;
    for (pack, range) in ranges(packs, usize::MAX) {
        let refused: Vec<(usize, &Cause)> = failed
            .iter()
            .filter(|(at, _)| range.contains(at))
            .map(|(at, cause)| (at - range.start, &**cause))
            .collect();
        if !refused.is_empty() {
            let refused = serde_json::to_string(&refused).unwrap_or_default();
            let pack = pack.as_uuid().to_string();
            db.client
                .execute(&update, &[&table, &pack, &refused])
                .await?;
        }
    }
    Ok(())
}
