//! Keys as text.

use model::Value;

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
        Value::Time(micros) => write!(text, "{micros}"),
        Value::Timestamp(micros) => write!(text, "{}", instant(*micros)),
        Value::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(text, "{byte:02x}")),
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

pub(crate) fn instant(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .unwrap_or_default()
        .to_string()
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
    fn typed_keys_read_as_they_are_written() {
        assert_eq!(key_text(&[Value::Timestamp(0)]), "1970-01-01T00:00:00Z");
        assert_eq!(key_text(&[Value::Date(-1)]), "1969-12-31");
        let id = Value::Uuid([0x6d; 16]);
        assert_eq!(key_text(&[id]), "6d6d6d6d-6d6d-6d6d-6d6d-6d6d6d6d6d6d");
    }
}
