//! The names of checkpoints that more than one function reads.

use crate::MapName;

/// The checkpoint of a map's pulls.
#[must_use]
pub fn pull_key(map: &MapName) -> String {
    format!("pull/{map}")
}

/// The checkpoint of what keeps a map's load from going on.
#[must_use]
pub fn trouble_key(map: &MapName) -> String {
    format!("trouble/{map}")
}

/// The checkpoint of a load as a whole.
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
