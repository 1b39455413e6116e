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
    let (precision, scale) = precision_and_scale(modifier)?;
    let digits = (u8::try_from(precision).ok()?, u8::try_from(scale).ok()?);
    (scale <= precision).then_some(digits)
}

/// Precision and scale of a `numeric` that has them. Negative scales, and those beyond the
/// precision, exist since version 15.
pub(crate) fn precision_and_scale(modifier: i32) -> Option<(i32, i32)> {
    let packed = u32::try_from(modifier - 4).ok()?.cast_signed();
    // Eleven bits with a sign.
    Some((packed >> 16, ((packed & 0x7ff) ^ 0x400) - 0x400))
}

/// Whether a column of a table of Syncline's own that is of type `real` takes every value of
/// the type that the map gives it.
pub(crate) fn holds(real: DataType, wanted: DataType) -> bool {
    let width = |ty| match ty {
        DataType::Int16 => Some(2),
        DataType::Int32 => Some(4),
        DataType::Int64 => Some(8),
        _ => None,
    };
    match (real, wanted) {
        (DataType::Decimal { digits: None }, DataType::Decimal { .. })
        | (DataType::Text { max: None }, DataType::Text { .. }) => true,
        (
            DataType::Decimal {
                digits: Some((precision, scale)),
            },
            DataType::Decimal {
                digits: Some((most, places)),
            },
        ) => scale >= places && precision - scale >= most - places,
        (DataType::Text { max: Some(real) }, DataType::Text { max: Some(max) }) => real >= max,
        _ if width(wanted).is_some() => width(real) >= width(wanted),
        _ => real == wanted,
    }
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
        let negative = (5 << 16 | (-2_i32).cast_unsigned() & 0x7ff).cast_signed() + 4;
        assert_eq!(precision_and_scale(negative), Some((5, -2)));
        assert_eq!(precision_and_scale(modifier), Some((18, 2)));
        assert_eq!(precision_and_scale(-1), None);
    }

    #[test]
    fn a_wider_type_holds_a_narrower_one() {
        let holds =
            |real: &str, wanted: &str| super::holds(real.parse().unwrap(), wanted.parse().unwrap());
        assert!(holds("decimal(18,4)", "decimal(18,4)") && holds("decimal", "decimal(9,3)"));
        assert!(
            holds("decimal(20,4)", "decimal(18,2)") && !holds("decimal(18,4)", "decimal(18,2)")
        );
        assert!(!holds("decimal(18,2)", "decimal(18,4)") && !holds("decimal(18,2)", "decimal"));
        assert!(holds("bigint", "integer") && !holds("smallint", "integer"));
        assert!(holds("text", "text(9)") && !holds("text(9)", "text") && !holds("text", "integer"));
        assert!(
            holds("date", "date") && !holds("date", "timestamp") && !holds("bigint", "decimal")
        );
    }
}
