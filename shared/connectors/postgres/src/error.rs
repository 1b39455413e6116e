//! What PostgreSQL's errors mean for a batch, a row or a read.
//!
//! Source: PostgreSQL documentation, appendix A "PostgreSQL Error Codes".

use std::error::Error as _;

use deadpool::managed::{PoolError, TimeoutType};
use model::{Cause, ErrorClass};
use ports::{SourceError, TargetError};
use tokio_postgres::error::DbError;

/// What went wrong, before it is known for whom.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server, or the way to it.
    Server(tokio_postgres::Error),
    /// No connection became free in time.
    Busy,
    /// A connection could not be made in time, or the server does not answer.
    Silent,
    /// A table is not as it has to be.
    Schema(String),
    /// Syncline's own store does not say whether it may be called.
    Store(String),
    /// A load is not the newest one any more.
    Load(TargetError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<PoolError<tokio_postgres::Error>> for Fault {
    fn from(error: PoolError<tokio_postgres::Error>) -> Self {
        match error {
            PoolError::Backend(error) => Self::Server(error),
            PoolError::Timeout(TimeoutType::Wait) => Self::Busy,
            _ => Self::Silent,
        }
    }
}

/// Who has to do something.
enum Kind {
    /// Nobody, or whoever runs the server: it may pass.
    Unavailable,
    /// Whoever gave the credentials.
    Auth,
    /// Whoever made the map or the table.
    Schema,
}

impl Fault {
    /// The error of the server in it.
    pub(crate) fn of_server(&self) -> Option<&DbError> {
        match self {
            Self::Server(error) => error.as_db_error(),
            _ => None,
        }
    }

    /// Whether the server says so.
    pub(crate) fn is(&self, state: &str) -> bool {
        self.of_server()
            .is_some_and(|error| error.code().code() == state)
    }

    /// Whether the same transaction may well succeed if it is repeated at once: it lost
    /// against another one.
    pub(crate) fn lost_a_race(&self) -> bool {
        self.is("40001") || self.is("40P01")
    }

    pub(crate) fn into_target(self, place: &str) -> TargetError {
        if let Self::Load(error) = self {
            return error;
        }
        let (kind, what) = self.explain(place);
        match kind {
            Kind::Unavailable => TargetError::Unavailable {
                what,
                retry_after: None,
            },
            Kind::Auth => TargetError::Auth { what },
            Kind::Schema => TargetError::Schema { what },
        }
    }

    pub(crate) fn into_source(self, place: &str) -> SourceError {
        let (kind, what) = self.explain(place);
        match kind {
            Kind::Unavailable => SourceError::Unavailable {
                what,
                retry_after: None,
            },
            Kind::Auth => SourceError::Auth { what },
            Kind::Schema => SourceError::Invalid { what },
        }
    }

    fn explain(self, place: &str) -> (Kind, String) {
        match self {
            Self::Server(error) => {
                let (kind, remedy) = match error.as_db_error() {
                    Some(error) => remedy(error),
                    None => remedy_without_code(&error),
                };
                let remedy = remedy.map_or_else(String::new, |remedy| format!(": {remedy}"));
                (
                    kind,
                    format!("PostgreSQL at {place}: {}{remedy}", chain(&error)),
                )
            }
            Self::Busy => (
                Kind::Unavailable,
                format!(
                    "PostgreSQL at {place}: all connections were in use for longer than `limits.timeout`: raise `limits.concurrency`, or look for slow statements"
                ),
            ),
            Self::Silent => (
                Kind::Unavailable,
                format!(
                    "PostgreSQL at {place} did not answer within `limits.timeout`: is it running, and does nothing block the way to it?"
                ),
            ),
            Self::Schema(what) => (Kind::Schema, format!("PostgreSQL at {place}: {what}")),
            Self::Load(error) => (Kind::Schema, format!("PostgreSQL at {place}: {error}")),
            Self::Store(what) => (
                Kind::Unavailable,
                format!("PostgreSQL at {place} is not called: its rate is not known: {what}"),
            ),
        }
    }
}

/// The server's words, else the library's with their causes.
fn chain(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} ({})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn remedy(error: &DbError) -> (Kind, Option<&'static str>) {
    let code = error.code().code();
    let say = |kind, remedy| (kind, Some(remedy));
    match code {
        "53100" => say(Kind::Unavailable, "free some space on its disk"),
        "53300" => say(
            Kind::Unavailable,
            "raise its max_connections, or lower `limits.concurrency`",
        ),
        "25006" => say(
            Kind::Unavailable,
            "it only takes reads: let the url lead to the primary, or lift default_transaction_read_only",
        ),
        "57014" => say(
            Kind::Unavailable,
            "it took longer than `limits.timeout`: look for locks on the table, or raise the limit",
        ),
        "57P01" | "57P02" | "57P03" => say(Kind::Unavailable, "it is being stopped or started"),
        "40001" | "40P01" | "55P03" => say(Kind::Unavailable, "other transactions were in the way"),
        "3D000" => say(Kind::Schema, "make the database, or correct the url"),
        "42501" => say(
            Kind::Schema,
            "give the user of the connection the rights to the table, and to create tables beside it in its schema",
        ),
        "42P01" | "42703" | "3F000" | "42804" | "42883" | "42P10" | "428C9" | "0A000" => say(
            Kind::Schema,
            "run `syncline check` to compare the map with the table",
        ),
        _ if code.starts_with("28") => say(
            Kind::Auth,
            "correct user and password in the url of the connection, or pg_hba.conf",
        ),
        _ if code.starts_with("42") => (Kind::Schema, None),
        _ => (Kind::Unavailable, None),
    }
}

/// The library's own errors have no codes, only texts.
fn remedy_without_code(error: &tokio_postgres::Error) -> (Kind, Option<&'static str>) {
    let text = error.to_string();
    if text == "authentication error" || text == "invalid configuration" {
        let remedy = "correct user and password in the url of the connection";
        return (Kind::Auth, Some(remedy));
    }
    let remedy = match text.as_str() {
        "error performing TLS handshake" => {
            "see `sslmode` and `sslrootcert` in the url of the connection"
        }
        "error connecting to server" => {
            "is it running, and does the url of the connection lead to it?"
        }
        "connection closed" => "it, or something on the way, closed the connection",
        _ => return (Kind::Unavailable, None),
    };
    (Kind::Unavailable, Some(remedy))
}

/// An error that concerns one row; `None` when it concerns the whole batch.
pub(crate) fn row_error(error: &DbError) -> Option<Cause> {
    let refusal = Refusal {
        code: error.code().code(),
        message: error.message(),
        detail: error.detail(),
        column: error.column(),
        constraint: error.constraint(),
    };
    refusal.cause()
}

/// What the server says when it refuses something.
pub(crate) struct Refusal<'e> {
    pub(crate) code: &'e str,
    pub(crate) message: &'e str,
    pub(crate) detail: Option<&'e str>,
    pub(crate) column: Option<&'e str>,
    pub(crate) constraint: Option<&'e str>,
}

