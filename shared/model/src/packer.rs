//! Fills packs to the size that costs least.

use crate::{Change, EncodedPack, PACK_BYTES, PackHead, PackId, pack};

/// Collects changes and cuts them into packs whose bodies are just under [`PACK_BYTES`].
///
/// How well records compress is learnt from the packs already cut; a pack that turns out too
/// large is cut in two. Only a single change larger than the limit makes a larger pack.
#[derive(Debug)]
pub struct Packer<N> {
    head: PackHead,
    new_id: N,
    open: Vec<u8>,
    ends: Vec<usize>,
    bytes_per_pack: usize,
    packs: Vec<EncodedPack>,
}

/// First guess: JSON records compress at least to half, base64 takes back a third.
const FIRST_GUESS: usize = PACK_BYTES * 3 / 2;

impl<N: FnMut() -> PackId> Packer<N> {
    /// Makes packs like `head`, each with an identifier of its own from `new_id`.
    pub fn new(head: PackHead, new_id: N) -> Self {
        Self {
            head,
            new_id,
            open: Vec::new(),
            ends: Vec::new(),
            bytes_per_pack: FIRST_GUESS,
            packs: Vec::new(),
        }
    }

    /// Adds one change.
    pub fn push(&mut self, change: &Change) {
        pack::append_change(&mut self.open, change);
        self.ends.push(self.open.len());
        if self.open.len() >= self.bytes_per_pack {
            self.cut();
        }
    }

    /// The packs that are full; more may follow.
    pub fn take_full(&mut self) -> Vec<EncodedPack> {
        std::mem::take(&mut self.packs)
    }

    /// All packs that are left.
    #[must_use]
    pub fn finish(mut self) -> Vec<EncodedPack> {
        self.cut();
        self.packs
    }

    fn cut(&mut self) {
        let open = std::mem::take(&mut self.open);
        let ends = std::mem::take(&mut self.ends);
        self.seal(&open, &ends);
        self.open = open;
        self.open.clear();
    }

    /// Seals the changes that end at `ends`, all positions counted from the start of `open`.
    fn seal(&mut self, open: &[u8], ends: &[usize]) {
        let Some(&last) = ends.last() else { return };
        let head = PackHead {
            id: (self.new_id)(),
            ..self.head.clone()
        };
        let count = u32::try_from(ends.len()).unwrap_or(u32::MAX);
        let body = pack::seal(&head, count, &open[..last]);
        if body.len() > PACK_BYTES && ends.len() > 1 {
            let (first, second) = ends.split_at(ends.len() / 2);
            let middle = first.last().copied().unwrap_or(0);
            self.seal(open, first);
            let second: Vec<usize> = second.iter().map(|end| end - middle).collect();
            self.seal(&open[middle..last], &second);
            return;
        }
        // Aim at 95 % of the limit with the ratio just seen.
        let target = last * PACK_BYTES / body.len().max(1) * 19 / 20;
        self.bytes_per_pack = target.clamp(PACK_BYTES / 4, PACK_BYTES * 32);
        self.packs.push(EncodedPack { head, count, body });
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{MapName, Op, Origin, RunId, decode_pack};

    fn packer() -> Packer<impl FnMut() -> PackId> {
        let map = MapName::new("customers").unwrap();
        let head = PackHead {
            id: PackId::from_uuid(Uuid::nil()),
            run: RunId::live(&map),
            map,
            origin: Origin::Load,
            generation: 1,
            created: Timestamp::UNIX_EPOCH,
            trace: None,
        };
        let mut next = 0;
        Packer::new(head, move || {
            next += 1;
            PackId::from_uuid(Uuid::from_u128(next))
        })
    }

    fn change(raw: Vec<u8>) -> Change {
        Change {
            op: Op::Upsert,
            observed: 0,
            failure: None,
            raw: raw.into(),
        }
    }

    /// Bytes that do not compress, the same for the same seed.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed | 1;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(len)
        .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn nothing_is_lost_or_reordered_and_no_pack_is_too_large(
            sizes in prop::collection::vec(0_usize..40_000, 1..40)
        ) {
            let changes: Vec<_> =
                sizes.iter().enumerate().map(|(i, len)| change(noise(i as u64, *len))).collect();
            let mut packer = packer();
            let mut packs = Vec::new();
            for change in &changes {
                packer.push(change);
                packs.extend(packer.take_full());
            }
            packs.extend(packer.finish());
            let mut unpacked = Vec::new();
            let mut ids = std::collections::HashSet::new();
            for pack in &packs {
                prop_assert!(pack.body.len() <= PACK_BYTES || pack.count == 1);
                prop_assert!(ids.insert(pack.head.id), "two packs with one identifier");
                let opened = decode_pack(&pack.body).unwrap();
                prop_assert_eq!(opened.changes.len(), pack.count as usize);
                unpacked.extend(opened.changes);
            }
            prop_assert_eq!(unpacked, changes);
        }
    }

    #[test]
    fn packs_of_like_records_are_nearly_full() {
        let mut packer = packer();
        for i in 0..60_000 {
            let id: u64 = noise(i + 1, 8)
                .iter()
                .fold(0, |id, byte| id << 8 | u64::from(*byte));
            let raw = format!(r#"{{"id":"{id:016x}","email":"c{i}@example.com"}}"#);
            packer.push(&change(raw.into_bytes()));
        }
        let packs = packer.finish();
        // The first ones are for learning, the last one is what was left.
        let full = &packs[2..packs.len() - 1];
        assert!(full.len() > 2);
        assert!(full.iter().all(|pack| pack.body.len() > PACK_BYTES * 4 / 5));
    }
}
