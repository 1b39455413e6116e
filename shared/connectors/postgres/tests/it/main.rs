//! PostgreSQL as a target and a source, on a real server.

#![cfg(test)]
#![expect(clippy::too_many_lines, reason = "tables of cases are long")]

mod bulk;
mod contract;
mod precision;
mod reading;
mod refusals;
mod source;
mod support;
mod tables;
mod trouble;
mod types;
mod writers;
