//! Names of a table and of what stands beside it.

use ports::{Deletes, Ownership, TableSpec};

/// The version column of a table of Syncline's own.
pub(crate) const VERSION: &str = "_syncline_version";
/// The mark of a deleted row, where rows are marked.
pub(crate) const DELETED: &str = "_syncline_deleted";
/// Longest name PostgreSQL keeps, in bytes; it cuts longer ones without an error.
const LONGEST: usize = 63;

/// An identifier in quotes.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text in quotes.
pub(crate) fn literal(text: &str) -> String {
    // With a backslash inside, E'' means the same whatever standard_conforming_strings says.
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// FNV-1a: a hash that stays the same from version to version and from process to process.
/// Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm", 64 bits.
pub(crate) fn stable_hash(seed: u64, bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    bytes.iter().fold(seed ^ BASIS, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `schema.table`, or a table in the schema that comes first on the server's search path.
pub(crate) fn split(name: &str) -> (Option<&str>, &str) {
    match name.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => (Some(schema), table),
        _ => (None, name),
    }
}

/// A table's name, quoted, with its schema where it has one.
pub(crate) fn quote_table(name: &str) -> String {
    let (schema, table) = split(name);
    match schema {
        Some(schema) => format!("{}.{}", quote(schema), quote(table)),
        None => quote(table),
    }
}

/// Names of a table and what stands beside it, quoted and with the schema.
pub(crate) struct Names<'t> {
    pub(crate) spec: &'t TableSpec,
    pub(crate) schema: Option<&'t str>,
    pub(crate) table: String,
    /// Tombstones; for an existing table the versions of all rows written too.
    pub(crate) side: String,
    /// Keys that the load under way has found.
    pub(crate) found: String,
    /// Keys that it has not found.
    pub(crate) lost: String,
    /// What is kept of all tables of the schema.
    pub(crate) tables: String,
    /// Packs of bulk loads that have been written.
    pub(crate) packs: String,
}

impl<'t> Names<'t> {
    pub(crate) fn new(spec: &'t TableSpec) -> Self {
        let (schema, table) = split(&spec.name);
        let within = |name: &str| match schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(name)),
            None => quote(name),
        };
        let beside = |kind: &str| within(&fit(&format!("_syncline_{kind}_{table}")));
        Self {
            spec,
            schema,
            table: within(table),
            side: beside("side"),
            found: beside("found"),
            lost: beside("lost"),
            tables: within("_syncline_tables"),
            packs: within("_syncline_packs"),
        }
    }

    pub(crate) fn own(&self) -> bool {
        self.spec.ownership == Ownership::Own
    }

    pub(crate) fn marks(&self) -> bool {
        self.own() && self.spec.deletes == Deletes::Mark
    }

    /// The key columns, quoted.
    pub(crate) fn key_columns(&self) -> Vec<String> {
        let columns = self.spec.key_columns();
        columns.map(|column| quote(&column.name)).collect()
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
}

/// A name that is too long, shortened so that it stays different from others.
fn fit(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let hash = format!("_{:016x}", stable_hash(0, name.as_bytes()));
    let mut end = LONGEST - hash.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{hash}", &name[..end])
}

#[cfg(test)]
mod tests {
    use ports::testing::target::standard_spec;

    use super::*;

    #[test]
    fn names_are_quoted_and_long_ones_stay_different() {
        let spec = |name: &str| standard_spec(name, Ownership::Own, Deletes::Propagate);
        let plain = spec("sales.Cust\"omers");
        let names = Names::new(&plain);
        assert_eq!(names.table, r#""sales"."Cust""omers""#);
        assert_eq!(names.side, r#""sales"."_syncline_side_Cust""omers""#);
        assert_eq!(names.tables, r#""sales"."_syncline_tables""#);
        let long = |end: &str| spec(&format!("{}{end}", "ä".repeat(30)));
        let (a, b) = (long("a"), long("b"));
        assert_ne!(Names::new(&a).side, Names::new(&b).side);
        assert!(Names::new(&a).side.len() <= LONGEST + 2);
    }
}
