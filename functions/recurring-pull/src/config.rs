//! What this function is told of its deployment.

use model::QueueName;
use runtime::{Needs, SecretsOf};

/// What it needs to be told.
pub const NEEDS: Needs = Needs {
    queues: &[QueueName::Live, QueueName::Pulls, QueueName::Loads],
    failures: false,
    blobs: true,
    secrets: SecretsOf::Sources,
    alerts: true,
};
