//! Corrections of records.
//!
//! A correction must change nothing that it is not about. So numbers are kept as the text that
//! the record has for them: as a double, an amount of eighteen digits would lose its last ones.

use std::collections::BTreeMap;

use json_patch::{Patch, PatchOperation};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::{Error, Value, value::RawValue};

/// A correction of a record.
#[derive(Debug, Clone)]
pub struct Edit {
    how: How,
    said: Value,
}

#[derive(Debug, Clone)]
enum How {
    Patch(Patch),
    Merge(Value),
}

impl Edit {
    /// A JSON Patch (RFC 6902).
    pub fn patch(text: &str) -> Result<Self, Error> {
        let steps: Vec<BTreeMap<String, &RawValue>> = serde_json::from_str(text)?;
        let member = |(name, raw): (String, &RawValue)| {
            let value = match name.as_str() {
                "value" => open(raw, DEPTH)?,
                _ => serde_json::from_str(raw.get())?,
            };
            Ok((name, value))
        };
        let step = |step: BTreeMap<String, &RawValue>| {
            let step: Result<Value, Error> = step.into_iter().map(member).collect();
            serde_json::from_value(step?)
        };
        let steps: Result<Vec<PatchOperation>, Error> = steps.into_iter().map(step).collect();
        Ok(Self {
            how: How::Patch(Patch(steps?)),
            said: said(text)?,
        })
    }

    /// A JSON Merge Patch (RFC 7396).
    pub fn merge(text: &str) -> Result<Self, Error> {
        Ok(Self {
            how: How::Merge(read(text)?),
            said: said(text)?,
        })
    }

    /// What it is, for the audit log: its kind and its text.
    pub(crate) fn said(&self) -> (&'static str, &Value) {
        match self.how {
            How::Patch(_) => ("patch", &self.said),
            How::Merge(_) => ("merge", &self.said),
        }
    }

    /// The corrected record, or why the correction does not fit it.
    pub(crate) fn apply(&self, record: &str) -> Result<String, String> {
        let mut record = read(record).map_err(|error| error.to_string())?;
        match &self.how {
            How::Patch(steps) => {
                for (at, step) in steps.iter().enumerate() {
                    take(&mut record, step).map_err(|mut error| {
                        error.operation = at;
                        error.to_string()
                    })?;
                }
            }
            How::Merge(merge) => json_patch::merge(&mut record, merge),
        }
        write(&record).map_err(|error| error.to_string())
    }
}

fn take(record: &mut Value, step: &PatchOperation) -> Result<(), json_patch::PatchError> {
    if let PatchOperation::Test(test) = step
        && let Ok(found) = test.path.resolve(record)
        && same(found, &test.value)
    {
        return Ok(());
    }
    json_patch::patch(record, std::slice::from_ref(step))
}

/// The text of a correction as a value, unless that would lose some of it.
fn said(text: &str) -> Result<Value, Error> {
    let value: Value = serde_json::from_str(text)?;
    let plain = value.to_string();
    let exact = write(&read(text)?)? == plain;
    Ok(if exact { value } else { text.into() })
}

/// How deep a record may be nested, which is what `serde_json` allows.
const DEPTH: usize = 127;
/// Stands before the text of a number.
const NUMBER: &str = "#";
/// Stands before what is text in the record.
const TEXT: &str = "\"";

fn read(text: &str) -> Result<Value, Error> {
    open(serde_json::from_str(text)?, DEPTH)
}

/// A record as a tree in which numbers and texts are texts with a mark.
fn open(raw: &RawValue, depth: usize) -> Result<Value, Error> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{' | b'[') if depth == 0 => Err(Error::custom("it is nested too deep")),
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            let field = |(name, raw)| Ok((name, open(raw, depth - 1)?));
            fields.into_iter().map(field).collect()
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text)?;
            elements
                .into_iter()
                .map(|raw| open(raw, depth - 1))
                .collect()
        }
        Some(b'"') => Ok((TEXT.to_owned() + &serde_json::from_str::<String>(text)?).into()),
        Some(b'-' | b'0'..=b'9') => Ok((NUMBER.to_owned() + text).into()),
        _ => serde_json::from_str(text),
    }
}

fn write(record: &Value) -> Result<String, Error> {
    serde_json::to_string(&Closed(record))
}

/// What [`open`] has made, as the record it was.
struct Closed<'r>(&'r Value);

