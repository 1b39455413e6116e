//! Packs that cannot be applied now.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use model::{ConnectionName, Lane, MAX_RECEIVES, MapEvent, MapName, encode_pack};
use ports::Outgoing;
use runtime::Arrival;

use crate::{
    handler::Apply,
    invocation::Invocation,
    open::{Item, Messages, SUSPICIOUS, receives},
    stop::Stop,
};

/// Receives after which a pack that has to wait is parked, so that it does not become a dead
/// letter.
const PARK_AFTER: u32 = MAX_RECEIVES / 2;
/// How long what is suspicious waits when time was up before its turn.
const SOON: Duration = Duration::from_secs(1);
/// How long what was not done in time waits: longer than anything that was begun for it is claimed
/// by the one who gave it up.
const SLOW: Duration = Duration::from_secs(75);
/// Messages put off side by side.
const AT_ONCE: usize = 32;
/// Calls side by side that send packs anew, and packs of each: as many as one call of SQS takes.
const CALLS: usize = 8;
const MESSAGES_PER_CALL: usize = 10;
/// The longest that a queue lets a message wait.
const LONGEST_WAIT: Duration = Duration::from_hours(12);

/// The connections for which a pack of an invocation stays in its queue.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<HashSet<ConnectionName>>);

impl Probes {
    /// Whether none stays for it yet; the next one who asks hears that one does.
    fn needs(&self, connection: &ConnectionName) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(connection.clone())
    }
}

impl Apply {
    pub(crate) async fn park(&self, map: &MapName, lane: Lane, items: &[Item]) -> Result<(), Stop> {
        let arrivals = items.iter().map(|item| Arrival {
            head: &item.pack.head,
            message: &item.id,
            body: &item.body,
        });
        self.parking.park(map, lane, arrivals.collect()).await?;
        ports::crash_point("apply.parked");
        tracing::debug!(map.name = %map, pack.count = items.len(), "packs of map `{map}` are parked");
        Ok(())
    }

    /// Takes packs for a target that has been down for a while out of their queue: there they would
    /// count as in flight, and at some number of them all maps of the lane would wait. Of an
    /// invocation one stays for each connection, and finds out when it is back. Then `retry`
    /// releases the others.
    pub(crate) async fn set_aside(
        &self,
        map: &MapName,
        lane: Lane,
        mut items: Vec<Item>,
        wait: Duration,
        invocation: &Invocation,
    ) -> Vec<String> {
        let probes = &invocation.probes;
        let connection = self.definition.maps.get(map).map(|map| &map.to.connection);
        let needed = connection.is_some_and(|connection| probes.needs(connection));
        let freshest = (0..items.len()).min_by_key(|at| items[*at].receives);
        let stays = freshest.filter(|_| needed).map(|at| items.swap_remove(at));
        let mut failed = match self.park(map, lane, &items).await {
            Ok(()) => Vec::new(),
            Err(error) => {
                tracing::warn!(map.name = %map, "packs of map `{map}` stay in their queue: {error}");
                items.into_iter().map(|item| item.id).collect()
            }
        };
        let stays = stays.into_iter().collect();
        failed.extend(self.put_off(map, lane, stays, wait).await);
        failed
    }

    /// Lets messages come back after a while. One that has come back very often is parked.
    pub(crate) async fn put_off(
        &self,
        map: &MapName,
        lane: Lane,
        items: Vec<Item>,
        wait: Duration,
    ) -> Vec<String> {
        let (old, young): (Vec<Item>, Vec<Item>) = items
            .into_iter()
            .partition(|item| item.receives >= PARK_AFTER);
        let mut failed = Vec::new();
        // What is parked comes back as a message of its own, when `retry` finds the target back.
        if !old.is_empty() && self.park(map, lane, &old).await.is_err() {
            failed.extend(old.into_iter().map(|item| item.id));
        }
        let put_off = |item| self.defer(lane, item, wait);
        let put_off = stream::iter(&young).for_each_concurrent(AT_ONCE, put_off);
        put_off.await;
        failed.extend(young.into_iter().map(|item| item.id));
        failed
    }

