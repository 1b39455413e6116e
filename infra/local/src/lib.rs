//! Syncline on one machine.
//!
//! The same handlers that run as Lambda functions run here in one process: [`Home`] wires
//! them to the embedded stores, [`Host`] delivers queue messages, ticks and webhooks to them.
//! The command line shows and changes what [`operations`] can.

mod cli;
mod demo;
mod home;
mod host;
mod interrupts;
mod output;
mod progress;
mod server;

pub use cli::main;
pub use home::{Functions, Home, HomeError, Paths};
pub use host::{Host, HostOptions, deliver_visible};
pub use server::Server;
