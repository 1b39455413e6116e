//! Packs of maps that may not be applied now.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use model::{Change, EncodedPack, Lane, MapName, PackHead, decode_pack, encode_pack};
use ports::{Blobs, StoreError};

use crate::{Outbox, OutboxError};

/// Keeps packs without limit of time or size, each lane in the order in which they were made.
#[derive(Debug, Clone)]
pub struct Parking {
    blobs: Arc<dyn Blobs>,
}

/// Packs released in one go; between two of them the state of the map is looked at again.
pub const RELEASE_STEP: usize = 100;
/// Packs of them that are read side by side.
const READS_AT_ONCE: usize = 16;

fn prefix(map: &MapName) -> String {
    format!("parked/{map}/")
}

fn lane_prefix(map: &MapName, lane: Lane) -> String {
    format!("{}{lane}/", prefix(map))
}

impl Parking {
    /// Parking in a blob storage.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs }
    }

    /// Parks a pack as it came from its queue in `message`. Parking the same message again does
    /// nothing; a message that the release of another one has made is one of its own, so that
    /// it outlives the deletion of that one.
    pub async fn park(
        &self,
        lane: Lane,
        head: &PackHead,
        message: &str,
        body: String,
    ) -> Result<(), StoreError> {
        // Sixteen digits of microseconds sort as text until the year 2286.
        let name = format!(
            "{}{:016}-{}-{message}",
            lane_prefix(&head.map, lane),
            head.created.as_microsecond(),
            head.id
        );
        self.blobs.put_new(&name, Bytes::from(body)).await?;
        Ok(())
    }

    /// Number and size in bytes of the packs parked for a map.
    pub async fn measure(&self, map: &MapName) -> Result<(u64, u64), StoreError> {
        self.blobs.measure(&prefix(map)).await
    }

    /// The maps for which something is parked.
    pub async fn maps(&self) -> Result<Vec<MapName>, StoreError> {
        let mut maps = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let names = self.blobs.list("parked/", after.as_deref(), 1).await?;
            let Some(map) = names.first().and_then(|name| name.split('/').nth(1)) else {
                return Ok(maps);
            };
            // Behind everything of this map.
            after = Some(format!("parked/{map}0"));
            maps.extend(MapName::new(map).ok());
        }
    }

    /// When packs were made that are parked for a map and hold a change that `wanted` knows, the
    /// oldest first. At most `packs` are looked into.
    pub async fn find(
        &self,
        map: &MapName,
        packs: usize,
        wanted: impl Fn(&Change) -> bool,
    ) -> Result<Vec<Timestamp>, StoreError> {
        let mut made = Vec::new();
        for name in self.blobs.list(&prefix(map), None, packs).await? {
            let Some(bytes) = self.blobs.get(&name).await? else {
                continue;
            };
            // One that cannot be read is for `release` to complain of.
            let pack = std::str::from_utf8(&bytes)
                .ok()
                .and_then(|body| decode_pack(body).ok());
            if let Some(pack) = pack.filter(|pack| pack.changes.iter().any(&wanted)) {
                made.push(pack.head.created);
            }
        }
        made.sort_unstable();
        Ok(made)
    }

    /// Sends the oldest packs parked for a lane of a map on their way again, `most` of them; says
    /// whether there may be more.
    pub async fn release(
        &self,
        map: &MapName,
        lane: Lane,
        most: usize,
        outbox: &Outbox,
    ) -> Result<bool, OutboxError> {
        let parked = lane_prefix(map, lane);
        let names = self.blobs.list(&parked, None, most).await?;
        let reads = stream::iter(names.clone()).map(|name| self.read(name));
        let mut reads = reads.buffered(READS_AT_ONCE);
        let (mut read, mut packs, mut failed) = (0, Vec::new(), None);
        while let Some(pack) = reads.next().await {
            match pack {
                Ok(pack) => packs.extend(pack),
                // Those before it go on their way.
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            read += 1;
        }
        outbox.send_packs(lane, packs).await?;
        ports::crash_point("parking.released");
        // Only now: a pack that is sent twice settles once.
        self.blobs.delete(&names[..read]).await?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(names.len() == most),
        }
    }

    /// A parked pack, unless somebody has released it meanwhile.
    async fn read(&self, name: String) -> Result<Option<EncodedPack>, StoreError> {
        let Some(bytes) = self.blobs.get(&name).await? else {
            return Ok(None);
        };
        let corrupt = || format!("blob `{name}`");
        let body = String::from_utf8(bytes.into()).map_err(StoreError::corrupt(corrupt()))?;
        let pack = decode_pack(&body).map_err(StoreError::corrupt(corrupt()))?;
        Ok(Some(encode_pack(pack.head, &pack.changes)))
    }
}
