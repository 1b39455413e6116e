//! Webhooks.
//!
//! `POST /hooks/{endpoint}`: the request is verified over its raw bytes, its records are
//! recognised, and it is answered with success only after the queue has them. See the README
//! of this function for the schemes and the answers.

mod answer;
mod config;
mod handler;
mod handshake;
mod recognise;
mod refusal;
mod request;
mod verify;

pub use config::NEEDS;
pub use handler::{Remember, WebhookIntake};
pub use refusal::Refusal;
pub use request::MAX_BODY;
