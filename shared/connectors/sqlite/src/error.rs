//! What SQLite's errors mean for a batch or a row.

use std::path::Path;

use model::{Cause, ErrorClass};
use ports::TargetError;
use rusqlite::{Error, ErrorCode, ffi};

/// An error that concerns the whole batch.
pub(crate) fn target_error(path: &Path, error: &Error) -> TargetError {
    let file = path.display();
    let text = error.to_string();
    let unavailable = |what: String| TargetError::Unavailable {
        what,
        retry_after: None,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            unavailable(format!("{file}: {text}: free some space on its disk"))
        }
        Some(ErrorCode::ReadOnly) => unavailable(format!(
            "{file}: {text}: make the file and its folder writable for syncline"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => unavailable(format!(
            "{file}: another program keeps the file locked: {text}"
        )),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => TargetError::Schema {
            what: format!("{file} is no SQLite database, or is damaged: {text}"),
        },
        Some(ErrorCode::CannotOpen) => unavailable(format!(
            "{file} cannot be opened: {text}: does its folder exist?"
        )),
        _ if text.contains("no such table")
            || text.contains("no column")
            || text.contains("no such column") =>
        {
            TargetError::Schema {
                what: format!(
                    "{file}: {text}: `syncline check` compares the map with the table, and `syncline load` makes a table of syncline's own anew"
                ),
            }
        }
        _ => unavailable(format!("{file}: {text}")),
    }
}

/// An error that concerns one row; `None` when it concerns the whole batch.
pub(crate) fn row_error(error: &Error) -> Option<Cause> {
    let Error::SqliteFailure(
        ffi::Error {
            code,
            extended_code,
        },
        Some(text),
    ) = error
    else {
        return None;
    };
    let (class, name) = match (code, *extended_code) {
        (ErrorCode::ConstraintViolation, ffi::SQLITE_CONSTRAINT_NOTNULL) => {
            (ErrorClass::Invalid, "not-null-violation")
        }
        (
            ErrorCode::ConstraintViolation,
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        ) => (ErrorClass::Conflict, "unique-violation"),
        (ErrorCode::ConstraintViolation, ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => {
            (ErrorClass::Reference, "foreign-key-violation")
        }
        (ErrorCode::ConstraintViolation, ffi::SQLITE_CONSTRAINT_CHECK) => {
            (ErrorClass::Invalid, "check-violation")
        }
        (ErrorCode::ConstraintViolation, _) => (ErrorClass::Invalid, "constraint-violation"),
        (ErrorCode::TypeMismatch, _) => (ErrorClass::Invalid, "type-mismatch"),
        (ErrorCode::TooBig, _) => (ErrorClass::TooLarge, "too-large"),
        _ => return None,
    };
    let mut cause = Cause::new(class, name, format!("the target refuses the row: {text}"));
    // "NOT NULL constraint failed: customers.name"
    cause.field = text
        .rsplit_once("failed: ")
        .and_then(|(_, columns)| columns.split(',').next())
        .and_then(|column| column.rsplit_once('.'))
        .map(|(_, column)| column.to_owned());
    Some(cause.because(error))
}

/// The error of a row that a table has swallowed: its constraint says `ON CONFLICT IGNORE`.
pub(crate) fn ignored(table: &str) -> Error {
    let code = ffi::Error::new(ffi::SQLITE_CONSTRAINT_UNIQUE);
    let text = format!("`{table}` has a constraint that ignores what violates it");
    Error::SqliteFailure(code, Some(text))
}
