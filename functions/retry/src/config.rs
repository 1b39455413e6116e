//! What this function is told of its deployment.

use model::QueueName;
use runtime::{Needs, SecretsOf};

/// What it needs to be told.
pub const NEEDS: Needs = Needs {
    queues: &[
        QueueName::Live,
        QueueName::Retry,
        QueueName::Load,
        QueueName::Pulls,
        QueueName::Loads,
        QueueName::Failures,
        QueueName::Retries,
        QueueName::Dead,
    ],
    failures: true,
    blobs: true,
    secrets: SecretsOf::Nobody,
    alerts: false,
};
