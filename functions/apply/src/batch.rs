//! Changes of one map, mapped and sorted out.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hash, Hasher, RandomState},
};

use mapping::{Mapped, Scratch};
use model::{
    Cause, Change, ErrorClass, Lane, Op, Origin, Outcome, Pack, PackHead, PackId, Rows,
    TraceParent, Value, Version,
};
use ports::{BulkPacks, RowOp, RowOutcome, Seen, TargetError, WriteBatch};
use runtime::Sample;

use crate::{
    handler::{Apply, Work},
    traced,
    verdict::Verdict,
};

/// The changes of some packs on their way to outcomes.
pub(crate) struct Batch<'a> {
    pub(crate) changes: Vec<&'a Change>,
    pub(crate) verdicts: Vec<Option<Verdict>>,
    /// When each change was made at the source, as far as can be told; not of a load, whose rows
    /// are as old as they are.
    made: Vec<Option<i64>>,
    /// Rows to write, with the operation and the change each belongs to.
    rows: Rows<'a>,
    writes: Vec<(RowOp, usize)>,
    /// Changes that have to be read from the source again.
    pub(crate) touches: Vec<usize>,
    filtered: HashSet<usize>,
    /// Changes that say what another one says, with that one.
    echoes: Vec<(usize, usize)>,
    /// Rows of keys that are written already: what comes after them says only what changed.
    later: Vec<(Rows<'a>, Vec<(RowOp, usize)>)>,
    packs: Vec<(PackId, usize)>,
    /// The changes of sampled traces, in order.
    traces: Vec<(usize, TraceParent)>,
    lane: Lane,
    /// Whether the source can be asked for single records.
    can_ask: bool,
    generation: u32,
    bulk: bool,
    found_in: Option<u32>,
    /// Keys of records that do not map. The load under way has found them all the same.
    unmapped: Rows<'a>,
}

impl<'a> Batch<'a> {
    /// Maps the changes of packs and decides among those of one key.
    pub(crate) fn new(work: &Work<'_>, packs: impl Iterator<Item = &'a Pack>) -> Self {
        let mut batch = Self {
            changes: Vec::new(),
            verdicts: Vec::new(),
            made: Vec::new(),
            rows: Rows::new(work.plan.table().columns.len()),
            writes: Vec::new(),
            touches: Vec::new(),
            filtered: HashSet::new(),
            echoes: Vec::new(),
            later: Vec::new(),
            packs: Vec::new(),
            traces: Vec::new(),
            lane: work.lane,
            can_ask: work.source.is_some(),
            generation: work.generation,
            bulk: work.bulk,
            found_in: work.found_in,
            unmapped: Rows::new(work.plan.table().columns.len()),
        };
        let mut scratch = Scratch::default();
        for pack in packs {
            if is_void(work, &pack.head) {
                batch.supersede(&pack.changes);
                continue;
            }
            batch.rows.reserve(pack.changes.len());
            let trace = traced::passed_on(work.traces, &pack.head);
            for change in &pack.changes {
                let at = batch.changes.len();
                batch.traces.extend(trace.map(|trace| (at, trace)));
                batch.add(work, pack.head.origin, change, &mut scratch);
            }
            batch.packs.push((pack.head.id, batch.writes.len()));
        }
        if !batch.bulk {
            batch.coalesce(&work.plan.table().key);
        }
        batch
    }

    /// What a load has brought that was given up: the newer one brings all that there still is.
    fn supersede(&mut self, changes: &'a [Change]) {
        let verdict = || Some(Verdict::Ended(Outcome::Superseded));
        self.changes.extend(changes);
        self.verdicts.resize_with(self.changes.len(), verdict);
        self.made.resize(self.changes.len(), None);
    }

    fn add(
        &mut self,
        work: &Work<'_>,
        origin: Origin,
        change: &'a Change,
        scratch: &mut Scratch<'a>,
    ) {
        ports::crash_on(&change.raw);
        let at = self.changes.len();
        self.changes.push(change);
        self.verdicts.push(None);
        let ignores = work.plan.table().deletes == ports::Deletes::Ignore;
        // A record that was read from its source and has no version is as old as can be: any
        // other state of it wins or has to be settled.
        let read = origin != Origin::Webhook && change.op == Op::Upsert;
        let oldest = |version: Option<Version>| version.or(read.then_some(Version(i64::MIN)));
        let mapped = work.plan.map_change(change, &mut self.rows, scratch);
        let made = (origin != Origin::Load).then(|| made(work, change, &mapped));
        self.made.push(made);
        match mapped {
            Mapped::Failed(cause) => {
                self.verdicts[at] = Some(Verdict::Failed(cause));
                if self.found_in.is_some() {
                    work.plan.key_row(change, &mut self.unmapped);
                }
            }
            Mapped::Delete { .. } if ignores => {
                self.rows.pop();
                self.verdicts[at] = Some(Verdict::Ended(Outcome::Filtered));
            }
            Mapped::Upsert { version } if oldest(version).is_some() => {
                let version = oldest(version).unwrap_or(Version(i64::MIN));
                self.writes.push((RowOp::Upsert { version }, at));
            }
            Mapped::Delete { version, filtered } if oldest(version).is_some() => {
                let version = oldest(version).unwrap_or(Version(i64::MIN));
                self.writes.push((RowOp::Delete { version }, at));
                if filtered {
                    self.filtered.insert(at);
                }
            }
            Mapped::Touch | Mapped::Delete { .. } | Mapped::Upsert { .. } => {
                self.rows.pop();
                self.touch(work, at);
            }
        }
    }

