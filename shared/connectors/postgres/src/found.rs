//! What a load has found, and what it has not.

use model::{Rows, Value};
use ports::{RowOutcome, Sweep};
use tokio_postgres::{Row, Statement, types::ToSql};

use crate::{
    connect::Connection,
    encode,
    error::Fault,
    layout::Layout,
    load::begin_alone,
    lock::{self, UNLIMITED},
    names::{DELETED, Names, literal, split},
    param::{Cell, Cells, Raw},
    sql::Sql,
    write::State,
};

/// Makes the table of found keys anew. One row of it holds the keys of a whole batch, which
/// costs a tenth of what a row for each would.
pub(crate) async fn make_found(db: &Connection, layout: &Layout) -> Result<(), Fault> {
    let names = Names::new(&layout.spec);
    let columns: Vec<String> = layout
        .key()
        .map(|(at, column)| format!("k{at} {}[] NOT NULL", column.staged))
        .collect();
    // Keys hardly compress, and trying costs more than the space.
    let storage: Vec<String> = layout
        .key()
        .map(|(at, _)| format!("ALTER COLUMN k{at} SET STORAGE EXTERNAL"))
        .collect();
    let sql = format!(
        "DROP TABLE IF EXISTS {found}; DROP TABLE IF EXISTS {lost};
         CREATE TABLE {found} ({columns}); ALTER TABLE {found} {storage}",
        found = names.found,
        lost = names.lost,
        columns = columns.join(", "),
        storage = storage.join(", ")
    );
    Ok(db.client.batch_execute(&sql).await?)
}

/// Remembers rows as found by the load under way, whatever became of them.
pub(crate) async fn remember(
    db: &mut Connection,
    sql: &Sql<'_>,
    rows: &Rows<'_>,
    outcomes: &[RowOutcome],
) -> Result<(), Fault> {
    let names = &sql.names;
    let places: Vec<String> = sql.layout.key().map(|(at, _)| format!("k{at}")).collect();
    let marks: Vec<String> = (1..=places.len()).map(|at| format!("${at}")).collect();
    let insert = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        names.found,
        places.join(", "),
        marks.join(", ")
    );
    let insert = db.prepare(&insert).await?;
    let failed = |at: usize| matches!(outcomes.get(at), Some(RowOutcome::Failed(_)));
    let good = keys(sql.layout, rows, |at| !failed(at));
    put_found(db, &insert, &good).await?;
    let bad = keys(sql.layout, rows, failed);
    if bad.first().is_some_and(|column| column.count > 0) {
        // A key that the server refuses is not in the table either.
        db.client.batch_execute("SAVEPOINT found").await?;
        let after = match put_found(db, &insert, &bad).await {
            Ok(()) => "RELEASE found",
            Err(fault) if fault.of_server().is_some() => "ROLLBACK TO found; RELEASE found",
            Err(fault) => return Err(fault),
        };
        db.client.batch_execute(after).await?;
    }
    Ok(())
}

async fn put_found(db: &Connection, insert: &Statement, keys: &[Cells]) -> Result<(), Fault> {
    let params: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|cells| cells as _).collect();
    db.client.execute(insert, &params).await?;
    Ok(())
}

/// The key cells of some rows, column by column. Cells that cannot be stored are left out.
fn keys(layout: &Layout, rows: &Rows<'_>, which: impl Fn(usize) -> bool) -> Vec<Cells> {
    let mut columns: Vec<Cells> = layout.key().map(|_| Cells::default()).collect();
    for (_, row) in rows.iter().enumerate().filter(|(at, _)| which(*at)) {
        let ends: Vec<usize> = columns.iter().map(|cells| cells.bytes.len()).collect();
        let mut all = columns.iter_mut().zip(layout.key());
        let whole = all.all(|(cells, (at, column))| match row.get(at) {
            Some(cell) if cell.is_present() => encode::put(&mut cells.bytes, column, cell).is_ok(),
            _ => false,
        });
        for (cells, end) in columns.iter_mut().zip(ends) {
            if whole {
                cells.count += 1;
            } else {
                cells.bytes.truncate(end);
            }
        }
    }
    columns
}

/// What the load under way has not found. The keys are worked out once, when they are asked
/// for from the beginning, and kept beside the table until the load ends.
pub(crate) async fn missing(
    db: &mut Connection,
    layout: &Layout,
    generation: u32,
    after: Option<&[Value<'static>]>,
    limit: usize,
) -> Result<Sweep, Fault> {
    let names = Names::new(&layout.spec);
    let opening = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {UNLIMITED}; {}",
        lock::sweep(&names)
    );
    db.client.batch_execute(&opening).await?;
    let state = State::of_load(db, &names, generation).await?;
    let mut sweep = Sweep::default();
    if state.finds {
        if after.is_none() || !exists(db, &names.lost).await? {
            make_lost(db, layout).await?;
        }
        sweep = read_lost(db, layout, after, limit).await?;
    }
    db.client.batch_execute("COMMIT").await?;
    Ok(sweep)
}

