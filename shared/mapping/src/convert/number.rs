//! Numbers, exact to the last digit.

use std::{borrow::Cow, str::FromStr};

use bigdecimal::{BigDecimal, RoundingMode};
use definition::Rounding;
use model::Value;

use super::{ConvertError, shorten};

/// Exponents beyond this would make numbers of millions of digits.
const MAX_EXPONENT: i64 = 1_000;

fn mode(round: Rounding) -> Option<RoundingMode> {
    match round {
        Rounding::Error => None,
        Rounding::HalfEven => Some(RoundingMode::HalfEven),
        Rounding::HalfUp => Some(RoundingMode::HalfUp),
        Rounding::Down => Some(RoundingMode::Down),
    }
}

fn overflow(text: &str, ty: &str) -> ConvertError {
    ConvertError::new(
        "overflow",
        format!("`{}` does not fit into {ty}", shorten(text)),
    )
}

fn precision_loss(text: &str, places: i64) -> ConvertError {
    let message = format!(
        "`{}` has more than {places} decimal places: allow rounding with `round`, or give the column more places",
        shorten(text)
    );
    ConvertError::new("precision-loss", message)
}

/// Reads a decimal number in plain or scientific notation.
fn parse(text: &str) -> Result<BigDecimal, ConvertError> {
    let exponent = text
        .find(['e', 'E'])
        .map_or(Ok(0), |at| text[at + 1..].parse::<i64>());
    match exponent {
        Ok(exponent) if exponent.abs() <= MAX_EXPONENT => {}
        _ => return Err(ConvertError::not_a("number", text)),
    }
    BigDecimal::from_str(text).map_err(|_| ConvertError::not_a("number", text))
}

/// Brings a number to at most `places` decimal places, by rounding only where that is allowed.
fn fit(text: &str, places: i64, round: Rounding) -> Result<BigDecimal, ConvertError> {
    let number = parse(text)?;
    if number.normalized().fractional_digit_count() <= places {
        return Ok(number.with_scale(places));
    }
    match mode(round) {
        Some(mode) => Ok(number.with_scale_round(places, mode)),
        None => Err(precision_loss(text, places)),
    }
}

pub(super) fn integer(
    text: &str,
    least: i64,
    most: i64,
    round: Rounding,
) -> Result<Value<'static>, ConvertError> {
    let number = if let Ok(number) = text.parse::<i64>() {
        number
    } else {
        let fitted = fit(text, 0, round)?;
        fitted
            .to_string()
            .parse()
            .map_err(|_| overflow(text, "a whole number of 64 bits"))?
    };
    if (least..=most).contains(&number) {
        Ok(Value::Int(number))
    } else {
        Err(overflow(text, &format!("the range {least} to {most}")))
    }
}

pub(super) fn float(text: &str) -> Result<Value<'static>, ConvertError> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::Float(number)),
        Ok(_) => Err(overflow(text, "a double")),
        Err(_) => Err(ConvertError::not_a("number", text)),
    }
}

/// Digits before and after the point of plain notation; `None` for any other text.
fn plain_digits(text: &str) -> Option<(usize, usize)> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let pointless = unsigned.len() == whole.len() || !fraction.is_empty();
    if whole.is_empty() || !pointless || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    Some((
        whole.trim_start_matches('0').len(),
        fraction.trim_end_matches('0').len(),
    ))
}

