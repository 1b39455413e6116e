//! Webhooks, from the event that AWS makes of a request to what is in the queue.
#![cfg(test)]

mod dataverse;
mod handshakes;
mod observability;
mod records;
mod rules;
mod signatures;
mod support;
mod vectors;
