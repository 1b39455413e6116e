//! PostgreSQL databases as targets and sources, version 14 and later.
//!
//! # How a table is written
//!
//! A table of Syncline's own has the map's columns, `_syncline_version` and a primary key.
//! Beside each table stands `_syncline_side_<table>`: tombstones, and for an existing table the
//! versions of all rows written. Everything a batch does happens in one transaction under READ
//! COMMITTED. Rows arrive by a binary COPY in a staging table of the session, one statement
//! reads what is there under all their keys, [`ports::guard::decide`] decides, and one
//! statement per kind of work does it. A row that is equal is not touched.
//!
//! # Why two writers never go back in time
//!
//! Under READ COMMITTED every statement sees what was committed before it began, and nothing
//! keeps another transaction from committing between two statements. So what was decided on
//! would not have to hold any more when it is done. Therefore a transaction first takes
//! advisory locks for its keys, and only then, in a statement of its own, reads the rows. Every
//! other writer of Syncline's that has one of the keys in its batch has ended before, and its
//! work is seen, or waits until this one has ended. The locks are those of 32 buckets that keys
//! are hashed into, and are taken in ascending order: whoever waits for a bucket holds only
//! smaller ones, so no two can wait for each other. After that only rows are written whose
//! buckets are held, so no order of rows matters for it. The locks end with the transaction,
//! when its work is visible.
//!
//! This holds for the key. Where a table has another unique column, two batches with different
//! keys can still wait for each other over values of that one.
//!
//! Others than Syncline take no such locks. In a table of its own `INSERT … ON CONFLICT … WHERE
//! newer` and `UPDATE … WHERE not newer` guard the version once more; in an existing table
//! versions are beside the table, where nobody else writes. A deadlock, with somebody else's
//! transaction or over another unique column, is broken by the server, and the batch is tried
//! again.
//!
//! # Loads in bulk
//!
//! Into an empty table of Syncline's own a load writes without any of this: its key is dropped,
//! rows are copied straight into it, and the packs they came in are noted in the same
//! transaction, so that none is written twice. At the end doubles are taken out and the key is
//! made. All writers hold the table's lock in common, and whoever drops or makes the key holds
//! it alone, so that nobody ever writes in the wrong way.
//!
//! # Sessions
//!
//! Staging tables and prepared statements belong to a session. A pooler between Syncline and
//! the server has to pool sessions, not transactions.

mod bulk;
mod catalog;
mod connect;
mod encode;
mod error;
mod found;
mod guarded;
mod layout;
mod load;
mod lock;
mod names;
mod numeric;
mod param;
mod parcel;
mod prepare;
mod show;
mod singly;
mod source;
mod sql;
mod target;
mod tls;
mod types;
mod write;

pub use connect::{Database, Login, SettingsError};
pub use source::PostgresSource;
pub use target::PostgresTarget;
