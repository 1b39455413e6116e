//! The ports on AWS.
//!
//! Queues are SQS standard queues; checkpoints, links and books are items of one DynamoDB table,
//! failures of another; what is large is in an S3 bucket; secrets are in Secrets Manager.

mod client;

pub use client::{Clients, connect};
