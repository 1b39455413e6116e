//! Dates and times.

use definition::Rounding;
use jiff::{Timestamp, civil, tz::TimeZone};
use model::Value;

use super::ConvertError;

const EPOCH: civil::Date = civil::date(1970, 1, 1);

/// RFC 3339 with any offset, the same without offset (UTC), a bare date (midnight UTC), and
/// `/Date(ms)/`. Digits below a microsecond are dropped: no target keeps them.
pub(super) fn timestamp(text: &str) -> Result<Value<'static>, ConvertError> {
    if let Some(micros) = model::utc_micros(text) {
        return Ok(Value::Timestamp(micros));
    }
    let fail = || ConvertError::not_a("timestamp", text);
    if text.starts_with("/Date(") {
        let version = model::VersionKind::Timestamp
            .read(text)
            .map_err(|_| fail())?;
        return Ok(Value::Timestamp(version.0));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Value::Timestamp(time.as_microsecond()));
    }
    let civil: civil::DateTime = text.parse().map_err(|_| fail())?;
    let time = TimeZone::UTC.to_timestamp(civil).map_err(|_| fail())?;
    Ok(Value::Timestamp(time.as_microsecond()))
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
    let civil = match text.parse::<Timestamp>() {
        Ok(time) => time.to_zoned_datetime(TimeZone::UTC).datetime(),
        Err(_) => text.parse::<civil::DateTime>().map_err(|_| fail())?,
    };
    if civil.time() == civil::Time::midnight() || round == Rounding::Down {
        return Ok(Value::Date(days(civil.date())));
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
        for bad in [
            "",
            "yesterday",
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
