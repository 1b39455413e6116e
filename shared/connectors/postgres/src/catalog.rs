//! What the server says of a table.

use model::DataType;
use ports::{ColumnSchema, TableSchema};

use crate::{
    connect::Connection,
    error::Fault,
    names::{literal, quote_table, split},
    types,
};

/// A table as it is.
pub(crate) struct Catalog {
    pub(crate) columns: Vec<CatalogColumn>,
    /// The columns of its primary key, or of its first unique index over plain columns.
    pub(crate) key: Vec<String>,
}

/// One column as it is.
pub(crate) struct CatalogColumn {
    pub(crate) schema: ColumnSchema,
    /// Name in `pg_type`, of the type below if it is a domain.
    pub(crate) base: String,
    /// The same as it is written in a cast, without length or precision.
    pub(crate) cast: String,
    /// With them, where it has any: what is written to it is cut off or rounded as by this cast.
    pub(crate) exact: Option<String>,
    /// Its length or precision as the server keeps it; negative when it has none.
    pub(crate) modifier: i32,
    /// Whether two values of it can be compared.
    pub(crate) comparable: bool,
}

/// Domains are looked through one level deep; `format_type` with -1 names a type so that a
/// cast to it cuts nothing off.
const COLUMNS: &str = "
SELECT a.attname::text, b.typname::text, format_type(b.oid, -1), format_type(a.atttypid, a.atttypmod),
       m.modifier, b.typtype = 'e',
       a.attnotnull OR t.typnotnull, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL,
       a.attgenerated <> '' OR a.attidentity = 'a',
       EXISTS (SELECT 1 FROM pg_opclass AS c JOIN pg_am AS m ON m.oid = c.opcmethod
               WHERE m.amname IN ('btree', 'hash') AND (c.opcintype = b.oid
                 OR b.typname = 'varchar' OR b.typtype IN ('e', 'r', 'm') OR b.typcategory = 'A')),
       format_type(b.oid, m.modifier)
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
JOIN pg_type AS b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
CROSS JOIN LATERAL (SELECT CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END) AS m (modifier)
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum";

const KEY: &str = "
SELECT a.attname::text
FROM (SELECT * FROM pg_index AS i
      WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate
        AND i.indpred IS NULL AND i.indexprs IS NULL
      ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1) AS i
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE k.place <= i.indnkeyatts
ORDER BY k.place";

impl Catalog {
    /// What the server says of `table`; `None` when there is no such table.
    pub(crate) async fn read(db: &mut Connection, table: &str) -> Result<Option<Self>, Fault> {
        let name = quote_table(table);
        let columns = db.prepare(COLUMNS).await?;
        let rows = db.client.query(&columns, &[&name]).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut columns = Vec::with_capacity(rows.len());
        for row in rows {
            let base: String = row.try_get(1)?;
            let modifier: i32 = row.try_get(4)?;
            let exact: Option<String> = row.try_get(10)?;
            let schema = ColumnSchema {
                name: row.try_get(0)?,
                ty: types::parse(&base, modifier, row.try_get(5)?),
                native: row.try_get(3)?,
                nullable: !row.try_get::<_, bool>(6)?,
                defaulted: row.try_get(7)?,
                computed: row.try_get(8)?,
            };
            columns.push(CatalogColumn {
                schema,
                cast: row.try_get(2)?,
                exact: exact.filter(|_| modifier >= 0),
                modifier,
                comparable: row.try_get(9)?,
                base,
            });
        }
        let key = db.prepare(KEY).await?;
        let rows = db.client.query(&key, &[&name]).await?;
        let key = rows.iter().map(|row| row.try_get(0));
        let key = key.collect::<Result<_, _>>()?;
        Ok(Some(Self { columns, key }))
    }

    pub(crate) fn column(&self, name: &str) -> Option<&CatalogColumn> {
        let mut columns = self.columns.iter();
        columns.find(|column| column.schema.name == name)
    }
}

/// The types of the columns of a table of Syncline's own.
async fn own_types(
    db: &mut Connection,
    table: &str,
) -> Result<Option<Vec<(String, DataType)>>, Fault> {
    let (schema, name) = split(table);
    let tables = quote_table(&match schema {
        Some(schema) => format!("{schema}._syncline_tables"),
        None => "_syncline_tables".to_owned(),
    });
    let known = db
        .client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&tables])
        .await?;
    if !known.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let sql = format!(
        "SELECT types FROM {tables} WHERE own AND name ={}",
        literal(name)
    );
    let found = db.client.query_opt(&sql, &[]).await?;
    let Some(found) = found else { return Ok(None) };
    let types: String = found.try_get(0)?;
    Ok(serde_json::from_str(&types).ok())
}

pub(crate) async fn describe(
    db: &mut Connection,
    table: &str,
) -> Result<Option<TableSchema>, Fault> {
    let Some(catalog) = Catalog::read(db, table).await? else {
        return Ok(None);
    };
    let own = own_types(db, table).await?;
    let known = |name: &str| {
        own.as_ref()?
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, ty)| *ty)
    };
    let columns = catalog
        .columns
        .into_iter()
        .map(|CatalogColumn { schema, .. }| ColumnSchema {
            ty: known(&schema.name).or(schema.ty),
            ..schema
        })
        .collect();
    Ok(Some(TableSchema {
        columns,
        key: catalog.key,
        own: own.is_some(),
    }))
}
