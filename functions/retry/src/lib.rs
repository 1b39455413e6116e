//! Owns failures.
//!
//! `apply` reports what failed and what came through; this function keeps the failures,
//! sends them round again when they are due or a person asks, releases what was parked for a
//! paused map, and takes in dead letters. See the README of this function.

mod config;
mod dead;
mod handler;
mod held;
mod messages;
mod release;
mod reports;
mod round;

pub use config::NEEDS;
pub use handler::{Retry, RetryError};
