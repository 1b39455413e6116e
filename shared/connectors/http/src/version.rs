//! Versions in the form in which a service writes them.

use std::time::Duration;

use jiff::{Timestamp, tz::Offset};
use model::VersionKind;

/// Whether a version is a time and not a counter.
#[must_use]
pub fn is_time(text: &str, kind: VersionKind) -> bool {
    match kind {
        VersionKind::Timestamp | VersionKind::UnixSeconds | VersionKind::UnixMillis => true,
        VersionKind::Integer | VersionKind::Rowversion | VersionKind::Arrival => false,
        VersionKind::Auto => !text
            .trim_start_matches('-')
            .bytes()
            .all(|b| b.is_ascii_digit()),
    }
}

/// The later of two versions. One that cannot be read is no version.
#[must_use]
pub fn later(a: Option<String>, b: Option<String>, kind: VersionKind) -> Option<String> {
    let read = |text: &Option<String>| kind.read(text.as_deref()?).ok();
    match (read(&a), read(&b)) {
        (Some(x), Some(y)) if x < y => b,
        (None, Some(_)) => b,
        (Some(_), _) => a,
        (None, None) => None,
    }
}

/// The earlier of a version that is a time and a time, in the version's form.
#[must_use]
pub fn at_most(text: &str, time: Timestamp, kind: VersionKind) -> String {
    let bound = express(time.as_microsecond(), text, kind);
    let earlier = bound.filter(|bound| {
        matches!((kind.read(bound), kind.read(text)), (Ok(bound), Ok(version)) if bound < version)
    });
    earlier.unwrap_or_else(|| text.to_owned())
}

/// A version so much earlier, in the same form; a counter as it is.
#[must_use]
pub fn less(text: &str, by: Duration, kind: VersionKind) -> String {
    if !is_time(text, kind) {
        return text.to_owned();
    }
    let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    let micros = kind
        .read(text)
        .ok()
        .map(|version| version.0.saturating_sub(by));
    let earlier = micros.and_then(|micros| express(micros, text, kind));
    earlier.unwrap_or_else(|| text.to_owned())
}

/// A time in the form of the version `like`, rounded down to its digits. `None` when that has
/// no form for it.
#[must_use]
pub fn express(micros: i64, like: &str, kind: VersionKind) -> Option<String> {
    match kind {
        VersionKind::UnixSeconds => Some(seconds(micros, digits_after_point(like))),
        VersionKind::UnixMillis => Some(micros.div_euclid(1_000).to_string()),
        VersionKind::Timestamp | VersionKind::Auto if like.starts_with("/Date(") => {
            Some(format!("/Date({})/", micros.div_euclid(1_000)))
        }
        VersionKind::Timestamp | VersionKind::Auto => calendar(micros, like),
        VersionKind::Integer | VersionKind::Rowversion | VersionKind::Arrival => None,
    }
}

/// A form to begin with where no record shows one.
#[must_use]
pub fn usual(kind: VersionKind) -> Option<&'static str> {
    match kind {
        VersionKind::Timestamp => Some("1970-01-01T00:00:00Z"),
        VersionKind::UnixSeconds | VersionKind::UnixMillis => Some("0"),
        _ => None,
    }
}

fn digits_after_point(text: &str) -> usize {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).count()
}

fn fraction(micros: i64, digits: usize) -> String {
    let all = format!("{:06}000", micros.rem_euclid(1_000_000));
    match digits {
        0 => String::new(),
        digits => format!(".{}", &all[..digits.min(9)]),
    }
}

fn seconds(micros: i64, digits: usize) -> String {
    let whole = micros.div_euclid(1_000_000);
    if digits == 0 || micros >= 0 {
        return format!("{whole}{}", fraction(micros, digits));
    }
    // A fraction counts away from zero: a quarter before zero is -0.25.
    whole.to_string()
}

/// RFC 3339 with the separator, the digits and the offset of `like`, or without offset.
fn calendar(micros: i64, like: &str) -> Option<String> {
    let time = Timestamp::from_microsecond(micros).ok()?;
    let Some(separator) = like.get(10..11) else {
        let date = Offset::UTC.to_datetime(time).date();
        return (like.len() == 10).then(|| date.to_string());
    };
    let clock = like.get(11..)?;
    let sign = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(sign);
    let offset = offset(zone)?;
    let local = offset.to_datetime(time);
    let has_seconds = clock.matches(':').count() > 1;
    let clock_text = if has_seconds {
        let digits = digits_after_point(clock);
        format!("{}{}", local.strftime("%H:%M:%S"), fraction(micros, digits))
    } else {
        local.strftime("%H:%M").to_string()
    };
    Some(format!(
        "{}{separator}{clock_text}{zone}",
        local.strftime("%Y-%m-%d")
    ))
}

