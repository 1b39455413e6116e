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

    /// Tells them. That nobody could be told is logged: it is no reason to stop the work.
    pub(crate) async fn tell(&self, kind: AlertKind, at: Timestamp) {
        let Some(alerts) = &self.0 else {
            return;
        };
        let alert = Alert { kind, at };
        if let Err(error) = alerts.raise(&alert).await {
            tracing::error!(
                alert.incident = alert.incident(),
                "nobody could be told that {}: {error}",
                alert.subject()
            );
        }
    }
}
