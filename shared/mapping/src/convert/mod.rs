//! Raw JSON values to typed cells.

mod number;
mod time;

use std::borrow::Cow;

use base64::Engine as _;
use definition::Rounding;
use model::{Cause, DataType, ErrorClass, Value};

/// Why a value does not convert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConvertError {
    pub(crate) code: &'static str,
    /// It may quote the value, which is good where a person has just written it.
    pub(crate) message: String,
    value: String,
}

impl ConvertError {
    fn new(code: &'static str, message: String) -> Self {
        let value = String::new();
        Self {
            code,
            message,
            value,
        }
    }

    /// The same, about this value.
    pub(crate) fn of(self, text: &str) -> Self {
        let value = shorten(text).into_owned();
        Self { value, ..self }
    }

    /// The cause of a failure. Its message goes into lists and logs, which the value must not.
    pub(crate) fn into_cause(self) -> Box<Cause> {
        let quoted = format!("`{}`", self.value);
        let message = self.message.replace(&quoted, "the value");
        Box::new(Cause::new(ErrorClass::Mapping, self.code, message).of_value(self.value))
    }

    fn not_a(what: &str, raw: &str) -> Self {
        Self::new("wrong-type", format!("`{}` is no {what}", shorten(raw)))
    }
}

/// A value as it may be quoted in a message.
pub(crate) fn shorten(raw: &str) -> Cow<'_, str> {
    match raw.char_indices().nth(80) {
        Some((end, _)) => Cow::Owned(format!("{}…", &raw[..end])),
        None => Cow::Borrowed(raw),
    }
}

/// The content of a JSON string, or the text of any other JSON value as it is written.
pub(crate) fn scalar_text(raw: &str) -> Result<Cow<'_, str>, ConvertError> {
    let Some(inner) = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Ok(Cow::Borrowed(raw));
    };
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).map(Cow::Owned).map_err(|error| {
        ConvertError::new(
            "malformed-text",
            format!("`{}` is no text: {error}", shorten(raw)),
        )
    })
}

/// Converts one raw value. `null` is null for every type.
pub(crate) fn convert(raw: &str, ty: DataType, round: Rounding) -> Result<Value<'_>, ConvertError> {
    typed(raw, ty, round).map_err(|error| {
        let text = scalar_text(raw).unwrap_or(Cow::Borrowed(raw));
        error.of(&text)
    })
}

fn typed(raw: &str, ty: DataType, round: Rounding) -> Result<Value<'_>, ConvertError> {
    if raw == "null" {
        return Ok(Value::Null);
    }
    if ty == DataType::Json {
        return Ok(Value::Json(Cow::Borrowed(raw)));
    }
    let text = scalar_text(raw)?;
    let is_text = raw.starts_with('"');
    let structured = raw.starts_with(['{', '[']);
    if structured && !matches!(ty, DataType::Text { .. }) {
        return Err(ConvertError::not_a(&ty.to_string(), raw));
    }
    match ty {
        DataType::Text { max } => limited(text, max),
        DataType::Boolean => boolean(&text),
        DataType::Int16 => number::integer(&text, i16::MIN.into(), i16::MAX.into(), round),
        DataType::Int32 => number::integer(&text, i32::MIN.into(), i32::MAX.into(), round),
        DataType::Int64 => number::integer(&text, i64::MIN, i64::MAX, round),
        DataType::Decimal { digits } => number::decimal(text, digits, round),
        DataType::Float64 => number::float(&text),
        DataType::Uuid => uuid(&text),
        DataType::Date => time::date(&text, round),
        DataType::Time => time::time(&text),
        DataType::Timestamp => time::timestamp(&text),
        DataType::Bytes if is_text => bytes(&text),
        DataType::Bytes | DataType::Json => Err(ConvertError::not_a("bytes", raw)),
    }
}

/// The same for text that outlives nothing, such as a constant or the result of an expression.
pub(crate) fn convert_owned(
    raw: &str,
    ty: DataType,
    round: Rounding,
) -> Result<Value<'static>, ConvertError> {
    convert(raw, ty, round).map(into_owned)
}

pub(crate) fn into_owned(value: Value<'_>) -> Value<'static> {
    match value {
        Value::Missing => Value::Missing,
        Value::Null => Value::Null,
        Value::Bool(value) => Value::Bool(value),
        Value::Int(value) => Value::Int(value),
        Value::Float(value) => Value::Float(value),
        Value::Decimal(text) => Value::Decimal(text.into_owned().into()),
        Value::Text(text) => Value::Text(text.into_owned().into()),
        Value::Uuid(bytes) => Value::Uuid(bytes),
        Value::Date(days) => Value::Date(days),
        Value::Time(micros) => Value::Time(micros),
        Value::Timestamp(micros) => Value::Timestamp(micros),
        Value::Bytes(bytes) => Value::Bytes(bytes.into_owned().into()),
        Value::Json(text) => Value::Json(text.into_owned().into()),
    }
}

fn limited(text: Cow<'_, str>, max: Option<u32>) -> Result<Value<'_>, ConvertError> {
    if let Some(max) = max
        && text.len() > max as usize
    {
        let length = text.chars().count();
        if length > max as usize {
            let message = format!("the text has {length} characters, {max} are allowed");
            return Err(ConvertError::new("too-long", message));
        }
    }
    Ok(Value::Text(text))
}

fn boolean(text: &str) -> Result<Value<'static>, ConvertError> {
    match text {
        "true" | "True" | "TRUE" | "1" => Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" | "0" => Ok(Value::Bool(false)),
        _ => Err(ConvertError::not_a("boolean", text)),
    }
}

fn uuid(text: &str) -> Result<Value<'static>, ConvertError> {
    // Braces as some systems write them.
    let bare = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(text);
    let parsed = uuid::Uuid::try_parse(bare).map_err(|_| ConvertError::not_a("uuid", text))?;
    Ok(Value::Uuid(parsed.into_bytes()))
}

