//! All rows, or those of a range, in the order of their keys.

use model::SliceRange;
use ports::Next;

use crate::{
    connect::Connection,
    error::Fault,
    source::{
        Halt, Stream,
        page::{Records, collect, values},
        place::{Cursor, Mark, Part, Place},
        relation::{Column, Relation},
    },
};

/// A read of rows in an order.
struct Reading<'r> {
    stream: &'r Stream,
    relation: &'r Relation,
    range: Option<&'r SliceRange>,
    /// The columns of the order: that which the stream is cut by, unless the key begins with
    /// it, and the key.
    order: Vec<&'r Column>,
    key: Vec<&'r Column>,
    cut: Option<&'r Column>,
}

/// Conditions and parameters of one statement.
#[derive(Default)]
pub(crate) struct Filter {
    pub(crate) conditions: Vec<String>,
    pub(crate) params: Vec<String>,
}

impl Filter {
    /// The condition that the map's author wrote, in brackets of its own.
    pub(crate) fn of(stream: &Stream) -> Self {
        let written = stream.condition.iter();
        Self {
            conditions: written.map(|text| format!("({text}\n)")).collect(),
            params: Vec::new(),
        }
    }

    /// Adds a parameter and returns its number.
    pub(crate) fn param(&mut self, text: &str) -> usize {
        self.params.push(text.to_owned());
        self.params.len()
    }

    /// That a row comes after one with these values in the order of `columns`.
    pub(crate) fn after(&mut self, columns: &[&Column], values: &[String]) {
        if values.len() != columns.len() {
            return;
        }
        let left: Vec<String> = columns.iter().map(|column| column.expr()).collect();
        let right: Vec<String> = columns
            .iter()
            .zip(values)
            .map(|(column, value)| column.value(self.param(value)))
            .collect();
        self.conditions
            .push(format!("({}) > ({})", left.join(", "), right.join(", ")));
    }

    pub(crate) fn text(&self) -> String {
        if self.conditions.is_empty() {
            return "TRUE".to_owned();
        }
        self.conditions.join(" AND ")
    }
}

/// `ORDER BY`'s list.
pub(crate) fn list(columns: &[&Column]) -> String {
    let parts: Vec<String> = columns.iter().map(|column| column.expr()).collect();
    parts.join(", ")
}

impl<'r> Reading<'r> {
    fn new(
        stream: &'r Stream,
        relation: &'r Relation,
        range: Option<&'r SliceRange>,
    ) -> Result<Self, Fault> {
        let key = key_columns(stream, relation)?;
        let cut = match range {
            Some(range) if stream.key.first() != Some(&range.field) => {
                Some(relation.column(&range.field, &stream.entity)?)
            }
            _ => None,
        };
        let order = cut.into_iter().chain(key.iter().copied()).collect();
        Ok(Self {
            stream,
            relation,
            range,
            order,
            key,
            cut,
        })
    }

    fn sql(&self, part: Part, after: &[String]) -> Result<(String, Vec<String>), Fault> {
        let mut filter = Filter::of(self.stream);
        let order = match part {
            Part::Whole => {
                self.within(&mut filter)?;
                let nullable = self.order.iter().filter(|column| column.nullable);
                let present = nullable.map(|column| format!("{} IS NOT NULL", column.expr()));
                filter.conditions.extend(present);
                &self.order
            }
            Part::Uncut => {
                let cut = self.cut.map(|column| format!("{} IS NULL", column.expr()));
                filter.conditions.extend(cut);
                let nullable = self.key.iter().filter(|column| column.nullable);
                let present = nullable.map(|column| format!("{} IS NOT NULL", column.expr()));
                filter.conditions.extend(present);
                &self.key
            }
            Part::Keyless => {
                let absent: Vec<String> = self
                    .key
                    .iter()
                    .map(|column| format!("{} IS NULL", column.expr()))
                    .collect();
                filter.conditions.push(format!("({})", absent.join(" OR ")));
                &self.key
            }
        };
        filter.after(order, after);
        let sql = format!(
            "SELECT row_to_json(x)::text FROM (SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {}) AS x",
            self.relation.list(self.stream.select.as_deref()),
            self.relation.from,
            filter.text(),
            list(order),
            self.stream.page_size
        );
        Ok((sql, filter.params))
    }