impl Refusal<'_> {
    /// Why it concerns one row; `None` when it concerns the whole batch.
    pub(crate) fn cause(&self) -> Option<Cause> {
        let (class, name) = kind_of_row(self.code)?;
        let message = format!("the target refuses the row: {}", self.message);
        // Of the other kinds the detail is the whole row, with values that are nobody's business.
        let detail = self
            .detail
            .filter(|_| matches!(class, ErrorClass::Reference | ErrorClass::Conflict));
        let mut cause = Cause::new(class, name, message);
        cause.field = self
            .column
            .map(str::to_owned)
            .or_else(|| key_column(detail?));
        cause.chain = std::iter::once(format!("{} ({})", self.message, self.code))
            .chain(self.constraint.map(str::to_owned))
            .chain(detail.map(str::to_owned))
            .collect();
        Some(cause)
    }
}

/// Class and code of an error that concerns one row.
fn kind_of_row(code: &str) -> Option<(ErrorClass, &'static str)> {
    use ErrorClass::{Conflict, Invalid, Reference, TooLarge};
    Some(match code {
        "23502" => (Invalid, "not-null-violation"),
        "23503" | "23001" => (Reference, "foreign-key-violation"),
        "23505" => (Conflict, "unique-violation"),
        "23514" | "44000" => (Invalid, "check-violation"),
        "23P01" => (Conflict, "exclusion-violation"),
        _ if code.starts_with("23") => (Invalid, "constraint-violation"),
        "22001" => (Invalid, "too-long"),
        "22003" | "22008" => (Invalid, "out-of-range"),
        "22021" | "22P05" => (Invalid, "invalid-character"),
        _ if code.starts_with("22") => (Invalid, "type-mismatch"),
        _ if code.starts_with("54") => (TooLarge, "too-large"),
        _ if concerns_batch(code) => return None,
        // What a trigger raises, or runs into.
        _ => (Invalid, "trigger-refusal"),
    })
}

/// Classes of errors that have to do with the server, the session or the table.
pub(crate) const BATCH_CLASSES: [&str; 21] = [
    "08", "0A", "0B", "25", "26", "28", "2B", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "55",
    "57", "58", "72", "F0", "XX",
];

/// Whether an error would strike any row. Codes that the standard leaves to implementations are those of authors of triggers.
fn concerns_batch(code: &str) -> bool {
    BATCH_CLASSES.iter().any(|class| code.starts_with(class))
}

/// The first column in `Key (email, company)=(a@example.com, x) already exists.`
fn key_column(detail: &str) -> Option<String> {
    let (columns, _) = detail.split_once('(')?.1.split_once(")=(")?;
    let first = columns.split(", ").next()?;
    Some(first.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_of_a_key_is_found() {
        let column = |detail: &str| key_column(detail);
        assert_eq!(
            column("Key (email, company)=(a, b) already exists.").as_deref(),
            Some("email")
        );
        assert_eq!(
            column("Schlüssel »(\"E mail\")=(x)« existiert bereits.").as_deref(),
            Some("E mail")
        );
        assert_eq!(column("Failing row contains (1, 2)."), None);
    }
}
