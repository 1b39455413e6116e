//! Cells as parameters and from results, in the binary form they have in COPY.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

type Trouble = Box<dyn std::error::Error + Sync + Send>;

/// Cells of one column as a parameter of an array type.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    pub(crate) count: i32,
    pub(crate) bytes: Vec<u8>,
}

impl ToSql for Cells {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Trouble> {
        let Kind::Array(element) = ty.kind() else {
            return Err(format!("{ty} is no array").into());
        };
        // Dimensions, whether there are nulls, type; then length and first index of the one.
        out.put_i32(1);
        out.put_i32(0);
        out.put_u32(element.oid());
        out.put_i32(self.count);
        out.put_i32(1);
        out.extend_from_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Array(_))
    }

    to_sql_checked!();
}

/// A cell of a result as it came.
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Trouble> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// One cell as a parameter.
#[derive(Debug)]
pub(crate) struct Cell(pub(crate) Vec<u8>);

impl ToSql for Cell {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Trouble> {
        // Without the length, which the library puts in front.
        out.extend_from_slice(self.0.get(4..).unwrap_or_default());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
