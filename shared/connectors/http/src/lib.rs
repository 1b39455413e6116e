//! HTTP for sources and targets: the client with authentication, limits and a little patience.

mod answer;
mod auth;
mod body;
mod call;
mod circle;
mod client;
mod respond;
pub mod url;
pub mod version;

pub use answer::Answer;
pub use auth::Authorizer;
pub use call::{Call, NoAnswer, Turn};
pub use circle::Circle;
pub use client::HttpClient;
pub use respond::retry_after;
