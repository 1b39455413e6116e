//! Pages of records.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use mapping::json;

use crate::{connect::Connection, error::Fault};

/// Bytes after which a page is full, whatever it should have held.
const FULL: usize = 8 * 1024 * 1024;

/// Records of one statement.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) raw: Vec<Bytes>,
    /// What stands beside the last one, if anything does.
    pub(crate) beside: Vec<String>,
    /// Whether there may be more of the same statement: it was full, or large.
    pub(crate) more: bool,
}

/// Runs a statement that gives records as JSON text, and texts beside each, and takes at most
/// `most` of them. All parameters are text. What does not fit in the memory set aside for a
/// page is left for the next one.
pub(crate) async fn collect(
    db: &mut Connection,
    sql: &str,
    params: &[String],
    most: usize,
) -> Result<Records, Fault> {
    let statement = db.prepare(sql).await?;
    let beside = statement.columns().len().saturating_sub(1);
    let mut rows = pin!(db.client.query_raw(&statement, params).await?);
    let mut text = BytesMut::new();
    let mut ends = Vec::new();
    let mut records = Records::default();
    let mut last = None;
    while let Some(row) = rows.try_next().await? {
        text.extend_from_slice(row.try_get::<_, &str>(0)?.as_bytes());
        ends.push(text.len());
        last = Some(row);
        if text.len() >= FULL || ends.len() >= most {
            records.more = true;
            break;
        }
    }
    if let Some(row) = last {
        let texts = (1..=beside).map(|at| row.try_get(at));
        records.beside = texts.collect::<Result<_, _>>()?;
    }
    let mut text = text.freeze();
    let mut start = 0;
    for end in ends {
        records.raw.push(text.split_to(end - start));
        start = end;
    }
    Ok(records)
}

/// The values of some fields of a record, as texts; `None` if one has none.
pub(crate) fn values(record: &Bytes, fields: &[String]) -> Option<Vec<String>> {
    let mut found = Vec::with_capacity(fields.len());
    for field in fields {
        let raw = json::fields(record, [field.as_str()]).ok()?[0]?;
        found.push(json::scalar(raw)?.into_owned());
    }
    Some(found)
}