fn offset(zone: &str) -> Option<Offset> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(Offset::UTC);
    }
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..4).unwrap_or("00").parse().ok()?;
    let seconds = (hours * 60 + minutes) * 60;
    let signed = if zone.starts_with('-') {
        -seconds
    } else {
        seconds
    };
    Offset::from_seconds(signed).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_version_keeps_its_form() {
        use VersionKind::{Auto, Integer, Rowversion, Timestamp, UnixMillis, UnixSeconds};
        for (kind, text, expected) in [
            (Auto, "2026-01-01T00:00:30Z", "2025-12-31T23:59:30Z"),
            (Auto, "2026-01-01T00:00:30.250Z", "2025-12-31T23:59:30.250Z"),
            (
                Timestamp,
                "2026-01-01 00:00:30.1234567",
                "2025-12-31 23:59:30.1234560",
            ),
            (
                Timestamp,
                "2026-01-01T00:00:30+02:00",
                "2025-12-31T23:59:30+02:00",
            ),
            (
                Timestamp,
                "2026-01-01T00:00:30-0530",
                "2025-12-31T23:59:30-0530",
            ),
            (Timestamp, "2026-01-01", "2025-12-31"),
            (Timestamp, "/Date(1767225630000)/", "/Date(1767225570000)/"),
            (UnixSeconds, "1767225630", "1767225570"),
            (UnixSeconds, "1767225630.5", "1767225570.5"),
            (UnixMillis, "1767225630123", "1767225570123"),
            (Auto, "4711", "4711"),
            (Integer, "4711", "4711"),
            (Rowversion, "AAAAAAAAB9E=", "AAAAAAAAB9E="),
        ] {
            assert_eq!(less(text, MINUTE, kind), expected, "{text}");
        }
    }

    #[test]
    fn a_bound_only_makes_earlier() {
        let time: Timestamp = "2026-01-01T00:00:00.9Z".parse().unwrap();
        let at_most = |text: &str| at_most(text, time, VersionKind::Auto);
        assert_eq!(at_most("2026-01-01T00:00:05Z"), "2026-01-01T00:00:00Z");
        assert_eq!(at_most("2025-12-31T00:00:05Z"), "2025-12-31T00:00:05Z");
    }

    #[test]
    fn the_later_one_is_found() {
        let later = |a: Option<&str>, b: Option<&str>| {
            later(
                a.map(str::to_owned),
                b.map(str::to_owned),
                VersionKind::Auto,
            )
        };
        assert_eq!(later(Some("9"), Some("10")).unwrap(), "10");
        assert_eq!(later(Some("10"), Some("9")).unwrap(), "10");
        assert_eq!(later(Some("10"), Some("soon")).unwrap(), "10");
        assert_eq!(later(None, Some("9")).unwrap(), "9");
        assert_eq!(later(Some("soon"), None), None);
    }

    proptest! {
        #[test]
        fn what_is_expressed_reads_back_no_later(
            micros in -2_000_000_000_000_000_i64..4_000_000_000_000_000,
            form in 0_usize..7,
        ) {
            let (kind, like, resolution) = [
                (VersionKind::Timestamp, "2026-01-01T00:00:00Z", 1_000_000),
                (VersionKind::Timestamp, "2026-01-01T00:00:00.000+05:30", 1_000),
                (VersionKind::Timestamp, "2026-01-01T00:00:00.000000", 1),
                (VersionKind::Timestamp, "/Date(0)/", 1_000),
                (VersionKind::UnixMillis, "0", 1_000),
                (VersionKind::UnixSeconds, "0", 1_000_000),
                (VersionKind::UnixSeconds, "0.000", 1_000_000),
            ][form];
            let text = express(micros, like, kind).unwrap();
            let back = kind.read(&text).unwrap().0;
            prop_assert!(back <= micros && micros - back < resolution, "{} {}", text, back);
        }
    }
}
