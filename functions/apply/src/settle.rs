//! Reading the source again: touches, changes without a version, and ties.
//!
//! The target is looked at first, then the source is read, then the target is written if it
//! is still as it was. So whatever is written was read after what it replaces, and two
//! workers on one record cannot put an older reading over a newer one.

use bytes::Bytes;
use mapping::{Mapped, Scratch};
use model::{Cause, Change, ErrorClass, Op, Outcome, Rows, Version};
use ports::{Deletes, RowOp, RowOutcome, Seen, SourceError, TargetError, WriteBatch};

use crate::{
    batch::Batch,
    fetch,
    handler::{Apply, Work},
    verdict::Verdict,
};

/// How often a record that keeps changing meanwhile is read again.
const ATTEMPTS: usize = 4;
/// Records per reading.
const AT_ONCE: usize = 500;

/// One record to settle and the changes that wait for it.
struct Record {
    /// The change whose raw data names the record.
    first: usize,
    /// Changes of the same record.
    others: Vec<usize>,
}

impl Apply {
    pub(crate) async fn settle_touches(
        &self,
        work: &Work<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<(), TargetError> {
        let mut open = records(work, batch);
        for _ in 0..ATTEMPTS {
            let mut still_open = Vec::new();
            for some in chunks(open) {
                still_open.extend(self.settle_some(work, batch, some).await?);
            }
            open = still_open;
            if open.is_empty() {
                return Ok(());
            }
        }
        for record in open {
            let message = "the record changed each time it was read again; it is tried later";
            let cause = Cause::new(ErrorClass::Transient, "unsettled", message);
            decide(batch, &record, Verdict::Failed(Box::new(cause)));
        }
        Ok(())
    }

    /// Settles records as far as possible; returns those that changed meanwhile.
    async fn settle_some(
        &self,
        work: &Work<'_>,
        batch: &mut Batch<'_>,
        records: Vec<Record>,
    ) -> Result<Vec<Record>, TargetError> {
        let table = work.plan.table();
        let mut keys = Rows::new(table.columns.len());
        let changes: Vec<Change> = records
            .iter()
            .map(|record| touch(batch.changes[record.first]))
            .collect();
        for change in &changes {
            // It was mapped before, so its key can be read.
            let _ = work
                .plan
                .map_change(change, &mut keys, &mut Scratch::default());
        }
        let seen: Vec<Seen> = work
            .target
            .look(table, &keys)
            .await?
            .into_iter()
            .map(|row| row.seen)
            .collect();
        let mut now: Vec<Option<Option<Change>>> = Vec::with_capacity(records.len());
        let read = self.read_again(work, batch, &records).await;
        for (record, read) in records.iter().zip(read) {
            match read {
                Ok(read) => now.push(Some(read)),
                Err(error) => {
                    decide(batch, record, Verdict::Failed(Box::new(error.to_cause())));
                    now.push(None);
                }
            }
        }
        let mut rows = Rows::new(table.columns.len());
        let mut ops = Vec::new();
        let mut written = Vec::new();
        for (((record, change), current), seen) in
            records.into_iter().zip(&changes).zip(&now).zip(seen)
        {
            let Some(current) = current else { continue };
            match operation(work, change, current.as_ref(), seen, &mut rows) {
                Ok(op) => {
                    ops.push(op);
                    written.push(record);
                }
                Err(verdict) => decide(batch, &record, verdict),
            }
        }
        let write = WriteBatch {
            rows,
            ops,
            bulk: None,
            found_in: work.found_in,
            lane: work.lane,
            traces: batch.traces_of(written.iter().map(|record| record.first)),
        };
        let outcomes = work.target.write(table, &write).await?;
        Ok(written
            .into_iter()
            .zip(outcomes)
            .filter_map(|(record, outcome)| conclude(batch, record, outcome))
            .collect())
    }

    /// The records as they are now. Where the source cannot be asked, what the changes say is
    /// all there is.
    async fn read_again(
        &self,
        work: &Work<'_>,
        batch: &Batch<'_>,
        records: &[Record],
    ) -> Vec<Result<Option<Change>, SourceError>> {
        let observed = self.clock.now().as_microsecond();
        let Some(source) = work.source else {
            let latest = |record: &Record| {
                let at = record
                    .others
                    .iter()
                    .chain([&record.first])
                    .max_by_key(|at| batch.changes[**at].observed);
                let change = batch.changes[at.copied().unwrap_or(record.first)];
                (change.op == Op::Upsert).then(|| change.clone())
            };
            return records.iter().map(|record| Ok(latest(record))).collect();
        };
        let keys: Vec<Bytes> = records
            .iter()
            .map(|record| batch.changes[record.first].raw.clone())
            .collect();
        let change = |raw: Option<Bytes>| {
            raw.map(|raw| Change {
                op: Op::Upsert,
                observed,
                raw,
                failure: None,
            })
        };
        let found = fetch::fetch(source, &keys).await;
        found.into_iter().map(|found| found.map(change)).collect()
    }
}

/// What to write for a record that was read again; the row is added to `rows`. Where nothing
/// is to be written, what became of the record.
fn operation<'r>(
    work: &Work<'_>,
    key: &'r Change,
    current: Option<&'r Change>,
    seen: Seen,
    rows: &mut Rows<'r>,
) -> Result<RowOp, Verdict> {
    let mapped = work
        .plan
        .map_change(current.unwrap_or(key), rows, &mut Scratch::default());
    match mapped {
        Mapped::Failed(cause) => Err(Verdict::Failed(cause)),
        // Without a version it is as old as can be; that it was read just now settles it.
        Mapped::Upsert { version } => Ok(RowOp::SettleUpsert {
            version: version.unwrap_or(Version(i64::MIN)),
            seen,
        }),
        Mapped::Delete { .. } | Mapped::Touch if work.plan.table().deletes == Deletes::Ignore => {
            rows.pop();
            Err(Verdict::Ended(Outcome::Filtered))
        }
        Mapped::Delete { .. } | Mapped::Touch => Ok(RowOp::SettleDelete { seen }),
    }
}

