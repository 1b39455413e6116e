//! Who may write what at the same time.
//!
//! Each transaction that writes to a table holds an advisory lock of the table in common with
//! others of its kind; what changes how the table is written (the key is dropped or made)
//! holds it alone. Rows past the guard need more: see the documentation of the crate. Keys
//! are hashed into [`BUCKETS`], and a transaction locks the buckets of its keys in ascending
//! order before it looks at any row.

use model::Value;
use ports::RowOp;

use crate::{
    layout::Layout,
    names::{Names, literal, stable_hash},
};

/// Few enough that a large batch is not slowed by locking all of them, many enough that small
/// batches rarely meet.
const BUCKETS: u32 = 32;
/// The lock of the table as a whole stands beside the buckets.
const WHOLE: i32 = -1;
/// And so does the one of whoever works out what a load has not found.
const SWEEP: i32 = -2;

/// What takes as long as the table is large has no limit of time.
pub(crate) const UNLIMITED: &str = "SET LOCAL statement_timeout = 0";

/// The first of the two numbers of a lock: the table itself, whatever name leads to it.
fn table(names: &Names<'_>) -> String {
    format!("{}::regclass::oid::integer", literal(&names.table))
}

/// Takes part in writing the table.
pub(crate) fn take_part(names: &Names<'_>) -> String {
    format!(
        "SELECT pg_advisory_xact_lock_shared({}, {WHOLE})",
        table(names)
    )
}

/// Has the table alone.
pub(crate) fn alone(names: &Names<'_>) -> String {
    format!("SELECT pg_advisory_xact_lock({}, {WHOLE})", table(names))
}

/// Works out alone what a load has not found, beside those who write.
pub(crate) fn sweep(names: &Names<'_>) -> String {
    format!("SELECT pg_advisory_xact_lock({}, {SWEEP})", table(names))
}

/// Locks buckets. The list is in ascending order, and is worked off in that order.
pub(crate) fn lock_buckets(names: &Names<'_>, buckets: &[u32]) -> String {
    let list: Vec<String> = buckets.iter().map(u32::to_string).collect();
    format!(
        "SELECT pg_advisory_xact_lock({}, b) FROM unnest('{{{}}}'::integer[]) AS b",
        table(names),
        list.join(",")
    )
}

/// The buckets of the keys of some rows, in ascending order.
pub(crate) fn buckets<'r, 'a: 'r>(
    layout: &Layout,
    rows: impl Iterator<Item = (&'r [Value<'a>], &'r RowOp)>,
) -> Vec<u32> {
    let mut hit = [false; BUCKETS as usize];
    for (row, _) in rows {
        hit[bucket(layout, row)] = true;
    }
    (0..BUCKETS)
        .zip(hit)
        .filter_map(|(bucket, hit)| hit.then_some(bucket))
        .collect()
}

/// Two keys that the database takes for one must be in one bucket, so cells whose equality is
/// not that of their bytes do not count.
fn bucket(layout: &Layout, row: &[Value<'_>]) -> usize {
    let exact_texts = !layout.texts_may_be_equal();
    let hash = layout
        .spec
        .key
        .iter()
        .fold(0, |hash, at| match row.get(*at) {
            Some(Value::Int(value) | Value::Timestamp(value) | Value::Time(value)) => {
                stable_hash(hash, &value.to_be_bytes())
            }
            Some(Value::Date(days)) => stable_hash(hash, &days.to_be_bytes()),
            Some(Value::Uuid(bytes)) => stable_hash(hash, bytes),
            Some(Value::Text(text)) if exact_texts => stable_hash(hash, text.as_bytes()),
            _ => hash,
        });
    // The upper bits are the better mixed ones.
    (hash >> 32) as usize % BUCKETS as usize
}
