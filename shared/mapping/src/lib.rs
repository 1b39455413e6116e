//! Turns source records into typed rows.
//!
//! A map is compiled once into a [`Plan`]. Applying it to a record splits the record into raw
//! JSON values without building a tree, and converts only those that a column, the key, the
//! version or an expression needs, borrowing from the record wherever it can.

mod convert;
mod expr;
mod extract;
pub mod json;
mod key;
mod operand;
mod plan;
mod plans;
mod preflight;
mod request;
mod row;
mod table;

pub use expr::{Expression, ExpressionError};
pub use key::{key_cells, key_text};
pub use plan::{Plan, PlanProblem, Schemas};
pub use plans::{Plans, PlansError};
pub use request::{Rendered, RequestKind, RequestShape, Requests, path_part};
pub use row::{Mapped, Scratch};
