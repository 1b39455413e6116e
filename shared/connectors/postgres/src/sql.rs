//! The statements of one table.
//!
//! Staged rows are `s`, rows of the table `t`, what is kept beside it `d`. The first parameter
//! says which of the staged rows are meant: one bit for each.

use crate::{
    layout::{Column, Layout},
    names::{DELETED, Names, VERSION, stable_hash},
};

/// Which columns of a row have a cell; statements are made for each pattern that occurs.
pub(crate) type Shape = Vec<bool>;

/// What the state of a row consists of.
pub(crate) const HERE: i16 = 1;
pub(crate) const EQUAL: i16 = 2;
pub(crate) const MARKED: i16 = 4;
pub(crate) const BESIDE: i16 = 8;
pub(crate) const BURIED: i16 = 16;

/// That a staged row is meant.
pub(crate) const CHOSEN: &str = "get_bit($1::bytea, s.n) = 1";

/// The table of rows that are appended singly.
pub(crate) const WAITING: &str = "_syncline_waiting";

/// The statements of one table.
pub(crate) struct Sql<'t> {
    pub(crate) names: Names<'t>,
    pub(crate) layout: &'t Layout,
    /// The staging table for rows of these types.
    pub(crate) stage: String,
    /// Which staging table it is.
    pub(crate) stage_id: u64,
}

impl<'t> Sql<'t> {
    pub(crate) fn new(layout: &'t Layout) -> Self {
        let stage_id = layout.columns.iter().fold(0, |hash, column| {
            stable_hash(stable_hash(hash, column.staged.as_bytes()), b",")
        });
        Self {
            names: Names::new(&layout.spec),
            layout,
            stage: format!("pg_temp._syncline_stage_{stage_id:016x}"),
            stage_id,
        }
    }