    /// A change that does not say how new it is: only the source can tell what holds now.
    fn touch(&mut self, work: &Work<'_>, at: usize) {
        if work.source.is_some() || self.changes[at].op == Op::Delete {
            self.touches.push(at);
            return;
        }
        let message = "the record does not say how new it is, and its source cannot be asked for single records: give the map a `version` field that every record has, or the stream an `item` path";
        let cause = Cause::new(ErrorClass::Mapping, "version-missing", message);
        self.verdicts[at] = Some(Verdict::Failed(Box::new(cause)));
    }

    /// Of the changes of one key the newest is written; older ones are superseded, equal ones
    /// echo it, and a tie is settled by the source. A change that does not say all of
    /// its record is written after the ones it builds on.
    fn coalesce(&mut self, key: &[usize]) {
        let repeated = self.repeated(key);
        if repeated.is_empty() {
            return;
        }
        let several: HashSet<usize> = repeated.iter().flatten().copied().collect();
        let once = (0..self.writes.len()).filter(|row| !several.contains(row));
        let mut rounds: Vec<Vec<usize>> = vec![once.collect()];
        for group in repeated {
            for (round, row) in self.chain(group).into_iter().enumerate() {
                if round == rounds.len() {
                    rounds.push(Vec::new());
                }
                rounds[round].push(row);
            }
        }
        let rounds = rounds.iter().map(|rows| self.round(rows));
        self.later = rounds.rev().collect();
        if let Some((rows, writes)) = self.later.pop() {
            (self.rows, self.writes) = (rows, writes);
        }
        self.packs.clear();
    }

    /// The rows of each key that comes more than once.
    fn repeated(&self, key: &[usize]) -> Vec<Vec<usize>> {
        let hashes = RandomState::new();
        let hash = |row: usize| (hash_key(&hashes, key, self.rows.row(row)), row);
        let mut order: Vec<(u64, usize)> = (0..self.writes.len()).map(hash).collect();
        order.sort_unstable();
        let cells = |row: usize| key.iter().map(move |at| self.rows.row(row).get(*at));
        let mut repeated: Vec<Vec<usize>> = Vec::new();
        for alike in order.chunk_by(|one, other| one.0 == other.0) {
            if alike.len() == 1 {
                continue;
            }
            // Other keys may have the same hash.
            let mut groups: Vec<Vec<usize>> = Vec::new();
            for (_, row) in alike {
                match groups
                    .iter_mut()
                    .find(|group| cells(group[0]).eq(cells(*row)))
                {
                    Some(group) => group.push(*row),
                    None => groups.push(vec![*row]),
                }
            }
            repeated.extend(groups.into_iter().filter(|group| group.len() > 1));
        }
        repeated
    }

    /// Of the rows of one key those to write, one after the other; the others are decided.
    fn chain(&mut self, mut group: Vec<usize>) -> Vec<usize> {
        group.sort_by_key(|row| version(&self.writes[*row].0));
        let whole = |row: &&usize| {
            matches!(self.writes[**row].0, RowOp::Delete { .. })
                || !self.rows.row(**row).iter().any(Value::is_missing)
        };
        let newest = group.iter().rev().find(whole);
        let newest = newest.map(|row| version(&self.writes[*row].0));
        let mut chain: Vec<usize> = Vec::new();
        let mut tied = false;
        for row in group {
            let (op, change) = &self.writes[row];
            let (this, change) = (version(op), *change);
            if newest.is_some_and(|newest| this < newest) {
                self.verdicts[change] = Some(Verdict::Ended(Outcome::Superseded));
                continue;
            }
            let before = chain.last().copied();
            let Some(before) = before.filter(|row| version(&self.writes[*row].0) == this) else {
                if std::mem::take(&mut tied) {
                    chain.pop();
                }
                chain.push(row);
                continue;
            };
            if self.writes[before].0 == *op && self.rows.row(before) == self.rows.row(row) {
                self.echoes.push((change, self.writes[before].1));
            } else {
                tied = true;
                self.touches.extend([self.writes[before].1, change]);
            }
        }
        if tied {
            chain.pop();
        }
        chain
    }