fn bytes(text: &str) -> Result<Value<'static>, ConvertError> {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    decoded
        .map(|bytes| Value::Bytes(bytes.into()))
        .map_err(|_| ConvertError::not_a("base64", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(raw: &str, ty: &str) -> Value<'static> {
        convert_owned(raw, ty.parse().unwrap(), Rounding::Error).unwrap()
    }

    fn code(raw: &str, ty: &str) -> &'static str {
        convert_owned(raw, ty.parse().unwrap(), Rounding::Error)
            .unwrap_err()
            .code
    }

    #[test]
    fn text_is_taken_as_it_is_meant() {
        assert_eq!(ok(r#""a\"\u00e4""#, "text"), Value::Text("a\"ä".into()));
        assert_eq!(ok("12.50", "text"), Value::Text("12.50".into()));
        assert_eq!(ok(r#"{"a":1}"#, "text"), Value::Text(r#"{"a":1}"#.into()));
        assert_eq!(ok(r#""ääää""#, "text(4)"), Value::Text("ääää".into()));
        assert_eq!(code(r#""abcde""#, "text(4)"), "too-long");
        assert_eq!(code(r#""\ud800""#, "text"), "malformed-text");
    }

    #[test]
    fn null_is_null_and_nothing_else_is() {
        for ty in ["text", "integer", "uuid", "json", "timestamp"] {
            assert_eq!(ok("null", ty), Value::Null);
        }
        assert_eq!(ok(r#""null""#, "text"), Value::Text("null".into()));
        assert_eq!(ok(r#""""#, "text"), Value::Text("".into()));
    }

    #[test]
    fn other_scalars() {
        assert_eq!(ok("true", "boolean"), Value::Bool(true));
        assert_eq!(ok(r#""False""#, "boolean"), Value::Bool(false));
        assert_eq!(code(r#""yes""#, "boolean"), "wrong-type");
        let id = Value::Uuid(
            *uuid::Uuid::from_u128(0x6d81_597f_0f9f_e711_8122_000d_3aa2_331c).as_bytes(),
        );
        assert_eq!(ok(r#""6d81597f-0f9f-e711-8122-000d3aa2331c""#, "uuid"), id);
        assert_eq!(
            ok(r#""{6D81597F-0F9F-E711-8122-000D3AA2331C}""#, "uuid"),
            id
        );
        assert_eq!(code(r#""US-001""#, "uuid"), "wrong-type");
        assert_eq!(ok(r#""AQI=""#, "bytes"), Value::Bytes(vec![1, 2].into()));
        assert_eq!(code("3", "bytes"), "wrong-type");
        assert_eq!(ok("[1, 2]", "json"), Value::Json("[1, 2]".into()));
        assert_eq!(code("[1]", "integer"), "wrong-type");
    }

    #[test]
    fn a_quoted_value_is_never_long() {
        let raw = format!("\"{}\"", "x".repeat(5_000));
        let error = convert_owned(&raw, DataType::Int32, Rounding::Error).unwrap_err();
        assert!(error.message.len() < 300);
        assert!(error.into_cause().value.unwrap().len() < 300);
    }

    #[test]
    fn a_cause_has_its_value_apart_from_its_message() {
        for (raw, ty, value, message) in [
            (r#""x\ty""#, "uuid", "x\ty", "the value is no uuid"),
            ("{}", "integer", "{}", "the value is no integer"),
            ("1.5", "bytes", "1.5", "the value is no bytes"),
            (
                "1e5",
                "decimal(3,0)",
                "1e5",
                "the value does not fit into decimal(3,0)",
            ),
        ] {
            let error = convert_owned(raw, ty.parse().unwrap(), Rounding::Error).unwrap_err();
            assert_eq!(
                error.message,
                message.replace("the value", &format!("`{value}`"))
            );
            let cause = error.into_cause();
            assert_eq!(
                (cause.message.as_str(), cause.value.as_deref()),
                (message, Some(value))
            );
        }
        for (raw, ty) in [
            (r#""\ud800""#, "text"),
            ("1.005", "decimal(10,2)"),
            (r#""2026-01-01T10:00:00Z""#, "date"),
            (r#""a longer text""#, "text(4)"),
        ] {
            let error = convert_owned(raw, ty.parse().unwrap(), Rounding::Error).unwrap_err();
            let cause = error.into_cause();
            let value = cause.value.unwrap();
            assert!(
                raw.contains(&value) && !cause.message.contains(&value),
                "{raw}"
            );
        }
    }
}
