//! Packs of maps that may not be applied now.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use model::{Change, EncodedPack, Lane, MapName, Pack, PackHead, decode_pack, encode_pack};
use ports::{Blobs, StoreError};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{Outbox, OutboxError};

/// Keeps packs without limit of time or size, each lane in the order in which they were made, as
/// near as they came.
///
/// What is parked together is one blob: under load a write for each pack would be more than a
/// storage takes, and cost more than all else that is done with it.
#[derive(Debug, Clone)]
pub struct Parking {
    blobs: Arc<dyn Blobs>,
}

/// A pack to be parked, as it came from its queue.
#[derive(Debug, Clone)]
pub struct Arrival<'a> {
    /// What is known of it.
    pub head: &'a PackHead,
    /// The message that it came in.
    pub message: &'a str,
    /// The body of that.
    pub body: &'a str,
}

/// Packs released in one go; between two of them the state of the map is looked at again.
pub const RELEASE_STEP: usize = 100;
/// Packs of one blob, and bytes of them if there are several.
const TOGETHER: usize = 100;
const TOGETHER_BYTES: usize = 256 << 10;
/// Blobs that are written or read side by side.
const AT_ONCE: usize = 16;
/// Names of blobs that are listed at once.
const PAGE: usize = 1_000;

fn prefix(map: &MapName) -> String {
    format!("parked/{map}/")
}

fn lane_prefix(map: &MapName, lane: Lane) -> String {
    format!("{}{lane}/", prefix(map))
}

/// The number of packs in a blob: it stands at the end of its name if there are several.
fn packs_in(name: &str) -> usize {
    let number = name
        .rsplit_once('+')
        .and_then(|(_, number)| number.parse().ok());
    number.unwrap_or(1)
}

/// The first of `names` that hold `packs` packs together, at least one.
fn with_packs(names: &mut Vec<String>, packs: usize) {
    let mut before = 0;
    names.retain(|name| {
        let taken = before < packs;
        before += packs_in(name);
        taken
    });
}

/// Packs in portions that are one blob each.
fn portions<'p, 'a>(mut packs: &'p [Arrival<'a>]) -> Vec<&'p [Arrival<'a>]> {
    let mut portions = Vec::new();
    while !packs.is_empty() {
        let mut bytes = 0;
        let fit = packs.iter().take(TOGETHER).take_while(|pack| {
            bytes += pack.body.len();
            bytes <= TOGETHER_BYTES
        });
        let (portion, rest) = packs.split_at(fit.count().max(1));
        portions.push(portion);
        packs = rest;
    }
    portions
}

