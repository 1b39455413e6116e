//! Rows past the guard.

use std::collections::HashMap;

use model::{DataType, Value, Version};
use ports::{
    BulkPacks, RowOp, RowOutcome, Seen, TableSpec, TargetRow, WriteBatch,
    guard::{Action, Current, decide},
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params_from_iter};

use crate::{
    bind::Cell,
    bulk::{self, Load},
    error::{ignored, row_error},
    number::Narrow,
    seen,
    sql::{Names, Shape, quote},
};

/// Writes a batch in the transaction that is open.
pub(crate) fn write(
    db: &Connection,
    spec: &TableSpec,
    batch: &WriteBatch<'_>,
) -> rusqlite::Result<Vec<RowOutcome>> {
    if let Some(BulkPacks { generation, packs }) = &batch.bulk {
        let load = Load::of(db, spec)?;
        if *generation < load.generation {
            return Ok(vec![RowOutcome::Superseded; batch.ops.len()]);
        }
        if *generation == load.generation && load.bulk {
            return bulk::append(db, spec, batch, packs);
        }
    }
    let mut writer = Writer::new(db, spec)?;
    let mut outcomes = Vec::with_capacity(batch.ops.len());
    for (row, op) in batch.rows.iter().zip(&batch.ops) {
        outcomes.push(writer.write(row, op)?);
    }
    if let Some(generation) = batch.found_in {
        bulk::remember(db, spec, generation, &batch.rows)?;
    }
    Ok(outcomes)
}

