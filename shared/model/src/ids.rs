//! Names people choose and identifiers machines make.

use std::{fmt, ops::Range, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A name that breaks the rule for names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a valid name: use 1 to 63 lower-case letters, digits, `-` or `_`, beginning with a letter"
)]
pub struct InvalidName(pub String);

fn check_name(name: &str) -> Result<(), InvalidName> {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_lowercase());
    let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    if first && rest && name.len() <= 63 {
        Ok(())
    } else {
        Err(InvalidName(name.to_owned()))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts 1 to 63 lower-case letters, digits, `-` and `_`, a letter first.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                check_name(name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(&name)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// The name of a map, unique in a deployment.
    MapName
}
name! {
    /// The name of a connection, unique in a deployment.
    ConnectionName
}

impl MapName {
    /// The name under which messages are kept whose map cannot be read.
    #[must_use]
    pub fn unknown() -> Self {
        Self("unknown".into())
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps an identifier that a clock or a store has made.
            #[must_use]
            pub fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The identifier as a UUID.
            #[must_use]
            pub fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// One execution of a load, a pull or a reconcile; webhooks share one run per map.
    RunId
}
id! {
    /// One pack, unique over all queues and kept across redelivery and parking.
    PackId
}
id! {
    /// One failure. Made from the pack and the position in it, so that a redelivered pack
    /// reports the same failure again instead of a second one.
    FailureId
}
id! {
    /// Follows one change from intake to outcome.
    TraceId
}

impl RunId {
    /// The run that all webhooks of a map share: the same for every process.
    #[must_use]
    pub fn live(map: &MapName) -> Self {
        Self(hash_uuid(&[b"live-run", map.as_str().as_bytes()]))
    }
}

impl PackId {
    /// When it was made, in milliseconds of Unix time; `None` of an identifier that does not tell.
    #[must_use]
    pub fn made(self) -> Option<i64> {
        const TIME_ORDERED: usize = 7;
        let time_ordered = self.0.get_version_num() == TIME_ORDERED;
        let (seconds, nanos) = self.0.get_timestamp().filter(|_| time_ordered)?.to_unix();
        let seconds = i64::try_from(seconds).ok()?;
        Some(seconds * 1_000 + i64::from(nanos / 1_000_000))
    }

    /// A part of this pack, for who writes packs once each: the same for the same changes of it,
    /// and different from all other parts and from the whole.
    #[must_use]
    pub fn part(self, changes: &Range<usize>) -> Self {
        let bounds = [changes.start as u64, changes.end as u64].map(u64::to_be_bytes);
        Self(hash_uuid(&[b"part", self.0.as_bytes(), &bounds.concat()]))
    }
}

impl FailureId {
    /// The failure of the change at `index` of `pack`.
    #[must_use]
    pub fn of(pack: PackId, index: usize) -> Self {
        let index = (index as u64).to_be_bytes();
        Self(hash_uuid(&[b"failure", pack.0.as_bytes(), &index]))
    }

    /// The failure of a queue message that is no readable pack.
    #[must_use]
    pub fn of_message(body: &str) -> Self {
        Self(hash_uuid(&[b"message", body.as_bytes()]))
    }
}

fn hash_uuid(parts: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_on_every_way_in() {
        assert!(MapName::new("order-lines_2").is_ok());
        for bad in ["", "Orders", "2orders", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(MapName::new(bad), Err(InvalidName(bad.to_owned())));
            assert!(serde_json::from_value::<MapName>(bad.into()).is_err());
        }
    }

    #[test]
    fn each_part_of_a_pack_has_a_name_of_its_own() {
        let pack = PackId::from_uuid(Uuid::from_u128(7));
        assert_eq!(pack.part(&(0..4)), pack.part(&(0..4)));
        let names = [
            pack,
            pack.part(&(0..4)),
            pack.part(&(4..8)),
            pack.part(&(0..2)),
        ];
        assert_eq!(std::collections::HashSet::from(names).len(), 4);
    }

    #[test]
    fn a_redelivered_pack_names_the_same_failure() {
        let pack = PackId::from_uuid(Uuid::from_u128(7));
        assert_eq!(FailureId::of(pack, 3), FailureId::of(pack, 3));
        assert_ne!(FailureId::of(pack, 3), FailureId::of(pack, 4));
    }
}
