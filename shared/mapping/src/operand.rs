//! JSON values as operands of expressions.
//!
//! CEL reckons with 64-bit integers and doubles. What neither of them holds is refused: a
//! value that is nearly right is wrong, and nobody would notice.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use bigdecimal::BigDecimal;
use cel::Value;
use serde_json::value::RawValue;

use crate::convert::shorten;

/// A double holds every number of so many digits.
const SAFE_DIGITS: usize = 15;

/// A JSON value for CEL: numbers without a fraction are whole unless they are to be widened.
pub(crate) fn from_json(raw: &str, widen: bool) -> Result<Value, String> {
    let broken = |error: serde_json::Error| error.to_string();
    Ok(match raw.as_bytes().first() {
        Some(b'{') => {
            let fields: HashMap<String, &RawValue> = serde_json::from_str(raw).map_err(broken)?;
            let fields: Result<HashMap<String, Value>, String> = fields
                .into_iter()
                .map(|(name, raw)| Ok((name, from_json(raw.get(), widen)?)))
                .collect();
            fields?.into()
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(raw).map_err(broken)?;
            let elements: Result<Vec<Value>, String> = elements
                .into_iter()
                .map(|raw| from_json(raw.get(), widen))
                .collect();
            Value::List(Arc::new(elements?))
        }
        Some(b'"') => Value::from(serde_json::from_str::<String>(raw).map_err(broken)?),
        Some(b'n') => Value::Null,
        Some(b't' | b'f') => Value::Bool(raw == "true"),
        _ => number(raw, widen)?,
    })
}

fn number(text: &str, widen: bool) -> Result<Value, String> {
    if !widen {
        if let Ok(whole) = text.parse() {
            return Ok(Value::Int(whole));
        }
        if let Ok(whole) = text.parse() {
            return Ok(Value::UInt(whole));
        }
    }
    let double: f64 = text
        .parse()
        .map_err(|_| format!("`{}` is no JSON", shorten(text)))?;
    if survives(text, double) {
        return Ok(Value::Float(double));
    }
    Err(format!(
        "the number `{}` has more digits than an expression can reckon with: take its field as it is, without `expr`",
        shorten(text)
    ))
}

/// Whether a number is still the same as a double.
fn survives(text: &str, double: f64) -> bool {
    let digits = text.bytes().take_while(|b| !matches!(b, b'e' | b'E'));
    let digits = digits.filter(u8::is_ascii_digit).count();
    if digits <= SAFE_DIGITS && double.is_normal() || double == 0.0 && is_zero(text) {
        return true;
    }
    // Digits and exponent are compared: to bring two numbers to one exponent can take for ever.
    let exact = |text: &str| {
        let number = BigDecimal::from_str(text).ok()?.normalized();
        Some(number.into_bigint_and_scale())
    };
    // Many services write each double with seventeen digits.
    [format!("{double:e}"), format!("{double:.16e}")]
        .iter()
        .any(|written| exact(written).is_some_and(|it| exact(text) == Some(it)))
}

fn is_zero(text: &str) -> bool {
    let digits = text.bytes().take_while(|b| !matches!(b, b'e' | b'E'));
    digits.filter(u8::is_ascii_digit).all(|digit| digit == b'0')
}

/// Whether a result holds a number that is none, such as that of a division by zero.
pub(crate) fn is_finite(value: &Value) -> bool {
    match value {
        Value::Float(number) => number.is_finite(),
        Value::List(list) => list.iter().all(is_finite),
        Value::Map(map) => map.map.values().all(is_finite),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(raw: &str) -> Result<String, String> {
        from_json(raw, false).map(|value| format!("{value:?}"))
    }

    #[test]
    fn a_number_is_exact_or_refused() {
        for (raw, value) in [
            ("3", "Int(3)"),
            ("-9223372036854775808", "Int(-9223372036854775808)"),
            ("18446744073709551615", "UInt(18446744073709551615)"),
            ("3.0", "Float(3.0)"),
            ("0.1", "Float(0.1)"),
            ("0.0", "Float(0.0)"),
            ("-0.000e7", "Float(-0.0)"),
            ("1e3", "Float(1000.0)"),
            ("123456789012345.67", "Float(123456789012345.67)"),
            ("0.30000000000000004", "Float(0.30000000000000004)"),
            // Doubles as older services write them.
            ("0.10000000000000001", "Float(0.1)"),
            ("66.599999999999994", "Float(66.6)"),
            ("100000000000000000000", "Float(1e20)"),
            ("1.50000000000000000000", "Float(1.5)"),
            ("5e-324", "Float(5e-324)"),
        ] {
            assert_eq!(read(raw), Ok(value.into()), "{raw}");
        }
        for raw in [
            "9007199254740993.5",
            "18446744073709551616",
            "12345678901234567890.10",
            "0.1234567890123456789",
            "1e-400",
            "1e-999999999",
            "1e999999999",
            r#"{"a": [1, 12345678901234567890.1]}"#,
        ] {
            assert!(read(raw).unwrap_err().contains("more digits"), "{raw}");
        }
        assert!(from_json("9007199254740993", true).is_err());
        assert!(from_json("9007199254740992", true).is_ok());
    }

    #[test]
    fn everything_else_is_what_it_is() {
        assert_eq!(read(r#""a\u00e4""#), Ok(r#"String("aä")"#.into()));
        assert_eq!(read("[null, true]"), Ok("List([Null, Bool(true)])".into()));
        assert_eq!(read("false"), Ok("Bool(false)".into()));
        assert!(read(r#""\ud800""#).is_err());
    }

    proptest! {
        #[test]
        fn every_double_survives(number in proptest::num::f64::NORMAL) {
            for text in [format!("{number}"), format!("{number:e}"), format!("{number:.16e}")] {
                prop_assert!(survives(&text, number), "{}", text);
            }
        }
    }
}
