use jiff::Timestamp;
use model::{Cause, ErrorClass, Failure, FailureId, MapName, Origin, PackId, RunId};
use uuid::Uuid;

use crate::PackEntry;

/// A valid map name.
///
/// # Panics
/// If it is not valid.
#[must_use]
pub fn map_name(name: &str) -> MapName {
    MapName::new(name).expect("a valid name")
}

/// A pack of `count` changes.
#[must_use]
pub fn pack_entry(id: u128, map: &MapName, run: RunId, count: u32) -> PackEntry {
    PackEntry {
        id: PackId::from_uuid(Uuid::from_u128(id)),
        map: map.clone(),
        run,
        count,
    }
}

/// A failure that waits for a person.
#[must_use]
pub fn failure(id: u128, map: &MapName, run: RunId) -> Failure {
    let cause = Cause::new(
        ErrorClass::Invalid,
        "too-long",
        "`name` has 300 characters, 200 are allowed",
    )
    .at_field("name")
    .because("value too long for type character varying(200)");
    let name = FailureId::from_uuid(Uuid::from_u128(id));
    Failure {
        key: Some(format!("K-{id}")),
        origin: Origin::Load,
        run,
        generation: 1,
        map_version: "m1".into(),
        raw: format!(r#"{{"id":"K-{id}"}}"#),
        ..Failure::new(name, map.clone(), cause, Timestamp::UNIX_EPOCH)
    }
}
