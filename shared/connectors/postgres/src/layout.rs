//! A map's table laid over the real one: which casts and checks its cells need.

use model::DataType;
use ports::{ColumnSpec, Ownership, TableSpec};

use crate::{
    catalog::{Catalog, CatalogColumn},
    error::Fault,
    names::quote,
    types,
};

/// How a cell travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Float8,
    Text,
    Uuid,
    Date,
    Time,
    Timestamp,
    Bytes,
    Jsonb,
}

impl Wire {
    fn of(ty: DataType) -> Self {
        match ty {
            DataType::Boolean => Self::Bool,
            DataType::Int16 => Self::Int2,
            DataType::Int32 => Self::Int4,
            DataType::Int64 => Self::Int8,
            DataType::Decimal { .. } => Self::Numeric,
            DataType::Float64 => Self::Float8,
            DataType::Text { .. } => Self::Text,
            DataType::Uuid => Self::Uuid,
            DataType::Date => Self::Date,
            DataType::Time => Self::Time,
            DataType::Timestamp => Self::Timestamp,
            DataType::Bytes => Self::Bytes,
            DataType::Json => Self::Jsonb,
        }
    }

    /// Whether a column of this type of `pg_type` takes it as it is.
    fn fits(self, base: &str) -> bool {
        match self {
            Self::Bool => base == "bool",
            Self::Int2 => base == "int2",
            Self::Int4 => base == "int4",
            Self::Int8 => base == "int8",
            Self::Numeric => base == "numeric",
            Self::Float8 => base == "float8",
            Self::Text => base == "text" || base == "varchar",
            Self::Uuid => base == "uuid",
            Self::Date => base == "date",
            Self::Time => base == "time",
            Self::Timestamp => base == "timestamptz",
            Self::Bytes => base == "bytea",
            Self::Jsonb => base == "jsonb",
        }
    }

    fn is_integer(self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }
}

/// What a cell must keep to, as far as it is cheap to see before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Whether null is refused.
    pub(crate) required: bool,
    /// Least and greatest integer.
    pub(crate) integers: (i64, i64),
    /// Digits before the point.
    pub(crate) whole_digits: usize,
    /// Digits after the point; when negative, so many before it are zeros.
    pub(crate) scale: i32,
    /// Microseconds that times have to be a multiple of.
    pub(crate) step: i64,
    /// Characters.
    pub(crate) characters: usize,
}

/// One column of a map in the real table.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// Its name, in quotes.
    pub(crate) name: String,
    /// Its name as people know it.
    pub(crate) plain: String,
    pub(crate) wire: Wire,
    pub(crate) bounds: Bounds,
    /// Its type in a staging table.
    pub(crate) staged: String,
    /// What has to follow a staged value to make it one of the column's type: `::inet`.
    cast: String,
    /// What has to follow it to make it what the column makes of it: `::timestamp(3)`.
    exact: String,
    /// Whether values can be compared as they are; else their texts are.
    comparable: bool,
    integer: bool,
}

impl Column {
    fn new(spec: &ColumnSpec, is_key: bool, real: &CatalogColumn) -> Self {
        let (name, ty) = (&spec.name, spec.ty);
        let mut wire = Wire::of(ty);
        let mut staged = types::base_name(ty);
        if wire == Wire::Jsonb && real.base != "jsonb" {
            // `json` keeps the text as it is, and so does anything that is no JSON.
            wire = Wire::Text;
            staged = "text".into();
        }
        let cast = if wire.fits(&real.base) {
            String::new()
        } else {
            format!("::{}", real.cast)
        };
        // Decimals are refused where they would be rounded.
        let rounds = real.exact.as_ref().filter(|_| real.base != "numeric");
        let exact = rounds.map_or_else(|| cast.clone(), |exact| format!("::{exact}"));
        let integer = wire.is_integer() && matches!(real.base.as_str(), "int2" | "int4" | "int8");
        Self {
            name: quote(name),
            plain: name.to_owned(),
            wire,
            bounds: Bounds {
                required: spec.required || !real.schema.nullable,
                step: if is_key { step(real) } else { 1 },
                ..bounds(ty, real)
            },
            staged,
            cast,
            exact,
            comparable: real.comparable,
            integer,
        }
    }

    /// Whether the column takes what travels as it is.
    pub(crate) fn is_direct(&self) -> bool {
        self.cast.is_empty()
    }

    /// A staged value as one of the column's type.
    pub(crate) fn value(&self, staged: &str) -> String {
        format!("{staged}{}", self.cast)
    }

    /// The same for a comparison, as the column would hold it. Integers of all widths can stand
    /// as they are.
    fn compared(&self, staged: &str) -> String {
        if self.integer {
            return staged.to_owned();
        }
        format!("{staged}{}", self.exact)
    }

