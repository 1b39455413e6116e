//! Typed cells on their way from a record to a target.

use std::borrow::Cow;

/// One cell. It borrows from the record it was read from wherever it can.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value<'a> {
    /// The record says nothing of this column: an update leaves it as it is.
    #[default]
    Missing,
    /// The record says that there is no value.
    Null,
    /// [`crate::DataType::Boolean`].
    Bool(bool),
    /// Any of the integer types, already checked for its range.
    Int(i64),
    /// [`crate::DataType::Float64`].
    Float(f64),
    /// Plain decimal text: an optional `-`, digits, and optionally a point and digits.
    Decimal(Cow<'a, str>),
    /// [`crate::DataType::Text`].
    Text(Cow<'a, str>),
    /// [`crate::DataType::Uuid`].
    Uuid([u8; 16]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds of Unix time.
    Timestamp(i64),
    /// [`crate::DataType::Bytes`].
    Bytes(Cow<'a, [u8]>),
    /// JSON text.
    Json(Cow<'a, str>),
}

impl Value<'_> {
    /// Whether the cell is [`Value::Missing`].
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// Whether the cell holds a value, that is, is neither missing nor null.
    #[must_use]
    pub fn is_present(&self) -> bool {
        !matches!(self, Self::Missing | Self::Null)
    }
}

/// Rows of equal width in one allocation.
#[derive(Debug, Clone, Default)]
pub struct Rows<'a> {
    width: usize,
    cells: Vec<Value<'a>>,
}

impl<'a> Rows<'a> {
    /// No rows yet, of `width` cells each.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self {
            width,
            cells: Vec::new(),
        }
    }

    /// Makes room for `rows` more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.cells.reserve(rows * self.width);
    }

    /// Appends a row of [`Value::Missing`] cells and returns it to be filled.
    pub fn push_empty(&mut self) -> &mut [Value<'a>] {
        let start = self.cells.len();
        self.cells.resize(start + self.width, Value::Missing);
        &mut self.cells[start..]
    }

    /// Takes the last row back.
    pub fn pop(&mut self) {
        self.cells
            .truncate(self.cells.len().saturating_sub(self.width));
    }

    /// Cells per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The row at `index`; empty when there is none.
    #[must_use]
    pub fn row(&self, index: usize) -> &[Value<'a>] {
        let start = index * self.width;
        self.cells.get(start..start + self.width).unwrap_or(&[])
    }

    /// All rows in order.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, Value<'a>> {
        self.cells.chunks_exact(self.width.max(1))
    }
}

impl<'r, 'a> IntoIterator for &'r Rows<'a> {
    type Item = &'r [Value<'a>];
    type IntoIter = std::slice::ChunksExact<'r, Value<'a>>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_side_by_side() {
        let mut rows = Rows::new(2);
        rows.push_empty()[1] = Value::Int(1);
        rows.push_empty()[0] = Value::Null;
        assert_eq!(rows.len(), 2);
        assert_eq!(rows.row(0), [Value::Missing, Value::Int(1)]);
        assert_eq!(rows.row(2), []);
        rows.pop();
        assert_eq!(rows.iter().count(), 1);
    }
}
