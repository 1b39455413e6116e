//! Times as most services write them.

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

    proptest! {
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
