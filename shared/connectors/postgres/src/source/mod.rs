//! PostgreSQL tables and queries as sources.
//!
//! # The trap of changes that are committed late
//!
//! A row gets its time of change, or its number from a sequence, when it is written; others see
//! it when its transaction ends. Who remembers the newest time he has read and asks for what is
//! newer never sees a row of a transaction that began before and ended after. So changes of a
//! table are not told by what stands in its rows but by the transactions that wrote them:
//!
//! - PostgreSQL numbers transactions in the order in which they first write, and keeps with each
//!   row the number of the one that wrote it (`xmin`). A snapshot knows the oldest transaction
//!   that has not ended (`pg_snapshot_xmin`): every smaller number has ended before it, and what
//!   it has written is seen.
//! - A mark is that number, taken before the first page is read. The next read gives all rows
//!   that were written by it or by any later transaction, whenever these ended, and whatever
//!   time stands in the rows.
//! - Rows of transactions that had ended already are read twice where an older one was still
//!   running. The guard makes that harmless. A transaction that stays open for hours makes every
//!   read in that time give what was written since it began.
//! - There is no index over `xmin`: each read of changes goes once through the table's blocks, as
//!   fast as a sequential scan, and in steps that never hold a lock for long. A table that is
//!   rewritten meanwhile is read from its first block on again. For tables so large
//!   that this takes too long `pull: { mode: cursor }` reads by the version's index instead.
//! - Numbers have 32 bits and go round. A row's age and the mark's age compare rightly as long as
//!   fewer than 2^31 transactions lie between mark and now; beyond that, and when the server was
//!   restored or a standby has taken over, whose numbers would mean something else, the mark is
//!   expired, and the map is loaded again.
//!
//! Queries and views have no `xmin`. Their changes are read by the version, from `pull.overlap`
//! before the newest one on: a row that is committed later than that after its time is missed
//! until it changes again or the map is loaded again, and so is every late row where the version
//! is a number. Prefer tables, or make the overlap longer than the longest transaction.
//!
//! # What no cursor sees
//!
//! Deleted rows leave nothing behind that a later read could find. A re-load finds them by their
//! absence; `from.deleted` makes deletes of rows that are only marked. A row that stops matching
//! `from.where` is not seen either.

mod changes;
mod fetch;
mod page;
mod place;
mod relation;
mod rows;
mod slices;
mod versions;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool::managed::Object;
use definition::{Map, PullMode};
use model::{Lane, Op, SliceRange};
use ports::{Clock, LowWater, Next, Page, PageRecord, ReadFrom, Source, SourceError, StreamSchema};

use crate::{
    connect::{Database, Dialler},
    error::Fault,
    source::{
        changes::Transactions,
        page::Records,
        place::{Cursor, Mark},
        relation::Relation,
    },
};

/// Rows per page, where the map does not say.
const PAGE: u32 = 5_000;
/// Rows up to which they are counted, and not estimated.
const COUNTED: f64 = 5_000_000.0;

/// What a map says of its stream.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    entity: String,
    query: Option<String>,
    key: Vec<String>,
    version: Option<String>,
    condition: Option<String>,
    /// Columns to read; `None` is all.
    select: Option<Vec<String>>,
    page_size: usize,
    overlap: Duration,
    mode: PullMode,
    slice_by: Option<String>,
}

