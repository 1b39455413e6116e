//! What this function is told of its deployment.

use model::QueueName;
use runtime::{Needs, SecretsOf};

/// What it needs to be told.
pub const NEEDS: Needs = Needs {
    queues: &[QueueName::Live],
    failures: false,
    blobs: false,
    secrets: SecretsOf::Webhooks,
    alerts: false,
};
