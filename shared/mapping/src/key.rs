//! Keys as text.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use definition::Rounding;
use model::{DataType, Value, time_text};

use crate::convert::convert_owned;

/// A key as people write it: its parts in order, separated by commas; a comma or backslash
/// inside a part has a backslash before it.
#[must_use]
pub fn key_text<'v, 'a: 'v>(cells: impl IntoIterator<Item = &'v Value<'a>>) -> String {
    let mut text = String::new();
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        push_part(&mut text, cell);
    }
    text
}

fn push_part(text: &mut String, cell: &Value<'_>) {
    use std::fmt::Write as _;
    // Writing to a string cannot fail.
    let _ = match cell {
        Value::Missing | Value::Null => Ok(()),
        Value::Bool(value) => write!(text, "{value}"),
        Value::Int(value) => write!(text, "{value}"),
        Value::Float(value) => write!(text, "{value}"),
        Value::Uuid(bytes) => write!(text, "{}", uuid::Uuid::from_bytes(*bytes)),
        Value::Date(days) => write!(text, "{}", date(*days)),
        Value::Time(micros) => write!(text, "{}", time_of_day(*micros)),
        Value::Timestamp(micros) => write!(text, "{}", time_text(*micros)),
        Value::Bytes(bytes) => write!(text, "{}", STANDARD.encode(bytes)),
        Value::Decimal(part) | Value::Text(part) | Value::Json(part) => {
            for c in part.chars() {
                if matches!(c, ',' | '\\') {
                    text.push('\\');
                }
                text.push(c);
            }
            Ok(())
        }
    };
}

pub(crate) fn date(days: i32) -> String {
    let span = jiff::SignedDuration::from_hours(i64::from(days) * 24);
    jiff::civil::date(1970, 1, 1)
        .saturating_add(span)
        .to_string()
}

pub(crate) fn time_of_day(micros: i64) -> String {
    let since = jiff::SignedDuration::from_micros(micros);
    jiff::civil::Time::midnight()
        .saturating_add(since)
        .to_string()
}

/// The cells of a key from its text, given the types of its columns. `None` when the text is
/// no such key.
#[must_use]
pub fn key_cells(text: &str, types: &[DataType]) -> Option<Vec<Value<'static>>> {
    let parts = split_key(text);
    if parts.len() != types.len() {
        return None;
    }
    let cell = |(part, ty): (String, &DataType)| {
        let json = serde_json::Value::from(part).to_string();
        convert_owned(&json, *ty, Rounding::Error).ok()
    };
    parts.into_iter().zip(types).map(cell).collect()
}

/// The parts of a key's text, without their backslashes.
pub(crate) fn split_key(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let part = match c {
            ',' => {
                parts.push(String::new());
                continue;
            }
            '\\' => chars.next(),
            other => Some(other),
        };
        if let Some(last) = parts.last_mut() {
            last.extend(part);
        }
    }
    parts
}

/// A key cell as JSON, so that a source can be asked for it.
pub(crate) fn to_json(cell: &Value<'_>) -> serde_json::Value {
    match cell {
        Value::Missing | Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        other => key_text_of_one(other).into(),
    }
}

fn key_text_of_one(cell: &Value<'_>) -> String {
    match cell {
        Value::Text(text) | Value::Decimal(text) | Value::Json(text) => text.clone().into_owned(),
        other => {
            let mut text = String::new();
            push_part(&mut text, other);
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_have_two_texts() {
        let text = |parts: &[&str]| {
            let cells: Vec<Value<'_>> = parts
                .iter()
                .map(|part| Value::Text((*part).into()))
                .collect();
            key_text(&cells)
        };
        assert_eq!(text(&["US-001"]), "US-001");
        assert_eq!(text(&["usmf", "7"]), "usmf,7");
        assert_ne!(text(&["a,b", "c"]), text(&["a", "b,c"]));
        assert_ne!(text(&["a\\", "b"]), text(&["a\\,b"]));
    }

    #[test]
    fn every_key_reads_back_what_it_writes() {
        let cells = vec![
            Value::Text(",a\\,b".into()),
            Value::Int(-7),
            Value::Decimal("12.50".into()),
            Value::Uuid([0x6d; 16]),
            Value::Date(-1),
            Value::Time(86_399_000_001),
            Value::Timestamp(1_767_225_600_123_456),
            Value::Timestamp(253_402_300_799_000_000),
            Value::Bytes(vec![0, 255, 62, 63].into()),
            Value::Bool(true),
            Value::Float(0.1),
        ];
        let types = [
            "text",
            "bigint",
            "decimal",
            "uuid",
            "date",
            "time",
            "timestamp",
            "timestamp",
            "bytes",
            "boolean",
            "double",
        ]
        .map(|ty| ty.parse().unwrap());
        assert_eq!(key_cells(&key_text(&cells), &types), Some(cells.clone()));
        assert_eq!(key_cells(&key_text(&cells[1..]), &types), None);
        assert_eq!(key_cells("x", &types[1..2]), None);
    }

    #[test]
    fn one_number_is_one_key_with_and_without_zeros_in_front() {
        let types = [DataType::Decimal { digits: None }];
        assert_eq!(key_cells("007", &types), key_cells("7", &types));
    }

    #[test]
    fn typed_keys_read_as_they_are_written() {
        assert_eq!(key_text(&[Value::Timestamp(0)]), "1970-01-01T00:00:00Z");
        assert_eq!(key_text(&[Value::Date(-1)]), "1969-12-31");
        assert_eq!(
            key_text(&[Value::Timestamp(253_402_300_799_999_000)]),
            "9999-12-31T23:59:59.999Z"
        );
        let id = Value::Uuid([0x6d; 16]);
        assert_eq!(key_text(&[id]), "6d6d6d6d-6d6d-6d6d-6d6d-6d6d6d6d6d6d");
    }
}