    /// Makes the staging table of a session.
    pub(crate) fn make_stage(&self) -> String {
        let columns: Vec<String> = self
            .layout
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| format!("c{at} {}", column.staged))
            .collect();
        format!(
            "CREATE TEMP TABLE IF NOT EXISTS {} (n integer NOT NULL, v bigint NOT NULL, {}) ON COMMIT DELETE ROWS",
            self.stage,
            columns.join(", ")
        )
    }

    fn shaped(&self, shape: &Shape) -> impl Iterator<Item = (usize, &'t Column)> {
        let columns = self.layout.columns.iter().enumerate().zip(shape);
        columns
            .filter(|(_, present)| **present)
            .map(|(column, _)| column)
    }

    pub(crate) fn copy_to_stage(&self, shape: &Shape) -> String {
        let columns: Vec<String> = self
            .shaped(shape)
            .map(|(at, _)| format!(", c{at}"))
            .collect();
        format!(
            "COPY {} (n, v{}) FROM STDIN BINARY",
            self.stage,
            columns.concat()
        )
    }

    pub(crate) fn copy_to_table(&self) -> String {
        let columns = self.appended();
        format!("COPY {} ({columns}) FROM STDIN BINARY", self.names.table)
    }

    /// Where staged rows are, in the order of their numbers.
    pub(crate) fn staged_places(&self) -> String {
        format!(
            "SELECT s.ctid::text FROM {} AS s WHERE {CHOSEN} ORDER BY s.n",
            self.stage
        )
    }

    /// Takes staged rows away.
    pub(crate) fn unstage(&self) -> String {
        format!("DELETE FROM {} AS s WHERE {CHOSEN}", self.stage)
    }

    /// Makes a table like this one without its constraints, for rows that are tried singly.
    pub(crate) fn make_waiting(&self) -> String {
        format!(
            "CREATE TEMP TABLE {WAITING} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA",
            self.appended(),
            self.names.table
        )
    }

    /// Appends the chosen one of those rows.
    pub(crate) fn append_waiting(&self) -> String {
        let columns = self.appended();
        format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM pg_temp.{WAITING} AS s WHERE {CHOSEN}",
            self.names.table
        )
    }

    /// The columns of rows that are copied into the table.
    fn appended(&self) -> String {
        let columns = self
            .layout
            .columns
            .iter()
            .map(|column| column.name.as_str());
        let columns: Vec<&str> = columns.chain([VERSION]).collect();
        columns.join(", ")
    }

    /// That a row of `table` has the key of the staged row.
    fn same_key(&self, table: &str) -> String {
        let parts: Vec<String> = self
            .layout
            .key()
            .map(|(at, column)| column.is_key(table, &format!("s.c{at}")))
            .collect();
        parts.join(" AND ")
    }

    fn staged_key(&self) -> String {
        let parts: Vec<String> = self
            .layout
            .key()
            .map(|(at, column)| column.value(&format!("s.c{at}")))
            .collect();
        parts.join(", ")
    }

    /// What is there under the keys of staged rows: versions, states, and where it is asked
    /// for names of the exact states, in the order of the rows' numbers.
    ///
    /// Each row is looked up by itself, through the index: LIMIT keeps the planner from
    /// reading the whole table for it.
    pub(crate) fn facts(&self, shape: &Shape, seen: bool) -> String {
        let same: Vec<String> = self
            .shaped(shape)
            .filter(|(at, _)| !self.layout.spec.key.contains(at))
            .map(|(at, column)| column.is_same("t", &format!("s.c{at}")))
            .collect();
        let same = if same.is_empty() {
            "TRUE".to_owned()
        } else {
            same.join(" AND ")
        };
        // A marked row whose tombstone has no version has none either.
        let undated = format!(
            "CASE WHEN t.state & {MARKED} > 0 AND d.state & {BURIED} > 0 THEN d.version ELSE COALESCE(t.version, d.version) END"
        );
        let (own_version, version) = if self.names.own() {
            (format!("t.{VERSION}"), undated.as_str())
        } else {
            ("NULL::bigint".to_owned(), "d.version")
        };
        let marked = if self.names.marks() {
            format!(" + CASE WHEN t.{DELETED} THEN {MARKED} ELSE 0 END")
        } else {
            String::new()
        };
        let list = if seen {
            ", array_agg(f.seen ORDER BY f.n)"
        } else {
            ""
        };
        let (mark, both) = if seen {
            (", xmin AS mark", ", concat(t.mark, '/', d.mark) AS seen")
        } else {
            ("", "")
        };
        format!(
            "SELECT array_agg(f.version ORDER BY f.n), array_agg(f.state ORDER BY f.n){list} FROM (
               SELECT s.n, {version} AS version,
                 (COALESCE(t.state, 0) + COALESCE(d.state, 0))::smallint AS state{both}
               FROM {stage} AS s
               LEFT JOIN LATERAL (
                 SELECT {own_version} AS version, {HERE} + CASE WHEN {same} THEN {EQUAL} ELSE 0 END{marked} AS state{mark}
                 FROM {table} AS t WHERE {key_of_t} LIMIT 1) AS t ON TRUE
               LEFT JOIN LATERAL (
                 SELECT d.version, {BESIDE} + CASE WHEN d.deleted THEN {BURIED} ELSE 0 END AS state{mark}
                 FROM {side} AS d WHERE {key_of_d} LIMIT 1) AS d ON TRUE
               WHERE {CHOSEN}) AS f",
            stage = self.stage,
            table = self.names.table,
            side = self.names.side,
            key_of_t = self.same_key("t"),
            key_of_d = self.same_key("d"),
        )
    }

    /// Inserts rows. Where somebody else has inserted the key meanwhile, who is not Syncline
    /// and takes no lock, the row is updated; one of Syncline's own only to a newer version.
    pub(crate) fn insert(&self, shape: &Shape, keyed: bool) -> String {
        let (mut columns, mut values, mut sets) = (Vec::new(), Vec::new(), Vec::new());
        for (at, column) in self.shaped(shape) {
            columns.push(column.name.clone());
            values.push(column.value(&format!("s.c{at}")));
            if !self.layout.spec.key.contains(&at) {
                sets.push(format!("{0} = EXCLUDED.{0}", column.name));
            }
        }
        if self.names.own() {
            columns.push(VERSION.into());
            values.push("s.v".into());
            sets.push(format!("{VERSION} = EXCLUDED.{VERSION}"));
        }
        let newer = if self.names.own() {
            format!(" WHERE t.{VERSION} < EXCLUDED.{VERSION}")
        } else {
            String::new()
        };
        let key = self.names.key_columns().join(", ");
        let conflict = match (keyed, sets.is_empty()) {
            (false, _) => String::new(),
            (true, true) => format!(" ON CONFLICT ({key}) DO NOTHING"),
            (true, false) => {
                format!(
                    " ON CONFLICT ({key}) DO UPDATE SET {}{newer}",
                    sets.join(", ")
                )
            }
        };
        format!(
            "INSERT INTO {} AS t ({}) SELECT {} FROM {} AS s WHERE {CHOSEN}{conflict}",
            self.names.table,
            columns.join(", "),
            values.join(", "),
            self.stage
        )
    }

    /// Updates rows by their keys; `None` when there is nothing in them but the key.
    pub(crate) fn update(&self, shape: &Shape) -> Option<String> {
        let mut sets: Vec<String> = self
            .shaped(shape)
            .filter(|(at, _)| !self.layout.spec.key.contains(at))
            .map(|(at, column)| format!("{} = {}", column.name, column.value(&format!("s.c{at}"))))
            .collect();
        let mut newer = String::new();
        if self.names.own() {
            sets.push(format!("{VERSION} = s.v"));
            newer = format!(" AND t.{VERSION} <= s.v");
        }
        if self.names.marks() {
            sets.push(format!("{DELETED} = FALSE"));
            // What is marked may have been deleted in a version that nobody knows.
            newer = format!(" AND (t.{VERSION} <= s.v OR t.{DELETED})");
        }
        if sets.is_empty() {
            return None;
        }
        Some(format!(
            "UPDATE {} AS t SET {} FROM {} AS s WHERE {CHOSEN} AND {}{newer}",
            self.names.table,
            sets.join(", "),
            self.stage,
            self.same_key("t")
        ))
    }

    /// Deletes rows, or marks them: with the staged version, or with the one they have.
    pub(crate) fn delete(&self, with_version: bool) -> String {
        let (table, stage, key) = (&self.names.table, &self.stage, self.same_key("t"));
        if !self.names.marks() {
            return format!("DELETE FROM {table} AS t USING {stage} AS s WHERE {CHOSEN} AND {key}");
        }
        let version = if with_version {
            format!(", {VERSION} = s.v")
        } else {
            String::new()
        };
        format!(
            "UPDATE {table} AS t SET {DELETED} = TRUE{version} FROM {stage} AS s WHERE {CHOSEN} AND {key}"
        )
    }

    /// Writes beside the table that rows have their staged versions, deleted or not.
    pub(crate) fn put_side(&self, deleted: bool) -> String {
        let keys = self.names.key_columns().join(", ");
        format!(
            "INSERT INTO {side} AS d ({keys}, version, deleted)
             SELECT {staged}, s.v, {deleted} FROM {stage} AS s WHERE {CHOSEN}
             ON CONFLICT ({keys}) DO UPDATE SET version = EXCLUDED.version, deleted = EXCLUDED.deleted",
            side = self.names.side,
            staged = self.staged_key(),
            stage = self.stage,
        )
    }

    /// Writes tombstones of deletions whose versions nobody knows.
    pub(crate) fn bury_undated(&self) -> String {
        let keys = self.names.key_columns().join(", ");
        format!(
            "INSERT INTO {side} AS d ({keys}, version, deleted)
             SELECT {staged}, NULL, TRUE FROM {stage} AS s WHERE {CHOSEN}
             ON CONFLICT ({keys}) DO UPDATE SET version = NULL, deleted = TRUE",
            side = self.names.side,
            staged = self.staged_key(),
            stage = self.stage,
        )
    }

    /// Takes tombstones away.
    pub(crate) fn drop_side(&self) -> String {
        format!(
            "DELETE FROM {} AS d USING {} AS s WHERE {CHOSEN} AND {}",
            self.names.side,
            self.stage,
            self.same_key("d")
        )
    }

    /// Writes tombstones in a bulk load, which may hold several of one key.
    pub(crate) fn bury_newest(&self) -> String {
        let keys = self.names.key_columns().join(", ");
        let staged = self.staged_key();
        format!(
            "INSERT INTO {side} AS d ({keys}, version, deleted)
             SELECT DISTINCT ON ({staged}) {staged}, s.v, TRUE FROM {stage} AS s WHERE {CHOSEN}
             ORDER BY {staged}, s.v DESC
             ON CONFLICT ({keys}) DO UPDATE SET version = EXCLUDED.version, deleted = TRUE
             WHERE d.version < EXCLUDED.version",
            side = self.names.side,
            stage = self.stage,
        )
    }
}
