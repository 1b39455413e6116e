//! What this function is told of its deployment.

use std::time::Duration;

use model::QueueName;
use runtime::{Needs, SecretsOf};

/// What it needs to be told.
pub const NEEDS: Needs = Needs {
    queues: &[
        QueueName::Live,
        QueueName::Retry,
        QueueName::Load,
        QueueName::Failures,
    ],
    failures: false,
    blobs: true,
    secrets: SecretsOf::Connections,
    alerts: true,
};

/// The longest that a call of another system may take in a function of a minute, whatever its
/// `limits.timeout`: what does not answer has to be found out while there is time to say so.
pub const LONGEST_CALL: Duration = Duration::from_secs(20);

/// How long after its deadline a function of a minute waits for what it has begun. That is 15
/// seconds before its end, so 6 are left for reporting.
pub const GRACE: Duration = Duration::from_secs(9);
