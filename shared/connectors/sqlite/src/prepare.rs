//! Tables: what they look like, and making them ready.

use model::DataType;
use ports::{ColumnSchema, ColumnSpec, TableSchema, TableSpec};
use rusqlite::{Connection, OptionalExtension};

use crate::{
    bind::{parse_type, type_name},
    number::{Affinity, affinities},
    sql::{DELETED, Names, VERSION, quote},
};

/// What is kept of a table: whose it is, the types of its columns, and the load under way.
const META: &str = "
CREATE TABLE IF NOT EXISTS _syncline_tables (
    name       TEXT NOT NULL PRIMARY KEY,
    own        INTEGER NOT NULL,
    types      TEXT NOT NULL,
    bulk       INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _syncline_packs (
    name TEXT NOT NULL,
    pack BLOB NOT NULL,
    PRIMARY KEY (name, pack)
) STRICT, WITHOUT ROWID;
";

fn has_table(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1 AND type IN ('table', 'view'))",
    )?
    .query_row([name], |row| row.get(0))
}

/// The types of the columns of a table of Syncline's own.
fn own_types(db: &Connection, table: &str) -> rusqlite::Result<Option<Vec<(String, DataType)>>> {
    if !has_table(db, "_syncline_tables")? {
        return Ok(None);
    }
    let types: Option<String> = db
        .query_row(
            "SELECT types FROM _syncline_tables WHERE name = ?1 AND own = 1",
            [table],
            |row| row.get(0),
        )
        .optional()?;
    Ok(types.and_then(|text| serde_json::from_str(&text).ok()))
}

pub(crate) fn describe(db: &Connection, table: &str) -> rusqlite::Result<Option<TableSchema>> {
    if !has_table(db, table)? {
        return Ok(None);
    }
    let own = own_types(db, table)?;
    let known = |name: &str| {
        own.as_ref()?
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, ty)| *ty)
    };
    let mut statement =
        db.prepare("SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1)")?;
    let mut key = Vec::new();
    let mut columns = Vec::new();
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (name, native): (String, String) = (row.get(0)?, row.get(1)?);
        let primary: i64 = row.get(4)?;
        if primary > 0 {
            key.push((primary, name.clone()));
        }
        let rowid = primary > 0 && native.eq_ignore_ascii_case("INTEGER");
        columns.push(ColumnSchema {
            ty: known(&name).or_else(|| parse_type(&native)),
            native,
            nullable: !row.get::<_, bool>(2)? && primary == 0,
            defaulted: row.get::<_, bool>(3)? || rowid,
            computed: row.get::<_, i64>(5)? > 1,
            name,
        });
    }
    key.sort();
    let mut key: Vec<String> = key.into_iter().map(|(_, name)| name).collect();
    if key.is_empty() {
        key = unique_index(db, table)?;
    }
    Ok(Some(TableSchema {
        columns,
        key,
        own: own.is_some(),
    }))
}

/// The columns of the first unique index over plain columns.
fn unique_index(db: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut indexes = db.prepare(
        "SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0 ORDER BY origin DESC, seq DESC",
    )?;
    let names = indexes
        .query_map([table], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    for name in names {
        let mut columns = db.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
        let columns = columns.query_map([name], |row| row.get::<_, Option<String>>(0))?;
        if let Some(columns) = columns.collect::<Result<Option<Vec<_>>, _>>()? {
            return Ok(columns);
        }
    }
    Ok(Vec::new())
}

fn definition(column: &ColumnSpec) -> String {
    let not_null = if column.required { " NOT NULL" } else { "" };
    format!("{} {}{not_null}", quote(&column.name), type_name(column.ty))
}

/// The key columns of what stands beside a table. What is one key in the table has to be one
/// there, so they make the same of a value as the table's own.
pub(crate) fn key_definitions(db: &Connection, names: &Names<'_>) -> rusqlite::Result<String> {
    let spec = names.spec;
    let real = affinities(db, &spec.name)?;
    let definitions: Vec<String> = spec
        .key_columns()
        .map(|column| {
            let found = real
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
            let affinity = match found {
                Some((_, affinity)) => *affinity,
                None => Affinity::of(&type_name(column.ty)),
            };
            format!("{} {} NOT NULL", quote(&column.name), affinity.type_name())
        })
        .collect();
    Ok(definitions.join(", "))
}

pub(crate) fn prepare(db: &Connection, spec: &TableSpec) -> rusqlite::Result<()> {
    db.execute_batch(META)?;
    let names = Names::new(spec);
    if names.own() {
        if has_table(db, &spec.name)? {
            add_columns(db, &names)?;
        } else {
            create(db, &names)?;
        }
    }
    db.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {side} ({key}, version INTEGER, deleted INTEGER NOT NULL,
         settles INTEGER NOT NULL, PRIMARY KEY ({columns})) WITHOUT ROWID",
        side = names.side,
        key = key_definitions(db, &names)?,
        columns = names.key_columns().join(", ")
    ))?;
    let types: Vec<(&str, DataType)> = spec
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.ty))
        .collect();
    let types = serde_json::to_string(&types).unwrap_or_default();
    db.execute(
        "INSERT INTO _syncline_tables (name, own, types) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET own = excluded.own, types = excluded.types
         WHERE own <> excluded.own OR types <> excluded.types",
        (&spec.name, names.own(), types),
    )?;
    Ok(())
}

fn create(db: &Connection, names: &Names<'_>) -> rusqlite::Result<()> {
    let mut columns: Vec<String> = names.spec.columns.iter().map(definition).collect();
    columns.push(format!("{VERSION} INTEGER NOT NULL"));
    if names.marks() {
        columns.push(format!("{DELETED} INTEGER NOT NULL DEFAULT 0"));
    }
    db.execute_batch(&format!(
        "CREATE TABLE {} ({})",
        names.table,
        columns.join(", ")
    ))?;
    create_key(db, names)
}

/// The key of a table of Syncline's own: an index, because unlike a primary key it can be
/// made after the rows.
pub(crate) fn create_key(db: &Connection, names: &Names<'_>) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} ({})",
        names.index,
        names.table,
        names.key_columns().join(", ")
    ))
}

/// Adds the columns that the map has gained since the table was made. Columns it has lost stay.
fn add_columns(db: &Connection, names: &Names<'_>) -> rusqlite::Result<()> {
    let known = describe(db, &names.spec.name)?
        .map(|schema| schema.columns)
        .unwrap_or_default();
    let has = |name: &str| {
        known
            .iter()
            .any(|column| column.name.eq_ignore_ascii_case(name))
    };
    for column in names
        .spec
        .columns
        .iter()
        .filter(|column| !has(&column.name))
    {
        // Rows that are there have no value yet, so the column cannot be required.
        let column = ColumnSpec {
            required: false,
            ..column.clone()
        };
        db.execute_batch(&format!(
            "ALTER TABLE {} ADD COLUMN {}",
            names.table,
            definition(&column)
        ))?;
    }
    if !has(VERSION) {
        let sql = format!(
            "ALTER TABLE {} ADD COLUMN {VERSION} INTEGER NOT NULL DEFAULT {}",
            names.table,
            i64::MIN
        );
        db.execute_batch(&sql)?;
    }
    if names.marks() && !has(DELETED) {
        db.execute_batch(&format!(
            "ALTER TABLE {} ADD COLUMN {DELETED} INTEGER NOT NULL DEFAULT 0",
            names.table
        ))?;
    }
    Ok(())
}
