//! What is read: a table, or a query in its place.

use model::DataType;
use ports::FieldSchema;
use tokio_postgres::types::Kind;

use crate::{
    catalog::Catalog,
    connect::Connection,
    error::Fault,
    names::{quote, quote_table},
    source::Stream,
    types,
};

/// A table or query as it is now.
#[derive(Debug)]
pub(crate) struct Relation {
    /// What stands after FROM, called `r`.
    pub(crate) from: String,
    pub(crate) columns: Vec<Column>,
    /// Whether it is a table that tells which transaction wrote a row.
    pub(crate) tracks: bool,
    /// The table's name in quotes, if it is one.
    pub(crate) table: Option<String>,
    /// The table's own key.
    pub(crate) key: Vec<String>,
}

/// One column of it.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its type as it is written in a cast.
    cast: String,
    base: String,
    ty: Option<DataType>,
    pub(crate) nullable: bool,
}

impl Column {
    /// It, as a part of the row.
    pub(crate) fn expr(&self) -> String {
        format!("r.{}", quote(&self.name))
    }

    /// A value of its type, made from a parameter with the text that stands in a record.
    pub(crate) fn value(&self, place: usize) -> String {
        if self.is_bytes() {
            return format!("decode(${place}::text, 'base64')");
        }
        format!("${place}::text::{}", self.cast)
    }

    /// The same for a parameter with a list of texts, as one element of it.
    pub(crate) fn element(&self, text: &str) -> String {
        if self.is_bytes() {
            return format!("decode({text}, 'base64')");
        }
        format!("{text}::{}", self.cast)
    }

    /// Its type as it is written in a cast.
    pub(crate) fn cast(&self) -> &str {
        &self.cast
    }

    /// Whether its values are times, from which an overlap can be taken.
    pub(crate) fn is_time(&self) -> bool {
        matches!(self.base.as_str(), "timestamptz" | "timestamp" | "date")
    }

    fn is_bytes(&self) -> bool {
        self.base == "bytea"
    }

    /// The text of a value of its type, from which [`Column::value`] makes the value again.
    pub(crate) fn text(&self, value: &str) -> String {
        if self.is_bytes() {
            return format!("translate(encode({value}, 'base64'), chr(10), '')");
        }
        format!("{value}::text")
    }

    /// It, as it stands in a record: bytes are base64 in JSON.
    fn json(&self) -> String {
        let expr = self.expr();
        if self.is_bytes() {
            return format!("{} AS {}", self.text(&expr), quote(&self.name));
        }
        expr
    }
}

impl Relation {
    /// Looks at the table or query of a stream.
    pub(crate) async fn read(db: &mut Connection, stream: &Stream) -> Result<Self, Fault> {
        let table = stream.query.is_none().then(|| quote_table(&stream.entity));
        let from = match (&table, &stream.query) {
            (Some(table), _) => format!("{table} AS r"),
            // A comment at its end must not take the bracket with it.
            (None, query) => {
                let query = query.as_deref().unwrap_or_default();
                let query = query.trim_end().trim_end_matches(';');
                format!("({query}\n) AS r")
            }
        };
        // Never kept prepared: it is asked what it looks like now.
        let probe = format!("SELECT * FROM {from} WHERE false");
        let probe = db.client.prepare(&probe).await?;
        let mut relation = Self {
            from,
            columns: probe.columns().iter().map(column).collect(),
            tracks: false,
            table,
            key: Vec::new(),
        };
        if relation.table.is_some() {
            relation.look_up(db, &stream.entity).await?;
        }
        Ok(relation)
    }

    /// What only the catalog knows of a table.
    async fn look_up(&mut self, db: &mut Connection, name: &str) -> Result<(), Fault> {
        let sql = "SELECT relkind IN ('r', 'p') FROM pg_class WHERE oid = to_regclass($1)";
        let kind = db.prepare(sql).await?;
        let found = db.client.query_opt(&kind, &[&self.table]).await?;
        self.tracks = match found {
            Some(row) => row.try_get(0)?,
            None => false,
        };
        if let Some(real) = Catalog::read(db, name).await? {
            for column in &mut self.columns {
                if let Some(known) = real.column(&column.name) {
                    column.nullable = known.schema.nullable;
                }
            }
            self.key = real.key;
        }
        Ok(())
    }

    /// A column that has to be there.
    pub(crate) fn column(&self, name: &str, of: &str) -> Result<&Column, Fault> {
        let mut columns = self.columns.iter();
        columns.find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
            Fault::Schema(format!(
                "`{of}` has no column `{name}`: its columns are {}",
                names.join(", ")
            ))
        })
    }

    /// The columns that a map reads, as the list after SELECT. Those that are not there are
    /// left out, and missing in the records.
    pub(crate) fn list(&self, select: Option<&[String]>) -> String {
        let wanted = |column: &&Column| select.is_none_or(|some| some.contains(&column.name));
        let list: Vec<String> = self
            .columns
            .iter()
            .filter(wanted)
            .map(Column::json)
            .collect();
        list.join(", ")
    }

    /// What is said of its fields.
    pub(crate) fn fields(&self) -> Vec<FieldSchema> {
        let field = |column: &Column| FieldSchema {
            name: column.name.clone(),
            ty: column.ty,
            nullable: column.nullable,
        };
        self.columns.iter().map(field).collect()
    }
}

fn column(column: &tokio_postgres::Column) -> Column {
    let ty = column.type_();
    let is_enum = matches!(ty.kind(), Kind::Enum(_));
    Column {
        name: column.name().to_owned(),
        cast: format!("{}.{}", quote(ty.schema()), quote(ty.name())),
        base: ty.name().to_owned(),
        ty: types::parse(ty.name(), column.type_modifier(), is_enum),
        nullable: true,
    }
}
