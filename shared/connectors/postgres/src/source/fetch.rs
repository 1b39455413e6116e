//! Single records by their keys.

use bytes::Bytes;
use ports::SourceError;

use crate::{
    connect::Connection,
    error::Fault,
    source::{
        Halt, Stream,
        page::values,
        relation::Relation,
        rows::{Filter, key_columns},
    },
};

/// Keys per statement.
const AT_ONCE: usize = 500;

/// Reads records as they are now, one answer per key in order.
pub(crate) async fn fetch(
    db: &mut Connection,
    stream: &Stream,
    relation: &Relation,
    keys: &[Bytes],
) -> Result<Vec<Option<Bytes>>, Halt> {
    let mut found = vec![None; keys.len()];
    let wanted: Vec<Vec<String>> = keys
        .iter()
        .map(|raw| values(raw, &stream.key).ok_or_else(|| keyless(stream)))
        .collect::<Result<_, _>>()?;
    let places: Vec<usize> = (0..keys.len()).collect();
    for some in places.chunks(AT_ONCE) {
        let mut rows = fetch_some(db, stream, relation, &wanted, some).await;
        if rows.as_ref().is_err_and(is_no_value) {
            // Either it is one of the keys, or reading a row that is there.
            let keys = possible(db, stream, relation, &wanted, some).await?;
            if keys.len() < some.len() {
                rows = fetch_some(db, stream, relation, &wanted, &keys).await;
            }
        }
        for (at, raw) in rows? {
            found[at] = Some(raw);
        }
    }
    Ok(found)
}

fn keyless(stream: &Stream) -> SourceError {
    SourceError::Invalid {
        what: format!(
            "a record of `{}` has no key field `{}`",
            stream.entity,
            stream.key.join("`, `")
        ),
    }
}

/// Whether a text is no value of a type, or of a domain that is narrower than its type.
fn is_no_value(fault: &Fault) -> bool {
    fault.of_server().is_some_and(|error| {
        let code = error.code().code();
        code.starts_with("22") || code.starts_with("23")
    })
}

/// Those keys that are values of their columns' types: of others there can be no row. The
/// keys are looked at alone, because a row that cannot be read is not one that is gone.
async fn possible(
    db: &mut Connection,
    stream: &Stream,
    relation: &Relation,
    wanted: &[Vec<String>],
    some: &[usize],
) -> Result<Vec<usize>, Fault> {
    let key = key_columns(stream, relation)?;
    let values: Vec<String> = (1..)
        .zip(&key)
        .map(|(at, column)| column.value(at))
        .collect();
    let statement = db.prepare(&format!("SELECT {}", values.join(", "))).await?;
    let mut possible = Vec::new();
    for at in some {
        let params = wanted[*at].iter().map(|value| value as _);
        let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = params.collect();
        let done = db.client.execute(&statement, &params).await;
        match done.map_err(Fault::from) {
            Ok(_) => possible.push(*at),
            Err(fault) if is_no_value(&fault) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(possible)
}

async fn fetch_some(
    db: &mut Connection,
    stream: &Stream,
    relation: &Relation,
    wanted: &[Vec<String>],
    some: &[usize],
) -> Result<Vec<(usize, Bytes)>, Fault> {
    let key = key_columns(stream, relation)?;
    let mut filter = Filter::of(stream);
    let (mut lists, mut names) = (Vec::new(), Vec::new());
    for (place, column) in key.iter().enumerate() {
        lists.push(format!("${}::text[]", place + 1));
        names.push(format!("k{place}"));
        let value = column.element(&format!("u.k{place}"));
        filter
            .conditions
            .push(format!("{} = {value}", column.expr()));
    }
    let sql = format!(
        "SELECT u.n, row_to_json(x)::text
         FROM unnest({}) WITH ORDINALITY AS u ({}, n)
         CROSS JOIN LATERAL (SELECT {} FROM {} WHERE {} LIMIT 1) AS x",
        lists.join(", "),
        names.join(", "),
        relation.list(stream.select.as_deref()),
        relation.from,
        filter.text()
    );
    let params: Vec<Vec<&str>> = (0..key.len())
        .map(|place| some.iter().map(|at| wanted[*at][place].as_str()).collect())
        .collect();
    let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        params.iter().map(|list| list as _).collect();
    let statement = db.prepare(&sql).await?;
    let rows = db.client.query(&statement, &params).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let place = usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0);
        let raw = Bytes::copy_from_slice(row.try_get::<_, &str>(1)?.as_bytes());
        if let Some(at) = some.get(place.wrapping_sub(1)) {
            found.push((*at, raw));
        }
    }
    Ok(found)
}
