//! One pull.

use std::time::Duration;

use jiff::Timestamp;
use model::{
    Change, Lane, LoadJob, MapEvent, MapName, MapState, Origin, PackHead, PackId, Packer,
    PullError as Failed, PullState, QueueName, RunId, full_jitter, pull_key,
};
use ports::{CheckpointsExt, Next, Page, ReadFrom, Revision, Source, SourceError};

use crate::{PullError, RecurringPull};

/// How long a worker holds the lease beyond its deadline, for the page it is reading then.
const GRACE: Duration = Duration::from_mins(2);
/// When a pull that somebody waits for is tried again while another one is under way.
const AFTER_ANOTHER: Duration = Duration::from_millis(500);
/// Bounds of the wait after a pull that failed.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// A pull that is under way.
struct Pulling<'p> {
    map: &'p MapName,
    state: PullState,
    revision: Option<Revision>,
}

/// Whether somebody waits for a pull, and when it was asked for.
type Asked = (bool, Option<Timestamp>);

/// Whether a pull has come to an end, good or bad, since one was asked for: while jobs wait in the
/// queue, every timer that does not know of them asks again. One that stopped in the middle goes
/// on.
fn is_answered(state: &PullState, asked: Option<Timestamp>) -> bool {
    let failed = state.error.as_ref().map(|error| error.at);
    let ended = state.succeeded.max(failed);
    state.cursor.is_none() && asked.is_some_and(|asked| ended > Some(asked))
}

impl RecurringPull {
    /// Pulls a map's changes until there are no more or time is up.
    pub(crate) async fn pull(
        &self,
        map: &MapName,
        asked: Asked,
        deadline: Timestamp,
    ) -> Result<(), PullError> {
        let Some(defined) = self.definition.maps.get(map) else {
            tracing::warn!(map.name = %map, "map `{map}` is not defined in this deployment (any more): not pulled");
            return Ok(());
        };
        let Some(mut pulling) = self.claim(map, asked, deadline).await? else {
            return Ok(());
        };
        if pulling.state.needs_load {
            return self.ask_for_load(&mut pulling, defined.pull.every).await;
        }
        let source = match self.systems.source(map).await {
            Ok(source) => source,
            Err(error) => {
                let error = SourceError::Auth {
                    what: error.to_string(),
                };
                return self.give_up(&mut pulling, &error, defined.pull.every).await;
            }
        };
        let before = pulling.state.changes;
        let read = self
            .read_pages(&mut pulling, source.as_ref(), deadline)
            .await;
        // Whatever stopped it: these are in the queue.
        let received = pulling.state.changes - before;
        self.metrics.received(self.clock.now(), map, received);
        match read? {
            Ok(true) => self.finish(&mut pulling, defined.pull.every).await,
            Ok(false) => self.go_on(&mut pulling).await,
            Err(SourceError::Expired { what }) => {
                self.expired(&mut pulling, what, defined.pull.every).await
            }
            Err(error) => self.give_up(&mut pulling, &error, defined.pull.every).await,
        }
    }