    /// That a key column holds a staged value, so that an index can be used.
    pub(crate) fn is_key(&self, table: &str, staged: &str) -> String {
        format!("{table}.{} = {}", self.name, self.compared(staged))
    }

    /// That a column holds a staged value, null or not.
    pub(crate) fn is_same(&self, table: &str, staged: &str) -> String {
        let (real, new) = (format!("{table}.{}", self.name), self.compared(staged));
        if self.comparable {
            return format!("{real} IS NOT DISTINCT FROM {new}");
        }
        format!("{real}::text IS NOT DISTINCT FROM ({new})::text")
    }
}

/// Of what microseconds a time is a multiple in a column that rounds to fewer digits.
fn step(real: &CatalogColumn) -> i64 {
    let is_time = matches!(real.base.as_str(), "timestamptz" | "timestamp" | "time");
    let digits = u32::try_from(real.modifier).ok().filter(|_| is_time);
    digits.map_or(1, |digits| 10_i64.pow(6_u32.saturating_sub(digits)))
}

fn bounds(ty: DataType, real: &CatalogColumn) -> Bounds {
    let range = |ty: DataType| match ty {
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    };
    let (least, most) = range(ty);
    let (real_least, real_most) = real.schema.ty.map_or((i64::MIN, i64::MAX), range);
    let whole = match ty {
        DataType::Decimal {
            digits: Some((precision, scale)),
        } => usize::from(precision - scale),
        _ => usize::MAX,
    };
    let (real_whole, scale) = match real.base.as_str() {
        "numeric" => match types::precision_and_scale(real.modifier) {
            Some((precision, scale)) => (usize::try_from(precision - scale).unwrap_or(0), scale),
            None => (usize::MAX, i32::MAX),
        },
        "int2" | "int4" | "int8" => (usize::MAX, 0),
        _ => (usize::MAX, i32::MAX),
    };
    let length = |ty| match ty {
        DataType::Text { max: Some(max) } => max as usize,
        _ => usize::MAX,
    };
    let real_ty = real.schema.ty.unwrap_or(DataType::Json);
    Bounds {
        required: false,
        integers: (least.max(real_least), most.min(real_most)),
        whole_digits: whole.min(real_whole),
        scale,
        step: 1,
        characters: length(ty).min(length(real_ty)),
    }
}

/// A map's table laid over the real one.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) spec: TableSpec,
    pub(crate) columns: Vec<Column>,
    /// Whether rows can be copied straight into the table.
    pub(crate) direct: bool,
}

impl Layout {
    pub(crate) fn new(spec: &TableSpec, real: &Catalog) -> Result<Self, Fault> {
        let mut columns = Vec::with_capacity(spec.columns.len());
        for (at, column) in spec.columns.iter().enumerate() {
            let Some(found) = real.column(&column.name) else {
                return Err(Fault::Schema(format!(
                    "table `{}` has no column `{}`: add it, or run `syncline check` to compare the map with the table",
                    spec.name, column.name
                )));
            };
            columns.push(Column::new(column, spec.key.contains(&at), found));
        }
        let layout = Self {
            direct: columns.iter().all(Column::is_direct),
            columns,
            spec: spec.clone(),
        };
        layout.check_key(real)?;
        Ok(layout)
    }

    /// A key column of another kind of type would make two keys of one, or one of two.
    fn check_key(&self, real: &Catalog) -> Result<(), Fault> {
        for at in &self.spec.key {
            let (Some(column), Some(spec)) = (self.columns.get(*at), self.spec.columns.get(*at))
            else {
                continue;
            };
            let kind = |ty: DataType| match ty {
                DataType::Int16 | DataType::Int32 => std::mem::discriminant(&DataType::Int64),
                other => std::mem::discriminant(&other),
            };
            let found = real.column(&spec.name).and_then(|column| column.schema.ty);
            if found.map(kind) != Some(kind(spec.ty)) {
                return Err(Fault::Schema(format!(
                    "key column `{}` of table `{}` is not {} as the map says: leave out the type in the map, or correct it",
                    column.plain, self.spec.name, spec.ty
                )));
            }
        }
        Ok(())
    }

    /// The key columns.
    pub(crate) fn key(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.spec
            .key
            .iter()
            .filter_map(|at| Some((*at, self.columns.get(*at)?)))
    }

    /// Whether keys that differ in their bytes may be one key: in a table not of Syncline's
    /// own a text can be of a type or collation that takes upper and lower case as equal.
    pub(crate) fn texts_may_be_equal(&self) -> bool {
        self.spec.ownership == Ownership::Existing
    }
}