/// Why a read stops.
#[derive(Debug)]
pub(crate) enum Halt {
    Fault(Fault),
    Source(SourceError),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<SourceError> for Halt {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl Halt {
    /// A cursor of another kind of read, from before the map was changed.
    fn stale_cursor() -> Self {
        let what = "the map was changed since this read began".to_owned();
        Self::Source(SourceError::Expired { what })
    }

    fn no_version() -> Self {
        let what = "changes can only be read by a version, and the map has none (any more)".into();
        Self::Source(SourceError::Expired { what })
    }
}

/// One table or query, as one map reads it.
pub struct PostgresSource {
    database: Database,
    stream: Stream,
    clock: Arc<dyn Clock>,
    /// What it looked like when a read last began.
    relation: Mutex<Option<Arc<Relation>>>,
}

impl fmt::Debug for PostgresSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSource")
            .field("database", &self.database)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl PostgresSource {
    /// The stream of `map`. `select` are the fields it reads; `None` is all of them.
    #[must_use]
    pub fn new(
        database: Database,
        clock: Arc<dyn Clock>,
        map: &Map,
        select: Option<Vec<&str>>,
    ) -> Self {
        let from = &map.from;
        let select = select.map(|some| {
            // Pages of a slice go on after the value of this one.
            let cut = map.load.by.as_deref();
            let all = some.into_iter().chain(cut).map(str::to_owned);
            all.collect()
        });
        let stream = Stream {
            entity: from.entity.clone(),
            query: from.query.clone(),
            key: from.key.clone(),
            version: from.version.field.clone(),
            condition: from.condition.clone(),
            select,
            page_size: map.pull.page_size.unwrap_or(PAGE).max(1) as usize,
            overlap: map.pull.overlap,
            mode: map.pull.mode,
            slice_by: map.load.by.clone(),
        };
        Self {
            database,
            stream,
            clock,
            relation: Mutex::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Arc<Relation>>> {
        self.relation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table or query as it is at the beginning of a read, kept for the rest of it.
    async fn relation(&self, db: &mut Object<Dialler>, anew: bool) -> Result<Arc<Relation>, Fault> {
        let known = self.known().clone();
        if let Some(known) = known.filter(|_| !anew) {
            return Ok(known);
        }
        let found = Arc::new(Relation::read(db, &self.stream).await?);
        *self.known() = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Runs `work` on a connection. After an error the connection is given up, and what is
    /// known of the table with it.
    async fn run<T>(
        &self,
        lane: Lane,
        work: impl AsyncFnOnce(&mut Object<Dialler>) -> Result<T, Halt>,
    ) -> Result<T, SourceError> {
        let place = self.database.place();
        let lent = self.database.lend(lane).await;
        let mut db = lent.map_err(|fault| fault.into_source(place))?;
        let limit = self.database.timeout() * 2;
        let done = tokio::time::timeout(limit, work(&mut db)).await;
        match done.unwrap_or(Err(Halt::Fault(Fault::Silent))) {
            Ok(done) => {
                db.done();
                Ok(done)
            }
            Err(halt) => {
                *self.known() = None;
                Err(match halt {
                    Halt::Fault(fault) => fault.into_source(place),
                    Halt::Source(error) => error,
                })
            }
        }
    }

    /// Whether changes are told by transactions.
    fn tracks(&self, relation: &Relation) -> Result<bool, SourceError> {
        if self.stream.mode == PullMode::Delta && !relation.tracks {
            return Err(SourceError::Invalid {
                what: format!(
                    "`{}` is no table, so its rows do not tell which transaction wrote them: leave out `pull.mode`, or read the table itself",
                    self.stream.entity
                ),
            });
        }
        Ok(relation.tracks && self.stream.mode != PullMode::Cursor)
    }

    /// Where changes made from now on are read from.
    async fn mark(
        &self,
        db: &mut Object<Dialler>,
        relation: &Relation,
    ) -> Result<Option<Mark>, Halt> {
        if self.tracks(relation)? {
            return Ok(Some(Transactions::now(db).await?.mark()));
        }
        Ok(versions::newest(db, &self.stream, relation).await?)
    }

    async fn read_page(
        &self,
        db: &mut Object<Dialler>,
        from: ReadFrom<'_>,
        cursor: Option<&str>,
    ) -> Result<(Records, Next), Halt> {
        let relation = self.relation(db, cursor.is_none()).await?;
        let cursor = match cursor {
            Some(text) => Some(Cursor::parse(text).ok_or_else(Halt::stale_cursor)?),
            None => None,
        };
        let stream = &self.stream;
        let mark = match from {
            ReadFrom::Rows(range) => {
                let (mark, place) = match cursor {
                    Some(Cursor { mark, place }) => (mark, Some(place)),
                    None if range.is_none() => (self.mark(db, &relation).await?, None),
                    None => (None, None),
                };
                return rows::read(db, stream, &relation, range, mark, place).await;
            }
            ReadFrom::Mark(mark) => Mark::parse(mark).ok_or_else(Halt::stale_cursor)?,
        };
        // A map that was changed meanwhile reads once more in the old way, and then in the new.
        let tracks = self.tracks(&relation)?;
        let switches = tracks != matches!(mark, Mark::Transaction { .. });
        let then = match &cursor {
            None if switches => self.mark(db, &relation).await?,
            _ => None,
        };
        match mark {
            Mark::Transaction { from, history } if relation.tracks => {
                changes::read(db, stream, &relation, (from, &history), then, cursor).await
            }
            Mark::Transaction { .. } => Err(Halt::stale_cursor()),
            Mark::Version { at } => versions::read(db, stream, &relation, at, then, cursor).await,
        }
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn describe(&self) -> Result<StreamSchema, SourceError> {
        self.run(Lane::Live, async |db| {
            let relation = self.relation(db, true).await?;
            self.tracks(&relation)?;
            Ok(StreamSchema {
                fields: relation.fields(),
                key: relation.key.clone(),
            })
        })
        .await
    }

    async fn low_water(&self) -> Result<LowWater, SourceError> {
        self.run(Lane::Live, async |db| {
            let relation = self.relation(db, true).await?;
            let mark = self.mark(db, &relation).await?;
            let rows = self.count(db, &relation).await?;
            Ok(LowWater {
                mark: mark.map(|mark| mark.to_source_mark()),
                rows,
            })
        })
        .await
    }

    async fn slices(&self, wanted: u32) -> Result<Vec<Option<SliceRange>>, SourceError> {
        if wanted < 2 {
            return Ok(vec![None]);
        }
        self.run(Lane::Live, async |db| {
            let relation = self.relation(db, true).await?;
            Ok(slices::cut(db, &self.stream, &relation, wanted).await?)
        })
        .await
    }

    async fn read(&self, from: ReadFrom<'_>, cursor: Option<&str>) -> Result<Page, SourceError> {
        let observed = self.clock.now().as_microsecond();
        let lane = match from {
            ReadFrom::Rows(_) => Lane::Load,
            ReadFrom::Mark(_) => Lane::Live,
        };
        let (records, next) = self
            .run(lane, async |db| self.read_page(db, from, cursor).await)
            .await?;
        let upsert = |raw| PageRecord {
            op: Op::Upsert,
            raw,
        };
        Ok(Page {
            records: records.raw.into_iter().map(upsert).collect(),
            observed,
            next,
        })
    }

    async fn fetch(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, SourceError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.run(Lane::Live, async |db| {
            let relation = self.relation(db, false).await?;
            fetch::fetch(db, &self.stream, &relation, keys).await
        })
        .await
    }

    fn can_fetch(&self) -> bool {
        true
    }
}

impl PostgresSource {
    /// How many rows there are: of a large table about.
    async fn count(
        &self,
        db: &mut Object<Dialler>,
        relation: &Relation,
    ) -> Result<Option<u64>, Fault> {
        let about = slices::estimate(db, relation).await?;
        if let Some(about) = about.filter(|about| *about > COUNTED) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of rows, and only an estimate"
            )]
            return Ok(Some(about as u64));
        }
        let filter = rows::Filter::of(&self.stream);
        let sql = format!(
            "SELECT count(*) FROM {} WHERE {}",
            relation.from,
            filter.text()
        );
        let statement = db.prepare(&sql).await?;
        match db
            .client
            .query_one(&statement, &[])
            .await
            .map_err(Fault::from)
        {
            Ok(row) => Ok(u64::try_from(row.try_get::<_, i64>(0)?).ok()),
            // It is only for people: no load waits for it.
            Err(fault) if fault.is("57014") => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}
