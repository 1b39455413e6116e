//! Cells in PostgreSQL's binary form, as COPY and parameters take them.
//!
//! Source: PostgreSQL documentation, "COPY", section "Binary Format"; the forms of the types
//! are those of their `…_recv` functions. What a column would refuse is refused here where
//! that is cheap to see, so that the usual bad row costs the server nothing.

use bytes::BufMut;
use model::{Cause, ErrorClass, Value};

use crate::{
    layout::{Column, Wire},
    numeric,
};

/// What a binary COPY begins with: a signature, no flags, no extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(crate) const TRAILER: &[u8] = b"\xff\xff";

/// 2000-01-01, from which PostgreSQL counts, in its units since 1970-01-01.
const EPOCH_DAYS: i64 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The first day and microsecond it knows, 4714-11-24 BC, and the first it does not know any
/// more, from its own epoch.
const DAYS: std::ops::Range<i64> = -2_451_545..2_147_483_494;
const MICROS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
const DAY: i64 = 86_400_000_000;

fn refuse(class: ErrorClass, code: &str, column: &Column, why: &str) -> Box<Cause> {
    let message = format!("the target refuses the row: `{}` {why}", column.plain);
    Box::new(Cause::new(class, code, message).at_field(column.plain.as_str()))
}

/// The cause of a required cell without a value.
pub(crate) fn not_null(column: &Column) -> Box<Cause> {
    refuse(
        ErrorClass::Invalid,
        "not-null-violation",
        column,
        "must have a value",
    )
}

fn invalid(code: &str, column: &Column, why: &str) -> Box<Cause> {
    refuse(ErrorClass::Invalid, code, column, why)
}

fn out_of_range(column: &Column, why: &str) -> Box<Cause> {
    invalid("out-of-range", column, why)
}

/// Appends null.
pub(crate) fn put_null(out: &mut Vec<u8>) {
    out.put_i32(-1);
}

/// Appends a 64-bit integer.
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.put_i32(8);
    out.put_i64(value);
}

/// Appends a 32-bit integer.
pub(crate) fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.put_i32(4);
    out.put_i32(value);
}

/// Appends a cell with its length in front, or says why its column would refuse it. After an
/// error `out` may hold a part of it.
pub(crate) fn put(out: &mut Vec<u8>, column: &Column, value: &Value<'_>) -> Result<(), Box<Cause>> {
    match (column.wire, value) {
        (_, Value::Null) if column.bounds.required => return Err(not_null(column)),
        (_, Value::Missing | Value::Null) => put_null(out),
        (Wire::Text, Value::Text(text) | Value::Json(text)) => put_text(out, column, text)?,
        (Wire::Int2 | Wire::Int4 | Wire::Int8, Value::Int(value)) => {
            put_integer(out, column, *value)?;
        }
        (Wire::Numeric, Value::Decimal(text)) => put_decimal(out, column, text)?,
        (Wire::Numeric, Value::Int(value)) => put_decimal(out, column, &value.to_string())?,
        (Wire::Uuid, Value::Uuid(bytes)) => put_bytes(out, column, bytes)?,
        (Wire::Bytes, Value::Bytes(bytes)) => put_bytes(out, column, bytes)?,
        (Wire::Bool, Value::Bool(value)) => {
            out.put_i32(1);
            out.put_u8((*value).into());
        }
        (Wire::Float8, Value::Float(value)) => {
            out.put_i32(8);
            out.put_f64(*value);
        }
        (Wire::Jsonb, Value::Json(text)) => put_json(out, column, text)?,
        (Wire::Date | Wire::Time | Wire::Timestamp, value) => put_time(out, column, value)?,
        _ => {
            let why = "holds a value of another type than the map gives it";
            return Err(invalid("type-mismatch", column, why));
        }
    }
    Ok(())
}

