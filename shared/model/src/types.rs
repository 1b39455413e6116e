//! The types a target column can have.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The type of a column, independent of any database's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataType {
    /// True or false.
    Boolean,
    /// 16-bit signed integer.
    Int16,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// Exact decimal; without digits and scale, whatever the target can hold.
    Decimal {
        /// Digits in all and digits after the point.
        digits: Option<(u8, u8)>,
    },
    /// IEEE 754 double.
    Float64,
    /// Text, at most `max` characters (Unicode scalar values).
    Text {
        /// Longest allowed, in characters.
        max: Option<u32>,
    },
    /// RFC 9562 UUID.
    Uuid,
    /// Calendar date.
    Date,
    /// Time of day, microseconds.
    Time,
    /// Instant, microseconds, UTC.
    Timestamp,
    /// Bytes; base64 in JSON.
    Bytes,
    /// Any JSON value, kept as text.
    Json,
}

/// A type name that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no type; the types are boolean, smallint, integer, bigint, decimal(p,s), double, text, text(n), uuid, date, time, timestamp, bytes, json"
)]
pub struct ParseTypeError(pub String);

impl FromStr for DataType {
    type Err = ParseTypeError;

    fn from_str(text: &str) -> Result<Self, ParseTypeError> {
        let unknown = || ParseTypeError(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let (name, arguments) = match lower.split_once('(') {
            Some((name, rest)) => (
                name.trim_end(),
                Some(rest.strip_suffix(')').ok_or_else(unknown)?),
            ),
            None => (lower.as_str(), None),
        };
        let plain = match (name, arguments) {
            ("decimal" | "numeric", Some(arguments)) => {
                let (digits, scale) = arguments.split_once(',').unwrap_or((arguments, "0"));
                let digits: u8 = digits.trim().parse().map_err(|_| unknown())?;
                let scale: u8 = scale.trim().parse().map_err(|_| unknown())?;
                if digits == 0 || scale > digits {
                    return Err(unknown());
                }
                return Ok(Self::Decimal {
                    digits: Some((digits, scale)),
                });
            }
            ("text" | "varchar", Some(max)) => {
                let max: u32 = max.trim().parse().map_err(|_| unknown())?;
                return Ok(Self::Text { max: Some(max) });
            }
            (_, Some(_)) => return Err(unknown()),
            (name, None) => name,
        };
        Ok(match plain {
            "boolean" | "bool" => Self::Boolean,
            "smallint" => Self::Int16,
            "integer" | "int" => Self::Int32,
            "bigint" => Self::Int64,
            "decimal" | "numeric" => Self::Decimal { digits: None },
            "double" => Self::Float64,
            "text" | "varchar" => Self::Text { max: None },
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "bytes" => Self::Bytes,
            "json" => Self::Json,
            _ => return Err(unknown()),
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int16 => f.write_str("smallint"),
            Self::Int32 => f.write_str("integer"),
            Self::Int64 => f.write_str("bigint"),
            Self::Decimal {
                digits: Some((digits, scale)),
            } => write!(f, "decimal({digits},{scale})"),
            Self::Decimal { digits: None } => f.write_str("decimal"),
            Self::Float64 => f.write_str("double"),
            Self::Text { max: Some(max) } => write!(f, "text({max})"),
            Self::Text { max: None } => f.write_str("text"),
            Self::Uuid => f.write_str("uuid"),
            Self::Date => f.write_str("date"),
            Self::Time => f.write_str("time"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Bytes => f.write_str("bytes"),
            Self::Json => f.write_str("json"),
        }
    }
}

impl TryFrom<String> for DataType {
    type Error = ParseTypeError;
    fn try_from(text: String) -> Result<Self, ParseTypeError> {
        text.parse()
    }
}

impl From<DataType> for String {
    fn from(ty: DataType) -> Self {
        ty.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back_what_it_writes() {
        for text in [
            "boolean",
            "smallint",
            "integer",
            "bigint",
            "decimal(18,2)",
            "decimal",
            "double",
            "text(40)",
            "text",
            "uuid",
            "date",
            "time",
            "timestamp",
            "bytes",
            "json",
        ] {
            assert_eq!(text.parse::<DataType>().unwrap().to_string(), text);
        }
        assert_eq!("VARCHAR( 5 )".parse(), Ok(DataType::Text { max: Some(5) }));
        for bad in [
            "",
            "string",
            "decimal(2,3)",
            "decimal(0)",
            "text(-1)",
            "uuid(3)",
            "decimal(3",
        ] {
            assert!(bad.parse::<DataType>().is_err(), "{bad}");
        }
    }
}
