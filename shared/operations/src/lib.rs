//! What an operator can see and do.
//!
//! Everything here goes through the ports, so it is the same for a deployment on this machine
//! and one in the cloud; the command line and the console only show it.

mod control;
mod edit;
mod error;
mod failures;
mod status;
mod trace;

use std::sync::Arc;

use definition::Definition;
use mapping::Plans;
use ports::{Checkpoints, Clock, Failures, Ledger, Systems};
use runtime::{Breakers, MapStates, Outbox, Parking};

pub use edit::Edit;
pub use error::OperationError;
pub use failures::{Changed, FailureView, Group, Selection};
pub use status::{
    Balance, Broken, LoadView, MapStatus, Parked, PullView, RunBooks, Slices, Status, Undefined,
};
pub use trace::{Sighting, Trace};

/// The operations on a deployment.
#[derive(Debug, Clone)]
pub struct Operations {
    /// The deployment.
    pub definition: Arc<Definition>,
    /// Its maps, compiled.
    pub plans: Arc<dyn Plans>,
    /// Its systems.
    pub systems: Arc<dyn Systems>,
    /// Where jobs are sent.
    pub outbox: Outbox,
    /// Where packs of paused maps are kept.
    pub parking: Parking,
    /// Marks, slices, states.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// The books.
    pub ledger: Arc<dyn Ledger>,
    /// The failure store.
    pub failures: Arc<dyn Failures>,
    /// The states of maps.
    pub states: MapStates,
    /// The breakers of connections.
    pub breakers: Breakers,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who operates, for the audit log.
    pub who: String,
}
