//! Cutting a stream into ranges.

use model::SliceRange;

use crate::{
    connect::Connection,
    error::Fault,
    source::{Stream, relation::Relation, rows::Filter},
};

/// Rows that are looked at to find out where to cut.
const SAMPLE: f64 = 50_000.0;

/// Cuts by the column the map names, else by the first of the key, so that there are about as
/// many rows in each range: at the quantiles of a sample.
pub(crate) async fn cut(
    db: &mut Connection,
    stream: &Stream,
    relation: &Relation,
    wanted: u32,
) -> Result<Vec<Option<SliceRange>>, Fault> {
    let whole = vec![None];
    let Some(field) = stream.slice_by.as_ref().or(stream.key.first()) else {
        return Ok(whole);
    };
    let column = relation.column(field, &stream.entity)?;
    let sample = sample(db, relation).await?;
    let quantiles: Vec<String> = (0..wanted)
        .map(|part| (f64::from(part) / f64::from(wanted)).to_string())
        .collect();
    let sql = format!(
        "SELECT {bound} FROM (
           SELECT DISTINCT unnest(percentile_disc(ARRAY[{quantiles}]::double precision[])
             WITHIN GROUP (ORDER BY {field})) AS b
           FROM {from}{sample} WHERE {filter}) AS x
         WHERE x.b IS NOT NULL ORDER BY x.b",
        bound = column.text("x.b"),
        quantiles = quantiles.join(", "),
        field = column.expr(),
        from = relation.from,
        filter = Filter::of(stream).text()
    );
    let statement = db.client.prepare(&sql).await?;
    let rows = db.client.query(&statement, &[]).await?;
    // What is smaller than the first belongs to the first range, too.
    let bounds: Vec<String> = rows
        .iter()
        .skip(1)
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    if bounds.is_empty() {
        return Ok(whole);
    }
    let starts = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    let ends = bounds.iter().cloned().map(Some).chain([None]);
    let range = |(from, to)| {
        Some(SliceRange {
            field: field.clone(),
            from,
            to,
        })
    };
    Ok(starts.zip(ends).map(range).collect())
}

/// What takes a sample of a large table.
async fn sample(db: &mut Connection, relation: &Relation) -> Result<String, Fault> {
    let rows = estimate(db, relation).await?.unwrap_or(0.0);
    if rows <= 2.0 * SAMPLE {
        return Ok(String::new());
    }
    let percent = (100.0 * SAMPLE / rows).max(0.000_1);
    Ok(format!(" TABLESAMPLE SYSTEM ({percent})"))
}

/// How many rows a table was last thought to have, with all it consists of.
pub(crate) async fn estimate(
    db: &mut Connection,
    relation: &Relation,
) -> Result<Option<f64>, Fault> {
    if !relation.tracks {
        return Ok(None);
    }
    let sql = "WITH RECURSIVE tables (id) AS (
          SELECT to_regclass($1)::oid UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tables ON i.inhparent = id)
        SELECT sum(greatest(c.reltuples, 0))::double precision
        FROM pg_class AS c JOIN tables ON c.oid = id WHERE c.relkind = 'r'";
    let statement = db.prepare(sql).await?;
    let row = db.client.query_one(&statement, &[&relation.table]).await?;
    Ok(row.try_get(0)?)
}