impl Serialize for Closed<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(marked) => match marked.strip_prefix(NUMBER) {
                Some(number) => RawValue::from_string(number.to_owned())
                    .map_err(S::Error::custom)?
                    .serialize(to),
                None => to.serialize_str(marked.strip_prefix(TEXT).unwrap_or(marked)),
            },
            Value::Array(elements) => to.collect_seq(elements.iter().map(Closed)),
            Value::Object(fields) => {
                to.collect_map(fields.iter().map(|(name, value)| (name, Closed(value))))
            }
            other => other.serialize(to),
        }
    }
}

/// Whether two values are the same to a JSON Patch: numbers are when they are as large,
/// however they are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => {
            let numbers = a.strip_prefix(NUMBER).zip(b.strip_prefix(NUMBER));
            numbers.map_or(a == b, |(a, b)| size(a) == size(b))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let alike = |(name, a)| b.get(name).is_some_and(|b| same(a, b));
            a.len() == b.len() && a.iter().all(alike)
        }
        _ => a == b,
    }
}

/// A number as its sign, its digits without zeros around them, and its power of ten.
fn size(number: &str) -> (bool, String, i64) {
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (number, power) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.to_owned() + fraction;
    let significant = digits.trim_end_matches('0');
    let moved = digits.len() - significant.len();
    let digits = significant.trim_start_matches('0').to_owned();
    if digits.is_empty() {
        return (false, digits, 0);
    }
    let places = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let power = power.parse::<i64>().unwrap_or_default();
    let power = power.saturating_add(places(moved) - places(fraction.len()));
    (negative, digits, power)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str =
        r##"{"amount":12345678901234567.89,"note":"#1","rate":1.50,"sub":[{"n":1e2}]}"##;

    #[test]
    fn a_correction_changes_nothing_else() {
        let merged = Edit::merge(r#"{"note":"x"}"#).unwrap().apply(RECORD);
        assert_eq!(merged.unwrap(), RECORD.replace("#1", "x"));
        let patched = Edit::patch(r#"[{"op":"remove","path":"/sub/0/n"}]"#).unwrap();
        let expected = RECORD.replace(r#""n":1e2"#, "");
        assert_eq!(patched.apply(RECORD).unwrap(), expected);
    }

    #[test]
    fn a_correction_says_exactly_what_it_means() {
        let amount = "98765432109876543210.10";
        let merge = format!(r#"{{"amount":{amount}}}"#);
        let patch = format!(r#"[{{"op":"replace","path":"/amount","value":{amount}}}]"#);
        let expected = RECORD.replace("12345678901234567.89", amount);
        for edit in [Edit::merge(&merge), Edit::patch(&patch)] {
            assert_eq!(edit.unwrap().apply(RECORD).unwrap(), expected);
        }
        assert_eq!(
            Edit::merge(&merge).unwrap().said(),
            ("merge", &merge.into())
        );
        let plain = Edit::merge(r#"{"amount":1}"#).unwrap();
        assert_eq!(plain.said().1, &serde_json::json!({ "amount": 1 }));
    }

    #[test]
    fn a_test_asks_for_the_number_and_not_for_how_it_is_written() {
        let test = |path: &str, value: &str| {
            let patch = format!(r#"[{{"op":"test","path":"{path}","value":{value}}}]"#);
            Edit::patch(&patch).unwrap().apply(RECORD)
        };
        for (path, value) in [
            ("/rate", "1.5"),
            ("/rate", "15e-1"),
            ("/sub", r#"[{"n":100.0}]"#),
            ("/amount", "1234567890123456789E-2"),
            ("/note", r##""#1""##),
        ] {
            assert_eq!(test(path, value).unwrap(), RECORD, "{path} {value}");
        }
        for (path, value) in [
            ("/amount", "12345678901234567.88"),
            ("/rate", "-1.5"),
            ("/rate", r#""1.50""#),
            ("/note", "1"),
            ("/sub", "[]"),
            ("/gone", "1"),
        ] {
            test(path, value).unwrap_err();
        }
        assert_eq!(size("-0.00"), size("0"));
    }

    #[test]
    fn the_step_that_does_not_fit_is_named() {
        let patch = r#"[{"op":"remove","path":"/note"},{"op":"remove","path":"/note"}]"#;
        let error = Edit::patch(patch).unwrap().apply(RECORD).unwrap_err();
        assert!(error.contains("'/1'"), "{error}");
    }

    #[test]
    fn what_is_nested_without_end_is_an_error() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let edit = Edit::merge(r#"{"a":1}"#).unwrap();
        edit.apply(&deep).unwrap_err();
        Edit::merge(&deep).unwrap_err();
    }
}
