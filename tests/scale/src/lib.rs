//! Models of load: what AWS's quotas let through, counted with the keys, items and decisions of
//! the code itself. `infra/aws/SCALE.md` shows what comes out, and each test here looks for its
//! numbers there.
//!
//! Time and chance are simulated: nothing waits, and a run is like every other.

#![cfg(test)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts here are far below 2^52"
)]

mod books;
mod keys;
mod page;
mod pulls;
mod rates;
mod simulated;
