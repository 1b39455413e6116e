//! Loads: in bulk into a new table, and what a load has found.

use std::collections::{HashMap, hash_map::Entry};

use model::{Cause, ErrorClass, LoadMode, PackId, Rows, Value};
use ports::{LoadEnd, RowOp, RowOutcome, Sweep, TableSpec, TargetError, WriteBatch};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params_from_iter};

use crate::{
    bind::{self, Cell},
    error::row_error,
    number::Narrow,
    prepare::{create_key, key_definitions},
    sql::{DELETED, Names, Shape, VERSION, quote},
    write::cells,
};

/// The newest load of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) generation: u32,
    /// Whether it writes in bulk, and the table has no key.
    pub(crate) bulk: bool,
}

impl Load {
    pub(crate) fn of(db: &Connection, spec: &TableSpec) -> rusqlite::Result<Self> {
        db.prepare_cached("SELECT generation, bulk FROM _syncline_tables WHERE name = ?1")?
            .query_row([&spec.name], |row| {
                Ok(Self {
                    generation: row.get(0)?,
                    bulk: row.get(1)?,
                })
            })
            .optional()
            .map(|load| {
                load.unwrap_or(Self {
                    generation: 0,
                    bulk: false,
                })
            })
    }

    fn mode(self) -> LoadMode {
        if self.bulk {
            LoadMode::Bulk
        } else {
            LoadMode::Guarded
        }
    }
}

/// Does `work` if the load of `generation` is the newest one of the table.
pub(crate) fn unless_overtaken<T>(
    db: &Connection,
    spec: &TableSpec,
    generation: u32,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<Result<T, TargetError>> {
    let newest = Load::of(db, spec)?.generation;
    match TargetError::unless_newest(&spec.name, generation, newest) {
        Ok(()) => work().map(Ok),
        Err(void) => Ok(Err(void)),
    }
}

pub(crate) fn begin(
    db: &Connection,
    spec: &TableSpec,
    generation: u32,
) -> rusqlite::Result<LoadMode> {
    let names = Names::new(spec);
    let known = Load::of(db, spec)?;
    if known.generation == generation {
        return Ok(known.mode());
    }
    if known.bulk && names.own() {
        // What a load that was given up has brought may be gone from the source by now.
        empty(db, &names)?;
    }
    let load = Load {
        generation,
        bulk: names.own() && is_untouched(db, &names)?,
    };
    if load.bulk {
        db.execute_batch(&format!("DROP INDEX IF EXISTS {}", names.index))?;
    } else {
        db.execute_batch(&format!(
            "DROP TABLE IF EXISTS {found}; CREATE TABLE {found} ({key}, PRIMARY KEY ({columns})) WITHOUT ROWID",
            found = names.found,
            key = key_definitions(db, &names)?,
            columns = names.key_columns().join(", ")
        ))?;
    }
    db.execute(
        "UPDATE _syncline_tables SET bulk = ?2, generation = ?3 WHERE name = ?1",
        (&spec.name, load.bulk, generation),
    )?;
    Ok(load.mode())
}

/// Whether a table has no rows, and nothing is kept beside it: where there are tombstones from
/// before a load, they could not be told from those that it has made.
fn is_untouched(db: &Connection, names: &Names<'_>) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT NOT EXISTS (SELECT 1 FROM {}) AND NOT EXISTS (SELECT 1 FROM {})",
        names.table, names.side
    );
    db.query_row(&sql, [], |row| row.get(0))
}

fn empty(db: &Connection, names: &Names<'_>) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM {}; DELETE FROM {}", names.table, names.side);
    db.execute_batch(&sql)?;
    forget_packs(db, names.spec)
}

fn forget_packs(db: &Connection, spec: &TableSpec) -> rusqlite::Result<()> {
    let sql = "DELETE FROM _syncline_packs WHERE name = ?1";
    db.execute(sql, [&spec.name]).map(|_| ())
}

