//! Queues.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use model::{MAX_MESSAGE_BYTES, MAX_RECEIVES, QueueName};
use ports::{Consumer, Outgoing, Queue, QueueError, Received, Sent, StoreError};
use rusqlite::{Connection, OptionalExtension, named_params};

use crate::Store;

/// Groups looked at in one receipt; the next receipt goes on with the following ones.
const GROUPS_PER_RECEIPT: usize = 16;

fn unavailable(queue: QueueName) -> impl FnOnce(StoreError) -> QueueError {
    move |error| QueueError::Unavailable {
        queue,
        source: error.into(),
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Queue for Store {
    async fn send(
        &self,
        queue: QueueName,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Sent>, QueueError> {
        if let Some(large) = messages.iter().find(|m| m.body.len() > MAX_MESSAGE_BYTES) {
            return Err(QueueError::TooLarge {
                queue,
                size: large.body.len(),
            });
        }
        let now = self.clock.now().as_microsecond();
        let latest = messages.iter().map(|message| message.delay).max();
        let sent = self
            .db
            .write("sending", move |db| {
                messages
                    .iter()
                    .map(|message| insert(db, queue, now, message))
                    .collect()
            })
            .await
            .map_err(unavailable(queue))?;
        match latest {
            Some(delay) if !delay.is_zero() => {
                self.wake_at(queue, now.saturating_add(micros(delay)));
            }
            _ => {}
        }
        self.wake(queue);
        Ok(sent)
    }

    async fn defer(
        &self,
        queue: QueueName,
        receipt: &str,
        delay: Duration,
    ) -> Result<(), QueueError> {
        let Some((id, receives)) = parse_receipt(receipt) else {
            return Ok(());
        };
        let visible = self
            .clock
            .now()
            .as_microsecond()
            .saturating_add(micros(delay));
        self.db
            .write("deferring a message", move |db| {
                db.prepare_cached(
                    "UPDATE messages SET visible = ?3 WHERE id = ?1 AND receives = ?2",
                )?
                .execute((id, receives, visible))
            })
            .await
            .map_err(unavailable(queue))?;
        if delay.is_zero() {
            self.wake(queue);
        } else {
            self.wake_at(queue, visible);
        }
        Ok(())
    }
}

fn insert(
    db: &Connection,
    queue: QueueName,
    now: i64,
    message: &Outgoing,
) -> rusqlite::Result<Sent> {
    if let Some(dedupe) = &message.dedupe {
        let until = dedupe.until.as_microsecond();
        let fresh = db
            .prepare_cached(
                "INSERT INTO seen (name, until) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET until = excluded.until WHERE until <= ?3",
            )?
            .execute((&dedupe.name, until, now))?;
        if fresh == 0 {
            return Ok(Sent::Duplicate);
        }
    }
    let group = message.group.as_ref().map_or("", |map| map.as_str());
    db.prepare_cached("INSERT INTO messages (queue, grp, visible, sent) VALUES (?1, ?2, ?3, ?4)")?
        .execute((
            queue as i64,
            group,
            now.saturating_add(micros(message.delay)),
            now,
        ))?;
    db.prepare_cached("INSERT INTO bodies (id, body) VALUES (?1, ?2)")?
        .execute((db.last_insert_rowid(), &message.body))?;
    if let Some(pack) = &message.pack {
        crate::ledger::open(db, now, pack)?;
    }
    for settlement in &message.settles {
        crate::ledger::settle(db, now, settlement)?;
    }
    Ok(Sent::Queued)
}

#[async_trait]
impl Consumer for Store {
    async fn receive(
        &self,
        queue: QueueName,
        max: usize,
        visibility: Duration,
    ) -> Result<Vec<Received>, QueueError> {
        let now = self.clock.now().as_microsecond();
        let until = now.saturating_add(micros(visibility));
        let turn = std::sync::Arc::clone(&self.turn);
        let received = self
            .db
            .write("receiving", move |db| {
                let mut turns = turn
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let last = turns.entry(queue).or_default();
                let groups = groups_after(db, queue, last)?;
                if let Some(newest) = groups.last() {
                    newest.clone_into(last);
                }
                let ids = visible(db, queue, &groups, now, max)?;
                ids.into_iter()
                    .filter_map(|id| take(db, queue, id, until).transpose())
                    .collect()
            })
            .await
            .map_err(unavailable(queue))?;
        let received: Vec<Received> = received;
        if received.len() == max {
            // There may be more for another worker.
            self.wake(queue);
        }
        Ok(received)
    }

    async fn delete(&self, queue: QueueName, receipts: &[String]) -> Result<(), QueueError> {
        let receipts: Vec<_> = receipts
            .iter()
            .filter_map(|receipt| parse_receipt(receipt))
            .collect();
        self.db
            .write("deleting messages", move |db| {
                receipts
                    .into_iter()
                    .try_for_each(|(id, receives)| remove(db, id, receives))
            })
            .await
            .map_err(unavailable(queue))
    }
}

/// Up to [`GROUPS_PER_RECEIPT`] groups that have messages, beginning after `last` and going
/// round once.
fn groups_after(db: &Connection, queue: QueueName, last: &str) -> rusqlite::Result<Vec<String>> {
    let mut next = db.prepare_cached(
        "SELECT grp FROM messages WHERE queue = ?1 AND grp > ?2 ORDER BY grp LIMIT 1",
    )?;
    let mut first =
        db.prepare_cached("SELECT grp FROM messages WHERE queue = ?1 ORDER BY grp LIMIT 1")?;
    let mut groups = Vec::new();
    let mut known = HashSet::new();
    let mut at = last.to_owned();
    while groups.len() < GROUPS_PER_RECEIPT {
        let following: Option<String> = next
            .query_row((queue as i64, &at), |row| row.get(0))
            .optional()?;
        let group = match following {
            Some(group) => group,
            None => match first
                .query_row([queue as i64], |row| row.get(0))
                .optional()?
            {
                Some(group) => group,
                None => break,
            },
        };
        if !known.insert(group.clone()) {
            break;
        }
        at.clone_from(&group);
        groups.push(group);
    }
    Ok(groups)
}

/// The oldest visible messages of `groups`, each group its share, unused shares given to the
/// others.
fn visible(
    db: &Connection,
    queue: QueueName,
    groups: &[String],
    now: i64,
    max: usize,
) -> rusqlite::Result<Vec<i64>> {
    let mut oldest = db.prepare_cached(
        "SELECT id FROM messages WHERE queue = ?1 AND grp = ?2 AND visible <= ?3
         ORDER BY visible, id LIMIT ?4",
    )?;
    let mut waiting: Vec<std::vec::IntoIter<i64>> = Vec::with_capacity(groups.len());
    for group in groups {
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let ids = oldest.query_map((queue as i64, group, now, limit), |row| row.get(0))?;
        waiting.push(ids.collect::<rusqlite::Result<Vec<i64>>>()?.into_iter());
    }
    let mut taken = Vec::new();
    loop {
        let before = taken.len();
        for group in &mut waiting {
            if taken.len() < max {
                taken.extend(group.next());
            }
        }
        if taken.len() == before || taken.len() == max {
            return Ok(taken);
        }
    }
}

/// Receives one message, or makes a dead letter of it when it has been received too often.
fn take(
    db: &Connection,
    queue: QueueName,
    id: i64,
    until: i64,
) -> rusqlite::Result<Option<Received>> {
    let (receives, sent): (u32, i64) = db
        .prepare_cached(
            "UPDATE messages SET visible = :until, receives = receives + 1 WHERE id = :id
             RETURNING receives, sent",
        )?
        .query_row(named_params! {":until": until, ":id": id}, |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if receives > MAX_RECEIVES && queue != QueueName::Dead {
        db.prepare_cached(
            "UPDATE messages SET queue = ?2, visible = 0, receives = 0 WHERE id = ?1",
        )?
        .execute((id, QueueName::Dead as i64))?;
        return Ok(None);
    }
    let body = db
        .prepare_cached("SELECT body FROM bodies WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?;
    Ok(Some(Received {
        id: id.to_string(),
        receipt: format!("{id}-{receives}"),
        body,
        receives,
        sent: Timestamp::from_microsecond(sent).unwrap_or_default(),
    }))
}

fn remove(db: &Connection, id: i64, receives: i64) -> rusqlite::Result<()> {
    let removed = db
        .prepare_cached("DELETE FROM messages WHERE id = ?1 AND receives = ?2")?
        .execute((id, receives))?;
    if removed > 0 {
        db.prepare_cached("DELETE FROM bodies WHERE id = ?1")?
            .execute([id])?;
    }
    Ok(())
}

/// A receipt names the message and the receive it stands for.
fn parse_receipt(receipt: &str) -> Option<(i64, i64)> {
    let (id, receives) = receipt.split_once('-')?;
    Some((id.parse().ok()?, receives.parse().ok()?))
}
