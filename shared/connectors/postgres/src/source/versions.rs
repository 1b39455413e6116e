//! Changes by version: of queries and views, whose rows do not tell the transaction that wrote
//! them, and of tables whose map wants it so.

use ports::Next;

use crate::{
    connect::Connection,
    error::Fault,
    source::{
        Halt, Stream,
        page::{Records, collect},
        place::{Cursor, Mark, Place},
        relation::{Column, Relation},
        rows::{Filter, key_columns, last_values, list},
    },
};

/// The mark of the newest row there is; `None` when the map has no version.
pub(crate) async fn newest(
    db: &mut Connection,
    stream: &Stream,
    relation: &Relation,
) -> Result<Option<Mark>, Fault> {
    let Some(version) = &stream.version else {
        return Ok(None);
    };
    let column = relation.column(version, &stream.entity)?;
    let filter = Filter::of(stream);
    let sql = format!(
        "SELECT {newest} FROM {from} WHERE {filter} AND {version} IS NOT NULL ORDER BY {version} DESC LIMIT 1",
        newest = column.text(&not_ahead(column, &column.expr())),
        version = column.expr(),
        from = relation.from,
        filter = filter.text()
    );
    let statement = db.prepare(&sql).await?;
    let at = match db.client.query_opt(&statement, &[]).await? {
        Some(row) => row.try_get(0)?,
        None => None,
    };
    Ok(Some(Mark::Version { at }))
}

/// A version that is not ahead of the server's clock: one that is would hide all changes until
/// then.
fn not_ahead(column: &Column, version: &str) -> String {
    if column.is_time() {
        return format!("least({version}, now()::{})", column.cast());
    }
    version.to_owned()
}

/// Reads a page of rows with a version at or after `at`, oldest first. Times are read from a
/// little before on: rows that were committed late carry an older time than rows already read.
/// The next read begins at `then`, else at the newest version that was read.
pub(crate) async fn read(
    db: &mut Connection,
    stream: &Stream,
    relation: &Relation,
    at: Option<String>,
    then: Option<Mark>,
    cursor: Option<Cursor>,
) -> Result<(Records, Next), Halt> {
    let Some(version) = &stream.version else {
        return Err(Halt::no_version());
    };
    let column = relation.column(version, &stream.entity)?;
    let mut order = vec![column];
    order.extend(key_columns(stream, relation)?);
    let (mark, after) = match cursor {
        None => (then, Vec::new()),
        Some(Cursor {
            mark,
            place: Place::Versions { after },
        }) => (mark, after),
        Some(_) => return Err(Halt::stale_cursor()),
    };
    let mut filter = Filter::of(stream);
    if let Some(at) = &at {
        let mut since = column.value(filter.param(at));
        if column.is_time() {
            let overlap = filter.param(&format!("{} seconds", stream.overlap.as_secs_f64()));
            since = format!("{since} - ${overlap}::text::interval");
        }
        filter
            .conditions
            .push(format!("{} >= {since}", column.expr()));
    } else {
        filter
            .conditions
            .push(format!("{} IS NOT NULL", column.expr()));
    }
    filter.after(&order, &after);
    let sql = format!(
        "SELECT row_to_json(x)::text FROM (SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {}) AS x",
        relation.list(stream.select.as_deref()),
        relation.from,
        filter.text(),
        list(&order),
        stream.page_size
    );
    let records = collect(db, &sql, &filter.params, stream.page_size).await?;
    let last = if records.raw.is_empty() {
        after
    } else {
        last_values(stream, &order, &records)?
    };
    if records.more {
        let place = Place::Versions { after: last };
        return Ok((records, Next::Page(Cursor { mark, place }.to_string())));
    }
    if let Some(mark) = mark {
        return Ok((records, Next::End(Some(mark.to_source_mark()))));
    }
    let at = later(db, column, at, last.into_iter().next()).await?;
    let mark = Mark::Version { at }.to_source_mark();
    Ok((records, Next::End(Some(mark))))
}

/// The later of two versions, as PostgreSQL orders them.
async fn later(
    db: &mut Connection,
    column: &Column,
    at: Option<String>,
    newest: Option<String>,
) -> Result<Option<String>, Fault> {
    let Some(newest) = newest else { return Ok(at) };
    let (a, b) = (column.value(1), column.value(2));
    let sql = format!(
        "SELECT {}",
        column.text(&not_ahead(column, &format!("greatest({a}, {b})")))
    );
    let statement = db.prepare(&sql).await?;
    let at = at.unwrap_or_else(|| newest.clone());
    let row = db.client.query_one(&statement, &[&at, &newest]).await?;
    Ok(row.try_get(0)?)
}
