//! Rows past the guard.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use model::{Cause, Value, Version};
use ports::{
    RowOp, RowOutcome, Seen, TargetRow, WriteBatch,
    guard::{Action, Current, decide},
};
use tokio_postgres::Statement;

use crate::{
    connect::Connection,
    error::Fault,
    found,
    layout::Layout,
    parcel::{Packed, Packing, Parcel, compare},
    singly::{Turn, each},
    sql::{BESIDE, BURIED, EQUAL, HERE, MARKED, Shape, Sql},
    write::{Attempt, Refused, State, attempt, if_possible},
};

/// Writes a batch in the transaction that is open and holds the locks of its keys.
pub(crate) async fn write(
    db: &mut Connection,
    sql: &Sql<'_>,
    batch: &WriteBatch<'_>,
    state: State,
) -> Result<Vec<RowOutcome>, Fault> {
    db.stage(sql.stage_id, &sql.make_stage()).await?;
    let mut outcomes = vec![RowOutcome::Unchanged; batch.ops.len()];
    let mut next = 0;
    for (shape, mut rows) in shapes(sql.layout, batch) {
        sort_by_key(sql.layout, batch, &mut rows);
        let parcel = pack(sql.layout, batch, &shape, &rows, next, &mut outcomes);
        next += parcel.rows.len();
        let mut writing = Writing {
            sql,
            batch,
            shape: &shape,
            parcel: &parcel,
            keyed: !state.bulk,
            decided: Vec::with_capacity(parcel.rows.len()),
        };
        let failed = attempt(db, &mut writing, &parcel.rows).await?;
        for (at, outcome) in writing.decided {
            outcomes[at] = outcome;
        }
        for (at, cause) in failed {
            outcomes[at] = RowOutcome::Failed(cause);
        }
    }
    if let Some(generation) = batch.found_in
        && state.generation == generation
        && state.finds
    {
        found::remember(db, sql, &batch.rows, &outcomes).await?;
    }
    Ok(outcomes)
}

/// The rows of a batch by which cells they have. Of a delete only the key counts.
fn shapes(layout: &Layout, batch: &WriteBatch<'_>) -> BTreeMap<Shape, Vec<usize>> {
    let mut shapes: BTreeMap<Shape, Vec<usize>> = BTreeMap::new();
    let mut last: Shape = Vec::new();
    let mut rows: Vec<usize> = Vec::new();
    for (at, (row, op)) in batch.rows.iter().zip(&batch.ops).enumerate() {
        let present = |(column, cell): (usize, &Value<'_>)| {
            !cell.is_missing() && (!is_delete(op) || layout.spec.key.contains(&column))
        };
        let same =
            last.len() == row.len() && row.iter().enumerate().map(present).eq(last.iter().copied());
        if !same {
            if !rows.is_empty() {
                let last = std::mem::take(&mut last);
                shapes.entry(last).or_default().append(&mut rows);
            }
            last = row.iter().enumerate().map(present).collect();
        }
        rows.push(at);
    }
    if !rows.is_empty() {
        shapes.entry(last).or_default().append(&mut rows);
    }
    shapes
}

fn is_delete(op: &RowOp) -> bool {
    matches!(op, RowOp::Delete { .. } | RowOp::SettleDelete { .. })
}

/// Rows near each other in the index are looked up and inserted one after the other.
fn sort_by_key(layout: &Layout, batch: &WriteBatch<'_>, rows: &mut [usize]) {
    rows.sort_by(|a, b| {
        let (a, b) = (batch.rows.row(*a), batch.rows.row(*b));
        let mut keys = layout.spec.key.iter();
        keys.find_map(|at| {
            let order = compare(a.get(*at)?, b.get(*at)?);
            order.is_ne().then_some(order)
        })
        .unwrap_or(std::cmp::Ordering::Equal)
    });
}

/// Encodes rows of one shape. Those that cannot be written get their outcome now.
fn pack(
    layout: &Layout,
    batch: &WriteBatch<'_>,
    shape: &Shape,
    rows: &[usize],
    first: usize,
    outcomes: &mut [RowOutcome],
) -> Parcel {
    let fields = shape.iter().filter(|present| **present).count();
    let mut packing = Packing::new(i32::try_from(first).unwrap_or(i32::MAX), rows.len());
    for at in rows {
        let cells = layout.columns.iter().zip(batch.rows.row(*at));
        let cells = cells
            .zip(shape)
            .filter(|(_, present)| **present)
            .map(|(cell, _)| cell);
        let version = batch.ops.get(*at).map_or(i64::MIN, staged_version);
        if let Err(cause) = packing.stage(*at, version, fields, cells) {
            outcomes[*at] = RowOutcome::Failed(cause);
        }
    }
    packing.close()
}

