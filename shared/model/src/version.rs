//! The source's own order of a row's states.

use serde::{Deserialize, Serialize};

/// A row's version. Of two versions of one row the greater is the newer; versions of
/// different rows, or of different kinds, are not comparable.
///
/// It is one signed 64-bit number whatever the source calls its version, so that every
/// target can store and compare it: row versions as they are, times as microseconds of Unix
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub i64);

/// How a stream states versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionKind {
    /// A JSON number or a string of digits is a counter; any other string is a time.
    Auto,
    /// A counter that grows with each change: row version, revision, sequence number.
    Integer,
    /// RFC 3339 time, or `/Date(ms)/`; a time without offset is UTC.
    Timestamp,
    /// Seconds of Unix time, with or without decimals.
    UnixSeconds,
    /// Milliseconds of Unix time.
    UnixMillis,
    /// Eight bytes, big-endian, as `0x…` or base64: the `rowversion` of SQL Server.
    Rowversion,
    /// The source states none; the time of reading it stands in.
    Arrival,
}

/// A version field that cannot be read as its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no version of kind {kind:?}")]
pub struct VersionError {
    /// What the record holds.
    pub text: String,
    /// What the map expects.
    pub kind: VersionKind,
}

impl VersionKind {
    /// Reads a version from the text of a JSON scalar (a string's content, or a number as
    /// written).
    pub fn read(self, text: &str) -> Result<Version, VersionError> {
        let parsed = match self {
            Self::Auto if is_integer(text) => text.parse().ok(),
            Self::Auto | Self::Timestamp => micros(text),
            Self::Integer | Self::Arrival => text.parse().ok(),
            Self::UnixSeconds => unix_seconds(text),
            Self::UnixMillis => text.parse::<i64>().ok().map(|ms| ms.saturating_mul(1_000)),
            Self::Rowversion => rowversion(text),
        };
        parsed.map(Version).ok_or_else(|| VersionError {
            text: text.chars().take(80).collect(),
            kind: self,
        })
    }

    /// The time that a version is, in microseconds of Unix time; `None` for a counter. A time
    /// before this century stands for "never" in the systems that have such.
    #[must_use]
    pub fn time(self, version: Version) -> Option<i64> {
        match self {
            // Which of both it was is not kept, but no counter of changes gets that far.
            Self::Auto | Self::Timestamp | Self::UnixSeconds | Self::UnixMillis => {
                (version.0 >= CENTURY).then_some(version.0)
            }
            Self::Integer | Self::Rowversion | Self::Arrival => None,
        }
    }
}

/// The first microsecond of the year 2000.
const CENTURY: i64 = 946_684_800_000_000;

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// A version only has an order: it may lie beyond the calendar.
fn micros(text: &str) -> Option<i64> {
    crate::time::net_micros(text).or_else(|| crate::time_micros(text))
}

fn unix_seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !is_integer(whole) || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let six: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let micros: i64 = six.parse().ok()?;
    let signed = if whole.starts_with('-') {
        -micros
    } else {
        micros
    };
    Some(
        whole
            .parse::<i64>()
            .ok()?
            .saturating_mul(1_000_000)
            .saturating_add(signed),
    )
}

fn rowversion(text: &str) -> Option<i64> {
    use base64::Engine as _;
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok()?.try_into().ok();
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    i64::try_from(u64::from_be_bytes(bytes.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_its_own_form_and_refuses_the_others() {
        let read = |kind: VersionKind, text: &str| kind.read(text).map(|v| v.0).ok();
        assert_eq!(read(VersionKind::Auto, "81359849"), Some(81_359_849));
        assert_eq!(
            read(VersionKind::Auto, "1970-01-01T00:00:01Z"),
            Some(1_000_000)
        );
        assert_eq!(
            read(VersionKind::Timestamp, "1970-01-01T01:00:01.5+01:00"),
            Some(1_500_000)
        );
        assert_eq!(
            read(VersionKind::Timestamp, "1970-01-01T00:00:01"),
            Some(1_000_000)
        );
        assert_eq!(
            read(VersionKind::Timestamp, "/Date(1767225601000-0700)/"),
            Some(1_767_225_601_000_000)
        );
        assert_eq!(read(VersionKind::Timestamp, "/Date(-1)/"), Some(-1_000));
        assert_eq!(read(VersionKind::Timestamp, "yesterday"), None);
        assert_eq!(
            read(VersionKind::UnixSeconds, "1767225600"),
            Some(1_767_225_600_000_000)
        );
        assert_eq!(read(VersionKind::UnixSeconds, "1.25"), Some(1_250_000));
        assert_eq!(read(VersionKind::UnixSeconds, "1e3"), None);
        assert_eq!(read(VersionKind::UnixMillis, "5"), Some(5_000));
        assert_eq!(
            read(VersionKind::Rowversion, "0x00000000000007D1"),
            Some(2001)
        );
        assert_eq!(read(VersionKind::Rowversion, "AAAAAAAAB9E="), Some(2001));
        assert_eq!(read(VersionKind::Rowversion, "0xFFFFFFFFFFFFFFFF"), None);
        assert_eq!(read(VersionKind::Integer, "7.5"), None);
    }

    #[test]
    fn only_what_is_a_time_is_taken_for_one() {
        let time = |kind: VersionKind, text: &str| kind.time(kind.read(text).unwrap());
        let new_year = Some(1_767_225_600_000_000);
        assert_eq!(
            time(VersionKind::Timestamp, "2026-01-01T00:00:00Z"),
            new_year
        );
        assert_eq!(time(VersionKind::Auto, "2026-01-01T00:00:00Z"), new_year);
        assert_eq!(time(VersionKind::UnixSeconds, "1767225600"), new_year);
        assert_eq!(time(VersionKind::UnixMillis, "1767225600000"), new_year);
        assert_eq!(time(VersionKind::Auto, "81359849"), None);
        assert_eq!(time(VersionKind::Timestamp, "1900-01-01T00:00:00Z"), None);
        assert_eq!(time(VersionKind::Integer, "1767225600000000"), None);
    }

    #[test]
    fn an_unreadable_version_is_quoted_but_never_at_length() {
        let long = "x".repeat(10_000);
        let error = VersionKind::Timestamp.read(&long).unwrap_err();
        assert!(error.to_string().len() < 200);
    }
}