    /// Some of the rows, and what to do with them.
    fn round(&self, of: &[usize]) -> (Rows<'a>, Vec<(RowOp, usize)>) {
        let mut rows = Rows::new(self.rows.width());
        let mut writes = Vec::with_capacity(of.len());
        for row in of {
            rows.push_empty().clone_from_slice(self.rows.row(*row));
            writes.push(self.writes[*row].clone());
        }
        (rows, writes)
    }

    fn take_write(&mut self, key: &[usize]) -> WriteBatch<'a> {
        let mut rows = std::mem::replace(&mut self.rows, Rows::new(0));
        let mut ops: Vec<RowOp> = self.writes.iter().map(|(op, _)| op.clone()).collect();
        self.add_unmapped(key, &mut rows, &mut ops);
        WriteBatch {
            rows,
            ops,
            bulk: self.bulk.then(|| BulkPacks {
                generation: self.generation,
                packs: std::mem::take(&mut self.packs),
            }),
            found_in: self.found_in,
            lane: self.lane,
            traces: self.traces_of(self.writes.iter().map(|(_, at)| *at)),
        }
    }

    /// The rows of sampled traces, where these are the changes that rows are made of.
    pub(crate) fn traces_of(
        &self,
        changes: impl Iterator<Item = usize>,
    ) -> Vec<(usize, TraceParent)> {
        if self.traces.is_empty() {
            return Vec::new();
        }
        let known = |change| {
            let place = self.traces.binary_search_by_key(&change, |(at, _)| *at);
            place.ok().map(|place| self.traces[place].1)
        };
        let rows = changes.enumerate();
        rows.filter_map(|(row, change)| Some((row, known(change)?)))
            .collect()
    }

    /// Adds the rows of records that do not map, each key once, with an operation that does
    /// nothing: no row is in the state it asks for. So the target notes that the load under
    /// way has found them, and nobody takes them for gone.
    fn add_unmapped(&self, key: &[usize], rows: &mut Rows<'a>, ops: &mut Vec<RowOp>) {
        if self.unmapped.is_empty() {
            return;
        }
        let text = |cells: &[Value<'_>]| {
            mapping::key_text(key.iter().filter_map(|position| cells.get(*position)))
        };
        let mut known: HashSet<String> = rows.iter().map(text).collect();
        for cells in &self.unmapped {
            if known.insert(text(cells)) {
                rows.push_empty().clone_from_slice(cells);
                ops.push(RowOp::SettleDelete {
                    seen: Seen("".into()),
                });
            }
        }
    }

    /// Decides changes that say what another one says: nothing new, unless that one failed. Who
    /// sent them must not take for done what is not.
    fn decide_echoes(&mut self) {
        for (echo, of) in std::mem::take(&mut self.echoes) {
            self.verdicts[echo] = match &self.verdicts[of] {
                Some(Verdict::Ended(_)) => Some(Verdict::Ended(Outcome::Unchanged)),
                failed => failed.clone(),
            };
        }
    }

    fn decide(&mut self, at: usize, outcome: RowOutcome) {
        let ended = |outcome| Some(Verdict::Ended(outcome));
        self.verdicts[at] = match outcome {
            RowOutcome::Applied => ended(Outcome::Applied),
            RowOutcome::Unchanged if self.filtered.contains(&at) => ended(Outcome::Filtered),
            RowOutcome::Unchanged => ended(Outcome::Unchanged),
            RowOutcome::Superseded => ended(Outcome::Superseded),
            RowOutcome::Failed(cause) => Some(Verdict::Failed(cause)),
            // Nobody can be asked, and what failed before is no newer than what has not.
            RowOutcome::Tie if self.lane == Lane::Retry && !self.can_ask => {
                ended(Outcome::Superseded)
            }
            RowOutcome::Tie => {
                self.touches.push(at);
                None
            }
        };
    }

    /// Adds how long changes took from their source to the target. Only those that were written
    /// `now` have come to their end: what was there already got there before.
    pub(crate) fn measure(&self, now: i64, lag: &mut Sample) {
        for (verdict, made) in self.verdicts.iter().zip(&self.made) {
            if let (Some(Verdict::Ended(Outcome::Applied)), Some(made)) = (verdict, made) {
                // The clock of a source may be ahead.
                let micros = u64::try_from(now.saturating_sub(*made)).unwrap_or(0);
                lag.add(micros / 1_000);
            }
        }
    }

    pub(crate) fn into_verdicts(self) -> Vec<Verdict> {
        let undecided = || {
            let message = "the change was not decided: this is a mistake in syncline";
            Verdict::Failed(Box::new(Cause::new(
                ErrorClass::Transient,
                "undecided",
                message,
            )))
        };
        self.verdicts
            .into_iter()
            .map(|verdict| verdict.unwrap_or_else(undecided))
            .collect()
    }
}

