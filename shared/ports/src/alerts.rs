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
    /// An error means that nobody may have been told; then the next one that raises the incident
    /// MUST tell.
    async fn raise(&self, alert: &Alert) -> Result<(), StoreError>;
}