/// Writes one row in the transaction that is open.
pub(crate) fn write_row(
    db: &Connection,
    spec: &TableSpec,
    row: &[Value<'_>],
    op: &RowOp,
) -> rusqlite::Result<RowOutcome> {
    Writer::new(db, spec)?.write(row, op)
}

/// A row as it is stored.
struct Stored {
    version: Option<i64>,
    deleted: bool,
    equal: bool,
}

/// What is kept beside a row.
struct Side {
    version: Option<i64>,
    deleted: bool,
    settles: i64,
}

/// Writes rows one by one: SQLite has no round trip to save, and a row that fails does so alone.
pub(crate) struct Writer<'db, 't> {
    db: &'db Connection,
    names: Names<'t>,
    statements: HashMap<Shape, [CachedStatement<'db>; 3]>,
    find_side: CachedStatement<'db>,
    has_side: bool,
    narrow: Narrow,
}

const FIND: usize = 0;
const INSERT: usize = 1;
const UPDATE: usize = 2;

pub(crate) fn cells<'r, 'a>(row: &'r [Value<'a>]) -> impl Iterator<Item = Cell<'r, 'a>> {
    row.iter().filter(|cell| !cell.is_missing()).map(Cell)
}

impl<'db, 't> Writer<'db, 't> {
    pub(crate) fn new(db: &'db Connection, spec: &'t TableSpec) -> rusqlite::Result<Self> {
        let names = Names::new(spec);
        // Most tables of Syncline's own have nothing beside them: then no row needs a second look.
        let has_side = db.query_row(
            &format!("SELECT EXISTS (SELECT 1 FROM {})", names.side),
            [],
            |row| row.get(0),
        )?;
        let find_side = db.prepare_cached(&names.find_side())?;
        Ok(Self {
            db,
            names,
            statements: HashMap::new(),
            find_side,
            has_side,
            narrow: Narrow::of(db, spec)?,
        })
    }

    fn statements(
        &mut self,
        row: &[Value<'_>],
    ) -> rusqlite::Result<&mut [CachedStatement<'db>; 3]> {
        let shape: Shape = row.iter().map(|cell| !cell.is_missing()).collect();
        match self.statements.entry(shape) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(new) => {
                let made = [
                    self.db.prepare_cached(&self.names.find(new.key()))?,
                    self.db.prepare_cached(&self.names.insert(new.key()))?,
                    self.db.prepare_cached(&self.names.update(new.key()))?,
                ];
                Ok(new.insert(made))
            }
        }
    }

    fn key<'r, 'a>(spec: &TableSpec, row: &'r [Value<'a>]) -> Vec<Cell<'r, 'a>> {
        spec.key_cells(row).into_iter().map(Cell).collect()
    }

    fn find(&mut self, row: &[Value<'_>]) -> rusqlite::Result<Option<Stored>> {
        let key = Self::key(self.names.spec, row);
        let params = key.iter().map(|cell| Cell(cell.0)).chain(cells(row));
        self.statements(row)?[FIND]
            .query_row(params_from_iter(params), |row| {
                Ok(Stored {
                    version: row.get(0)?,
                    deleted: row.get(1)?,
                    equal: row.get(2)?,
                })
            })
            .optional()
    }

    fn side(&mut self, row: &[Value<'_>]) -> rusqlite::Result<Option<Side>> {
        if !self.has_side {
            return Ok(None);
        }
        let key = Self::key(self.names.spec, row);
        self.find_side
            .query_row(params_from_iter(key), |row| {
                Ok(Side {
                    version: row.get(0)?,
                    deleted: row.get(1)?,
                    settles: row.get(2)?,
                })
            })
            .optional()
    }

    /// What is there under the row's key: whether there is a row at all, its state for the
    /// guard, and how often it was settled.
    fn current(
        &mut self,
        row: &[Value<'_>],
        op: Option<&RowOp>,
    ) -> rusqlite::Result<(bool, Option<Current>, i64)> {
        let stored = self.find(row)?;
        let side = self.side(row)?;
        let settles = side.as_ref().map_or(0, |side| side.settles);
        let tombstone = side.as_ref().filter(|side| side.deleted);
        let own = self.names.own();
        let (version, deleted) = match (&stored, &side) {
            (Some(row), side) if own => {
                let undated = row.deleted
                    && side
                        .as_ref()
                        .is_some_and(|side| side.deleted && side.version.is_none());
                (row.version.filter(|_| !undated), row.deleted)
            }
            (_, Some(side)) if !own => (side.version, side.deleted),
            (Some(_), _) => (None, false),
            (None, _) => match tombstone {
                Some(side) => (side.version, true),
                None => return Ok((false, None, settles)),
            },
        };
        let exists = stored.is_some() && !deleted;
        let now = seen(version, exists, settles);
        let current = Current {
            version: version.map(Version),
            deleted,
            equal: stored.as_ref().is_some_and(|row| row.equal),
            as_seen: op
                .and_then(expected)
                .is_some_and(|expected| *expected == now),
        };
        Ok((stored.is_some(), Some(current), settles))
    }

    pub(crate) fn look(&mut self, row: &[Value<'_>]) -> rusqlite::Result<TargetRow> {
        let (stored, current, settles) = match self.narrow.refuse_key(self.names.spec, row) {
            // A key that cannot be kept is not there either.
            Some(_) => (false, None, 0),
            None => self.current(row, None)?,
        };
        Ok(match current {
            None => TargetRow {
                seen: seen(None, false, settles),
                version: None,
                exists: false,
            },
            Some(current) => {
                let exists = stored && !current.deleted;
                let version = current.version;
                TargetRow {
                    seen: seen(version.map(|v| v.0), exists, settles),
                    version,
                    exists,
                }
            }
        })
    }

    fn write(&mut self, row: &[Value<'_>], op: &RowOp) -> rusqlite::Result<RowOutcome> {
        if let Some(cause) = self.narrow.refuse(self.names.spec, row, op) {
            return Ok(RowOutcome::Failed(Box::new(cause)));
        }
        let (stored, current, _) = self.current(row, Some(op))?;
        let (action, outcome) = decide(current, op);
        let settled = matches!(op, RowOp::SettleUpsert { .. } | RowOp::SettleDelete { .. });
        let done = match action {
            Action::Leave => Ok(()),
            Action::Write(version) => self.put(row, version, stored, settled),
            Action::Bury(version) => self.bury(row, version, stored, settled),
        };
        match done {
            Ok(()) => Ok(outcome),
            Err(error) => match row_error(&error).filter(|_| !self.db.is_autocommit()) {
                Some(cause) => Ok(RowOutcome::Failed(Box::new(cause))),
                // It concerns all rows, or has taken back what they did.
                None => Err(error),
            },
        }
    }

    fn put(
        &mut self,
        row: &[Value<'_>],
        version: Version,
        stored: bool,
        settled: bool,
    ) -> rusqlite::Result<()> {
        let own = self.names.own();
        let key = Self::key(self.names.spec, row);
        let version_cell = Value::Int(version.0);
        let version_param = own.then_some(Cell(&version_cell));
        if stored {
            let params = key
                .iter()
                .map(|cell| Cell(cell.0))
                .chain(cells(row))
                .chain(version_param);
            self.statements(row)?[UPDATE].execute(params_from_iter(params))?;
        } else {
            let params = cells(row).chain(version_param);
            let inserted = self.statements(row)?[INSERT].execute(params_from_iter(params))?;
            if inserted == 0 && self.find(row)?.is_none() {
                return Err(ignored(&self.names.spec.name));
            }
        }
        if !own || settled {
            self.put_side(row, Some(version), false, settled)
        } else if self.has_side {
            // A tombstone that was overcome. Where settlings are counted the count stays.
            let n = self
                .db
                .prepare_cached(&self.names.drop_side())?
                .execute(params_from_iter(key))?;
            if n == 0 {
                self.clear_side(row, version)
            } else {
                Ok(())
            }
        } else {
            Ok(())
        }
    }

    /// Says of an entry beside the table, if there is one, that its row is not deleted.
    fn clear_side(&mut self, row: &[Value<'_>], version: Version) -> rusqlite::Result<()> {
        match self.side(row)? {
            Some(_) => self.put_side(row, Some(version), false, false),
            None => Ok(()),
        }
    }

    fn bury(
        &mut self,
        row: &[Value<'_>],
        version: Option<Version>,
        stored: bool,
        settled: bool,
    ) -> rusqlite::Result<()> {
        if stored {
            let version_cell = version.map_or(Value::Null, |version| Value::Int(version.0));
            let key = Self::key(self.names.spec, row);
            let params = key
                .into_iter()
                .chain(self.names.marks().then_some(Cell(&version_cell)));
            self.db
                .prepare_cached(&self.names.delete())?
                .execute(params_from_iter(params))?;
        }
        if stored && self.names.marks() && !settled {
            return Ok(());
        }
        self.put_side(row, version, true, settled)
    }

    fn put_side(
        &mut self,
        row: &[Value<'_>],
        version: Option<Version>,
        deleted: bool,
        settled: bool,
    ) -> rusqlite::Result<()> {
        let facts = [
            version.map_or(Value::Null, |version| Value::Int(version.0)),
            Value::Int(deleted.into()),
            Value::Int(settled.into()),
        ];
        let params = Self::key(self.names.spec, row)
            .into_iter()
            .chain(facts.iter().map(Cell));
        self.db
            .prepare_cached(&self.names.put_side())?
            .execute(params_from_iter(params))?;
        self.has_side = true;
        Ok(())
    }
}

fn expected(op: &RowOp) -> Option<&Seen> {
    match op {
        RowOp::SettleUpsert { seen, .. } | RowOp::SettleDelete { seen } => Some(seen),
        RowOp::Upsert { .. } | RowOp::Delete { .. } => None,
    }
}

/// One row as a JSON object.
pub(crate) fn show(
    db: &Connection,
    spec: &TableSpec,
    row: &[Value<'_>],
) -> rusqlite::Result<Option<String>> {
    let names = Names::new(spec);
    let parts: Vec<String> = spec
        .columns
        .iter()
        .map(|column| {
            let name = column.name.replace('\'', "''");
            let value = match column.ty {
                DataType::Bytes => format!("hex({})", quote(&column.name)),
                _ => quote(&column.name),
            };
            format!("'{name}', {value}")
        })
        .collect();
    let sql = format!(
        "SELECT json_object({}) FROM {} WHERE {}",
        parts.join(", "),
        names.table,
        names.key_is()
    );
    let key = spec.key_cells(row).into_iter().map(Cell);
    db.query_row(&sql, params_from_iter(key), |row| row.get(0))
        .optional()
}