/// When a change was made: its version, where that is a time, or else when it was noticed.
fn made(work: &Work<'_>, change: &Change, mapped: &Mapped) -> i64 {
    let version = match mapped {
        Mapped::Upsert { version } | Mapped::Delete { version, .. } => *version,
        Mapped::Touch | Mapped::Failed(_) => None,
    };
    let committed = version.and_then(|version| work.plan.committed(version));
    committed.unwrap_or(change.observed)
}

/// Whether a pack is of a load that a newer one has made void. What it says may be gone from the
/// source, and would then come back for good.
fn is_void(work: &Work<'_>, head: &PackHead) -> bool {
    head.origin == Origin::Load && work.lane == Lane::Load && head.generation < work.generation
}

fn version(op: &RowOp) -> Version {
    match op {
        RowOp::Upsert { version }
        | RowOp::Delete { version }
        | RowOp::SettleUpsert { version, .. } => *version,
        RowOp::SettleDelete { .. } => Version(i64::MIN),
    }
}

fn hash_key(state: &RandomState, key: &[usize], cells: &[Value<'_>]) -> u64 {
    let mut hasher = state.build_hasher();
    for at in key {
        match cells.get(*at) {
            Some(Value::Int(value) | Value::Timestamp(value) | Value::Time(value)) => {
                value.hash(&mut hasher);
            }
            Some(Value::Text(text) | Value::Decimal(text) | Value::Json(text)) => {
                text.hash(&mut hasher);
            }
            Some(Value::Uuid(bytes)) => bytes.hash(&mut hasher),
            Some(Value::Date(days)) => days.hash(&mut hasher),
            Some(Value::Bool(value)) => value.hash(&mut hasher),
            Some(Value::Bytes(bytes)) => bytes.hash(&mut hasher),
            Some(Value::Float(value)) => value.to_bits().hash(&mut hasher),
            Some(Value::Missing | Value::Null) | None => {}
        }
    }
    hasher.finish()
}

impl Apply {
    /// Writes what can be written as it is, then what the source has to be asked for. Says
    /// whether the target was asked at all.
    pub(crate) async fn write_batch(
        &self,
        work: &Work<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<bool, TargetError> {
        let mut asked = false;
        loop {
            let write = batch.take_write(&work.plan.table().key);
            if !write.ops.is_empty() {
                asked = true;
                let outcomes = work.target.write(work.plan.table(), &write).await?;
                let writes = std::mem::take(&mut batch.writes);
                // What comes after the writes are rows that do not map, which have their
                // verdicts.
                for ((_, at), outcome) in writes.into_iter().zip(outcomes) {
                    batch.decide(at, outcome);
                }
            }
            let Some((rows, writes)) = batch.later.pop() else {
                break;
            };
            (batch.rows, batch.writes) = (rows, writes);
        }
        if !batch.touches.is_empty() {
            asked = true;
            self.settle_touches(work, batch).await?;
        }
        batch.decide_echoes();
        self.close_overtaken(work, batch).await?;
        Ok(asked)
    }

    /// A failure that fails again although the target has something newer of its record by
    /// now needs no third attempt: it is superseded.
    async fn close_overtaken(
        &self,
        work: &Work<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<(), TargetError> {
        let mut rows = Rows::new(work.plan.table().columns.len());
        let mut tried: Vec<(usize, Version)> = Vec::new();
        for (at, change) in batch.changes.iter().enumerate() {
            let failed = matches!(batch.verdicts[at], Some(Verdict::Failed(_)));
            if failed && change.failure.is_some() && !work.plan.orders_by_arrival() {
                tried.extend(
                    work.plan
                        .identity(change, &mut rows)
                        .map(|version| (at, version)),
                );
            }
        }
        if tried.is_empty() {
            return Ok(());
        }
        let found = work.target.look(work.plan.table(), &rows).await?;
        for ((at, version), row) in tried.into_iter().zip(found) {
            if row.version.is_some_and(|newer| newer > version) {
                batch.verdicts[at] = Some(Verdict::Ended(Outcome::Superseded));
            }
        }
        Ok(())
    }
}
