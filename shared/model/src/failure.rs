//! Changes that could not be applied, kept whole.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{
    Change, ErrorClass, FailureId, MapName, Op, Origin, Outcome, RunId, Settlement, TraceId,
};

/// Why a change could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What kind of trouble.
    pub class: ErrorClass,
    /// Stable code, such as `unique-violation` or `field-missing`.
    pub code: String,
    /// What happened and what to do, in one or two sentences. Lists and logs show it, so it
    /// quotes nothing of the record.
    pub message: String,
    /// The beginning of the value concerned, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The source field or target column concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The errors below, outermost first, as the other systems worded them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// How long the other system asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl Cause {
    /// A cause with nothing but the essentials.
    pub fn new(class: ErrorClass, code: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            code: code.to_owned(),
            message: message.into(),
            value: None,
            field: None,
            chain: Vec::new(),
            retry_after: None,
        }
    }

    /// Names the source field or target column concerned.
    #[must_use]
    pub fn at_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Shows the value concerned.
    #[must_use]
    pub fn of_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds the error below.
    #[must_use]
    pub fn because(mut self, error: impl fmt::Display) -> Self {
        self.chain.push(error.to_string());
        self
    }
}

/// What failures with one cause have in common: map, class, code and field.
///
/// The message is left out on purpose: other systems quote values in theirs, and a cause with
/// a thousand values is still one cause.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub String);

impl Fingerprint {
    /// The fingerprint of `cause` in `map`: twelve hexadecimal digits.
    #[must_use]
    pub fn of(map: &MapName, cause: &Cause) -> Self {
        let mut hash = Sha256::new();
        let field = cause.field.as_deref().unwrap_or("");
        for part in [map.as_str(), cause.class.as_str(), &cause.code, field] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        Self(hex::encode(&hash.finalize()[..6]))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a failure stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureStatus {
    /// Waits for a person.
    Open,
    /// Waits for its next attempt.
    Waiting,
    /// Is on its way through `apply` again.
    Retrying,
    /// Ended well.
    Resolved,
    /// Given up by a person, with a reason.
    Discarded,
}

impl FailureStatus {
    /// Whether it still asks for something.
    #[must_use]
    pub fn is_unresolved(self) -> bool {
        matches!(self, Self::Open | Self::Waiting | Self::Retrying)
    }

    /// The name in stores, logs and commands.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Resolved => "resolved",
            Self::Discarded => "discarded",
        }
    }
}

impl fmt::Display for FailureStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a failure ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// What became of the change; for a discarded failure [`Outcome::Failed`].
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// Why, where there is more to say: for a discarded failure the person's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One change that could not be applied, with all that is needed to apply it later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its identifier.
    pub id: FailureId,
    /// The map.
    pub map: MapName,
    /// The record's key as the map states it, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What the change was.
    pub op: Op,
    /// Where it entered.
    pub origin: Origin,
    /// Why the last attempt failed.
    pub cause: Cause,
    /// The group of failures with the same cause.
    pub fingerprint: Fingerprint,
    /// How many changes of the books it stands for: one, save for a whole message that could
    /// not be read.
    pub weight: u32,
    /// Whose books it is in.
    pub run: RunId,
    /// The load generation it was read in.
    pub generation: u32,
    /// Digest of the map that was used for the last attempt.
    pub map_version: String,
    /// Follows the change from intake to outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// Attempts so far.
    pub attempts: u32,
    /// First attempt.
    pub first: Timestamp,
    /// Last attempt.
    pub last: Timestamp,
    /// When the change was observed at the source, in microseconds of Unix time.
    pub observed: i64,
    /// When it is tried again by itself; `None` while it waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Where it stands.
    pub status: FailureStatus,
    /// The source record, corrected where a person has edited it. For a queue message that
    /// could not be read it is that message.
    pub raw: String,
    /// The source record as it was read, where `raw` was edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}

impl Failure {
    /// A failure of which nothing else is known: one change of the map's live run that failed
    /// for the first time, and waits for a person.
    #[must_use]
    pub fn new(id: FailureId, map: MapName, cause: Cause, at: Timestamp) -> Self {
        Self {
            id,
            key: None,
            op: Op::Upsert,
            origin: Origin::Webhook,
            fingerprint: Fingerprint::of(&map, &cause),
            cause,
            weight: 1,
            run: RunId::live(&map),
            map,
            generation: 0,
            map_version: String::new(),
            trace: None,
            attempts: 1,
            first: at,
            last: at,
            observed: at.as_microsecond(),
            due: None,
            status: FailureStatus::Open,
            raw: String::new(),
            original: None,
            resolution: None,
        }
    }

    /// Whether it is a queue message that could not be read, which no map can apply.
    #[must_use]
    pub fn is_message(&self) -> bool {
        self.cause.code == Self::UNREADABLE
    }

    /// The code of failures that are whole queue messages.
    pub const UNREADABLE: &str = "unreadable-message";

