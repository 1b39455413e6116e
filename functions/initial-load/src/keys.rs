//! Where loads are kept.

use model::MapName;

/// The checkpoint of a load.
#[must_use]
pub fn plan_key(map: &MapName, generation: u32) -> String {
    format!("load/{map}/{generation:08}/plan")
}

/// What the checkpoints of all slices of a load begin with.
#[must_use]
pub fn slice_prefix(map: &MapName, generation: u32) -> String {
    format!("load/{map}/{generation:08}/slice/")
}

/// The checkpoint of a slice.
#[must_use]
pub fn slice_key(map: &MapName, generation: u32, index: u32) -> String {
    format!("{}{index:06}", slice_prefix(map, generation))
}