fn staged_version(op: &RowOp) -> i64 {
    match op {
        RowOp::Upsert { version }
        | RowOp::Delete { version }
        | RowOp::SettleUpsert { version, .. } => version.0,
        RowOp::SettleDelete { .. } => i64::MIN,
    }
}

/// One bit for each row of a batch.
pub(crate) struct Bits(pub(crate) Vec<u8>);

impl Bits {
    /// No row. The server asks for the bit of every staged row, so there is room for all rows
    /// of the batch.
    pub(crate) fn none(all: usize) -> Self {
        Self(vec![0; all / 8 + 1])
    }

    pub(crate) fn of(rows: &[Packed], all: usize) -> Self {
        let mut bits = Self::none(all);
        for row in rows {
            bits.set(row.number);
        }
        bits
    }

    fn set(&mut self, number: i32) {
        let number = usize::try_from(number).unwrap_or(0);
        if let Some(byte) = self.0.get_mut(number / 8) {
            *byte |= 1 << (number % 8);
        }
    }

    fn has(&self, number: i32) -> bool {
        let number = usize::try_from(number).unwrap_or(0);
        let byte = self.0.get(number / 8).copied().unwrap_or(0);
        byte & (1 << (number % 8)) != 0
    }

    fn any(&self) -> bool {
        self.0.iter().any(|byte| *byte != 0)
    }
}

/// What is there under the key of a staged row.
struct Fact {
    version: Option<i64>,
    state: i16,
    seen: Option<Seen>,
}

impl Fact {
    fn has(&self, bit: i16) -> bool {
        self.state & bit != 0
    }

    fn current(&self, own: bool, expected: Option<&Seen>) -> Option<Current> {
        if !self.has(HERE) && !self.has(BESIDE) {
            return None;
        }
        let deleted = if own && self.has(HERE) {
            self.has(MARKED)
        } else {
            self.has(BURIED)
        };
        Some(Current {
            version: self.version.map(Version),
            deleted,
            equal: self.has(EQUAL),
            as_seen: expected.is_some() && expected == self.seen.as_ref(),
        })
    }
}

/// Reads what is there under the keys of the chosen staged rows, in their order.
async fn facts(
    db: &mut Connection,
    sql: &Sql<'_>,
    shape: &Shape,
    chosen: &Bits,
    seen: bool,
) -> Result<Vec<Fact>, Fault> {
    let statement = db.prepare(&sql.facts(shape, seen)).await?;
    let row = db.client.query_one(&statement, &[&chosen.0]).await?;
    let versions: Option<Vec<Option<i64>>> = row.try_get(0)?;
    let states: Option<Vec<i16>> = row.try_get(1)?;
    let mut names: Vec<String> = if seen {
        row.try_get::<_, Option<_>>(2)?.unwrap_or_default()
    } else {
        Vec::new()
    };
    names.reverse();
    let facts = versions
        .into_iter()
        .flatten()
        .zip(states.into_iter().flatten());
    Ok(facts
        .map(|(version, state)| Fact {
            version,
            state,
            seen: names.pop().map(|name| Seen(name.into())),
        })
        .collect())
}

/// Rows of one shape on their way past the guard.
struct Writing<'w, 'b> {
    sql: &'w Sql<'w>,
    batch: &'w WriteBatch<'b>,
    shape: &'w Shape,
    parcel: &'w Parcel,
    /// Whether the table has its key.
    keyed: bool,
    decided: Vec<(usize, RowOutcome)>,
}

/// What has to be done with which rows.
struct Work {
    insert: Bits,
    update: Bits,
    delete: Bits,
    /// Deleted in a version that nobody knows.
    undated: Bits,
    /// Beside the table: written, deleted, forgotten.
    written: Bits,
    buried: Bits,
    forgotten: Bits,
}