    fn within(&self, filter: &mut Filter) -> Result<(), Fault> {
        let Some(range) = self.range else {
            return Ok(());
        };
        let column = self.relation.column(&range.field, &self.stream.entity)?;
        for (bound, sign) in [(&range.from, ">="), (&range.to, "<")] {
            if let Some(bound) = bound {
                let value = column.value(filter.param(bound));
                filter
                    .conditions
                    .push(format!("{} {sign} {value}", column.expr()));
            }
        }
        Ok(())
    }

    /// The part after `part`, if there can be rows in it. The first slice takes those that are
    /// in none.
    fn next_part(&self, part: Part) -> Option<Part> {
        let first = self.range.is_none_or(|range| range.from.is_none());
        let uncut = self.cut.is_some_and(|column| column.nullable);
        let keyless = self.key.iter().any(|column| column.nullable);
        match part {
            _ if !first => None,
            Part::Whole if uncut => Some(Part::Uncut),
            Part::Whole | Part::Uncut if keyless => Some(Part::Keyless),
            _ => None,
        }
    }

    /// Where the next page is, after one with these records.
    fn next(&self, part: Part, records: &Records) -> Result<Option<Place>, Fault> {
        let order = if part == Part::Whole {
            &self.order
        } else {
            &self.key
        };
        if !records.more {
            return Ok(self.next_part(part).map(|part| Place::Rows {
                part,
                after: Vec::new(),
            }));
        }
        if part == Part::Keyless {
            tracing::warn!(
                "`{}` has more rows without a key than a page holds: the rest is not read. Leave them out with `where`, or give them keys",
                self.stream.entity
            );
            return Ok(None);
        }
        let after = last_values(self.stream, order, records)?;
        Ok(Some(Place::Rows { part, after }))
    }
}

/// The values of some columns in the last record, from which the next page goes on.
pub(crate) fn last_values(
    stream: &Stream,
    order: &[&Column],
    records: &Records,
) -> Result<Vec<String>, Fault> {
    let fields: Vec<String> = order.iter().map(|column| column.name.clone()).collect();
    let last = records.raw.last();
    last.and_then(|record| values(record, &fields))
        .ok_or_else(|| {
            Fault::Schema(format!(
                "`{}` cannot be read in the order of {}: use columns of plain types for key and version",
                stream.entity,
                fields.join(", ")
            ))
        })
}

/// The columns of the key.
pub(crate) fn key_columns<'r>(
    stream: &Stream,
    relation: &'r Relation,
) -> Result<Vec<&'r Column>, Fault> {
    let columns = stream.key.iter();
    columns
        .map(|name| relation.column(name, &stream.entity))
        .collect()
}

/// Reads a page of rows.
pub(crate) async fn read(
    db: &mut Connection,
    stream: &Stream,
    relation: &Relation,
    range: Option<&SliceRange>,
    mark: Option<Mark>,
    place: Option<Place>,
) -> Result<(Records, Next), Halt> {
    let reading = Reading::new(stream, relation, range)?;
    let (part, after) = match place {
        None => (Part::Whole, Vec::new()),
        Some(Place::Rows { part, after }) => (part, after),
        Some(_) => return Err(Halt::stale_cursor()),
    };
    let (sql, params) = reading.sql(part, &after)?;
    let records = collect(db, &sql, &params, stream.page_size).await?;
    let next = match reading.next(part, &records)? {
        Some(place) => Next::Page(Cursor { mark, place }.to_string()),
        None => Next::End(mark.map(|mark| mark.to_source_mark())),
    };
    Ok((records, next))
}
