//! Times as services write them.
//!
//! The calendar goes to the end of the year 9999, which many systems take for "never"; a
//! [`jiff::Timestamp`] ends a day earlier, so that no offset leads out of the calendar. So
//! times are counted here by date and time of day.

use std::fmt::Write as _;

use jiff::{
    civil::{self, Time},
    fmt::temporal::Pieces,
};

const DAY: i64 = 86_400_000_000;

/// Microseconds of Unix time of a time in any form that services use: RFC 3339 with any
/// offset, the same without offset (UTC), a bare date (midnight UTC), and `/Date(ms)/`; digits
/// below a microsecond are dropped. `None` for what is no time, or not in the calendar.
#[must_use]
pub fn time_micros(text: &str) -> Option<i64> {
    if let Some(micros) = utc_micros(text) {
        return Some(micros);
    }
    let micros = net_micros(text).or_else(|| civil_micros(text))?;
    let first = days_since_epoch(-9999, 1, 1)? * DAY;
    let end = days_since_epoch(10_000, 1, 1)? * DAY;
    (first..end).contains(&micros).then_some(micros)
}

fn civil_micros(text: &str) -> Option<i64> {
    let pieces = Pieces::parse(text).ok()?;
    let time = pieces.time().unwrap_or(Time::midnight());
    let since = pieces
        .date()
        .to_datetime(time)
        .duration_since(civil::date(1970, 1, 1).to_datetime(Time::midnight()));
    let micros = i64::try_from(since.as_nanos().div_euclid(1_000)).ok()?;
    let offset = pieces
        .to_numeric_offset()
        .map_or(0, |offset| i64::from(offset.seconds()));
    Some(micros - offset * 1_000_000)
}

/// Microseconds of Unix time of `/Date(ms)/`, which can be far from every calendar.
pub(crate) fn net_micros(text: &str) -> Option<i64> {
    let inner = text.strip_prefix("/Date(")?.strip_suffix(")/")?;
    // `/Date(ms-0700)/`: the offset is for display, the number is UTC.
    let end = inner
        .get(1..)?
        .find(['+', '-'])
        .map_or(inner.len(), |at| at + 1);
    let millis = inner.get(..end)?.parse::<i64>().ok()?;
    Some(millis.saturating_mul(1_000))
}

/// Microseconds of Unix time as RFC 3339 in UTC, with as many digits after the point as say
/// something. A year before 0 or after 9999 has a sign and six digits (ISO 8601).
#[must_use]
pub fn time_text(micros: i64) -> String {
    let (year, month, day) = date_of(micros.div_euclid(DAY));
    let (seconds, fraction) = (
        micros.rem_euclid(DAY) / 1_000_000,
        micros.rem_euclid(1_000_000),
    );
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = if (0..=9999).contains(&year) {
        format!("{year:04}")
    } else {
        format!("{year:+07}")
    };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Microseconds of Unix time of `2026-01-02T03:04:05.678Z`, the form that nearly all services
/// use, read without detours; digits below a microsecond are dropped. `None` for every other
/// form, which may still be a good time.
#[must_use]
pub fn utc_micros(text: &str) -> Option<i64> {
    let bytes = text.strip_suffix('Z')?.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits.iter().try_fold(0, |n, b| {
            b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0'))
        })
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !separators
        .iter()
        .all(|(at, sign)| bytes.get(*at) == Some(sign))
    {
        return None;
    }
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match bytes.get(19) {
        None => 0,
        Some(b'.') if (21..=29).contains(&bytes.len()) => {
            let kept = bytes.len().min(26);
            number(20, bytes.len())?;
            number(20, kept)? * 10_i64.pow(u32::try_from(26 - kept).ok()?)
        }
        Some(_) => return None,
    };
    let days = days_since_epoch(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000_000 + micros)
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar; `None` if there is no
/// such date. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = DAYS.get(usize::try_from(month - 1).ok()?)? + i64::from(leap && month == 2);
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last one.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Year, month and day so many days after 1970-01-01. Source: as above, `civil_from_days`.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = days.div_euclid(146_097) * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_date_is_refused() {
        for bad in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00",
            "Z",
        ] {
            assert_eq!(utc_micros(bad), None, "{bad}");
        }
        assert!(utc_micros("2024-02-29T00:00:00Z").is_some());
    }

    #[test]
    fn the_last_day_of_the_calendar_is_a_day_like_others() {
        for (text, written) in [
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59-00:00", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59", "9999-12-31T23:59:59Z"),
            ("9999-12-31", "9999-12-31T00:00:00Z"),
            (
                "9999-12-31T23:59:59.9999999Z",
                "9999-12-31T23:59:59.999999Z",
            ),
            (
                "9999-12-31T23:59:59.9999999+00:00",
                "9999-12-31T23:59:59.999999Z",
            ),
            ("/Date(253402300799999)/", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T23:59:59+02:00", "9999-12-31T21:59:59Z"),
            ("0001-01-01T00:00:00+02:00", "0000-12-31T22:00:00Z"),
            ("-009999-01-01T00:00:00Z", "-009999-01-01T00:00:00Z"),
        ] {
            let micros = time_micros(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(time_text(micros), written, "{text}");
            assert_eq!(time_micros(written), Some(micros), "{text}");
        }
        for bad in [
            "9999-12-31T23:59:59-01:00",
            "/Date(253402300800000)/",
            "-009999-01-01T00:00:00+01:00",
            "/Date()/",
            "2026-01-01T00:00:00X",
        ] {
            assert_eq!(time_micros(bad), None, "{bad}");
        }
        assert_eq!(time_text(i64::MAX), "+294247-01-10T04:00:54.775807Z");
    }

    proptest! {
        #[test]
        fn times_are_written_as_the_library_does(micros in Timestamp::MIN.as_microsecond()..Timestamp::MAX.as_microsecond()) {
            let text = time_text(micros);
            prop_assert_eq!(&text, &Timestamp::from_microsecond(micros).unwrap().to_string());
            prop_assert_eq!(time_micros(&text), Some(micros), "{}", text);
        }

        #[test]
        fn no_text_makes_a_panic(text in "\\PC{0,40}", micros in proptest::num::i64::ANY) {
            let _ = (time_micros(&text), time_text(micros));
        }

        #[test]
        fn it_agrees_with_the_library(micros in -62_135_596_800_000_000_i64..253_402_207_200_000_000) {
            let text = Timestamp::from_microsecond(micros).unwrap().to_string();
            prop_assert_eq!(utc_micros(&text), Some(micros), "{}", text);
        }

        #[test]
        fn it_never_disagrees_with_the_library(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?Z") {
            if let Some(micros) = utc_micros(&text) {
                let time: Timestamp = text.parse().unwrap();
                prop_assert_eq!(time.as_nanosecond().div_euclid(1_000), i128::from(micros));
            }
        }
    }
}
