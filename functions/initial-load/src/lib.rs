//! Loads.
//!
//! A load asks its source for a place in the stream first, cuts the stream into slices, reads
//! them page by page onto the load lane, waits until all of it has been applied, and lets the
//! recurring pull go on from the place asked for. Nothing that changes meanwhile is missed,
//! and the guard makes the overlap harmless. See the README of this function.

mod config;
mod finish;
mod handler;
mod slice;
mod start;
mod trouble;
mod watch;

pub use config::NEEDS;
pub use handler::{InitialLoad, LoadError};
