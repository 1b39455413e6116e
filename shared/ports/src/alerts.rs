//! Telling people.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use model::Alert;

use crate::StoreError;

/// An incident is over when nobody has raised it for so long.
pub const QUIET: Duration = Duration::from_hours(1);

/// Tells the people who look after a deployment.
#[async_trait]
pub trait Alerts: Debug + Send + Sync {
    /// Tells them of an alert, once for each incident: one whose incident was raised within
    /// [`QUIET`] before only keeps that incident going. Of several that raise it at once, one
    /// tells.
    ///
    /// Says whether they have been told. `false` means that another worker is about to tell them;
    /// it may die over it, and who has to be sure raises the alert again a moment later. An error
    /// means that nobody may have been told; then the next one that raises the incident MUST tell.
    /// So MUST one that raises it some time after a worker has died over telling them.
    async fn raise(&self, alert: &Alert) -> Result<bool, StoreError>;
}