/// Plain notation without zeros in front, which no number in JSON has; zero has no sign.
fn without_zeros(text: Cow<'_, str>) -> Cow<'_, str> {
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", &*text), |rest| ("-", rest));
    let whole = digits.find('.').unwrap_or(digits.len());
    let zeros = digits.bytes().take_while(|byte| *byte == b'0').count();
    let zeros = zeros.min(whole.saturating_sub(1));
    let nothing = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if zeros == 0 && (sign.is_empty() || !nothing) {
        return text;
    }
    let sign = if nothing { "" } else { sign };
    Cow::Owned(format!("{sign}{}", &digits[zeros..]))
}

pub(super) fn decimal(
    text: Cow<'_, str>,
    digits: Option<(u8, u8)>,
    round: Rounding,
) -> Result<Value<'_>, ConvertError> {
    let plain = plain_digits(&text);
    let Some((precision, scale)) = digits else {
        return match plain {
            Some(_) => Ok(Value::Decimal(without_zeros(text))),
            None => Ok(Value::Decimal(parse(&text)?.to_plain_string().into())),
        };
    };
    let whole = usize::from(precision - scale);
    match plain {
        Some((before, after)) if before <= whole && after <= scale.into() => {
            Ok(Value::Decimal(without_zeros(text)))
        }
        _ => {
            let fitted = fit(&text, scale.into(), round)?;
            let rounded = fitted.to_plain_string();
            match plain_digits(&rounded) {
                Some((before, _)) if before <= whole => Ok(Value::Decimal(rounded.into())),
                _ => Err(overflow(&text, &format!("decimal({precision},{scale})"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::convert::convert_owned;

    fn try_as(raw: &str, ty: &str, round: Rounding) -> Result<String, &'static str> {
        match convert_owned(raw, ty.parse().unwrap(), round) {
            Ok(Value::Decimal(text)) => Ok(text.into_owned()),
            Ok(Value::Int(number)) => Ok(number.to_string()),
            Ok(Value::Float(number)) => Ok(number.to_string()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code),
        }
    }

    fn strict(raw: &str, ty: &str) -> Result<String, &'static str> {
        try_as(raw, ty, Rounding::Error)
    }

    #[test]
    fn no_digit_is_lost_without_leave() {
        assert_eq!(strict("15792.4", "decimal(18,2)"), Ok("15792.4".into()));
        assert_eq!(strict("0.10", "decimal(18,1)"), Ok("0.10".into()));
        assert_eq!(strict("0.125", "decimal(18,2)"), Err("precision-loss"));
        assert_eq!(
            strict("12345678901234567890123456789012345678", "decimal(38,0)")
                .unwrap()
                .len(),
            38
        );
        assert_eq!(strict("1e3", "decimal(18,2)"), Ok("1000.00".into()));
        assert_eq!(strict("1.5E-1", "decimal(18,2)"), Ok("0.15".into()));
        assert_eq!(strict("1.5e-1", "decimal"), Ok("0.15".into()));
        assert_eq!(
            strict(r#""9007199254740993""#, "bigint"),
            Ok("9007199254740993".into())
        );
        assert_eq!(strict("1.0", "integer"), Ok("1".into()));
        assert_eq!(strict("1.5", "integer"), Err("precision-loss"));
    }

    #[test]
    fn zeros_in_front_say_nothing() {
        for ty in ["decimal", "decimal(9,2)"] {
            for (raw, kept) in [
                (r#""00012.50""#, "12.50"),
                (r#""007""#, "7"),
                (r#""-007.0""#, "-7.0"),
                (r#""000""#, "0"),
                (r#""00.50""#, "0.50"),
                (r#""-0.00""#, "0.00"),
                ("-0", "0"),
                ("0.10", "0.10"),
                ("-1.5", "-1.5"),
            ] {
                assert_eq!(strict(raw, ty), Ok(kept.into()), "{raw} as {ty}");
            }
        }
    }

    #[test]
    fn rounding_has_a_name() {
        let round = |raw, round| try_as(raw, "decimal(10,2)", round).unwrap();
        assert_eq!(round("0.125", Rounding::HalfEven), "0.12");
        assert_eq!(round("0.135", Rounding::HalfEven), "0.14");
        assert_eq!(round("0.125", Rounding::HalfUp), "0.13");
        assert_eq!(round("-0.125", Rounding::HalfUp), "-0.13");
        assert_eq!(round("0.129", Rounding::Down), "0.12");
        assert_eq!(round("-0.129", Rounding::Down), "-0.12");
        assert_eq!(
            try_as("2.5", "smallint", Rounding::HalfEven),
            Ok("2".into())
        );
    }

    #[test]
    fn what_does_not_fit_is_an_overflow() {
        assert_eq!(strict("32768", "smallint"), Err("overflow"));
        assert_eq!(strict("-2147483649", "integer"), Err("overflow"));
        assert_eq!(strict("9223372036854775808", "bigint"), Err("overflow"));
        assert_eq!(strict("100", "decimal(4,2)"), Err("overflow"));
        assert_eq!(
            try_as("99.999", "decimal(4,2)", Rounding::HalfUp),
            Err("overflow")
        );
        assert_eq!(strict("1e400", "double"), Err("overflow"));
        assert_eq!(strict("1e999999999", "decimal"), Err("wrong-type"));
        assert_eq!(strict("1e-999999999", "integer"), Err("wrong-type"));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in [
            r#""""#,
            r#""abc""#,
            "true",
            r#""1,5""#,
            r#"" 1""#,
            r#""NaN""#,
            r#""0x1F""#,
            r#""-""#,
        ] {
            assert_eq!(strict(bad, "integer"), Err("wrong-type"), "{bad}");
            assert!(strict(bad, "decimal(9,2)").is_err(), "{bad}");
        }
        assert_eq!(strict(r#""NaN""#, "double"), Err("overflow"));
    }

    proptest! {
        #[test]
        fn every_decimal_is_a_number_in_json(text in "-?[0-9]{1,6}(\\.[0-9]{1,3})?") {
            let kept = strict(&format!("{text:?}"), "decimal").unwrap();
            serde_json::from_str::<serde_json::Number>(&kept).unwrap();
            prop_assert_eq!(BigDecimal::from_str(&kept).unwrap(), BigDecimal::from_str(&text).unwrap());
        }

        #[test]
        fn a_decimal_that_fits_keeps_its_value(units in -99_999_999_i64..99_999_999, places in 0_u32..5) {
            let text = BigDecimal::new(units.into(), places.into()).to_plain_string();
            let kept = strict(&text, "decimal(12,4)").unwrap();
            prop_assert_eq!(BigDecimal::from_str(&kept).unwrap(), BigDecimal::from_str(&text).unwrap());
        }
    }
}
