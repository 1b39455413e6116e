//! The ports on AWS.
//!
//! Queues are SQS standard queues; checkpoints, links and books are items of one DynamoDB table,
//! failures of another; what is large is in an S3 bucket; secrets are in Secrets Manager; alerts go to
//! an SNS topic.

mod alerts;
mod blobs;
mod client;
mod dynamo;
mod failures;
#[cfg(feature = "lambda")]
pub mod function;
mod http;
mod queue;
mod ready;
mod s3;
mod said;
mod secrets;
mod stack;
mod state;
#[cfg(feature = "testing")]
pub mod testing;

pub use alerts::SnsAlerts;
pub use blobs::S3Blobs;
pub use client::{Clients, connect};
pub use failures::DynamoFailures;
pub use http::{NoHttp, http_client};
pub use queue::{Books, Delivered, Queues};
pub use ready::Unusable;
pub use s3::S3;
pub use secrets::SecretsManager;
pub use stack::{Stack, StackError};
pub use state::{DynamoLedger, ReportsWaiting, StateTable, StoredFailures};
