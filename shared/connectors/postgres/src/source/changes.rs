//! Changes by the transactions that made them.

use ports::{Next, SourceError};

use crate::{
    connect::Connection,
    error::Fault,
    source::{
        Halt, Stream,
        page::{Records, collect},
        place::{Blocks, Cursor, Mark, Place},
        relation::Relation,
        rows::Filter,
    },
};

/// Blocks of the first statement of a read, and bounds for later ones: few where most rows
/// have changed, many where none has.
const FIRST_STEP: u64 = 512;
const SMALLEST_STEP: u64 = 16;
const LARGEST_STEP: u64 = 16_384;
/// Blocks after which a page ends though it is not full, so that a caller can look at its
/// clock.
const BLOCKS_PER_PAGE: u64 = 65_536;
/// Distance between two transactions beyond which their 32 bits do not tell the older one.
const HALF_ROUND: u64 = 1 << 31;

/// The transactions of the server as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transactions {
    /// The oldest that is not at an end.
    pub(crate) oldest: u64,
    /// The next one.
    next: u64,
    /// The history of the server: another one after it was restored, or a standby took over.
    pub(crate) history: String,
}

impl Transactions {
    pub(crate) async fn now(db: &mut Connection) -> Result<Self, Fault> {
        // Asked first, so that what is read after it is at least as new.
        let sql = "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() AS s";
        let statement = db.prepare(sql).await?;
        let row = db.client.query_one(&statement, &[]).await?;
        let number = |at: usize| -> Result<u64, Fault> {
            let text: &str = row.try_get(at)?;
            text.parse()
                .map_err(|_| Fault::Schema(format!("`{text}` is no number of a transaction")))
        };
        Ok(Self {
            oldest: number(0)?,
            next: number(1)?,
            history: history(db).await?,
        })
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark::Transaction {
            from: self.oldest,
            history: self.history.clone(),
        }
    }

    /// Why changes cannot be read on from a mark, if they cannot.
    fn refuse(&self, from: u64, history: &str) -> Option<&'static str> {
        if history != self.history {
            return Some("the server was restored, or another one has taken its place");
        }
        if from > self.next {
            return Some("the server does not know the transaction it begins at");
        }
        if self.next - from >= HALF_ROUND {
            return Some("more than two thousand million transactions have ended since");
        }
        None
    }
}

/// The server's identifier and timeline, as far as they may be read.
async fn history(db: &mut Connection) -> Result<String, Fault> {
    let sql = "SELECT s.system_identifier::text || '/' || c.timeline_id::text
        FROM pg_control_system() AS s, pg_control_checkpoint() AS c";
    let statement = db.prepare(sql).await?;
    match db
        .client
        .query_one(&statement, &[])
        .await
        .map_err(Fault::from)
    {
        Ok(row) => Ok(row.try_get(0)?),
        Err(fault) if fault.is("42501") => Ok(String::new()),
        Err(fault) => Err(fault),
    }
}

/// The blocks of the largest of the tables that a table consists of, before the first of them.
async fn all_blocks(db: &mut Connection, relation: &Relation) -> Result<Blocks, Fault> {
    let sql = "WITH RECURSIVE tables (id) AS (
          SELECT to_regclass($1)::oid UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tables ON i.inhparent = id)
        SELECT COALESCE(max(pg_relation_size(id) / current_setting('block_size')::bigint), 0),
          COALESCE(string_agg(pg_relation_filenode(id)::text, ',' ORDER BY id), '')
        FROM tables";
    let statement = db.prepare(sql).await?;
    let row = db.client.query_one(&statement, &[&relation.table]).await?;
    let blocks: i64 = row.try_get(0)?;
    Ok(Blocks {
        block: 0,
        end: u64::try_from(blocks).unwrap_or(0),
        step: FIRST_STEP,
        after: None,
        files: row.try_get(1)?,
    })
}

/// Begins with the first block again if the table was rewritten, by VACUUM FULL or CLUSTER:
/// then rows are in other blocks than they were, and may have come to lie where was read already.
async fn follow(db: &mut Connection, relation: &Relation, place: &mut Blocks) -> Result<(), Fault> {
    let now = all_blocks(db, relation).await?;
    if now.files != place.files {
        *place = now;
    }
    Ok(())
}

