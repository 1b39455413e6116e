//! One row, for people.

use model::Value;
use tokio_postgres::types::ToSql;

use crate::{connect::Connection, encode, error::Fault, layout::Layout, names::Names, param::Cell};

/// One row as a JSON object of the map's columns.
pub(crate) async fn show(
    db: &mut Connection,
    layout: &Layout,
    row: &[Value<'_>],
) -> Result<Option<String>, Fault> {
    let names = Names::new(&layout.spec);
    let mut params = Vec::new();
    let mut is_key = Vec::new();
    for (at, column) in layout.key() {
        let mut raw = Vec::new();
        let cell = row.get(at).filter(|cell| cell.is_present());
        // A key that cannot be written is not there.
        match cell.map(|cell| encode::put(&mut raw, column, cell)) {
            Some(Ok(())) => params.push(Cell(raw)),
            _ => return Ok(None),
        }
        let mark = format!("${}::{}", params.len(), column.staged);
        is_key.push(column.is_key("t", &mark));
    }
    let columns: Vec<String> = layout
        .columns
        .iter()
        .map(|column| format!("t.{}", column.name))
        .collect();
    let sql = format!(
        "SELECT row_to_json(r)::text FROM (SELECT {} FROM {} AS t WHERE {} LIMIT 1) AS r",
        columns.join(", "),
        names.table,
        is_key.join(" AND ")
    );
    let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|cell| cell as _).collect();
    let found = db.client.query_opt(&sql, &params).await?;
    Ok(match found {
        Some(row) => row.try_get(0)?,
        None => None,
    })
}