/// Which packs these are, and in which messages they came.
fn digest(packs: &[Arrival<'_>]) -> String {
    let mut digest = Sha256::new();
    for pack in packs {
        digest.update(pack.head.id.as_uuid().as_bytes());
        digest.update(pack.message);
        digest.update("\n");
    }
    hex::encode(&digest.finalize()[..16])
}

/// The packs of a blob.
fn open(name: &str, bytes: &Bytes) -> Result<Vec<Pack>, StoreError> {
    let corrupt = || format!("blob `{name}`");
    let text = std::str::from_utf8(bytes).map_err(StoreError::corrupt(corrupt()))?;
    let bodies = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let packs = bodies.map(|body| {
        let body = body.map_err(StoreError::corrupt(corrupt()))?;
        decode_pack(body.get()).map_err(StoreError::corrupt(corrupt()))
    });
    packs.collect()
}

impl Parking {
    /// Parking in a blob storage.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs }
    }

    /// Parks packs of a map. Parking the same messages again does nothing; in other company they
    /// are parked twice, and end once all the same. A message that the release of another one has
    /// made is one of its own, so that it outlives the deletion of that one.
    pub async fn park(
        &self,
        map: &MapName,
        lane: Lane,
        mut packs: Vec<Arrival<'_>>,
    ) -> Result<(), StoreError> {
        packs.sort_by_key(|pack| (pack.head.created, pack.head.id));
        let blobs: Vec<_> = portions(&packs)
            .into_iter()
            .filter_map(|portion| self.blob(&lane_prefix(map, lane), portion))
            .collect();
        let written = stream::iter(blobs).buffer_unordered(AT_ONCE);
        written.try_collect::<()>().await
    }

    /// Writes one blob.
    fn blob(
        &self,
        prefix: &str,
        packs: &[Arrival<'_>],
    ) -> Option<impl Future<Output = Result<(), StoreError>> + Send + use<>> {
        let first = packs.first()?;
        // What is in a blob is in its name: another one of the same name would be taken for it.
        let content = match packs.len() {
            1 => first.message.to_owned(),
            many => format!("{}+{many}", digest(packs)),
        };
        // Sixteen digits of microseconds sort as text until the year 2286.
        let name = format!(
            "{prefix}{:016}-{}-{content}",
            first.head.created.as_microsecond(),
            first.head.id,
        );
        let bodies: Vec<&str> = packs.iter().map(|pack| pack.body).collect();
        let bytes = Bytes::from(bodies.join("\n"));
        let blobs = Arc::clone(&self.blobs);
        Some(async move {
            blobs.put_new(&name, bytes).await?;
            Ok(())
        })
    }

    /// Whether anything is parked for a map.
    pub async fn holds(&self, map: &MapName) -> Result<bool, StoreError> {
        let names = self.blobs.list(&prefix(map), None, 1).await?;
        Ok(!names.is_empty())
    }

    /// Number and size in bytes of the packs parked for a map.
    pub async fn measure(&self, map: &MapName) -> Result<(u64, u64), StoreError> {
        let prefix = prefix(map);
        let (blobs, bytes) = self.blobs.measure(&prefix).await?;
        let mut packs = 0;
        let mut after = None;
        let mut more = blobs > 0;
        while more {
            let names = self.blobs.list(&prefix, after.as_deref(), PAGE).await?;
            packs += names.iter().map(|name| packs_in(name) as u64).sum::<u64>();
            more = names.len() == PAGE;
            after = names.into_iter().next_back();
        }
        Ok((packs, bytes))
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
    /// oldest first. The oldest `packs` are looked into, and those parked together with them.
    pub async fn find(
        &self,
        map: &MapName,
        packs: usize,
        wanted: impl Fn(&Change) -> bool,
    ) -> Result<Vec<Timestamp>, StoreError> {
        let mut made = Vec::new();
        let mut names = self.blobs.list(&prefix(map), None, packs).await?;
        with_packs(&mut names, packs);
        for name in names {
            let Some(bytes) = self.blobs.get(&name).await? else {
                continue;
            };
            // One that cannot be read is for `release` to complain of.
            let packs = open(&name, &bytes).unwrap_or_default().into_iter();
            let found = packs.filter(|pack| pack.changes.iter().any(&wanted));
            made.extend(found.map(|pack| pack.head.created));
        }
        made.sort_unstable();
        Ok(made)
    }

    /// Sends the oldest packs parked for a lane of a map on their way again: `most` of them, and
    /// those parked together with the last of these. Says whether there may be more.
    pub async fn release(
        &self,
        map: &MapName,
        lane: Lane,
        most: usize,
        outbox: &Outbox,
    ) -> Result<bool, OutboxError> {
        let parked = lane_prefix(map, lane);
        let mut names = self.blobs.list(&parked, None, most).await?;
        let listed = names.len();
        with_packs(&mut names, most);
        let more = listed == most || names.len() < listed;
        let reads = stream::iter(names.clone()).map(|name| self.read(name));
        let mut reads = reads.buffered(AT_ONCE);
        let (mut read, mut packs, mut failed) = (0, Vec::new(), None);
        while let Some(some) = reads.next().await {
            match some {
                Ok(some) => packs.extend(some),
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
            None => Ok(more),
        }
    }

    /// The packs of a blob; none if somebody has released them meanwhile.
    async fn read(&self, name: String) -> Result<Vec<EncodedPack>, StoreError> {
        let Some(bytes) = self.blobs.get(&name).await? else {
            return Ok(Vec::new());
        };
        let packs = open(&name, &bytes)?.into_iter();
        let sealed = packs.map(|Pack { head, changes }| encode_pack(head, &changes));
        Ok(sealed.collect())
    }
}
