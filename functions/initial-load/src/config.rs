//! What this function is told of its deployment.

use model::QueueName;
use runtime::{Needs, SecretsOf};

/// What it needs to be told.
pub const NEEDS: Needs = Needs {
    queues: &[
        QueueName::Live,
        QueueName::Load,
        QueueName::Pulls,
        QueueName::Loads,
        QueueName::Retries,
    ],
    failures: false,
    blobs: true,
    secrets: SecretsOf::Connections,
    alerts: true,
};