    /// The same for what was not done in time. When it has come back often enough, it is done part
    /// by part.
    pub(crate) async fn put_off_slow(
        &self,
        map: &MapName,
        lane: Lane,
        items: Vec<Item>,
    ) -> Vec<String> {
        let count = items.len();
        tracing::warn!(map.name = %map, pack.count = count, "{count} packs of map `{map}` were not done in time; they come back");
        self.put_off(map, lane, items, SLOW).await
    }

    /// Lets a message come back after a while.
    async fn defer(&self, lane: Lane, item: &Item, wait: Duration) {
        self.defer_message(lane, &item.id, &item.receipt, wait)
            .await;
    }

    async fn defer_message(&self, lane: Lane, id: &str, receipt: &str, wait: Duration) {
        let wait = wait.min(LONGEST_WAIT);
        let deferred = self.outbox.queue().defer(lane.queue(), receipt, wait).await;
        if let Err(error) = deferred {
            tracing::debug!(message.id = %id, "message {id} comes back at its own time: {error}");
        }
    }

    /// Sends packs anew that nobody has begun with. As messages that come back they would be
    /// counted as tried, and in the end be taken for what breaks the worker. What is taken for
    /// that already stays so.
    pub(crate) async fn give_back(
        &self,
        map: &MapName,
        lane: Lane,
        items: Vec<Item>,
    ) -> Vec<String> {
        let suspicious = |item: &Item| item.receives >= SUSPICIOUS;
        let (suspicious, mut items): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(suspicious);
        let mut failed = self.put_off(map, lane, suspicious, SOON).await;
        let mut calls = Vec::new();
        while !items.is_empty() {
            let rest = items.split_off(items.len().min(MESSAGES_PER_CALL));
            calls.push(std::mem::replace(&mut items, rest));
        }
        let send = |items: Vec<Item>| async move {
            let ids = items.iter().map(|item| item.id.clone()).collect::<Vec<_>>();
            let packs = items.into_iter();
            let packs = packs.map(|item| encode_pack(item.pack.head, &item.pack.changes));
            let sent = self.outbox.send_packs(lane, packs.collect()).await;
            sent.map_or_else(
                |error| {
                    let count = ids.len();
                    tracing::debug!(map.name = %map, "{count} messages come back as they are: {error}");
                    ids
                },
                |()| Vec::new(),
            )
        };
        let left = stream::iter(calls).map(send).buffer_unordered(CALLS);
        failed.extend(left.collect::<Vec<_>>().await.into_iter().flatten());
        failed
    }

    /// The same for messages that have not been opened.
    pub(crate) async fn send_anew(&self, messages: Messages) -> Vec<String> {
        let mut failed = Vec::new();
        let mut lanes: HashMap<Lane, (Vec<String>, Vec<Outgoing>)> = HashMap::new();
        for (lane, message) in messages {
            let suspicious = receives(&message) >= SUSPICIOUS;
            let group = message.attributes.get("MessageGroupId");
            let group = group.and_then(|group| MapName::new(group).ok());
            let id = message.message_id.unwrap_or_default();
            if suspicious {
                let receipt = message.receipt_handle.unwrap_or_default();
                self.defer_message(lane, &id, &receipt, SOON).await;
                failed.push(id);
                continue;
            }
            let (ids, all) = lanes.entry(lane).or_default();
            ids.push(id);
            all.push(Outgoing {
                group,
                ..Outgoing::new(message.body.unwrap_or_default())
            });
        }
        for (lane, (ids, all)) in lanes {
            if let Err(error) = self.outbox.queue().send(lane.queue(), all).await {
                let count = ids.len();
                tracing::debug!("{count} messages come back as they are: {error}");
                failed.extend(ids);
            }
        }
        failed
    }

    /// Stops a map that only a person can help, and keeps its packs.
    pub(crate) async fn break_map(
        &self,
        map: &MapName,
        lane: Lane,
        items: Vec<Item>,
        reason: String,
    ) -> Vec<String> {
        tracing::error!(map.name = %map, "map `{map}` is broken: {reason}");
        if self.definition.maps.contains_key(map) {
            // An error means that it is stopped already, or that the store is down: then the
            // packs come back and find it so.
            let _ = self
                .states
                .transition(map, MapEvent::Break { reason })
                .await;
        }
        match self.park(map, lane, &items).await {
            Ok(()) => Vec::new(),
            Err(_) => items.into_iter().map(|item| item.id).collect(),
        }
    }
}
