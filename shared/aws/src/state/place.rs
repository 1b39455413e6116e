//! Where a pack is remembered.
//!
//! The packs of eight seconds are in one item as long as they are few: whoever settles a batch writes
//! every item that has a pack of it, and five batches are gathered side by side. All writers of an
//! item write the whole of it, and all items of a partition share what DynamoDB lets through, so of
//! a time with more packs the later ones go into items for each eighth of it, a second, and then
//! for each eighth of those, in partitions of their own.
//!
//! No pack can be in two of them: one that is full takes no other pack in, ever, and only what a
//! full one does not have is looked for below it.

use model::{MapName, PackId, RunId};

use super::item::{Item, get_text, key};

/// Packs that an item takes: of eight seconds, of a second, and of an eighth of one. What is below
/// them is so short that it takes all; three million packs a second would make an item as large as
/// may be. More room in the first costs more at a hundred packs a second, and less room at fifty.
const ROOM: [usize; 3] = [350, 960, 1920];
/// Parts of what is full.
const PARTS: u32 = 8;
/// Seconds of what is not divided.
const SECONDS: i64 = PARTS as i64;

/// Where a pack is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) pk: String,
    pub(super) sk: String,
    /// The first of the eight seconds in which its packs were made, of Unix time; `None` if their
    /// identifiers do not tell.
    pub(super) since: Option<i64>,
    /// How often its time is divided.
    depth: usize,
    /// Whether packs can be entered here before they are settled. Those of webhooks are not.
    opens: bool,
}

pub(super) fn partition(map: &MapName, run: RunId) -> String {
    format!("H#{map}#{}", run.as_uuid())
}

/// The sort key of a time. It sorts behind all that tell no time.
pub(super) fn sort_key(second: i64) -> String {
    format!("s{second:012}")
}

/// The last of all sort keys that belong to a time.
pub(super) fn end_of(second: i64) -> String {
    format!("{}~", sort_key(second))
}

/// When a pack was made: the first of eight seconds, and milliseconds into them.
fn made(id: PackId) -> Option<(i64, u32)> {
    let made = id.made()?;
    let into = made.rem_euclid(SECONDS * 1_000);
    Some(((made - into) / 1_000, u32::try_from(into).ok()?))
}

impl Place {
    /// Where a pack is looked for first.
    pub(super) fn of(id: PackId, map: &MapName, run: RunId) -> Self {
        let since = made(id).map(|(since, _)| since);
        let tells_nothing = || format!("a{:02x}", id.as_uuid().as_bytes()[0]);
        Self {
            pk: partition(map, run),
            sk: since.map_or_else(tells_nothing, sort_key),
            since,
            depth: 0,
            opens: run != RunId::live(map),
        }
    }

    /// The place of a bucket; `None` of what is no bucket of a time.
    pub(super) fn of_item(item: &Item) -> Option<Self> {
        let (pk, sk) = (get_text(item, "pk")?, get_text(item, "sk")?);
        let time = sk.strip_prefix('s')?;
        let (since, parts) = time.split_once('.').unwrap_or((time, ""));
        Some(Self {
            pk: pk.to_owned(),
            sk: sk.to_owned(),
            since: Some(since.parse().ok()?),
            depth: parts.len(),
            opens: true,
        })
    }

    pub(super) fn key(&self) -> Item {
        key(&self.pk, &self.sk)
    }

    /// Packs that it takes.
    pub(super) fn room(&self) -> usize {
        let room = self.since.and_then(|_| ROOM.get(self.depth));
        room.copied().unwrap_or(usize::MAX)
    }

    /// Whether it is a part of a time that is full.
    pub(super) fn is_part(&self) -> bool {
        self.depth > 0
    }

    /// Whether there may be packs below that are not settled for very long.
    pub(super) fn leads_to_open(&self) -> bool {
        self.opens && self.room() < usize::MAX
    }

    fn part(&self, part: u32) -> Self {
        let (pk, sk) = if self.depth == 0 {
            let sk = format!("{}.{part}", self.sk);
            (format!("{}#{sk}", self.pk), sk)
        } else {
            (format!("{}{part}", self.pk), format!("{}{part}", self.sk))
        };
        Self {
            pk,
            sk,
            since: self.since,
            depth: self.depth + 1,
            opens: self.opens,
        }
    }

    /// Where a pack is looked for when this is full and does not have it.
    pub(super) fn below(&self, id: PackId) -> Self {
        let millis = made(id).map_or(0, |(_, millis)| millis);
        let divided = (0..self.depth).fold(millis, |sum, _| sum * PARTS);
        self.part(divided / 1_000 % PARTS)
    }

    /// All places where what does not fit in here is.
    pub(super) fn parts(&self) -> impl Iterator<Item = Self> {
        let divided = self.room() < usize::MAX;
        (0..PARTS)
            .filter(move |_| divided)
            .map(|part| self.part(part))
    }
}

#[cfg(test)]
mod tests {
    use uuid::{NoContext, Timestamp, Uuid};

    use super::*;

    fn pack(millis: u64) -> PackId {
        let nanos = u32::try_from(millis % 1_000 * 1_000_000).unwrap();
        let time = Timestamp::from_unix(NoContext, millis / 1_000, nanos);
        PackId::from_uuid(Uuid::new_v7(time))
    }

    #[test]
    fn what_does_not_fit_into_a_time_is_in_one_of_its_parts() {
        let map = MapName::new("customers").unwrap();
        let run = RunId::from_uuid(Uuid::from_u128(1));
        let whole = Place::of(pack(8_000), &map, run);
        let parts = |all: Vec<Place>| -> Vec<Place> {
            let each = all.iter().map(|place| place.parts().collect::<Vec<_>>());
            each.flatten().collect()
        };
        let all = parts(parts(parts(vec![whole.clone()])));
        assert_eq!(all.len(), 512);
        let mut hit: Vec<Place> = (8_000..16_000)
            .map(|millis| {
                let id = pack(millis);
                assert_eq!(Place::of(id, &map, run), whole);
                whole.below(id).below(id).below(id)
            })
            .collect();
        assert!(hit.is_sorted(), "times follow each other");
        hit.dedup();
        assert_eq!(hit, all);
        for place in &all {
            assert_eq!(place.parts().count(), 0, "it takes all");
            assert_eq!(Place::of_item(&place.key()).as_ref(), Some(place));
        }
    }

    #[test]
    fn what_tells_no_time_is_not_divided() {
        let map = MapName::new("customers").unwrap();
        let id = PackId::from_uuid(Uuid::from_u128(5));
        let place = Place::of(id, &map, RunId::live(&map));
        assert_eq!((place.since, place.room()), (None, usize::MAX));
        assert_eq!(place.parts().count(), 0);
    }

    #[test]
    fn late_news_is_no_bucket() {
        assert!(Place::of_item(&key("H#m#r", "s000000000007x00000000000000ab")).is_none());
    }
}