async fn exists(db: &Connection, table: &str) -> Result<bool, Fault> {
    let row = db
        .client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])
        .await?;
    Ok(row.try_get(0)?)
}

async fn make_lost(db: &Connection, layout: &Layout) -> Result<(), Fault> {
    let names = Names::new(&layout.spec);
    let (mut found, mut arrays, mut same) = (Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut present) = (Vec::new(), Vec::new());
    for (at, column) in layout.key() {
        found.push(format!("k{at}"));
        arrays.push(format!("x.k{at}"));
        same.push(column.is_key("t", &format!("f.k{at}")));
        keys.push(format!("t.{}", column.name));
        present.push(format!("t.{} IS NOT NULL", column.name));
    }
    let live = if names.marks() {
        format!("NOT t.{DELETED}")
    } else {
        "TRUE".to_owned()
    };
    let sql = format!(
        "DROP TABLE IF EXISTS {lost};
         CREATE TABLE {lost} AS SELECT {keys} FROM {table} AS t
         WHERE {live} AND {present} AND NOT EXISTS (
           SELECT 1 FROM (SELECT f.* FROM {found_table} AS x, unnest({arrays}) AS f ({found})) AS f
           WHERE {same});
         ALTER TABLE {lost} ADD PRIMARY KEY ({columns});
         UPDATE {tables} SET rows = (SELECT count(*) FROM {table} AS t WHERE {live}) WHERE name = {name}",
        lost = names.lost,
        keys = keys.join(", "),
        table = names.table,
        present = present.join(" AND "),
        found_table = names.found,
        arrays = arrays.join(", "),
        found = found.join(", "),
        same = same.join(" AND "),
        columns = names.key_columns().join(", "),
        tables = names.tables,
        name = literal(split(&layout.spec.name).1),
    );
    // For each row by itself the whole of what was found would be searched.
    db.client
        .batch_execute("SET LOCAL enable_nestloop = off")
        .await?;
    Ok(db.client.batch_execute(&sql).await?)
}

async fn read_lost(
    db: &mut Connection,
    layout: &Layout,
    after: Option<&[Value<'static>]>,
    limit: usize,
) -> Result<Sweep, Fault> {
    let names = Names::new(&layout.spec);
    let count = format!(
        "SELECT (SELECT rows FROM {} WHERE name = $1), (SELECT count(*) FROM {})",
        names.tables, names.lost
    );
    let (_, table) = split(&layout.spec.name);
    let row = db.client.query_one(&count, &[&table]).await?;
    let key = names.key_columns().join(", ");
    let mut params = Vec::new();
    let beyond = match after {
        None => String::new(),
        Some(after) => {
            let mut marks = Vec::new();
            for ((_, column), cell) in layout.key().zip(after) {
                let mut raw = Vec::new();
                encode::put(&mut raw, column, cell)
                    .map_err(|cause| Fault::Schema(cause.message))?;
                params.push(Cell(raw));
                let mark = format!("${}::{}", params.len(), column.staged);
                marks.push(column.value(&mark));
            }
            format!("WHERE ({key}) > ({})", marks.join(", "))
        }
    };
    let select = format!(
        "SELECT {} FROM {} AS l {beyond} ORDER BY {key} LIMIT {limit}",
        key_list(layout, "l"),
        names.lost
    );
    let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|cell| cell as _).collect();
    let rows = db.client.query(&select, &params).await?;
    Ok(Sweep {
        rows: unsigned(row.try_get(0)?),
        missing: unsigned(row.try_get(1)?),
        keys: read_keys(layout, &rows)?,
    })
}

/// Ends a load: what it found is forgotten.
pub(crate) async fn forget(
    db: &mut Connection,
    layout: &Layout,
    generation: u32,
) -> Result<(), Fault> {
    let names = Names::new(&layout.spec);
    begin_alone(db, &names).await?;
    State::of_load(db, &names, generation).await?;
    let sql = format!(
        "DROP TABLE IF EXISTS {}; DROP TABLE IF EXISTS {}; COMMIT",
        names.found, names.lost
    );
    Ok(db.client.batch_execute(&sql).await?)
}

/// The key columns of `table`, each as its type in binary form is read.
pub(crate) fn key_list(layout: &Layout, table: &str) -> String {
    let parts: Vec<String> = layout
        .key()
        .map(|(_, column)| format!("{table}.{}::{}", column.name, column.staged))
        .collect();
    parts.join(", ")
}

pub(crate) fn read_keys(layout: &Layout, rows: &[Row]) -> Result<Vec<Vec<Value<'static>>>, Fault> {
    let unreadable = || {
        Fault::Schema(format!(
            "a key of table `{}` cannot be read",
            layout.spec.name
        ))
    };
    rows.iter()
        .map(|row| {
            let cells = layout.key().enumerate().map(|(place, (_, column))| {
                let raw: Option<Raw<'_>> = row.try_get(place)?;
                encode::read(column.wire, raw.map(|raw| raw.0)).ok_or_else(unreadable)
            });
            cells.collect()
        })
        .collect()
}

pub(crate) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
