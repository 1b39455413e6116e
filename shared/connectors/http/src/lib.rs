//! HTTP as sources and targets.

mod auth;
mod client;
mod respond;
pub mod url;

pub use auth::Authorizer;
pub use client::{Answer, Call, HttpClient};
pub use respond::retry_after;
