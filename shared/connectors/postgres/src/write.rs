//! Batches: one transaction each, and rows that fail alone.

use std::fmt::Write as _;

use futures_util::future::try_join;
use model::{Cause, ErrorClass};
use ports::{RowOutcome, TargetError, WriteBatch};

use crate::{
    bulk,
    connect::Connection,
    error::{Fault, row_error},
    guarded,
    layout::Layout,
    lock,
    names::{Names, literal, split},
    parcel::Packed,
    sql::Sql,
};

/// What is kept of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether it is being loaded in bulk and has no key.
    pub(crate) bulk: bool,
    /// The newest load.
    pub(crate) generation: u32,
    /// Whether what it finds is remembered.
    pub(crate) finds: bool,
}

impl State {
    fn sql(names: &Names<'_>) -> String {
        format!(
            "SELECT bulk, generation, to_regclass({}) IS NOT NULL FROM {} WHERE name = $1",
            literal(&names.found),
            names.tables
        )
    }

    /// What is kept of a table, if the load of `generation` is the newest one. Locks that keep
    /// another one from beginning have to be held already.
    pub(crate) async fn of_load(
        db: &mut Connection,
        names: &Names<'_>,
        generation: u32,
    ) -> Result<Self, Fault> {
        let state = Self::read(db, names).await?;
        TargetError::unless_newest(&names.spec.name, generation, state.generation)
            .map_err(Fault::Load)?;
        Ok(state)
    }

    pub(crate) async fn read(db: &mut Connection, names: &Names<'_>) -> Result<Self, Fault> {
        let statement = db.prepare(&Self::sql(names)).await?;
        let (_, table) = split(&names.spec.name);
        Self::of(&db.client.query(&statement, &[&table]).await?, names)
    }

    fn of(rows: &[tokio_postgres::Row], names: &Names<'_>) -> Result<Self, Fault> {
        let Some(row) = rows.first() else {
            return Err(Fault::Schema(format!(
                "table `{}` was not made ready by Syncline: load the map first",
                names.spec.name
            )));
        };
        let generation: i64 = row.try_get(1)?;
        Ok(Self {
            bulk: row.try_get(0)?,
            generation: u32::try_from(generation).unwrap_or(0),
            finds: row.try_get(2)?,
        })
    }
}

/// Writes a batch in one transaction.
pub(crate) async fn write(
    db: &mut Connection,
    layout: &Layout,
    batch: &WriteBatch<'_>,
) -> Result<Vec<RowOutcome>, Fault> {
    let sql = Sql::new(layout);
    let state = begin(db, &sql, batch).await?;
    let outcomes = match &batch.bulk {
        Some(bulk) if bulk.generation < state.generation => {
            vec![RowOutcome::Superseded; batch.ops.len()]
        }
        Some(bulk) if bulk.generation == state.generation && state.bulk => {
            bulk::append(db, &sql, batch, &bulk.packs).await?
        }
        bulk => {
            if bulk.is_some() {
                // The load was ended meanwhile: what comes late goes past the guard.
                db.client.batch_execute(&guard(&sql, batch)).await?;
            }
            guarded::write(db, &sql, batch, state).await?
        }
    };
    ports::crash_point("target.commit");
    db.client.batch_execute("COMMIT").await?;
    ports::crash_point("target.committed");
    Ok(outcomes)
}

/// Begins the transaction and takes the locks. What is kept of the table is read after the
/// lock is held, by a statement of its own, which therefore sees what was committed before.
async fn begin(db: &mut Connection, sql: &Sql<'_>, batch: &WriteBatch<'_>) -> Result<State, Fault> {
    let mut opening = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {}",
        lock::take_part(&sql.names)
    );
    if batch.bulk.is_none() {
        // Writing to a string cannot fail.
        let _ = write!(opening, "; {}", guard(sql, batch));
    }
    let statement = db.prepare(&State::sql(&sql.names)).await?;
    let (_, table) = split(&sql.names.spec.name);
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&table];
    // Both are sent at once, and done one after the other.
    let ((), rows) = try_join(
        db.client.batch_execute(&opening),
        db.client.query(&statement, &params),
    )
    .await?;
    State::of(&rows, &sql.names)
}

