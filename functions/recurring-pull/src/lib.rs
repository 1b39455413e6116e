//! Scheduled pulls.
//!
//! A tick sends one job for every map that is due; a job reads its stream page by page from
//! the checkpoint on. The checkpoint moves only after the queue has taken a page, and only by
//! compare-and-set under a lease, so two workers cannot move it past each other. See the
//! README of this function.

mod config;
mod handler;
mod pull;
mod schedule;

pub use config::NEEDS;
pub use handler::{PullError, RecurringPull, Tick};
pub use schedule::Schedule;