fn put_integer(out: &mut Vec<u8>, column: &Column, value: i64) -> Result<(), Box<Cause>> {
    let (least, most) = column.bounds.integers;
    if value < least || value > most {
        let why = format!("takes {least} to {most}, and the value is {value}");
        return Err(out_of_range(column, &why));
    }
    let bytes = value.to_be_bytes();
    let (length, bytes) = match column.wire {
        Wire::Int2 => (2, &bytes[6..]),
        Wire::Int4 => (4, &bytes[4..]),
        _ => (8, &bytes[..]),
    };
    out.put_i32(length);
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_decimal(out: &mut Vec<u8>, column: &Column, text: &str) -> Result<(), Box<Cause>> {
    let Some(parts) = numeric::parts(text) else {
        return Err(invalid("type-mismatch", column, "is no decimal number"));
    };
    if parts.whole.len() > column.bounds.whole_digits || !parts.fits() {
        let most = column.bounds.whole_digits.min(131_072);
        let why = format!(
            "takes numbers of {most} digits before the point, and the value has {}",
            parts.whole.len()
        );
        return Err(out_of_range(column, &why));
    }
    let scale = column.bounds.scale;
    if !parts.keeps_to(scale) {
        let why = format!(
            "keeps {scale} digits after the point, and the value has more: alter the column, or let the map round (`type` with fewer digits, and `round`)"
        );
        return Err(invalid("precision-loss", column, &why));
    }
    parts.put(out);
    Ok(())
}

fn put_text(out: &mut Vec<u8>, column: &Column, text: &str) -> Result<(), Box<Cause>> {
    // A character has at least one byte, and blanks at the end are cut off without an error.
    if text.len() > column.bounds.characters {
        let length = text.trim_end_matches(' ').chars().count();
        if length > column.bounds.characters {
            let why = format!(
                "takes {} characters, and the value has {length}",
                column.bounds.characters
            );
            return Err(invalid("too-long", column, &why));
        }
    }
    if text.as_bytes().contains(&0) {
        let why = "holds the character U+0000, which PostgreSQL cannot store in text";
        return Err(invalid("invalid-character", column, why));
    }
    put_bytes(out, column, text.as_bytes())
}

fn put_json(out: &mut Vec<u8>, column: &Column, text: &str) -> Result<(), Box<Cause>> {
    if has_null_escape(text) {
        let why = "holds the character U+0000, which PostgreSQL cannot store in jsonb";
        return Err(invalid("invalid-character", column, why));
    }
    let length = length(column, text.len() + 1)?;
    out.put_i32(length);
    // The version of the form.
    out.put_u8(1);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Whether JSON text holds `\u0000`, and not only a backslash before `u0000`.
fn has_null_escape(text: &str) -> bool {
    text.match_indices("\\u0000").any(|(at, _)| {
        let before = text[..at].bytes().rev().take_while(|byte| *byte == b'\\');
        before.count() % 2 == 0
    })
}

fn put_bytes(out: &mut Vec<u8>, column: &Column, bytes: &[u8]) -> Result<(), Box<Cause>> {
    let length = length(column, bytes.len())?;
    out.put_i32(length);
    out.extend_from_slice(bytes);
    Ok(())
}

fn length(column: &Column, length: usize) -> Result<i32, Box<Cause>> {
    // PostgreSQL keeps no value of a gigabyte or more.
    i32::try_from(length)
        .ok()
        .filter(|length| *length < 0x3fff_ffff)
        .ok_or_else(|| {
            let why = format!("has {length} bytes, more than PostgreSQL can store");
            refuse(ErrorClass::TooLarge, "too-large", column, &why)
        })
}

fn put_time(out: &mut Vec<u8>, column: &Column, value: &Value<'_>) -> Result<(), Box<Cause>> {
    let beyond = || out_of_range(column, "is a time that PostgreSQL does not know");
    match (column.wire, value) {
        (Wire::Date, Value::Date(days)) => {
            // The ends of the 32 bits mean infinity there, and are beyond its range here.
            let days = i64::from(*days) - EPOCH_DAYS;
            if !DAYS.contains(&days) {
                return Err(beyond());
            }
            put_i32(out, i32::try_from(days).map_err(|_| beyond())?);
        }
        (Wire::Time, Value::Time(micros)) => {
            if !(0..=DAY).contains(micros) {
                return Err(beyond());
            }
            keep_to_step(column, *micros)?;
            put_i64(out, *micros);
        }
        (Wire::Timestamp, Value::Timestamp(micros)) => {
            let micros = micros.checked_sub(EPOCH_MICROS).ok_or_else(beyond)?;
            if !MICROS.contains(&micros) {
                return Err(beyond());
            }
            keep_to_step(column, micros)?;
            put_i64(out, micros);
        }
        _ => return Err(invalid("type-mismatch", column, "is no time")),
    }
    Ok(())
}

/// Of two keys that a column rounds to one, one would overwrite the other.
fn keep_to_step(column: &Column, micros: i64) -> Result<(), Box<Cause>> {
    if micros % column.bounds.step == 0 {
        return Ok(());
    }
    let why = "is a key that keeps fewer digits of a second than the value has: alter the column";
    Err(invalid("precision-loss", column, why))
}

/// A cell of a result in binary form, as a value of the type that travels as `wire`.
pub(crate) fn read(wire: Wire, raw: Option<&[u8]>) -> Option<Value<'static>> {
    let Some(raw) = raw else {
        return Some(Value::Null);
    };
    let integer = || -> Option<i64> {
        Some(match raw.len() {
            2 => i16::from_be_bytes(raw.try_into().ok()?).into(),
            4 => i32::from_be_bytes(raw.try_into().ok()?).into(),
            _ => i64::from_be_bytes(raw.try_into().ok()?),
        })
    };
    Some(match wire {
        Wire::Bool => Value::Bool(raw != [0]),
        Wire::Int2 | Wire::Int4 | Wire::Int8 => Value::Int(integer()?),
        Wire::Numeric => Value::Decimal(numeric::read(raw)?.into()),
        Wire::Float8 => Value::Float(f64::from_be_bytes(raw.try_into().ok()?)),
        Wire::Text => Value::Text(String::from_utf8(raw.to_vec()).ok()?.into()),
        Wire::Uuid => Value::Uuid(raw.try_into().ok()?),
        Wire::Date => Value::Date(i32::try_from(integer()? + EPOCH_DAYS).ok()?),
        Wire::Time => Value::Time(integer()?),
        Wire::Timestamp => Value::Timestamp(integer()?.checked_add(EPOCH_MICROS)?),
        Wire::Bytes => Value::Bytes(raw.to_vec().into()),
        Wire::Jsonb => {
            let text = raw.split_first().filter(|(version, _)| **version == 1)?.1;
            Value::Json(String::from_utf8(text.to_vec()).ok()?.into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_escape_is_the_null_character() {
        assert!(has_null_escape(r#""a\u0000b""#));
        assert!(has_null_escape(r#""\\\u0000""#));
        assert!(!has_null_escape(r#""\\u0000""#));
        assert!(!has_null_escape(r#""u0000""#));
    }
}
