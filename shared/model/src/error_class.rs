//! What kind of trouble a failure is, which decides who deals with it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// Passes by itself: a time-out, a dropped connection, a deadlock.
    Transient,
    /// The other system asks to be called less often.
    Throttled,
    /// The record clashes with another: a unique key is taken, a version is ahead.
    Conflict,
    /// The record it refers to is not there (yet).
    Reference,
    /// The other system refuses the record: a constraint, a type, a missing value.
    Invalid,
    /// The map cannot turn the source record into a row: a field is missing or does not convert.
    Mapping,
    /// Credentials or permissions.
    Auth,
    /// The record is larger than the target or the transport takes.
    TooLarge,
}

impl ErrorClass {
    /// Every class, in the order of this documentation.
    pub const ALL: [Self; 8] = [
        Self::Transient,
        Self::Throttled,
        Self::Conflict,
        Self::Reference,
        Self::Invalid,
        Self::Mapping,
        Self::Auth,
        Self::TooLarge,
    ];

    /// Whether another attempt without any change may succeed. What this denies waits for a
    /// person.
    #[must_use]
    pub fn retries_itself(self) -> bool {
        matches!(self, Self::Transient | Self::Throttled | Self::Reference)
    }

    /// The name in stores, logs and commands.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Conflict => "conflict",
            Self::Reference => "reference",
            Self::Invalid => "invalid",
            Self::Mapping => "mapping",
            Self::Auth => "auth",
            Self::TooLarge => "too-large",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ErrorClass {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|class| class.as_str()).collect();
                format!(
                    "`{text}` is no class of failure; the classes are {}",
                    names.join(", ")
                )
            })
    }
}