    /// Takes the lease on a map's pull, if it may be pulled and nobody does.
    async fn claim<'p>(
        &self,
        map: &'p MapName,
        (wanted, asked): Asked,
        deadline: Timestamp,
    ) -> Result<Option<Pulling<'p>>, PullError> {
        let record = self.states.get(map).await?;
        if !record.pulls() {
            tracing::debug!(map.name = %map, "map `{map}` is {}: not pulled", record.state);
            return Ok(None);
        }
        let stored = self.checkpoints.load::<PullState>(&pull_key(map)).await?;
        let (revision, state) = stored.map_or((None, PullState::default()), |stored| {
            (Some(stored.revision), stored.value)
        });
        if state.mark.is_none() && record.state == MapState::Initializing {
            tracing::debug!(map.name = %map, "map `{map}` is being loaded and has no mark to pull from yet");
            return Ok(None);
        }
        let now = self.clock.now();
        if !wanted && is_answered(&state, asked) {
            tracing::debug!(map.name = %map, "map `{map}` has been pulled since this was asked for");
            return Ok(None);
        }
        let Some(lease) = state.lease.take(now, deadline + GRACE) else {
            tracing::debug!(map.name = %map, "map `{map}` is being pulled already");
            if wanted {
                self.request(map, wanted, AFTER_ANOTHER).await?;
            }
            return Ok(None);
        };
        let run = state
            .run
            .unwrap_or_else(|| RunId::from_uuid(self.clock.new_id()));
        let fresh = state.cursor.is_none();
        if wanted && !fresh {
            // What is gone on with here began before: another one comes after it.
            self.request(map, wanted, AFTER_ANOTHER).await?;
        }
        let changes = if fresh { 0 } else { state.changes };
        let state = PullState {
            lease,
            run: Some(run),
            began: if fresh { Some(now) } else { state.began },
            changes,
            ..state
        };
        let mut pulling = Pulling {
            map,
            state,
            revision,
        };
        self.save(&mut pulling).await?;
        Ok(Some(pulling))
    }

    /// Reads pages until the end (`true`) or the deadline (`false`).
    async fn read_pages(
        &self,
        pulling: &mut Pulling<'_>,
        source: &dyn Source,
        deadline: Timestamp,
    ) -> Result<Result<bool, SourceError>, PullError> {
        loop {
            let from = pulling
                .state
                .mark
                .as_ref()
                .map_or(ReadFrom::Rows(None), ReadFrom::Mark);
            let page = match source.read(from, pulling.state.cursor.as_deref()).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            self.send(pulling, &page).await?;
            ports::crash_point("pull.sent");
            pulling.state.changes += page.records.len() as u64;
            match page.next {
                Next::Page(cursor) => pulling.state.cursor = Some(cursor),
                Next::End(mark) => {
                    pulling.state.cursor = None;
                    pulling.state.mark = mark.or(pulling.state.mark.take());
                    return Ok(Ok(true));
                }
            }
            if self.clock.now() >= deadline {
                return Ok(Ok(false));
            }
            self.save(pulling).await?;
            ports::crash_point("pull.saved");
        }
    }

    async fn send(&self, pulling: &Pulling<'_>, page: &Page) -> Result<(), PullError> {
        if page.records.is_empty() {
            return Ok(());
        }
        let new_id = || PackId::from_uuid(self.clock.new_id());
        let run = pulling
            .state
            .run
            .unwrap_or_else(|| RunId::live(pulling.map));
        let head = PackHead {
            id: new_id(),
            map: pulling.map.clone(),
            run,
            origin: Origin::Pull,
            generation: 0,
            created: self.clock.now(),
            trace: None,
        };
        let mut packer = Packer::new(head, new_id);
        for record in &page.records {
            packer.push(&Change {
                op: record.op,
                observed: page.observed,
                raw: record.raw.clone(),
                failure: None,
            });
        }
        Ok(self.outbox.send_packs(Lane::Live, packer.finish()).await?)
    }

    async fn save(&self, pulling: &mut Pulling<'_>) -> Result<(), PullError> {
        let saved = self
            .checkpoints
            .store(&pull_key(pulling.map), pulling.revision, &pulling.state)
            .await;
        pulling.revision =
            Some(saved.map_err(|error| PullError::from_checkpoint(pulling.map, error))?);
        Ok(())
    }

    async fn finish(
        &self,
        pulling: &mut Pulling<'_>,
        every: Option<Duration>,
    ) -> Result<(), PullError> {
        let now = self.clock.now();
        let state = &mut pulling.state;
        let due = every.map(|every| now.saturating_add(every).unwrap_or(Timestamp::MAX));
        state.due = due;
        state.covers = state.began;
        state.succeeded = Some(now);
        state.failed = 0;
        state.error = None;
        state.run = None;
        state.lease = state.lease.released();
        self.save(pulling).await?;
        if let Some(due) = due {
            self.schedule.set(pulling.map, due);
        }
        let (map, changes) = (pulling.map, pulling.state.changes);
        if changes > 0 {
            tracing::info!(map.name = %map, change.count = changes, "pulled {changes} changes of map `{map}`");
        }
        Ok(())
    }

    /// Time is up in the middle: saves where it is and asks for an invocation of its own.
    async fn go_on(&self, pulling: &mut Pulling<'_>) -> Result<(), PullError> {
        pulling.state.lease = pulling.state.lease.released();
        self.save(pulling).await?;
        self.request(pulling.map, false, Duration::ZERO).await
    }

    /// The source cannot go on from where the checkpoint is. A cursor inside a pull is only
    /// dropped; a mark that is too old means that changes are lost, deletes among them, and
    /// the stream has to be loaded again.
    async fn expired(
        &self,
        pulling: &mut Pulling<'_>,
        what: String,
        every: Option<Duration>,
    ) -> Result<(), PullError> {
        let map = pulling.map;
        let only_cursor = pulling.state.cursor.take().is_some();
        pulling.state.run = None;
        if only_cursor {
            pulling.state.lease = pulling.state.lease.released();
            tracing::warn!(map.name = %map, "the pull of map `{map}` begins anew: {what}");
            self.save(pulling).await?;
            return self.request(map, true, Duration::from_secs(1)).await;
        }
        tracing::warn!(map.name = %map, "map `{map}` is loaded again: {what}");
        pulling.state.mark = None;
        pulling.state.needs_load = true;
        let message = format!(
            "{what}; the map is loaded again, and rows the source does not have any more are deleted"
        );
        pulling.state.error = Some(Failed {
            at: self.clock.now(),
            class: model::ErrorClass::Transient,
            message,
        });
        self.ask_for_load(pulling, every).await
    }

    /// Asks for the load without which nothing can be pulled. It is asked for again until it
    /// has begun: it may find its map paused, or its target in trouble.
    async fn ask_for_load(
        &self,
        pulling: &mut Pulling<'_>,
        every: Option<Duration>,
    ) -> Result<(), PullError> {
        let map = pulling.map;
        let wait = every.unwrap_or(LONGEST_WAIT);
        let due = self
            .clock
            .now()
            .saturating_add(wait)
            .unwrap_or(Timestamp::MAX);
        pulling.state.due = Some(due);
        pulling.state.run = None;
        pulling.state.lease = pulling.state.lease.released();
        let generation = self.states.get(map).await?.generation;
        let job = LoadJob::Start {
            map: map.clone(),
            replaces_mark: true,
            generation,
        };
        self.outbox
            .send(
                QueueName::Loads,
                Some(map),
                map.as_str(),
                &job,
                Duration::ZERO,
            )
            .await?;
        self.save(pulling).await?;
        self.schedule.set(map, due);
        Ok(())
    }

    /// Notes why the pull failed and when to try again.
    async fn give_up(
        &self,
        pulling: &mut Pulling<'_>,
        error: &SourceError,
        every: Option<Duration>,
    ) -> Result<(), PullError> {
        let now = self.clock.now();
        let map = pulling.map;
        let state = &mut pulling.state;
        state.failed += 1;
        state.error = Some(Failed {
            at: now,
            class: error.class(),
            message: error.to_string(),
        });
        state.lease = state.lease.released();
        let most = every
            .unwrap_or(LONGEST_WAIT)
            .min(LONGEST_WAIT)
            .max(FIRST_WAIT);
        let jitter = full_jitter(FIRST_WAIT, most, state.failed - 1, self.clock.random());
        let wait = error
            .retry_after()
            .unwrap_or_default()
            .max(jitter)
            .max(FIRST_WAIT / 5);
        let due = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        state.due = Some(due);
        let failed = state.failed;
        tracing::warn!(map.name = %map, "pull {failed} of map `{map}` failed: {error}");
        self.save(pulling).await?;
        self.schedule.set(map, due);
        if every.is_none() {
            // No timer will ask again.
            self.request(map, false, wait).await?;
        }
        // A source that refuses the request itself will do so until somebody changes the map.
        if matches!(error, SourceError::Invalid { .. }) && failed >= 5 {
            let reason = format!("its pull failed {failed} times: {error}");
            let _ = self
                .states
                .transition(map, MapEvent::Break { reason })
                .await;
        }
        Ok(())
    }
}
