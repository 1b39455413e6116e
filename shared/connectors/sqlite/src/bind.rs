//! Cells as SQLite values and back.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp, civil};
use model::{DataType, Value, time_text, utc_micros};
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, Value as Owned, ValueRef},
};

use crate::number;

/// A cell as a parameter. Exact decimals go as text, which a column of numbers turns into one;
/// dates, times and UUIDs are text.
pub(crate) struct Cell<'r, 'a>(pub(crate) &'r Value<'a>);

impl ToSql for Cell<'_, '_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let owned = |text: String| ToSqlOutput::Owned(Owned::Text(text));
        Ok(match self.0 {
            Value::Missing | Value::Null => ToSqlOutput::Owned(Owned::Null),
            Value::Bool(value) => ToSqlOutput::Owned(Owned::Integer((*value).into())),
            Value::Int(value) => ToSqlOutput::Owned(Owned::Integer(*value)),
            Value::Float(value) => ToSqlOutput::Owned(Owned::Real(*value)),
            Value::Decimal(text) => match number::plain(text) {
                Cow::Borrowed(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
                Cow::Owned(text) => owned(text),
            },
            Value::Text(text) | Value::Json(text) => {
                ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
            }
            Value::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Value::Uuid(bytes) => owned(uuid::Uuid::from_bytes(*bytes).to_string()),
            Value::Date(days) => owned(date(*days).to_string()),
            Value::Time(micros) => owned(time(*micros).to_string()),
            Value::Timestamp(micros) => owned(time_text(*micros)),
        })
    }
}

fn date(days: i32) -> civil::Date {
    civil::date(1970, 1, 1).saturating_add(SignedDuration::from_hours(i64::from(days) * 24))
}

fn time(micros: i64) -> civil::Time {
    civil::Time::midnight().wrapping_add(SignedDuration::from_micros(micros))
}

/// A stored key cell as a value of the column's type.
pub(crate) fn read(value: ValueRef<'_>, ty: DataType) -> Value<'static> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) if ty == DataType::Boolean => Value::Bool(number != 0),
        ValueRef::Integer(number) if matches!(ty, DataType::Decimal { .. }) => {
            Value::Decimal(number.to_string().into())
        }
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) if matches!(ty, DataType::Decimal { .. }) => {
            Value::Decimal(number.to_string().into())
        }
        ValueRef::Real(number) => Value::Float(number),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec().into()),
        ValueRef::Text(bytes) => read_text(&text(bytes), ty),
    }
}

fn read_text(text: &str, ty: DataType) -> Value<'static> {
    let parsed = match ty {
        DataType::Uuid => text
            .parse::<uuid::Uuid>()
            .ok()
            .map(|id| Value::Uuid(id.into_bytes())),
        DataType::Timestamp => utc_micros(text)
            .or_else(|| Some(text.parse::<Timestamp>().ok()?.as_microsecond()))
            .map(Value::Timestamp),
        DataType::Date => text.parse::<civil::Date>().ok().map(|day| {
            let hours = day.duration_since(civil::date(1970, 1, 1)).as_hours();
            Value::Date(i32::try_from(hours / 24).unwrap_or(0))
        }),
        DataType::Decimal { .. } => Some(Value::Decimal(text.to_owned().into())),
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::Text(text.to_owned().into()))
}

/// The name of a type in a table definition, chosen for its affinity: text for what SQLite
/// has no type for.
pub(crate) fn type_name(ty: DataType) -> String {
    match ty {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int16 | DataType::Int32 | DataType::Int64 => "INTEGER".into(),
        DataType::Decimal {
            digits: Some((digits, scale)),
        } if number::is_number(digits, scale) => format!("DECIMAL({digits},{scale})"),
        DataType::Float64 => "REAL".into(),
        DataType::Bytes => "BLOB".into(),
        DataType::Decimal { .. }
        | DataType::Text { .. }
        | DataType::Uuid
        | DataType::Date
        | DataType::Time
        | DataType::Timestamp
        | DataType::Json => "TEXT".into(),
    }
}

/// The type that a declared type of a table not of Syncline's own stands for, where it is clear.
pub(crate) fn parse_type(declared: &str) -> Option<DataType> {
    let upper = declared.to_ascii_uppercase();
    let name = upper.split('(').next().unwrap_or_default().trim();
    Some(match name {
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "REAL" | "DOUBLE" | "FLOAT" | "DOUBLE PRECISION" => DataType::Float64,
        "BLOB" => DataType::Bytes,
        "DECIMAL" | "NUMERIC" => declared
            .parse()
            .unwrap_or(DataType::Decimal { digits: None }),
        "DATE" => DataType::Date,
        "DATETIME" | "TIMESTAMP" => DataType::Timestamp,
        "UUID" => DataType::Uuid,
        "JSON" => DataType::Json,
        _ if name.contains("INT") => DataType::Int64,
        _ if name.contains("CHAR") || name.contains("TEXT") || name.contains("CLOB") => {
            DataType::Text { max: None }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_never_comes_is_kept_as_it_is() {
        let never = Value::Timestamp(253_402_300_799_999_000);
        let cell = Cell(&never);
        let bound = cell.to_sql().unwrap();
        let text = "9999-12-31T23:59:59.999Z".to_owned();
        assert_eq!(bound, ToSqlOutput::Owned(Owned::Text(text.clone())));
        let kept = ValueRef::Text(text.as_bytes());
        assert_eq!(read(kept, DataType::Timestamp), never);
    }
}
