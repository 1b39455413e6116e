//! Rows encoded one after the other, to be sent as they are, all or some of them.

use std::{cmp::Ordering, ops::Range, pin::pin};

use bytes::{BufMut, Bytes};
use futures_util::SinkExt;
use model::{Cause, Value};
use tokio_postgres::{Client, Statement};

use crate::{
    encode::{self, HEADER, TRAILER},
    error::Fault,
    layout::Column,
};

/// Bytes per message: large enough to cost little each, small enough to keep the server busy
/// while the next one is on its way.
const CHUNK: usize = 128 * 1024;

/// Rows encoded one after the other.
pub(crate) struct Parcel {
    bytes: Bytes,
    /// Which rows of the batch they are and where, in order.
    pub(crate) rows: Vec<Packed>,
}

/// One row in a parcel.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    /// Its place in the batch.
    pub(crate) at: usize,
    /// Its number in the staging table; grows from row to row.
    pub(crate) number: i32,
    span: Range<usize>,
}

/// A parcel that is being filled.
#[derive(Default)]
pub(crate) struct Packing {
    bytes: Vec<u8>,
    rows: Vec<Packed>,
    next: i32,
}

impl Packing {
    /// Rows are numbered from `first` on.
    pub(crate) fn new(first: i32, rows: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(rows * 128),
            rows: Vec::with_capacity(rows),
            next: first,
        }
    }

    /// Adds the row at `at` for a staging table: its number and version, then the given cells.
    pub(crate) fn stage<'r, 'a: 'r>(
        &mut self,
        at: usize,
        version: i64,
        fields: usize,
        cells: impl Iterator<Item = (&'r Column, &'r Value<'a>)>,
    ) -> Result<(), Box<Cause>> {
        let number = self.next;
        self.add(at, fields + 2, |bytes| {
            encode::put_i32(bytes, number);
            encode::put_i64(bytes, version);
            put_cells(bytes, cells)
        })
    }

    /// Adds the row at `at` for a table: its cells, then its version.
    pub(crate) fn append<'r, 'a: 'r>(
        &mut self,
        at: usize,
        version: i64,
        fields: usize,
        cells: impl Iterator<Item = (&'r Column, &'r Value<'a>)>,
    ) -> Result<(), Box<Cause>> {
        self.add(at, fields + 1, |bytes| {
            put_cells(bytes, cells)?;
            encode::put_i64(bytes, version);
            Ok(())
        })
    }

    /// A row that is refused leaves no trace.
    fn add(
        &mut self,
        at: usize,
        fields: usize,
        put: impl FnOnce(&mut Vec<u8>) -> Result<(), Box<Cause>>,
    ) -> Result<(), Box<Cause>> {
        let start = self.bytes.len();
        self.bytes
            .put_u16(u16::try_from(fields).unwrap_or(u16::MAX));
        if let Err(cause) = put(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(cause);
        }
        self.rows.push(Packed {
            at,
            number: self.next,
            span: start..self.bytes.len(),
        });
        self.next += 1;
        Ok(())
    }

    pub(crate) fn close(self) -> Parcel {
        Parcel {
            bytes: self.bytes.into(),
            rows: self.rows,
        }
    }
}

fn put_cells<'r, 'a: 'r>(
    bytes: &mut Vec<u8>,
    cells: impl Iterator<Item = (&'r Column, &'r Value<'a>)>,
) -> Result<(), Box<Cause>> {
    for (column, cell) in cells {
        encode::put(bytes, column, cell)?;
    }
    Ok(())
}

impl Parcel {
    /// Copies some of its rows to where `statement` says.
    pub(crate) async fn copy(
        &self,
        client: &Client,
        statement: &Statement,
        rows: &[Packed],
    ) -> Result<(), Fault> {
        let mut sink = pin!(client.copy_in::<_, Bytes>(statement).await?);
        sink.feed(Bytes::from_static(HEADER)).await?;
        for mut span in together(rows) {
            while !span.is_empty() {
                let end = span.end.min(span.start + CHUNK);
                sink.feed(self.bytes.slice(span.start..end)).await?;
                span.start = end;
            }
        }
        sink.feed(Bytes::from_static(TRAILER)).await?;
        sink.finish().await?;
        Ok(())
    }
}

/// Where rows are, those that stand side by side in one.
fn together(rows: &[Packed]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match spans.last_mut() {
            Some(last) if last.end == row.span.start => last.end = row.span.end,
            _ => spans.push(row.span.clone()),
        }
    }
    spans
}

/// Compares two cells of one column, so that rows near each other in an index come together.
/// It need not be the server's own order.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b))
        | (Value::Timestamp(a), Value::Timestamp(b))
        | (Value::Time(a), Value::Time(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Decimal(a), Value::Decimal(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        _ => Ordering::Equal,
    }
}
