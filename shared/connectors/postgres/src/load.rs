//! Loads: how they write, and how bulk loads end.

use model::LoadMode;
use ports::LoadEnd;

use crate::{
    connect::Connection,
    error::Fault,
    found::{key_list, make_found, read_keys, unsigned},
    layout::Layout,
    lock::{self, UNLIMITED},
    names::{DELETED, Names, VERSION, quote, split},
    write::State,
};

/// Begins a transaction that nobody else writes the table beside, nor works out what a load
/// has not found.
pub(crate) async fn begin_alone(db: &Connection, names: &Names<'_>) -> Result<(), Fault> {
    let opening = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; {UNLIMITED}; {}; {}",
        lock::sweep(names),
        lock::alone(names)
    );
    Ok(db.client.batch_execute(&opening).await?)
}

/// Begins a load.
pub(crate) async fn begin(
    db: &mut Connection,
    layout: &Layout,
    generation: u32,
) -> Result<LoadMode, Fault> {
    let names = Names::new(&layout.spec);
    begin_alone(db, &names).await?;
    let mut state = State::read(db, &names).await?;
    if state.generation != generation {
        if state.bulk && !layout.direct {
            end_in_transaction(db, layout).await?;
            state.bulk = false;
        }
        if state.bulk && names.own() {
            empty(db, &names).await?;
        }
        let bulk = names.own()
            && layout.direct
            && (state.bulk || (is_untouched(db, &names).await? && drop_key(db, &names).await?));
        if !bulk {
            make_found(db, layout).await?;
        }
        let (_, table) = split(&layout.spec.name);
        let update = format!(
            "UPDATE {} SET bulk = $2, generation = $3 WHERE name = $1",
            names.tables
        );
        db.client
            .execute(&update, &[&table, &bulk, &i64::from(generation)])
            .await?;
        state.bulk = bulk;
    }
    db.client.batch_execute("COMMIT").await?;
    Ok(if state.bulk {
        LoadMode::Bulk
    } else {
        LoadMode::Guarded
    })
}

/// Whether a table has no rows, and nothing is kept beside it: where there are tombstones from
/// before a load, they could not be told from those that it has made.
async fn is_untouched(db: &Connection, names: &Names<'_>) -> Result<bool, Fault> {
    let sql = format!(
        "SELECT NOT EXISTS (SELECT 1 FROM {}) AND NOT EXISTS (SELECT 1 FROM {})",
        names.table, names.side
    );
    Ok(db.client.query_one(&sql, &[]).await?.try_get(0)?)
}

/// Takes away what a load that was given up has brought: it may be gone from the source by now.
async fn empty(db: &Connection, names: &Names<'_>) -> Result<(), Fault> {
    let truncate = format!("TRUNCATE {}, {}", names.table, names.side);
    db.client.batch_execute(&truncate).await?;
    forget_packs(db, names).await
}

async fn forget_packs(db: &Connection, names: &Names<'_>) -> Result<(), Fault> {
    let (_, table) = split(&names.spec.name);
    let delete = format!("DELETE FROM {} WHERE name = $1", names.packs);
    db.client.execute(&delete, &[&table]).await?;
    Ok(())
}

