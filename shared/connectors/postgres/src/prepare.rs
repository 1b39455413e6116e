//! Making tables ready.

use model::DataType;
use ports::{ColumnSpec, TableSpec};

use crate::{
    catalog::Catalog,
    connect::Connection,
    error::Fault,
    load::make_key,
    names::{DELETED, Names, VERSION, quote, split, stable_hash},
    types::{holds, type_name},
};

/// Makes a table ready to be written, and what is kept beside it.
pub(crate) async fn prepare(db: &mut Connection, spec: &TableSpec) -> Result<(), Fault> {
    let names = Names::new(spec);
    // Two workers at once would both find nothing, and both make it.
    let lock = stable_hash(0, b"syncline prepare").cast_signed();
    let begin =
        format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({lock})");
    db.client.batch_execute(&begin).await?;
    make_schema(db, &names).await?;
    db.client.batch_execute(&meta(&names)).await?;
    let real = Catalog::read(db, &spec.name).await?;
    match (&real, names.own()) {
        (None, true) => create(db, &names).await?,
        (Some(real), true) => adopt(db, &names, real).await?,
        (Some(_), false) => {}
        (None, false) => {
            return Err(Fault::Schema(format!(
                "there is no table `{}`: make it, or leave out `existing: true`",
                spec.name
            )));
        }
    }
    make_side(db, &names).await?;
    note(db, &names).await?;
    Ok(db.client.batch_execute("COMMIT").await?)
}

/// A schema that is named and does not exist is made, for a table of Syncline's own.
async fn make_schema(db: &Connection, names: &Names<'_>) -> Result<(), Fault> {
    let Some(schema) = names.schema.filter(|_| names.own()) else {
        return Ok(());
    };
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
    let known: bool = db.client.query_one(sql, &[&schema]).await?.try_get(0)?;
    if !known {
        let sql = format!("CREATE SCHEMA {}", quote(schema));
        db.client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// What is kept of the tables of a schema: whose they are, the types of their columns, the
/// load under way, and the packs that it has written.
fn meta(names: &Names<'_>) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (
           name text PRIMARY KEY,
           own boolean NOT NULL,
           types text NOT NULL,
           bulk boolean NOT NULL DEFAULT FALSE,
           generation bigint NOT NULL DEFAULT 0,
           rows bigint NOT NULL DEFAULT 0);
         CREATE TABLE IF NOT EXISTS {} (
           name text NOT NULL,
           pack uuid NOT NULL,
           refused text,
           PRIMARY KEY (name, pack))",
        names.tables, names.packs
    )
}

fn definition(column: &ColumnSpec) -> String {
    let not_null = if column.required { " NOT NULL" } else { "" };
    format!("{} {}{not_null}", quote(&column.name), type_name(column.ty))
}

/// The columns that Syncline adds. A row that somebody else inserts is as old as can be.
fn own_columns(names: &Names<'_>) -> Vec<String> {
    let mut columns = vec![format!("{VERSION} bigint NOT NULL DEFAULT '{}'", i64::MIN)];
    if names.marks() {
        columns.push(format!("{DELETED} boolean NOT NULL DEFAULT FALSE"));
    }
    columns
}

async fn create(db: &Connection, names: &Names<'_>) -> Result<(), Fault> {
    let mut columns: Vec<String> = names.spec.columns.iter().map(definition).collect();
    columns.extend(own_columns(names));
    let sql = format!(
        "CREATE TABLE {} ({}); {}",
        names.table,
        columns.join(", "),
        make_key(names)
    );
    Ok(db.client.batch_execute(&sql).await?)
}

