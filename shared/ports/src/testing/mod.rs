//! The suites that every adapter has to pass, and a clock that tests can set.
//!
//! Each suite is a module of cases and a macro that makes one test of each case:
//!
//! ```ignore
//! ports::queue_contract!(async || Fixture::new());
//! ```

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::too_many_lines,
    reason = "these are tests: an adapter that breaks the contract has to panic here"
)]

pub mod alerts;
pub mod blobs;
mod captured;
pub mod checkpoints;
mod clock;
pub mod failures;
pub mod ledger;
pub mod links;
pub mod queue;
mod samples;
pub mod target;

pub use captured::Captured;
pub use clock::ManualClock;
pub use samples::{failure, map_name, pack_entry};

/// Makes a module of tests from the cases of a suite.
#[doc(hidden)]
#[macro_export]
macro_rules! contract {
    ($suite:ident, $make:expr, [$($case:ident),+ $(,)?]) => {
        $(
            #[tokio::test]
            async fn $case() {
                let fixture = ($make)().await;
                $crate::testing::$suite::$case(&fixture).await;
            }
        )+
    };
}
