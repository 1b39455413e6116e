//! Telling people without failing over it.

use std::sync::Arc;

use jiff::Timestamp;
use model::{Alert, AlertKind};
use ports::Alerts;

/// Tells people of what comes about, if there is a way to tell them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Teller(Option<Arc<dyn Alerts>>);

impl Teller {
    pub(crate) fn new(alerts: Arc<dyn Alerts>) -> Self {
        Self(Some(alerts))
    }

    /// Tells them; says whether they know. That nobody could be told is logged: it is no reason to
    /// stop the work.
    pub(crate) async fn tell(&self, kind: AlertKind, at: Timestamp) -> bool {
        let Some(alerts) = &self.0 else {
            return false;
        };
        let alert = Alert { kind, at };
        alerts.raise(&alert).await.unwrap_or_else(|error| {
            tracing::error!(
                alert.incident = alert.incident(),
                "nobody could be told that {}: {error}",
                alert.subject()
            );
            false
        })
    }
}
