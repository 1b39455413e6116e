//! Tests of the whole.
#![cfg(test)]

mod at_scale;
mod attempts;
mod aws;
mod bad_answers;
mod bad_constraints;
mod bad_hooks;
mod bad_records;
mod bad_sources;
mod bad_targets;
mod cap;
#[cfg(target_os = "linux")]
mod chaos;
mod commands;
mod corrections;
mod crash;
mod dead_targets;
mod deadlines;
mod deaths;
mod events;
mod flows;
mod full_store;
mod http_target;
mod interplay;
mod operator;
mod order;
mod parking;
mod postgres;
mod preflight;
mod processes;
mod repair;
mod repeats;
mod rest;
mod senders;
mod support;