/// Takes the key away; says whether it could be done. It cannot when another table refers
/// to it.
async fn drop_key(db: &Connection, names: &Names<'_>) -> Result<bool, Fault> {
    let select = "SELECT conname::text FROM pg_constraint WHERE conrelid = to_regclass($1) AND contype = 'p'";
    let Some(row) = db.client.query_opt(select, &[&names.table]).await? else {
        return Ok(true);
    };
    let key = quote(&row.try_get::<_, String>(0)?);
    let drop = format!(
        "SAVEPOINT key; ALTER TABLE {} DROP CONSTRAINT {key}; RELEASE key",
        names.table
    );
    match db.client.batch_execute(&drop).await.map_err(Fault::from) {
        Ok(()) => Ok(true),
        Err(fault) if fault.is("2BP01") => {
            db.client
                .batch_execute("ROLLBACK TO key; RELEASE key")
                .await?;
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}

/// The statement that gives a table of Syncline's own its key.
pub(crate) fn make_key(names: &Names<'_>) -> String {
    format!(
        "ALTER TABLE {} ADD PRIMARY KEY ({})",
        names.table,
        names.key_columns().join(", ")
    )
}

/// Ends a bulk load: takes out doubles, makes the key, and lets tombstones of the load take
/// effect.
pub(crate) async fn end(
    db: &mut Connection,
    layout: &Layout,
    generation: u32,
) -> Result<LoadEnd, Fault> {
    let names = Names::new(&layout.spec);
    begin_alone(db, &names).await?;
    let state = State::of_load(db, &names, generation).await?;
    let mut end = LoadEnd::default();
    if state.bulk {
        end = end_in_transaction(db, layout).await?;
    }
    db.client.batch_execute("COMMIT").await?;
    Ok(end)
}

async fn end_in_transaction(db: &mut Connection, layout: &Layout) -> Result<LoadEnd, Fault> {
    let names = Names::new(&layout.spec);
    let mut end = LoadEnd::default();
    let key = make_key(&names);
    let attempt = format!("SAVEPOINT key; {key}; RELEASE key");
    match db.client.batch_execute(&attempt).await.map_err(Fault::from) {
        Ok(()) => {}
        Err(fault) if fault.is("23505") => {
            let undo = "ROLLBACK TO key; RELEASE key";
            db.client.batch_execute(undo).await?;
            remove_doubles(db, layout, &mut end).await?;
            db.client.batch_execute(&key).await?;
        }
        Err(fault) => return Err(fault),
    }
    bury_deleted(db, layout, &mut end).await?;
    let (_, table) = split(&layout.spec.name);
    let update = format!("UPDATE {} SET bulk = FALSE WHERE name = $1", names.tables);
    db.client.execute(&update, &[&table]).await?;
    forget_packs(db, &names).await?;
    // Until autovacuum comes by, the planner would take the table for a small one.
    db.client
        .batch_execute(&format!("ANALYZE {}", names.table))
        .await?;
    Ok(end)
}

/// Of several rows of one key the newest stays, and of several of one version the first.
async fn remove_doubles(
    db: &mut Connection,
    layout: &Layout,
    end: &mut LoadEnd,
) -> Result<(), Fault> {
    let names = Names::new(&layout.spec);
    let key = names.key_columns().join(", ");
    let columns = |prefix: &str| -> String {
        let parts: Vec<String> = layout
            .columns
            .iter()
            .map(|column| format!("{prefix}{}", column.name))
            .collect();
        parts.join(", ")
    };
    let find = format!(
        "CREATE TEMP TABLE _syncline_doubles ON COMMIT DROP AS
         SELECT t.ctid AS place, {keys}, t.{VERSION} AS version, row_number() OVER same AS rank,
           first_value(t.{VERSION}) OVER same AS newest,
           ROW({content}) IS NOT DISTINCT FROM first_value(ROW({content})) OVER same AS equal
         FROM {table} AS t
         JOIN (SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1) AS k ON {join}
         WINDOW same AS (PARTITION BY {keys} ORDER BY t.{VERSION} DESC, t.ctid);
         DELETE FROM {table} AS t USING _syncline_doubles AS x WHERE t.ctid = x.place AND x.rank > 1",
        keys = names
            .key_columns()
            .iter()
            .map(|column| format!("t.{column}"))
            .collect::<Vec<_>>()
            .join(", "),
        content = columns("t."),
        table = names.table,
        join = names.keys_join("k", "t"),
    );
    db.client.batch_execute(&find).await?;
    let count =
        "SELECT count(*) FILTER (WHERE version < newest), count(*) FILTER (WHERE version = newest)
        FROM _syncline_doubles WHERE rank > 1";
    let row = db.client.query_one(count, &[]).await?;
    end.superseded += unsigned(row.try_get(0)?);
    end.unchanged += unsigned(row.try_get(1)?);
    let ties = format!(
        "SELECT DISTINCT {} FROM _syncline_doubles AS x WHERE rank > 1 AND version = newest AND NOT equal",
        key_list(layout, "x")
    );
    let rows = db.client.query(&ties, &[]).await?;
    end.ties.extend(read_keys(layout, &rows)?);
    Ok(())
}

/// A load may bring a row and its tombstone, in different versions, in any order.
async fn bury_deleted(
    db: &mut Connection,
    layout: &Layout,
    end: &mut LoadEnd,
) -> Result<(), Fault> {
    let names = Names::new(&layout.spec);
    let (table, side) = (&names.table, &names.side);
    let join = names.keys_join("d", "t");
    let ties = format!(
        "SELECT {} FROM {table} AS t JOIN {side} AS d ON {join} WHERE d.version = t.{VERSION} OR d.version IS NULL",
        key_list(layout, "t")
    );
    let rows = db.client.query(&ties, &[]).await?;
    end.ties.extend(read_keys(layout, &rows)?);
    let gone = if names.marks() {
        format!(
            "UPDATE {table} AS t SET {DELETED} = TRUE, {VERSION} = d.version FROM {side} AS d
             WHERE {join} AND d.version > t.{VERSION}"
        )
    } else {
        format!(
            "DELETE FROM {table} AS t USING {side} AS d WHERE {join} AND d.version > t.{VERSION}"
        )
    };
    end.superseded += db.client.execute(&gone, &[]).await?;
    let overcome = format!(
        "DELETE FROM {side} AS d USING {table} AS t WHERE {join} AND d.version <= t.{VERSION}"
    );
    db.client.execute(&overcome, &[]).await?;
    Ok(())
}