impl Attempt for Writing<'_, '_> {
    async fn run(&mut self, db: &mut Connection, rows: &[Packed]) -> Result<(), Fault> {
        self.stage(db, rows).await?;
        let before = self.decided.len();
        let work = self.read(db, rows).await?;
        let done = self.apply(db, work).await;
        if done.is_err() {
            self.decided.truncate(before);
        }
        done
    }

    async fn singly(
        &mut self,
        db: &mut Connection,
        rows: &[Packed],
    ) -> Result<Option<Refused>, Fault> {
        let before = self.decided.len();
        let done = if_possible(db, async |db| self.one_by_one(db, rows).await).await;
        if !matches!(done, Ok(Some(_))) {
            self.decided.truncate(before);
        }
        done
    }
}

impl Writing<'_, '_> {
    async fn stage(&self, db: &mut Connection, rows: &[Packed]) -> Result<(), Fault> {
        let copy = db.prepare(&self.sql.copy_to_stage(self.shape)).await?;
        self.parcel.copy(&db.client, &copy, rows).await
    }

    fn settles(&self, rows: &[Packed]) -> bool {
        rows.iter()
            .any(|row| expected(&self.batch.ops[row.at]).is_some())
    }

    /// Reads what is there under the keys of staged rows, and decides.
    async fn read(&mut self, db: &mut Connection, rows: &[Packed]) -> Result<Work, Fault> {
        let chosen = Bits::of(rows, self.batch.ops.len());
        let settles = self.settles(rows);
        let facts = facts(db, self.sql, self.shape, &chosen, settles).await?;
        Ok(self.decide(rows, &facts))
    }

    /// The same as [`Attempt::run`], with each row by itself: first those are found that cannot
    /// even be compared, then what is left is decided, and done.
    async fn one_by_one(&mut self, db: &mut Connection, rows: &[Packed]) -> Result<Refused, Fault> {
        self.stage(db, rows).await?;
        let chosen = Bits::of(rows, self.batch.ops.len());
        let places = db.prepare(&self.sql.staged_places()).await?;
        let places = db.client.query(&places, &[&chosen.0]).await?;
        let mut turns = Vec::with_capacity(rows.len());
        for place in places {
            let (place, which) = (place.try_get(0)?, 1);
            turns.push(Turn { place, which });
        }
        let facts = self.sql.facts(self.shape, self.settles(rows));
        let mut refused = each(db, &[facts], &turns).await?;
        let mut comparable = vec![true; rows.len()];
        for (at, _) in &refused {
            comparable[*at] = false;
        }
        let good = rows.iter().zip(&comparable).filter(|(_, good)| **good);
        let good: Vec<Packed> = good.map(|(row, _)| row.clone()).collect();
        let work = self.read(db, &good).await?;
        let (statements, chosen): (Vec<String>, Vec<Bits>) =
            self.statements(work).into_iter().unzip();
        for (row, turn) in rows.iter().zip(&mut turns) {
            let bits = (0..).zip(&chosen);
            turn.which = bits.fold(0, |which, (bit, chosen)| {
                which | (i32::from(chosen.has(row.number)) << bit)
            });
        }
        refused.extend(each(db, &statements, &turns).await?);
        let row = |(at, cause): (usize, _)| (rows[at].clone(), cause);
        let refused: Refused = refused.into_iter().map(row).collect();
        // They may be tried again, and must not be staged twice then.
        let again: Vec<Packed> = refused.iter().map(|(row, _)| row.clone()).collect();
        let again = Bits::of(&again, self.batch.ops.len());
        let unstage = db.prepare(&self.sql.unstage()).await?;
        db.client.execute(&unstage, &[&again.0]).await?;
        Ok(refused)
    }

    fn decide(&mut self, rows: &[Packed], facts: &[Fact]) -> Work {
        let own = self.sql.names.own();
        let none = || Bits::none(self.batch.ops.len());
        let mut work = Work {
            insert: none(),
            update: none(),
            delete: none(),
            undated: none(),
            written: none(),
            buried: none(),
            forgotten: none(),
        };
        for (row, fact) in rows.iter().zip(facts) {
            let op = &self.batch.ops[row.at];
            let (action, outcome) = decide(fact.current(own, expected(op)), op);
            match action {
                Action::Leave => {}
                Action::Write(_) => work.write(row.number, fact, own),
                Action::Bury(_) => work.bury(row.number, fact, op, self.sql.names.marks()),
            }
            self.decided.push((row.at, outcome));
        }
        work
    }

