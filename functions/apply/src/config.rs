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

/// The longest that an attempt of a call may take in a function of a minute, whatever the
/// `limits.timeout` of the connection: three attempts at reading a record, or ten calls of an
/// endpoint that does not answer, have to be over while there is time to say so.
pub const LONGEST_CALL: Duration = Duration::from_secs(15);

/// How long after its deadline a function of a minute waits for what it has begun. The deadline is
/// 15 seconds before its end, so 6 are left for giving back what was not done.
pub const GRACE: Duration = Duration::from_secs(9);
