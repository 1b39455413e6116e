//! Types: what Syncline calls them and what PostgreSQL does.

use model::DataType;

/// Longest length that `varchar` can be told.
const LONGEST: u32 = 10_485_760;

/// The type of a column in a table of Syncline's own.
pub(crate) fn type_name(ty: DataType) -> String {
    match ty {
        DataType::Boolean => "boolean".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Decimal {
            digits: Some((digits, scale)),
        } => format!("numeric({digits},{scale})"),
        DataType::Decimal { digits: None } => "numeric".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Text { max: Some(max) } if max <= LONGEST => format!("character varying({max})"),
        DataType::Text { .. } => "text".into(),
        DataType::Uuid => "uuid".into(),
        DataType::Date => "date".into(),
        DataType::Time => "time without time zone".into(),
        DataType::Timestamp => "timestamp with time zone".into(),
        DataType::Bytes => "bytea".into(),
        DataType::Json => "jsonb".into(),
    }
}

/// The same without length or precision: the type of a column of a staging table.
pub(crate) fn base_name(ty: DataType) -> String {
    match ty {
        DataType::Decimal { .. } => "numeric".into(),
        DataType::Text { .. } => "text".into(),
        other => type_name(other),
    }
}

/// The type that one of PostgreSQL stands for, where there is one like it. `base` is its name
/// in `pg_type`, `modifier` its `atttypmod`, `is_enum` whether it is one.
pub(crate) fn parse(base: &str, modifier: i32, is_enum: bool) -> Option<DataType> {
    // Lengths and precisions are kept with the four bytes of a header added.
    let length = || u32::try_from(modifier - 4).ok();
    Some(match base {
        "bool" => DataType::Boolean,
        "int2" => DataType::Int16,
        "int4" => DataType::Int32,
        "int8" => DataType::Int64,
        "numeric" => DataType::Decimal {
            digits: numeric_digits(modifier),
        },
        "float4" | "float8" => DataType::Float64,
        "varchar" | "bpchar" => DataType::Text { max: length() },
        "text" | "citext" | "name" => DataType::Text { max: None },
        "uuid" => DataType::Uuid,
        "date" => DataType::Date,
        "time" => DataType::Time,
        "timestamp" | "timestamptz" => DataType::Timestamp,
        "bytea" => DataType::Bytes,
        "json" | "jsonb" => DataType::Json,
        _ if is_enum => DataType::Text { max: None },
        _ => return None,
    })
}

/// Precision and scale of a `numeric` that has them, and both in the bounds that maps know.
fn numeric_digits(modifier: i32) -> Option<(u8, u8)> {
    let packed = u32::try_from(modifier - 4).ok()?;
    let (precision, scale) = (packed >> 16, packed & 0x7ff);
    if scale > precision {
        // Negative scales, and those beyond the precision, exist since version 15.
        return None;
    }
    Some((u8::try_from(precision).ok()?, u8::try_from(scale).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_are_lengths_and_digits() {
        let digits = Some((18, 2));
        let modifier = (18 << 16 | 2) + 4;
        assert_eq!(
            parse("numeric", modifier, false),
            Some(DataType::Decimal { digits })
        );
        assert_eq!(
            parse("numeric", -1, false),
            Some(DataType::Decimal { digits: None })
        );
        assert_eq!(
            parse("varchar", 44, false),
            Some(DataType::Text { max: Some(40) })
        );
        assert_eq!(
            parse("varchar", -1, false),
            Some(DataType::Text { max: None })
        );
        assert_eq!(parse("mood", -1, true), Some(DataType::Text { max: None }));
        assert_eq!(parse("inet", -1, false), None);
    }
}
