//! Traces as other tools name them: the `traceparent` of [W3C Trace Context][w3c].
//!
//! [w3c]: https://www.w3.org/TR/trace-context/#traceparent-header

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::{PackId, TraceId};

/// Where a change is in its trace: `00-<trace>-<parent>-<flags>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The step before, never 0.
    pub parent: u64,
    /// Whether the step before has been recorded by whoever did it.
    pub sampled: bool,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no traceparent")]
pub struct InvalidTraceParent;

const SAMPLED: u8 = 1;
/// Length in version 00; later versions may have more after it.
const LENGTH: usize = 55;

impl TraceParent {
    /// For whoever gets a pack: the pack is the step before. Nothing of it is recorded beside
    /// the messages and logs.
    #[must_use]
    pub fn of_pack(trace: TraceId, pack: PackId) -> Self {
        let (_, low) = pack.as_uuid().as_u64_pair();
        Self {
            trace,
            parent: low.max(1),
            sampled: false,
        }
    }
}

impl TraceId {
    /// The trace as other tools write it: 32 digits without hyphens.
    #[must_use]
    pub fn hex(&self) -> uuid::fmt::Simple {
        self.as_uuid().simple()
    }

    /// Whether the trace is of a sample of `percent` of all. Every function says the same of a
    /// trace. Its last bytes decide: they are random in every UUID and, by [level 2], in the
    /// traces of others.
    ///
    /// [level 2]: https://www.w3.org/TR/trace-context-2/#randomness-of-trace-id
    #[must_use]
    pub fn is_sampled(&self, percent: f64) -> bool {
        let [.., a, b, c] = *self.as_uuid().as_bytes();
        let place = f64::from(u32::from_be_bytes([0, a, b, c]));
        place < percent / 100.0 * f64::from(1 << 24)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(
            f,
            "00-{}-{:016x}-{flags:02x}",
            self.trace.hex(),
            self.parent
        )
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let (known, more) = text.split_at_checked(LENGTH).ok_or(InvalidTraceParent)?;
        let mut parts = known.split('-');
        let mut next = |digits| hex(parts.next()?, digits);
        let (version, trace, parent, flags) =
            (|| Some((next(2)?, next(32)?, next(16)?, next(2)?)))().ok_or(InvalidTraceParent)?;
        let allowed = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        if !allowed || trace == 0 || parent == 0 {
            return Err(InvalidTraceParent);
        }
        Ok(Self {
            trace: TraceId::from_uuid(Uuid::from_u128(trace)),
            parent: u64::try_from(parent).map_err(|_| InvalidTraceParent)?,
            sampled: flags & u128::from(SAMPLED) != 0,
        })
    }
}

/// A number of exactly so many digits, all of them lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let good = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(good))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_valid_is_read_and_written_the_same() {
        let read: TraceParent = GOOD.parse().unwrap();
        assert_eq!(
            read.trace.hex().to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!((read.parent, read.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(read.to_string(), GOOD);
        let later = format!("cc{}-of-a-later-version", &GOOD[2..]);
        assert_eq!(later.parse(), Ok(read));
        let unsampled: TraceParent = GOOD.replace("-01", "-fe").parse().unwrap();
        assert!(!unsampled.sampled);
    }

    #[test]
    fn what_is_not_valid_is_not_read() {
        let bad = [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-"),
            format!("{GOOD}0"),
            GOOD.replacen("00", "ff", 1),
            GOOD.to_uppercase(),
            GOOD.replace('-', "_"),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("4bf9", "4bg9"),
            GOOD.replace("-4bf", "--bf"),
            GOOD.replace("4bf9", "+bf9"),
            format!("ä{}", &GOOD[2..]),
        ];
        for text in bad {
            assert_eq!(
                text.parse::<TraceParent>(),
                Err(InvalidTraceParent),
                "{text}"
            );
        }
    }

    #[test]
    fn a_sample_is_as_large_as_it_was_asked_for() {
        let ids = |of: fn() -> Uuid| (0..20_000).map(move |_| TraceId::from_uuid(of()));
        for (name, of) in [("v4", Uuid::new_v4 as fn() -> Uuid), ("v7", Uuid::now_v7)] {
            for percent in [0.0, 1.0, 10.0, 100.0] {
                let sampled = ids(of).filter(|id| id.is_sampled(percent)).count();
                let expected = 200.0 * percent;
                let off = (f64::from(u32::try_from(sampled).unwrap()) - expected).abs();
                assert!(
                    off <= 5.0 * expected.sqrt(),
                    "{name}, {percent} %: {sampled}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<TraceParent>();
        }

        #[test]
        fn every_one_comes_back(trace in 1_u128.., parent in 1_u64.., sampled: bool) {
            let trace = TraceId::from_uuid(Uuid::from_u128(trace));
            let one = TraceParent { trace, parent, sampled };
            prop_assert_eq!(one.to_string().parse(), Ok(one));
        }
    }
}
