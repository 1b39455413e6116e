//! The statements of one table.

use ports::{Deletes, Ownership, TableSpec};

/// The version column of a table of Syncline's own.
pub(crate) const VERSION: &str = "_syncline_version";
/// The mark of a deleted row, where rows are marked.
pub(crate) const DELETED: &str = "_syncline_deleted";

/// An identifier in quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Which columns of a row have a cell; statements are made for each pattern that occurs.
pub(crate) type Shape = Vec<bool>;

/// Names of a table and what stands beside it.
pub(crate) struct Names<'t> {
    pub(crate) spec: &'t TableSpec,
    pub(crate) table: String,
    pub(crate) side: String,
    pub(crate) found: String,
    pub(crate) index: String,
}

impl<'t> Names<'t> {
    pub(crate) fn new(spec: &'t TableSpec) -> Self {
        let beside = |kind: &str| quote(&format!("_syncline_{kind}_{}", spec.name));
        Self {
            spec,
            table: quote(&spec.name),
            side: beside("side"),
            found: beside("found"),
            index: beside("key"),
        }
    }

    pub(crate) fn own(&self) -> bool {
        self.spec.ownership == Ownership::Own
    }

    pub(crate) fn marks(&self) -> bool {
        self.own() && self.spec.deletes == Deletes::Mark
    }

    pub(crate) fn key_columns(&self) -> Vec<String> {
        let columns = self.spec.key_columns();
        columns.map(|column| quote(&column.name)).collect()
    }

    /// `"a" = ?1 AND "b" = ?2`.
    pub(crate) fn key_is(&self) -> String {
        let parts: Vec<String> = self
            .key_columns()
            .iter()
            .enumerate()
            .map(|(at, column)| format!("{column} = ?{}", at + 1))
            .collect();
        parts.join(" AND ")
    }

    /// `a."k" = b."k"` over the key columns.
    pub(crate) fn keys_join(&self, a: &str, b: &str) -> String {
        let parts: Vec<String> = self
            .key_columns()
            .iter()
            .map(|column| format!("{a}.{column} = {b}.{column}"))
            .collect();
        parts.join(" AND ")
    }

    /// Looks a row up by its key and compares it: rowid, version, deleted, equal. The cells of
    /// `shape` follow the key among the parameters.
    pub(crate) fn find(&self, shape: &Shape) -> String {
        let mut next = self.spec.key.len();
        let mut equal = vec!["1".to_owned()];
        for (column, present) in self.spec.columns.iter().zip(shape) {
            if *present {
                next += 1;
                equal.push(format!("{} IS ?{next}", quote(&column.name)));
            }
        }
        let version = if self.own() { VERSION } else { "NULL" };
        let deleted = if self.marks() { DELETED } else { "0" };
        format!(
            "SELECT {version}, {deleted}, {} FROM {} WHERE {}",
            equal.join(" AND "),
            self.table,
            self.key_is()
        )
    }

    pub(crate) fn find_side(&self) -> String {
        format!(
            "SELECT version, deleted, settles FROM {} WHERE {}",
            self.side,
            self.key_is()
        )
    }

    /// Inserts a row with the cells of `shape`, then the version.
    pub(crate) fn insert(&self, shape: &Shape) -> String {
        let mut columns: Vec<String> = self
            .spec
            .columns
            .iter()
            .zip(shape)
            .filter(|(_, present)| **present)
            .map(|(column, _)| quote(&column.name))
            .collect();
        if self.own() {
            columns.push(VERSION.into());
        }
        let marks: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
        format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.table,
            columns.join(", "),
            marks.join(", ")
        )
    }

    /// Updates a row by its key with the cells of `shape`, then the version.
    pub(crate) fn update(&self, shape: &Shape) -> String {
        let mut next = self.spec.key.len();
        let mut sets = Vec::new();
        for (column, present) in self.spec.columns.iter().zip(shape) {
            if *present {
                next += 1;
                sets.push(format!("{} = ?{next}", quote(&column.name)));
            }
        }
        if self.own() {
            sets.push(format!("{VERSION} = ?{}", next + 1));
        }
        if self.marks() {
            sets.push(format!("{DELETED} = 0"));
        }
        format!(
            "UPDATE {} SET {} WHERE {}",
            self.table,
            sets.join(", "),
            self.key_is()
        )
    }

    /// Deletes a row by its key, or marks it with the version that follows the key, if any.
    pub(crate) fn delete(&self) -> String {
        if self.marks() {
            let version = self.spec.key.len() + 1;
            return format!(
                "UPDATE {} SET {DELETED} = 1, {VERSION} = COALESCE(?{version}, {VERSION}) WHERE {}",
                self.table,
                self.key_is()
            );
        }
        format!("DELETE FROM {} WHERE {}", self.table, self.key_is())
    }

    /// Writes what is kept beside a row: version, deleted, and one more settling or not.
    pub(crate) fn put_side(&self) -> String {
        let keys = self.key_columns();
        let n = keys.len();
        let marks: Vec<String> = (1..=n + 3).map(|at| format!("?{at}")).collect();
        format!(
            "INSERT INTO {side} ({keys}, version, deleted, settles) VALUES ({marks})
             ON CONFLICT ({keys}) DO UPDATE SET version = excluded.version, deleted = excluded.deleted,
             settles = settles + excluded.settles",
            side = self.side,
            keys = keys.join(", "),
            marks = marks.join(", ")
        )
    }

    pub(crate) fn drop_side(&self) -> String {
        format!(
            "DELETE FROM {} WHERE {} AND settles = 0",
            self.side,
            self.key_is()
        )
    }

    pub(crate) fn put_found(&self) -> String {
        let keys = self.key_columns();
        let marks: Vec<String> = (1..=keys.len()).map(|at| format!("?{at}")).collect();
        format!(
            "INSERT INTO {} VALUES ({}) ON CONFLICT DO NOTHING",
            self.found,
            marks.join(", ")
        )
    }
}
