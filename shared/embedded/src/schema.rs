//! The tables, and how older files become newer ones.

use rusqlite::Connection;

/// One entry per version of the file; a file is brought up to date step by step.
const STEPS: [&str; CURRENT as usize] = [STEP_1, STEP_2, STEP_3, STEP_4];

const STEP_1: &str = "
CREATE TABLE messages (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    queue    INTEGER NOT NULL,
    grp      TEXT    NOT NULL,
    visible  INTEGER NOT NULL,
    receives INTEGER NOT NULL DEFAULT 0,
    sent     INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_group ON messages (queue, grp, visible, id);

-- Apart from the messages, whose visibility changes and would move the body each time.
CREATE TABLE bodies (
    id   INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE seen (
    name  TEXT    NOT NULL PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_by_end ON seen (until);

-- A settled pack is remembered for a while: one that is sent once more, because a worker died
-- between parking it and taking it from its queue, must not open the books a second time.
CREATE TABLE packs (
    id      BLOB    NOT NULL PRIMARY KEY,
    map     TEXT    NOT NULL,
    run     BLOB    NOT NULL,
    n       INTEGER NOT NULL,
    settled INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX packs_in_flight ON packs (map, run) WHERE settled IS NULL;
CREATE INDEX packs_settled ON packs (settled) WHERE settled IS NOT NULL;

CREATE TABLE books (
    map        TEXT    NOT NULL,
    run        BLOB    NOT NULL,
    opened     INTEGER NOT NULL,
    read       INTEGER NOT NULL DEFAULT 0,
    applied    INTEGER NOT NULL DEFAULT 0,
    unchanged  INTEGER NOT NULL DEFAULT 0,
    superseded INTEGER NOT NULL DEFAULT 0,
    filtered   INTEGER NOT NULL DEFAULT 0,
    failed     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (map, run)
) STRICT, WITHOUT ROWID;

CREATE TABLE amendments (
    map    TEXT NOT NULL,
    run    BLOB NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (map, run, reason)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    key      TEXT    NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    value    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- Revisions are never used twice, so that a record made anew is not taken for its forerunner.
CREATE TABLE revisions (last INTEGER NOT NULL) STRICT;
INSERT INTO revisions VALUES (0);

CREATE TABLE failures (
    id          BLOB    NOT NULL PRIMARY KEY,
    revision    INTEGER NOT NULL,
    map         TEXT    NOT NULL,
    key         TEXT,
    class       TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    run         BLOB    NOT NULL,
    weight      INTEGER NOT NULL,
    first       INTEGER NOT NULL,
    last        INTEGER NOT NULL,
    due         INTEGER,
    outcome     TEXT,
    ended       INTEGER,
    record      TEXT    NOT NULL
) STRICT;
CREATE INDEX failures_by_age ON failures (first, id);
CREATE INDEX failures_by_map ON failures (map, status, run);
CREATE INDEX failures_by_cause ON failures (fingerprint);
CREATE INDEX failures_by_key ON failures (map, key);
CREATE INDEX failures_due ON failures (due) WHERE due IS NOT NULL;
CREATE INDEX failures_ended ON failures (ended) WHERE ended IS NOT NULL;

CREATE TABLE audit (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    entry TEXT NOT NULL
) STRICT;

CREATE TABLE blobs (
    name  TEXT NOT NULL UNIQUE,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE links (
    map      TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    link     TEXT    NOT NULL,
    PRIMARY KEY (map, key)
) STRICT, WITHOUT ROWID;
";

// Failures from before have no digest: their next repetition becomes one more failure, once.
const STEP_2: &str = "
ALTER TABLE failures ADD COLUMN news TEXT;
CREATE INDEX failures_by_news ON failures (map, news);
";

// Packs that were settled before were settled by nobody in particular.
const STEP_3: &str = "
ALTER TABLE packs ADD COLUMN attempt INTEGER;
";

// What people were told, and when each incident was raised last.
const STEP_4: &str = "
CREATE TABLE alerts (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    incident TEXT    NOT NULL,
    raised   INTEGER NOT NULL,
    alert    TEXT    NOT NULL
) STRICT;
CREATE INDEX alerts_by_incident ON alerts (incident, raised);
";

/// The version this code reads and writes.
pub(crate) const CURRENT: u32 = 4;

/// Brings the file up to date. Returns the file's version if it is newer than this code.
pub(crate) fn migrate(db: &mut Connection) -> rusqlite::Result<Option<u32>> {
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > CURRENT {
        return Ok(Some(version));
    }
    for step in STEPS.iter().skip(version as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", CURRENT)?;
    transaction.commit()?;
    Ok(None)
}
