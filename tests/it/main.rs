//! Tests of the whole.
#![cfg(test)]

mod bad_answers;
mod bad_sources;
mod bad_targets;
mod crash;
mod flows;
mod order;
mod parking;
mod support;
