//! Decimal text as PostgreSQL's binary `numeric`, and back.
//!
//! Source: `numeric_recv` and `numeric_send` in `src/backend/utils/adt/numeric.c`: the number
//! of digits, the weight of the first, sign, scale, then digits to the base of 10,000.

use std::fmt::Write as _;

use bytes::BufMut;

const NEGATIVE: u16 = 0x4000;
/// Digits that the type keeps before and after the point.
const MOST_WHOLE: usize = 131_072;
const MOST_FRACTION: usize = 16_383;

/// The parts of a decimal number in plain notation.
pub(crate) struct Parts<'t> {
    negative: bool,
    /// Digits before the point, without zeros in front.
    pub(crate) whole: &'t [u8],
    fraction: &'t [u8],
}

/// Takes a number in plain notation apart; `None` for any other text.
pub(crate) fn parts(text: &str) -> Option<Parts<'_>> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &[][..]),
    };
    let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let zeros = whole.iter().take_while(|digit| **digit == b'0').count();
    Some(Parts {
        negative,
        whole: &whole[zeros..],
        fraction,
    })
}

impl Parts<'_> {
    /// Whether it is a whole number of units of the last of `scale` digits after the point.
    pub(crate) fn keeps_to(&self, scale: i32) -> bool {
        let zeros = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
        let kept = usize::try_from(scale).unwrap_or(0);
        let cut = usize::try_from(-i64::from(scale)).unwrap_or(0);
        zeros(self.fraction.get(kept..).unwrap_or_default())
            && zeros(&self.whole[self.whole.len().saturating_sub(cut)..])
    }

    /// Whether the type can hold it.
    pub(crate) fn fits(&self) -> bool {
        self.whole.len() <= MOST_WHOLE && self.fraction.len() <= MOST_FRACTION
    }

    /// Appends it in binary form, with its length in front. It must fit.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "digits are counted before: there are at most 147,455, four to a group"
    )]
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        let whole_groups = self.whole.len().div_ceil(4);
        let fraction_groups = self.fraction.len().div_ceil(4);
        let group = |at: usize| -> u16 {
            if at < whole_groups {
                // The first group is the one that may be short.
                let end = self.whole.len() - 4 * (whole_groups - 1 - at);
                digits(&self.whole[end.saturating_sub(4)..end], 0)
            } else {
                let start = 4 * (at - whole_groups);
                let end = self.fraction.len().min(start + 4);
                digits(&self.fraction[start..end], 4 - (end - start))
            }
        };
        let (mut first, mut end) = (0, whole_groups + fraction_groups);
        while first < end && group(first) == 0 {
            first += 1;
        }
        while end > first && group(end - 1) == 0 {
            end -= 1;
        }
        let zero = first == end;
        let weight = if zero {
            0
        } else {
            whole_groups as i32 - 1 - first as i32
        };
        let sign = if self.negative && !zero { NEGATIVE } else { 0 };
        out.put_i32(8 + 2 * (end - first) as i32);
        out.put_u16((end - first) as u16);
        out.put_i16(weight as i16);
        out.put_u16(sign);
        out.put_u16(self.fraction.len() as u16);
        for at in first..end {
            out.put_u16(group(at));
        }
    }
}

/// The value of up to four digits with zeros appended.
fn digits(text: &[u8], zeros: usize) -> u16 {
    let value = text
        .iter()
        .fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
    value * [1, 10, 100, 1_000, 10_000][zeros.min(4)]
}

/// The text of a binary `numeric`; `None` for what is no number.
pub(crate) fn read(mut raw: &[u8]) -> Option<String> {
    let mut next = || {
        let (word, rest) = raw.split_first_chunk::<2>()?;
        raw = rest;
        Some(u16::from_be_bytes(*word))
    };
    let (count, weight, sign, scale) = (next()?, next()?.cast_signed(), next()?, next()?);
    if sign & !NEGATIVE != 0 {
        return None;
    }
    let groups: Vec<u16> = (0..count).map(|_| next()).collect::<Option<_>>()?;
    let group = |at: i32| {
        let index = usize::try_from(i32::from(weight) - at);
        index
            .ok()
            .and_then(|index| groups.get(index))
            .copied()
            .unwrap_or(0)
    };
    // Writing to a string cannot fail.
    let mut text = String::new();
    for at in (0..=i32::from(weight).max(0)).rev() {
        let _ = write!(text, "{:04}", group(at));
    }
    let zeros = text.len() - text.trim_start_matches('0').len();
    text.drain(..zeros.min(text.len() - 1));
    if sign == NEGATIVE {
        text.insert(0, '-');
    }
    if scale > 0 {
        let mut fraction = String::new();
        for at in 1..=i32::from(scale.div_ceil(4)) {
            let _ = write!(fraction, "{:04}", group(-at));
        }
        fraction.truncate(scale.into());
        text.push('.');
        text.push_str(&fraction);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> Option<String> {
        let parts = parts(text)?;
        let mut raw = Vec::new();
        parts.put(&mut raw);
        let (length, rest) = raw.split_first_chunk::<4>()?;
        assert_eq!(usize::try_from(i32::from_be_bytes(*length)), Ok(rest.len()));
        read(rest)
    }

    #[test]
    fn every_digit_comes_back() {
        for text in [
            "0",
            "1",
            "-1",
            "9999",
            "10000",
            "10001",
            "123456789",
            "0.1",
            "0.0001",
            "0.00001",
            "-0.5",
            "12.50",
            "99999999.99999999",
            "100000000",
            "0.000000001",
            "12345.6789",
            "123456789012345678901234567890.123456789012345678901234567890",
            "0.00",
            "10000.0001",
        ] {
            assert_eq!(round_trip(text).as_deref(), Some(text));
        }
        assert_eq!(round_trip("007.5").as_deref(), Some("7.5"));
        assert_eq!(round_trip("-0").as_deref(), Some("0"));
        assert_eq!(round_trip(".5").as_deref(), Some("0.5"));
    }

    #[test]
    fn digits_beyond_the_scale_are_seen() {
        let keeps = |text: &str, scale: i32| parts(text).unwrap().keeps_to(scale);
        assert!(keeps("1.25", 2) && keeps("1.2500", 2) && keeps("1.25", i32::MAX));
        assert!(keeps("5", 0) && keeps("5.0", 0) && !keeps("5.5", 0) && !keeps("1.251", 2));
        assert!(keeps("1200", -2) && keeps("0", -2) && !keeps("1250", -2) && !keeps("7", -2));
        assert!(!keeps("1200.5", -2));
    }

    #[test]
    fn what_is_no_number_or_too_long_is_seen() {
        for bad in ["", "-", ".", "1e3", "+1", "1.2.3", "NaN", "١"] {
            assert!(parts(bad).is_none(), "{bad}");
        }
        let long = "9".repeat(MOST_WHOLE);
        assert!(parts(&long).unwrap().fits());
        assert!(!parts(&format!("{long}9")).unwrap().fits());
        assert_eq!(round_trip(&long).unwrap(), long);
    }
}