/// A table that is there already: Syncline's own may have to follow its map, one of somebody
/// else is not taken over.
async fn adopt(db: &mut Connection, names: &Names<'_>, real: &Catalog) -> Result<(), Fault> {
    let (_, table) = split(&names.spec.name);
    let sql = format!("SELECT bulk FROM {} WHERE own AND name = $1", names.tables);
    let Some(row) = db.client.query_opt(&sql, &[&table]).await? else {
        return Err(Fault::Schema(format!(
            "table `{}` is there already and was not made by Syncline: write `existing: true` in the map, or choose another name",
            names.spec.name
        )));
    };
    let bulk: bool = row.try_get(0)?;
    let wanted = names.spec.key_columns().map(|column| column.name.as_str());
    let wanted: Vec<&str> = wanted.collect();
    let same =
        real.key.len() == wanted.len() && real.key.iter().all(|key| wanted.contains(&key.as_str()));
    if !same && !bulk {
        return Err(Fault::Schema(format!(
            "the key of table `{}` is {}, and the map says {}: drop the table and load again, or correct `to.key`",
            names.spec.name,
            real.key.join(", "),
            wanted.join(", ")
        )));
    }
    check_types(names, real)?;
    add_columns(db, names, real).await
}

/// A column that is narrower than the map says by now would refuse what the map makes.
fn check_types(names: &Names<'_>, real: &Catalog) -> Result<(), Fault> {
    for column in &names.spec.columns {
        let Some(found) = real.column(&column.name) else {
            continue;
        };
        // A type that maps do not know is one that somebody has chosen.
        if found.schema.ty.is_none_or(|real| holds(real, column.ty)) {
            continue;
        }
        let (name, wanted) = (quote(&column.name), type_name(column.ty));
        return Err(Fault::Schema(format!(
            "column `{}` of table `{}` is {}, and the map makes it {}: correct `type` in the map, or run `ALTER TABLE {} ALTER COLUMN {name} TYPE {wanted} USING {name}::{wanted}`, or drop the table and load again",
            column.name, names.spec.name, found.schema.native, column.ty, names.table
        )));
    }
    Ok(())
}

/// Adds the columns that the map has gained since the table was made. Columns it has lost stay.
async fn add_columns(db: &Connection, names: &Names<'_>, real: &Catalog) -> Result<(), Fault> {
    let gained = names
        .spec
        .columns
        .iter()
        .filter(|column| real.column(&column.name).is_none());
    let mut columns: Vec<String> = gained
        .map(|column| {
            // Rows that are there have no value yet, so the column cannot be required.
            definition(&ColumnSpec {
                required: false,
                ..column.clone()
            })
        })
        .collect();
    if names.marks() && real.column(DELETED).is_none() {
        columns.push(format!("{DELETED} boolean NOT NULL DEFAULT FALSE"));
    }
    for column in columns {
        let sql = format!("ALTER TABLE {} ADD COLUMN {column}", names.table);
        db.client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// Makes what stands beside the table. Its key is of the same types and collations, so that
/// the same keys are equal in both.
async fn make_side(db: &Connection, names: &Names<'_>) -> Result<(), Fault> {
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    let known: bool = db.client.query_one(sql, &[&names.side]).await?.try_get(0)?;
    if known {
        return Ok(());
    }
    let key = names.key_columns().join(", ");
    let sql = format!(
        "CREATE TABLE {side} AS
           SELECT {key}, NULL::bigint AS version, NULL::boolean AS deleted FROM {table} WITH NO DATA;
         ALTER TABLE {side} ALTER COLUMN deleted SET NOT NULL,
           ADD PRIMARY KEY ({key})",
        side = names.side,
        table = names.table
    );
    Ok(db.client.batch_execute(&sql).await?)
}

async fn note(db: &Connection, names: &Names<'_>) -> Result<(), Fault> {
    let types: Vec<(&str, DataType)> = names
        .spec
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.ty))
        .collect();
    let types = serde_json::to_string(&types).unwrap_or_default();
    let (_, table) = split(&names.spec.name);
    let sql = format!(
        "INSERT INTO {} AS k (name, own, types) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET own = EXCLUDED.own, types = EXCLUDED.types
         WHERE k.own <> EXCLUDED.own OR k.types <> EXCLUDED.types",
        names.tables
    );
    db.client
        .execute(&sql, &[&table, &names.own(), &types])
        .await?;
    Ok(())
}
