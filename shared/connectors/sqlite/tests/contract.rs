//! The suite of the target port, on SQLite files.

#![cfg(test)]

use connector_sqlite::SqliteTarget;
use ports::{
    Deletes, Ownership, TableSpec, Target,
    testing::target::{TargetFixture, standard_spec},
};

#[derive(Debug)]
struct Fixture {
    target: SqliteTarget,
    spec: TableSpec,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new(ownership: Ownership, deletes: Deletes) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("warehouse.db");
        if ownership == Ownership::Existing {
            let db = rusqlite::Connection::open(&path).unwrap();
            db.execute_batch(
                "CREATE TABLE \"cust omers\" (extra TEXT DEFAULT 'x', company TEXT NOT NULL, no INTEGER NOT NULL,
                 name TEXT NOT NULL, amount DECIMAL(12,2), at TIMESTAMP, PRIMARY KEY (company, no))",
            )
            .unwrap();
        }
        let target = SqliteTarget::new(&path);
        Self {
            target,
            spec: standard_spec("cust omers", ownership, deletes),
            _folder: folder,
        }
    }
}

impl TargetFixture for Fixture {
    fn target(&self) -> &dyn Target {
        &self.target
    }
    fn spec(&self) -> &TableSpec {
        &self.spec
    }
}

mod own {
    use super::*;
    ports::target_contract!(async || Fixture::new(Ownership::Own, Deletes::Propagate));
}

mod marked {
    use super::*;
    ports::target_contract!(async || Fixture::new(Ownership::Own, Deletes::Mark));
}

mod existing {
    use super::*;
    ports::target_contract!(async || Fixture::new(Ownership::Existing, Deletes::Propagate));
}