    /// Digest of the news as it came: two failures of one map with the same digest say the
    /// same of the same record. Annotations are left out, because they differ with the request,
    /// unless a record has nothing else.
    #[must_use]
    pub fn news(&self) -> String {
        let record = self.original.as_ref().unwrap_or(&self.raw);
        let mut hash = Sha256::new();
        hash.update([self.op as u8]);
        let mut add = |part: &str| {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        };
        let fields = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(record);
        let said: Vec<_> = fields
            .iter()
            .flatten()
            .filter(|(name, _)| !name.contains('@'))
            .collect();
        add(self.key.as_deref().unwrap_or_default());
        if said.is_empty() {
            add(record);
        }
        for (name, value) in said {
            add(name);
            add(value.get());
        }
        hex::encode(&hash.finalize()[..16])
    }

    /// The change to try again.
    #[must_use]
    pub fn to_change(&self) -> Change {
        Change {
            op: self.op,
            observed: self.observed,
            raw: self.raw.clone().into(),
            failure: Some(self.id),
        }
    }

    /// This failure after another attempt that failed as `newer` says. Facts about the
    /// attempt are taken from it; facts about the change stay.
    #[must_use]
    pub fn failed_again(&self, newer: &Self) -> Self {
        Self {
            cause: newer.cause.clone(),
            fingerprint: newer.fingerprint.clone(),
            map_version: newer.map_version.clone(),
            attempts: self.attempts + 1,
            last: newer.last,
            key: newer.key.clone().or_else(|| self.key.clone()),
            ..self.clone()
        }
    }
}

/// What `apply` tells `retry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum FailureReport {
    /// These changes failed.
    #[serde(rename = "failed.v1")]
    Failed {
        /// One per change.
        failures: Vec<Failure>,
        /// What became of the packs they are of, where they are of a pack that is in the books.
        /// Failures of a pack that another attempt has settled are not to be stored: they would
        /// stand in the books beside what that one said.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        settles: Vec<Settlement>,
    },
    /// These failures ended.
    #[serde(rename = "resolved.v1")]
    Resolved {
        /// One per failure.
        resolved: Vec<Resolved>,
    },
}

/// A failure whose change came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Which.
    pub id: FailureId,
    /// How.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
}

/// One line of the audit log: a person changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: the operating system's or the cloud's name for the caller.
    pub who: String,
    /// What: `failures.edit`, `failures.retry`, `failures.discard`, `map.pause`…
    pub action: String,
    /// On what: a failure, a map, a filter.
    pub subject: String,
    /// How: the patch, the reason, the number concerned.
    pub detail: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(op: Op, raw: &str) -> Failure {
        let map = MapName::new("customers").unwrap();
        let cause = Cause::new(ErrorClass::Mapping, "field-missing", "");
        let id = FailureId::of_message(raw);
        Failure {
            op,
            raw: raw.to_owned(),
            ..Failure::new(id, map, cause, Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn news_is_the_same_whatever_its_annotations_and_their_order() {
        let news = |raw: &str| failure(Op::Upsert, raw).news();
        let plain = news(r#"{"id":1,"sum":12345678901234567.89}"#);
        for same in [
            r#"{ "sum" : 12345678901234567.89, "id": 1 }"#,
            r#"{"@odata.etag":"W/\"7\"","id":1,"sum@odata.type":"x","sum":12345678901234567.89}"#,
        ] {
            assert_eq!(news(same), plain, "{same}");
        }
        for other in [
            r#"{"id":1,"sum":12345678901234567.88}"#,
            r#"{"id":1}"#,
            r#"{"id":"1","sum":12345678901234567.89}"#,
            r#"[{"id":1,"sum":12345678901234567.89}]"#,
            "no record",
        ] {
            assert_ne!(news(other), plain, "{other}");
        }
        let touch = failure(Op::Touch, r#"{"id":1,"sum":12345678901234567.89}"#);
        assert_ne!(touch.news(), plain);
        let mut edited = failure(Op::Upsert, "{}");
        edited.original = Some(r#"{"id":1,"sum":12345678901234567.89}"#.into());
        assert_eq!(edited.news(), plain, "a person has corrected it");
    }

    #[test]
    fn news_of_two_records_is_never_the_same() {
        let gone = |id: u32| {
            let raw = format!(r#"{{"@removed":{{"reason":"deleted"}},"@id":"Orders({id})"}}"#);
            failure(Op::Delete, &raw)
        };
        assert_ne!(gone(1).news(), gone(2).news());
        assert_eq!(gone(1).news(), gone(1).news());
        // A key whose own name looks like an annotation.
        let person = |id: &str| Failure {
            key: Some(id.to_owned()),
            ..failure(Op::Upsert, &format!(r#"{{"@id":"{id}","name":null}}"#))
        };
        assert_ne!(person("a").news(), person("b").news());
    }

    #[test]
    fn one_cause_is_one_group_whatever_the_values() {
        let map = MapName::new("customers").unwrap();
        let too_long = |value: &str| {
            Cause::new(
                ErrorClass::Invalid,
                "too-long",
                format!("`{value}` is too long"),
            )
            .at_field("name")
        };
        assert_eq!(
            Fingerprint::of(&map, &too_long("a")),
            Fingerprint::of(&map, &too_long("b"))
        );
        assert_ne!(
            Fingerprint::of(&map, &too_long("a")),
            Fingerprint::of(&map, &too_long("a").at_field("email"))
        );
    }
}
