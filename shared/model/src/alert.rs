//! What people have to be told of.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ConnectionName, MapName};

/// What has come about, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertKind {
    /// Syncline has paused the map: only a person can help.
    MapBroken(MapName),
    /// The connection does not work and is left alone for a while.
    BreakerOpen(ConnectionName),
}

impl AlertKind {
    /// The name in stores, logs and messages.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::MapBroken(_) => "map-broken",
            Self::BreakerOpen(_) => "breaker-open",
        }
    }

    /// What it is about, `map` or `connection`, and the name of that.
    #[must_use]
    pub fn about(&self) -> (&'static str, &str) {
        match self {
            Self::MapBroken(map) => ("map", map.as_str()),
            Self::BreakerOpen(connection) => ("connection", connection.as_str()),
        }
    }
}

/// Something that people have to be told of.
///
/// It says what is the matter and where to look, and nothing that another system has said: that
/// can quote a record, and an alert goes by mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What has come about.
    pub kind: AlertKind,
    /// When.
    pub at: Timestamp,
}

impl Alert {
    /// One line that says it: at most 85 printable ASCII characters.
    #[must_use]
    pub fn subject(&self) -> String {
        match &self.kind {
            AlertKind::MapBroken(map) => format!("map {map} is broken"),
            AlertKind::BreakerOpen(name) => format!("connection {name} is down"),
        }
    }

    /// What has happened.
    #[must_use]
    pub fn happened(&self) -> &'static str {
        match self.kind {
            AlertKind::MapBroken(_) => {
                "Syncline met something that only a person can mend, and has paused the map. \
                 What arrives meanwhile is kept, without limit, and applied in order afterwards."
            }
            AlertKind::BreakerOpen(_) => {
                "Calls of the connection have failed, so it is left alone and tried again every \
                 two minutes or sooner. Its changes wait meanwhile; none is lost."
            }
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match &self.kind {
            AlertKind::MapBroken(map) => format!(
                "`syncline status` shows the reason. Mend that, and then `syncline resume {map}`."
            ),
            AlertKind::BreakerOpen(name) => format!(
                "`syncline status` shows what `{name}` says. If it is not to be down: look whether it \
                 runs, and can be reached from where Syncline runs. It goes on by itself."
            ),
        }
    }

    /// Names the incident, of which people are told once. Each time that a map breaks is one; a
    /// connection that comes and goes is the same one.
    #[must_use]
    pub fn incident(&self) -> String {
        let (kind, (_, name)) = (self.kind.as_str(), self.kind.about());
        match self.kind {
            AlertKind::MapBroken(_) => format!("{kind}/{name}/{}", self.at),
            AlertKind::BreakerOpen(_) => format!("{kind}/{name}"),
        }
    }
}

/// All of it, as a message for a person.
impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, name) = self.kind.about();
        writeln!(f, "What happened: {}", self.happened())?;
        writeln!(f, "What to do: {}", self.remedy())?;
        writeln!(f)?;
        writeln!(f, "kind: {}", self.kind.as_str())?;
        writeln!(f, "{what}: {name}")?;
        writeln!(f, "at: {}", self.at)?;
        writeln!(f, "incident: {}", self.incident())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts() -> [Alert; 2] {
        let longest = "m".repeat(63);
        let map = AlertKind::MapBroken(MapName::new(&longest).unwrap());
        let connection = AlertKind::BreakerOpen(ConnectionName::new(&longest).unwrap());
        [map, connection].map(|kind| Alert {
            kind,
            at: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn a_subject_is_one_short_line() {
        for alert in alerts() {
            let subject = alert.subject();
            assert!(subject.len() <= 85, "{subject}");
            assert!(subject.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
        }
    }

    #[test]
    fn a_map_that_breaks_again_is_news_and_a_connection_that_flaps_is_not() {
        let [map, connection] = alerts();
        let later = |alert: &Alert| Alert {
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            ..alert.clone()
        };
        assert_ne!(later(&map).incident(), map.incident());
        assert_eq!(later(&connection).incident(), connection.incident());
        assert_ne!(connection.incident(), map.incident());
    }

    #[test]
    fn a_stored_alert_is_read_again() {
        let text = r#"{"kind":{"map-broken":"customers"},"at":"2026-01-01T00:00:00Z"}"#;
        let read: Alert = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(serde_json::from_str::<Alert>(&text.replace("broken", "lost")).is_err());
    }
}