/// What a transaction that goes past the guard begins with: the locks of its keys, and no
/// other plans than those that go through indexes. Those are always right here, whereas a
/// plan made while a table was small would be kept when it has grown.
fn guard(sql: &Sql<'_>, batch: &WriteBatch<'_>) -> String {
    let deferred = if sql.names.own() {
        ""
    } else {
        "; SET CONSTRAINTS ALL IMMEDIATE"
    };
    let rows = batch.rows.iter().zip(&batch.ops);
    let buckets = lock::buckets(sql.layout, rows);
    format!(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off{deferred}; {}",
        lock::lock_buckets(&sql.names, &buckets)
    )
}

/// Something done with rows that the server may refuse because of one of them.
pub(crate) trait Attempt {
    /// Does it with these rows. After an error nothing of it remains.
    fn run(
        &mut self,
        db: &mut Connection,
        rows: &[Packed],
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Does it with each of these rows by itself, and returns those that are refused; `None`
    /// where that cannot be done, and nothing of it remains.
    fn singly(
        &mut self,
        _db: &mut Connection,
        _rows: &[Packed],
    ) -> impl Future<Output = Result<Option<Refused>, Fault>> + Send {
        std::future::ready(Ok(None))
    }
}

/// Rows that the server refuses, with the reasons.
pub(crate) type Refused = Vec<(Packed, Box<Cause>)>;

/// Refusals of single rows after which the rows that are left are tried one by one.
const MANY: usize = 32;

/// Does `work`, which the server may not be able to do at all. Then nothing of it remains.
pub(crate) async fn if_possible<T>(
    db: &mut Connection,
    work: impl AsyncFnOnce(&mut Connection) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    db.client.batch_execute("SAVEPOINT singly").await?;
    let (done, after) = match work(db).await {
        Ok(done) => (Some(done), "RELEASE singly"),
        // A row that cannot even be staged, or a server without the language of functions.
        Err(fault)
            if fault.of_server().is_some_and(|error| {
                row_error(error).is_some() || error.code().code().starts_with("42")
            }) =>
        {
            (None, "ROLLBACK TO singly; RELEASE singly")
        }
        Err(fault) => return Err(fault),
    };
    db.client.batch_execute(after).await?;
    Ok(done)
}

/// Attempts it with all rows; those that are refused are found by halving, so that good rows
/// are not written one by one unless very many are bad. Returns them with the reasons.
///
/// A row may be refused only because the row it refers to was in the other half: those are
/// attempted again once everything else is written.
pub(crate) async fn attempt(
    db: &mut Connection,
    attempt: &mut (impl Attempt + Send),
    rows: &[Packed],
) -> Result<Vec<(usize, Box<Cause>)>, Fault> {
    let mut failed = halve(db, attempt, rows).await?;
    loop {
        let before = failed.len();
        if before == 0 || before == rows.len() {
            break;
        }
        let (again, kept): (Vec<_>, Vec<_>) = failed
            .into_iter()
            .partition(|(_, cause)| cause.class == ErrorClass::Reference);
        failed = kept;
        if again.is_empty() {
            break;
        }
        let parts: Vec<Packed> = again.into_iter().map(|(row, _)| row).collect();
        failed.extend(halve(db, attempt, &parts).await?);
        if failed.len() == before {
            break;
        }
    }
    Ok(failed
        .into_iter()
        .map(|(row, cause)| (row.at, cause))
        .collect())
}

async fn halve(
    db: &mut Connection,
    attempt: &mut (impl Attempt + Send),
    rows: &[Packed],
) -> Result<Refused, Fault> {
    let mut failed = Vec::new();
    let mut open = vec![rows];
    let mut many = MANY;
    while let Some(part) = open.pop() {
        if part.is_empty() {
            continue;
        }
        if failed.len() >= many {
            let rest: Vec<Packed> = std::iter::once(part)
                .chain(open.iter().rev().copied())
                .flatten()
                .cloned()
                .collect();
            if let Some(refused) = attempt.singly(db, &rest).await? {
                failed.extend(refused);
                break;
            }
            many = usize::MAX;
        }
        db.client.batch_execute("SAVEPOINT part").await?;
        let Err(fault) = attempt.run(db, part).await else {
            // The last one ends with the transaction.
            if !open.is_empty() {
                db.client.batch_execute("RELEASE part").await?;
            }
            continue;
        };
        let Some(cause) = fault.of_server().and_then(row_error) else {
            return Err(fault);
        };
        let undo = "ROLLBACK TO part; RELEASE part";
        db.client.batch_execute(undo).await?;
        if let [row] = part {
            failed.push((row.clone(), Box::new(cause)));
        } else {
            let (first, second) = part.split_at(part.len() / 2);
            open.extend([second, first]);
        }
    }
    failed.sort_by_key(|(row, _)| row.number);
    Ok(failed)
}