/// Appends the rows of packs that have not been appended before.
pub(crate) fn append(
    db: &Connection,
    spec: &TableSpec,
    batch: &WriteBatch<'_>,
    packs: &[(PackId, usize)],
) -> rusqlite::Result<Vec<RowOutcome>> {
    let mut appender = Appender {
        db,
        names: Names::new(spec),
        narrow: Narrow::of(db, spec)?,
        inserts: HashMap::new(),
    };
    let mut outcomes = Vec::with_capacity(batch.ops.len());
    let mut start = 0;
    for (pack, end) in packs {
        let fresh = db
            .prepare_cached("INSERT INTO _syncline_packs VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute((&spec.name, pack.as_uuid().as_bytes()))?;
        for at in start..*end {
            let Some(op) = batch.ops.get(at) else { break };
            outcomes.push(appender.append(batch.rows.row(at), op, fresh > 0)?);
        }
        start = *end;
    }
    Ok(outcomes)
}

struct Appender<'db, 't> {
    db: &'db Connection,
    names: Names<'t>,
    narrow: Narrow,
    inserts: HashMap<Shape, CachedStatement<'db>>,
}

impl Appender<'_, '_> {
    fn append(
        &mut self,
        row: &[Value<'_>],
        op: &RowOp,
        fresh: bool,
    ) -> rusqlite::Result<RowOutcome> {
        if let Some(cause) = self.narrow.refuse(self.names.spec, row, op) {
            return Ok(RowOutcome::Failed(Box::new(cause)));
        }
        let done = match op {
            // It was appended, or failed, when its pack came first.
            RowOp::Upsert { .. } | RowOp::SettleUpsert { .. } if !fresh => {
                return Ok(refused_before(&self.names, row));
            }
            RowOp::Upsert { version } | RowOp::SettleUpsert { version, .. } => {
                self.insert(row, version.0)
            }
            RowOp::Delete { version } => self.bury(row, version.0),
            RowOp::SettleDelete { .. } => Ok(()),
        };
        match done {
            Ok(()) => Ok(RowOutcome::Applied),
            Err(error) => match row_error(&error) {
                Some(cause) => Ok(RowOutcome::Failed(Box::new(cause))),
                None => Err(error),
            },
        }
    }

    fn insert(&mut self, row: &[Value<'_>], version: i64) -> rusqlite::Result<()> {
        let shape: Shape = row.iter().map(|cell| !cell.is_missing()).collect();
        let statement = match self.inserts.entry(shape) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let sql = self.names.insert(new.key());
                new.insert(self.db.prepare_cached(&sql)?)
            }
        };
        let version = Value::Int(version);
        statement
            .execute(params_from_iter(cells(row).chain([Cell(&version)])))
            .map(|_| ())
    }

    fn bury(&self, row: &[Value<'_>], version: i64) -> rusqlite::Result<()> {
        let facts = [Value::Int(version), Value::Int(1), Value::Int(0)];
        let key = self.names.spec.key_cells(row).into_iter().map(Cell);
        let sql = format!("{} WHERE version < excluded.version", self.names.put_side());
        let params = params_from_iter(key.chain(facts.iter().map(Cell)));
        self.db.prepare_cached(&sql)?.execute(params).map(|_| ())
    }
}

/// The outcome of a row whose pack came before: the same again. Only a missing required value
/// makes a row of an own table fail that was not refused already.
fn refused_before(names: &Names<'_>, row: &[Value<'_>]) -> RowOutcome {
    let mut cells = names.spec.columns.iter().zip(row);
    let Some((column, _)) = cells.find(|(column, cell)| column.required && !cell.is_present())
    else {
        return RowOutcome::Applied;
    };
    let message = format!(
        "the target refuses the row: `{}` must have a value",
        column.name
    );
    let cause = Cause::new(ErrorClass::Invalid, "not-null-violation", message);
    RowOutcome::Failed(Box::new(cause.at_field(column.name.as_str())))
}

/// Takes out doubles, makes the key, and lets tombstones of the load take effect.
pub(crate) fn end(db: &Connection, spec: &TableSpec) -> rusqlite::Result<LoadEnd> {
    let mut end = LoadEnd::default();
    if !Load::of(db, spec)?.bulk {
        return Ok(end);
    }
    let names = Names::new(spec);
    if let Err(error) = create_key(db, &names) {
        if row_error(&error).is_none_or(|cause| cause.code != "unique-violation") {
            return Err(error);
        }
        remove_doubles(db, &names, &mut end)?;
        create_key(db, &names)?;
    }
    bury_deleted(db, &names, &mut end)?;
    db.execute(
        "UPDATE _syncline_tables SET bulk = 0 WHERE name = ?1",
        [&spec.name],
    )?;
    forget_packs(db, spec)?;
    Ok(end)
}

fn read_key(spec: &TableSpec, row: &Row<'_>) -> rusqlite::Result<Vec<Value<'static>>> {
    let types = spec.key_columns().map(|column| column.ty);
    types
        .enumerate()
        .map(|(at, ty)| Ok(bind::read(row.get_ref(at)?, ty)))
        .collect()
}

fn remove_doubles(db: &Connection, names: &Names<'_>, end: &mut LoadEnd) -> rusqlite::Result<()> {
    let key = names.key_columns().join(", ");
    let mut doubles = db.prepare(&format!(
        "SELECT {key} FROM {} GROUP BY {key} HAVING COUNT(*) > 1 ORDER BY {key}",
        names.table
    ))?;
    let keys = doubles
        .query_map([], |row| read_key(names.spec, row))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    // Without a key the rows of each double would be looked for in the whole table.
    db.execute_batch(&format!(
        "CREATE INDEX {} ON {} ({key})",
        names.index, names.table
    ))?;
    let content: Vec<String> = names
        .spec
        .columns
        .iter()
        .map(|column| quote(&column.name))
        .collect();
    let content = content.join(", ");
    for key in keys {
        let same = format!(
            "SELECT rowid, {VERSION}, DENSE_RANK() OVER (ORDER BY {content}) FROM {} WHERE {}
             ORDER BY {VERSION} DESC, rowid",
            names.table,
            names.key_is()
        );
        let rows: Vec<(i64, i64, i64)> = db
            .prepare_cached(&same)?
            .query_map(params_from_iter(key.iter().map(Cell)), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let Some((&(_, newest, content), others)) = rows.split_first() else {
            continue;
        };
        let mut tie = false;
        for (rowid, version, other) in others {
            if *version < newest {
                end.superseded += 1;
            } else {
                end.unchanged += 1;
                tie |= *other != content;
            }
            db.prepare_cached(&format!("DELETE FROM {} WHERE rowid = ?1", names.table))?
                .execute([rowid])?;
        }
        if tie {
            end.ties.push(key);
        }
    }
    db.execute_batch(&format!("DROP INDEX {}", names.index))
}

/// A load may bring a row and its tombstone, in different versions, in any order.
fn bury_deleted(db: &Connection, names: &Names<'_>, end: &mut LoadEnd) -> rusqlite::Result<()> {
    let both = format!(
        "{} AS s WHERE s.deleted = 1 AND {}",
        names.side,
        names.keys_join("s", "t")
    );
    let ties = format!(
        "SELECT {} FROM {} AS t WHERE EXISTS (SELECT 1 FROM {both} AND (s.version = t.{VERSION} OR s.version IS NULL))",
        names
            .key_columns()
            .iter()
            .map(|column| format!("t.{column}"))
            .collect::<Vec<_>>()
            .join(", "),
        names.table
    );
    let ties = db
        .prepare(&ties)?
        .query_map([], |row| read_key(names.spec, row))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    end.ties.extend(ties);
    let newer = format!("{both} AND s.version > t.{VERSION}");
    let gone = if names.marks() {
        format!(
            "UPDATE {} AS t SET {DELETED} = 1, {VERSION} = s.version FROM {newer}",
            names.table
        )
    } else {
        format!(
            "DELETE FROM {} AS t WHERE EXISTS (SELECT 1 FROM {newer})",
            names.table
        )
    };
    end.superseded += db.execute(&gone, [])? as u64;
    db.execute(
        &format!(
            "DELETE FROM {} AS s WHERE s.deleted = 1 AND EXISTS (SELECT 1 FROM {} AS t WHERE {} AND s.version <= t.{VERSION})",
            names.side,
            names.table,
            names.keys_join("s", "t")
        ),
        [],
    )?;
    Ok(())
}

/// Remembers rows as found by the load of `generation`, if that is the one under way.
pub(crate) fn remember(
    db: &Connection,
    spec: &TableSpec,
    generation: u32,
    rows: &Rows<'_>,
) -> rusqlite::Result<()> {
    let names = Names::new(spec);
    let load = Load::of(db, spec)?;
    if load.generation != generation || load.bulk || !has_found(db, spec)? {
        return Ok(());
    }
    let narrow = Narrow::of(db, spec)?;
    let mut put = db.prepare_cached(&names.put_found())?;
    for row in rows {
        // A key that cannot be kept would stand for another one.
        if narrow.refuse_key(spec, row).is_some() {
            continue;
        }
        put.execute(params_from_iter(spec.key_cells(row).into_iter().map(Cell)))?;
    }
    Ok(())
}

fn has_found(db: &Connection, spec: &TableSpec) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)")?
        .query_row([format!("_syncline_found_{}", spec.name)], |row| row.get(0))
}

pub(crate) fn missing(
    db: &Connection,
    spec: &TableSpec,
    after: Option<&[Value<'static>]>,
    limit: usize,
) -> rusqlite::Result<Sweep> {
    if !has_found(db, spec)? {
        return Ok(Sweep::default());
    }
    let names = Names::new(spec);
    let key = names.key_columns().join(", ");
    let live = if names.marks() {
        format!("t.{DELETED} = 0")
    } else {
        "1".into()
    };
    let lost = format!(
        "{} AS t WHERE {live} AND NOT EXISTS (SELECT 1 FROM {} AS f WHERE {})",
        names.table,
        names.found,
        names.keys_join("f", "t")
    );
    let rows = db.query_row(
        &format!("SELECT COUNT(*) FROM {} AS t WHERE {live}", names.table),
        [],
        |row| row.get(0),
    )?;
    let missing = db.query_row(&format!("SELECT COUNT(*) FROM {lost}"), [], |row| {
        row.get(0)
    })?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let beyond = match after {
        Some(after) => {
            let marks: Vec<String> = (1..=after.len()).map(|at| format!("?{at}")).collect();
            format!("AND ({key}) > ({})", marks.join(", "))
        }
        None => String::new(),
    };
    let sql = format!("SELECT {key} FROM {lost} {beyond} ORDER BY {key} LIMIT {limit}");
    let params = params_from_iter(after.unwrap_or_default().iter().map(Cell));
    let keys = db
        .prepare(&sql)?
        .query_map(params, |row| read_key(spec, row))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Sweep {
        rows,
        missing,
        keys,
    })
}

pub(crate) fn forget(db: &Connection, spec: &TableSpec) -> rusqlite::Result<()> {
    db.execute_batch(&format!("DROP TABLE IF EXISTS {}", Names::new(spec).found))
}
