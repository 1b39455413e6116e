//! Packs to targets.
//!
//! This is the only function that writes to a target. It takes many packs at once, groups
//! them by map, lets the newest change of each key win, maps, and writes in bulk with one
//! outcome per record. See the README of this function for its trigger and its promises.

mod batch;
mod bisect;
mod conclude;
mod config;
mod fetch;
mod handler;
mod hold;
mod invocation;
mod open;
mod settle;
mod stop;
mod traced;
mod unreadable;
mod verdict;

pub use config::{GRACE, LONGEST_CALL, NEEDS};
pub use handler::Apply;
