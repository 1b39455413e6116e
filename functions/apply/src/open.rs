//! From messages to packs.

use std::{collections::HashMap, vec::IntoIter};

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use jiff::Timestamp;
use model::{Lane, MapName, Pack, RunId, decode_pack};
use runtime::Outbox;

use crate::{handler::Apply, stop::Stop};

/// Receives after which a pack is tried part by part: something in it may break the worker.
pub(crate) const SUSPICIOUS: u32 = 4;
/// Bytes of packs that are open at the same time, and one pack more. A message can stand for
/// megabytes, and a batch has hundreds.
const OPEN_AT_ONCE: usize = 16 * 1024 * 1024;

/// One message and what is known of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) receipt: String,
    pub(crate) receives: u32,
    pub(crate) blob: Option<String>,
    pub(crate) body: String,
    pub(crate) pack: Pack,
}

impl Item {
    /// Whether all of it was read after a load began.
    pub(crate) fn since(&self, loading: Option<Timestamp>) -> bool {
        let began = loading.map_or(i64::MIN, Timestamp::as_microsecond);
        self.pack
            .changes
            .iter()
            .all(|change| change.observed >= began)
    }

    /// Whether it is a webhook that was made after `fresh`, in milliseconds of Unix time, and was not
    /// received before.
    pub(crate) fn is_first(&self, fresh: i64) -> bool {
        let head = &self.pack.head;
        let made = head
            .id
            .made()
            .filter(|_| head.run == RunId::live(&head.map));
        self.receives <= 1 && made.is_some_and(|made| made > fresh)
    }

    /// A part of a message, as if it were one of its own.
    pub(crate) fn part(whole: &Self, pack: Pack) -> Self {
        Self {
            id: whole.id.clone(),
            receipt: whole.receipt.clone(),
            receives: whole.receives,
            blob: None,
            body: String::new(),
            pack,
        }
    }

    fn bytes(&self) -> usize {
        let changes = self.pack.changes.iter().map(|change| change.raw.len());
        self.body.len() + changes.sum::<usize>()
    }
}

/// Packs by their maps and lanes.
pub(crate) type Groups = HashMap<(MapName, Lane), Vec<Item>>;

/// The messages of an event that have not been opened.
pub(crate) struct Messages(IntoIter<SqsMessage>);

impl Messages {
    /// Those of an event: last what may break the worker, so that the others are done by then, and
    /// before that what is in a blob, and so larger than others.
    pub(crate) fn new(event: SqsEvent) -> Self {
        let mut messages = event.records;
        messages.sort_by_key(|message| {
            let body = message.body.as_deref().unwrap_or_default();
            (receives(message) >= SUSPICIOUS, Outbox::is_claim(body))
        });
        Self(messages.into_iter())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}

impl Iterator for Messages {
    type Item = (Lane, SqsMessage);

    fn next(&mut self) -> Option<Self::Item> {
        let message = self.0.next()?;
        let lane = Lane::of_source(message.event_source_arn.as_deref().unwrap_or_default());
        Some((lane, message))
    }
}

pub(crate) fn receives(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount");
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
}

impl Apply {
    /// Opens as many messages as may be open at once, but none after the deadline. Those that come
    /// back are added to `failed`.
    pub(crate) async fn open_some(
        &self,
        messages: &mut Messages,
        deadline: Timestamp,
        failed: &mut Vec<String>,
    ) -> Groups {
        let mut groups = Groups::new();
        let mut bytes = 0;
        let mut begun = false;
        while bytes < OPEN_AT_ONCE
            && (!begun || self.clock.now() < deadline)
            && let Some((lane, message)) = messages.next()
        {
            begun = true;
            let id = message.message_id.clone().unwrap_or_default();
            match self.open(message, lane).await {
                Ok(Some(item)) => {
                    bytes += item.bytes();
                    let of_map = groups.entry((item.pack.head.map.clone(), lane));
                    of_map.or_default().push(item);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(message.id = %id, "message {id} comes back: {error}");
                    failed.push(id);
                }
            }
        }
        groups
    }

    /// Opens a message. One that cannot be read goes to the failure store as it is.
    async fn open(&self, message: SqsMessage, lane: Lane) -> Result<Option<Item>, Stop> {
        let receives = receives(&message);
        let id = message.message_id.unwrap_or_default();
        let Some((body, blob)) = self.outbox.open(message.body.unwrap_or_default()).await? else {
            return Ok(None);
        };
        match decode_pack(&body) {
            Ok(pack) => Ok(Some(Item {
                id,
                receipt: message.receipt_handle.unwrap_or_default(),
                receives,
                blob,
                body,
                pack,
            })),
            Err(error) => {
                self.report_unreadable(&body, lane, &error).await?;
                Ok(None)
            }
        }
    }
}
