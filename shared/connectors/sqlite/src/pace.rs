//! Keeping to a declared rate.

use std::sync::Arc;

use model::{ConnectionName, Lane};
use ports::{Clock, TargetError};
use runtime::{Rate, Rates};

/// How often all processes together may call.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    pub(crate) connection: ConnectionName,
    pub(crate) rate: Rate,
    pub(crate) rates: Rates,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Pace {
    /// Waits until it is the turn of `lane`.
    pub(crate) async fn wait(&self, lane: Lane) -> Result<(), TargetError> {
        loop {
            match self.rates.take(&self.connection, self.rate, lane).await {
                Ok(None) => return Ok(()),
                Ok(Some(wait)) => self.clock.sleep(wait).await,
                Err(error) => {
                    let what = format!(
                        "connection `{}` is not called: its rate is not known: {error}",
                        self.connection
                    );
                    return Err(TargetError::Unavailable {
                        what,
                        retry_after: None,
                    });
                }
            }
        }
    }
}