/// Reads a page of rows that transactions from `from` on have written. The next read begins at
/// `then`, else at the oldest transaction that was not at an end when this one began.
pub(crate) async fn read(
    db: &mut Connection,
    stream: &Stream,
    relation: &Relation,
    (from, history): (u64, &str),
    then: Option<Mark>,
    cursor: Option<Cursor>,
) -> Result<(Records, Next), Halt> {
    let (mark, mut place) = match cursor {
        None => {
            let now = Transactions::now(db).await?;
            if let Some(why) = now.refuse(from, history) {
                let what = format!(
                    "changes of `{}` cannot be told any more: {why}",
                    stream.entity
                );
                return Err(SourceError::Expired { what }.into());
            }
            let all = all_blocks(db, relation).await?;
            (then.unwrap_or_else(|| now.mark()), all)
        }
        Some(Cursor {
            mark: Some(mark),
            place: Place::Blocks(place),
        }) => (mark, place),
        Some(_) => return Err(Halt::stale_cursor()),
    };
    follow(db, relation, &mut place).await?;
    let mut all = Records::default();
    let first = place.block;
    while place.block < place.end && !all.more && place.block - first < BLOCKS_PER_PAGE {
        let most = stream.page_size - all.raw.len();
        let some = read_step(db, stream, relation, from, &mut place, most).await?;
        all.raw.extend(some.raw);
        all.more = some.more || all.raw.len() >= stream.page_size;
    }
    follow(db, relation, &mut place).await?;
    if place.block >= place.end {
        return Ok((all, Next::End(Some(mark.to_source_mark()))));
    }
    let cursor = Cursor {
        mark: Some(mark),
        place: Place::Blocks(place),
    };
    Ok((all, Next::Page(cursor.to_string())))
}

/// Reads the next blocks, and goes on behind what was read of them.
async fn read_step(
    db: &mut Connection,
    stream: &Stream,
    relation: &Relation,
    from: u64,
    place: &mut Blocks,
    most: usize,
) -> Result<Records, Fault> {
    let until = (place.block + place.step).min(place.end);
    let mut filter = Filter::of(stream);
    let (low, high) = (
        filter.param(&format!("({},0)", place.block)),
        filter.param(&format!("({until},0)")),
    );
    // The ages of two transactions compare rightly however often their numbers have gone
    // round; that of a row from before a round may look young, which does no harm.
    let oldest = filter.param(&(from & u64::from(u32::MAX)).to_string());
    filter.conditions.push(format!(
            "r.ctid >= ${low}::text::tid AND r.ctid < ${high}::text::tid AND age(r.xmin) <= age(${oldest}::text::xid)"
        ));
    if let Some((table, row)) = &place.after {
        let (table, row) = (filter.param(table), filter.param(row));
        filter.conditions.push(format!(
            "(r.tableoid, r.ctid) > (${table}::text::oid, ${row}::text::tid)"
        ));
    }
    let limit = filter.param(&most.to_string());
    let sql = format!(
            "SELECT (SELECT row_to_json(x) FROM (SELECT {list}) AS x)::text, r.tableoid::text, r.ctid::text
             FROM (SELECT r.tableoid, r.ctid, r.* FROM {from} WHERE {filter} ORDER BY r.tableoid, r.ctid LIMIT ${limit}::text::bigint) AS r",
            list = relation.list(stream.select.as_deref()),
            from = relation.from,
            filter = filter.text(),
        );
    let records = collect(db, &sql, &filter.params, most).await?;
    match &records.beside[..] {
        [table, row] if records.more => {
            // The rest of this step comes next.
            place.after = Some((table.clone(), row.clone()));
            place.step = until - place.block;
        }
        _ => {
            place.block = until;
            place.after = None;
            let few = records.raw.len() < stream.page_size / 8;
            place.step = if few {
                (place.step * 2).min(LARGEST_STEP)
            } else {
                (place.step / 2).max(SMALLEST_STEP)
            };
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_another_server_or_of_long_ago_is_refused() {
        let now = Transactions {
            oldest: 5_000_000_000,
            next: 5_000_000_010,
            history: "a/1".into(),
        };
        assert_eq!(now.refuse(5_000_000_000, "a/1"), None);
        assert_eq!(now.refuse(4_000_000_000, "a/1"), None);
        assert!(now.refuse(5_000_000_000, "a/2").is_some());
        assert!(now.refuse(5_000_000_011, "a/1").is_some());
        assert!(now.refuse(5_000_000_010 - HALF_ROUND, "a/1").is_some());
    }
}