    /// The statements that do the work, each with its rows.
    fn statements(&self, work: Work) -> Vec<(String, Bits)> {
        let sql = self.sql;
        let undated = Bits(work.undated.0.clone());
        let mut statements = vec![(sql.insert(self.shape, self.keyed), work.insert)];
        if let Some(update) = sql.update(self.shape) {
            statements.push((update, work.update));
        }
        statements.extend([
            (sql.bury_undated(), undated),
            (sql.delete(false), work.undated),
            (sql.delete(true), work.delete),
            (sql.put_side(true), work.buried),
            (sql.put_side(false), work.written),
            (sql.drop_side(), work.forgotten),
        ]);
        statements.retain(|(_, chosen)| chosen.any());
        statements
    }

    async fn apply(&self, db: &mut Connection, work: Work) -> Result<(), Fault> {
        let mut statements: Vec<(Statement, Bits)> = Vec::new();
        for (text, chosen) in self.statements(work) {
            statements.push((db.prepare(&text).await?, chosen));
        }
        // All are sent at once, and done one after the other.
        let client = &db.client;
        let done = statements
            .iter()
            .map(|(statement, chosen)| client.execute_raw(statement, [&chosen.0]));
        // In their order: what comes after a statement that was refused only says so.
        for done in join_all(done).await {
            done?;
        }
        Ok(())
    }
}

impl Work {
    fn write(&mut self, number: i32, fact: &Fact, own: bool) {
        if !fact.has(HERE) {
            self.insert.set(number);
        } else if own || !fact.has(EQUAL) {
            self.update.set(number);
        }
        if !own {
            self.written.set(number);
        } else if fact.has(BESIDE) {
            self.forgotten.set(number);
        }
    }

    fn bury(&mut self, number: i32, fact: &Fact, op: &RowOp, marks: bool) {
        let here = fact.has(HERE);
        if matches!(op, RowOp::SettleDelete { .. }) {
            self.undated.set(number);
            return;
        }
        if here {
            self.delete.set(number);
        }
        if !here || !marks {
            self.buried.set(number);
        }
    }
}

fn expected(op: &RowOp) -> Option<&Seen> {
    match op {
        RowOp::SettleUpsert { seen, .. } | RowOp::SettleDelete { seen } => Some(seen),
        RowOp::Upsert { .. } | RowOp::Delete { .. } => None,
    }
}

/// The state of rows by their keys.
pub(crate) async fn look(
    db: &mut Connection,
    layout: &Layout,
    keys: &model::Rows<'_>,
) -> Result<Vec<TargetRow>, Fault> {
    let sql = Sql::new(layout);
    db.stage(sql.stage_id, &sql.make_stage()).await?;
    let shape: Shape = (0..layout.columns.len())
        .map(|column| layout.spec.key.contains(&column))
        .collect();
    let mut packing = Packing::new(0, keys.len());
    for (at, row) in keys.iter().enumerate() {
        let cells = layout.columns.iter().zip(row).zip(&shape);
        let cells = cells.filter(|(_, key)| **key).map(|(cell, _)| cell);
        // A key that cannot be written is not there either.
        let _: Result<(), Box<Cause>> = packing.stage(at, 0, layout.spec.key.len(), cells);
    }
    let parcel = packing.close();
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off";
    db.client.batch_execute(begin).await?;
    let copy = db.prepare(&sql.copy_to_stage(&shape)).await?;
    parcel.copy(&db.client, &copy, &parcel.rows).await?;
    let facts = facts(db, &sql, &shape, &Bits::of(&parcel.rows, keys.len()), true).await?;
    db.client.batch_execute("COMMIT").await?;
    let absent = TargetRow {
        seen: Seen("/".into()),
        version: None,
        exists: false,
    };
    let mut found = vec![absent; keys.len()];
    for (row, fact) in parcel.rows.iter().zip(facts) {
        let current = fact.current(sql.names.own(), None);
        found[row.at] = TargetRow {
            exists: fact.has(HERE) && current.is_some_and(|current| !current.deleted),
            version: fact.version.map(Version),
            seen: fact.seen.unwrap_or(Seen("/".into())),
        };
    }
    Ok(found)
}
