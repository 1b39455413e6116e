//! Dates and times.

use definition::Rounding;
use jiff::civil;
use model::Value;

use super::ConvertError;

const EPOCH: civil::Date = civil::date(1970, 1, 1);
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Any form that [`model::time_micros`] knows. Digits below a microsecond are dropped: no
/// target keeps them.
pub(super) fn timestamp(text: &str) -> Result<Value<'static>, ConvertError> {
    model::time_micros(text)
        .map(Value::Timestamp)
        .ok_or_else(|| ConvertError::not_a("timestamp", text))
}

fn days(date: civil::Date) -> i32 {
    // Every civil date is within some ten million days of the epoch.
    let since = date.duration_since(EPOCH).as_hours() / 24;
    i32::try_from(since).unwrap_or(0)
}

/// A date, or the date of a time that is midnight; of any other time only when rounding down
/// is allowed.
pub(super) fn date(text: &str, round: Rounding) -> Result<Value<'static>, ConvertError> {
    let fail = || ConvertError::not_a("date", text);
    if let Ok(date) = text.parse::<civil::Date>()
        && !text.contains(['T', 't', ' '])
    {
        return Ok(Value::Date(days(date)));
    }
    let micros = model::time_micros(text).ok_or_else(fail)?;
    if micros.rem_euclid(DAY) == 0 || round == Rounding::Down {
        return i32::try_from(micros.div_euclid(DAY))
            .map(Value::Date)
            .map_err(|_| fail());
    }
    let message =
        format!("`{text}` is not midnight: allow `round: down`, or make the column a timestamp");
    Err(ConvertError::new("precision-loss", message))
}

/// A time of day.
pub(super) fn time(text: &str) -> Result<Value<'static>, ConvertError> {
    let time: civil::Time = text
        .parse()
        .map_err(|_| ConvertError::not_a("time", text))?;
    let since = time.duration_since(civil::Time::midnight());
    i64::try_from(since.as_micros())
        .map(Value::Time)
        .map_err(|_| ConvertError::not_a("time", text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> Option<i64> {
        match timestamp(text) {
            Ok(Value::Timestamp(micros)) => Some(micros),
            _ => None,
        }
    }

    #[test]
    fn every_usual_form_is_the_same_instant() {
        let instant = Some(1_767_323_045_678_000);
        for text in [
            "2026-01-02T03:04:05.678Z",
            "2026-01-02T03:04:05.6780000Z",
            "2026-01-02T03:04:05.678+00:00",
            "2026-01-02T05:04:05.678+02:00",
            "2026-01-02T03:04:05.678",
            "/Date(1767323045678)/",
        ] {
            assert_eq!(micros(text), instant, "{text}");
        }
        assert_eq!(
            micros("2026-01-02T03:04:05.1234569Z"),
            Some(1_767_323_045_123_456)
        );
        assert_eq!(micros("1970-01-01"), Some(0));
        assert_eq!(
            micros("0001-01-01T00:00:00Z"),
            Some(-62_135_596_800_000_000)
        );
        assert_eq!(
            micros("9999-12-31T23:59:59Z"),
            Some(253_402_300_799_000_000)
        );
        let never = Some(253_402_300_799_000_000);
        for text in [
            "9999-12-31T23:59:59+00:00",
            "9999-12-31T23:59:59",
            "/Date(253402300799000)/",
        ] {
            assert_eq!(micros(text), never, "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "/Date(253402300800000)/",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "12",
        ] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_date_has_no_time_unless_that_is_wanted() {
        assert_eq!(date("1970-01-02", Rounding::Error), Ok(Value::Date(1)));
        assert_eq!(date("1969-12-31", Rounding::Error), Ok(Value::Date(-1)));
        assert_eq!(
            date("1970-01-02T00:00:00Z", Rounding::Error),
            Ok(Value::Date(1))
        );
        assert_eq!(
            date("1970-01-02T10:00:00Z", Rounding::Error)
                .unwrap_err()
                .code,
            "precision-loss"
        );
        assert_eq!(
            date("1970-01-02T10:00:00Z", Rounding::Down),
            Ok(Value::Date(1))
        );
        for text in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59+00:00"] {
            assert_eq!(date(text, Rounding::Down), Ok(Value::Date(2_932_896)));
        }
        assert_eq!(date("x", Rounding::Down).unwrap_err().code, "wrong-type");
    }

    #[test]
    fn a_time_of_day() {
        assert_eq!(time("00:00:01.5"), Ok(Value::Time(1_500_000)));
        assert_eq!(time("25:00:00").unwrap_err().code, "wrong-type");
    }

    proptest! {
        #[test]
        fn no_text_makes_a_panic(text in "\\PC{0,40}") {
            let _ = (timestamp(&text), date(&text, Rounding::Down), time(&text));
        }
    }
}