/// Decides a record that was written; gives it back if it changed meanwhile.
fn conclude(batch: &mut Batch<'_>, record: Record, outcome: RowOutcome) -> Option<Record> {
    let verdict = match outcome {
        RowOutcome::Tie => return Some(record),
        RowOutcome::Failed(cause) => Verdict::Failed(cause),
        RowOutcome::Applied => Verdict::Ended(Outcome::Applied),
        RowOutcome::Unchanged => Verdict::Ended(Outcome::Unchanged),
        RowOutcome::Superseded => Verdict::Ended(Outcome::Superseded),
    };
    decide(batch, &record, verdict);
    None
}

fn touch(change: &Change) -> Change {
    Change {
        op: Op::Touch,
        failure: None,
        ..change.clone()
    }
}

/// The records that are touched, each once.
fn records(work: &Work<'_>, batch: &mut Batch<'_>) -> Vec<Record> {
    let mut places = std::collections::HashMap::new();
    let mut records: Vec<Record> = Vec::new();
    let mut touches = std::mem::take(&mut batch.touches);
    touches.sort_unstable();
    touches.dedup();
    for at in touches {
        let Some(key) = work.plan.key_of(batch.changes[at]) else {
            continue;
        };
        let place = *places.entry(key).or_insert(records.len());
        match records.get_mut(place) {
            Some(record) => record.others.push(at),
            None => records.push(Record {
                first: at,
                others: Vec::new(),
            }),
        }
    }
    records
}

fn chunks(records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut chunks = Vec::new();
    let mut rest = records;
    while rest.len() > AT_ONCE {
        let later = rest.split_off(AT_ONCE);
        chunks.push(std::mem::replace(&mut rest, later));
    }
    chunks.push(rest);
    chunks
}

/// One verdict for the record; what else touched it says nothing new.
fn decide(batch: &mut Batch<'_>, record: &Record, verdict: Verdict) {
    for other in &record.others {
        batch.verdicts[*other] = Some(match &verdict {
            Verdict::Failed(_) => verdict.clone(),
            Verdict::Ended(_) => Verdict::Ended(Outcome::Unchanged),
        });
    }
    batch.verdicts[record.first] = Some(verdict);
}
