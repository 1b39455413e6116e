//! The suite of the target port, on a PostgreSQL server.

use connector_postgres::{Database, PostgresTarget};
use definition::Limits;
use ports::{
    Deletes, Ownership, TableSpec, Target,
    testing::target::{TargetFixture, standard_spec},
};
use test_postgres::TestDatabase;

#[derive(Debug)]
struct Fixture {
    target: PostgresTarget,
    spec: TableSpec,
    _database: TestDatabase,
}

impl Fixture {
    async fn new(table: &str, ownership: Ownership, deletes: Deletes) -> Self {
        let database = TestDatabase::create().await;
        if ownership == Ownership::Existing {
            database
                .execute(
                    "CREATE TABLE \"cust omers\" (extra text DEFAULT 'x', company varchar(20) NOT NULL, no integer NOT NULL,
                     name text NOT NULL, amount numeric(12,2), at timestamp, PRIMARY KEY (no, company))",
                )
                .await;
        }
        let target = Database::open(&database.url(), None, Limits::default()).unwrap();
        Self {
            target: PostgresTarget::new(target),
            spec: standard_spec(table, ownership, deletes),
            _database: database,
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
    ports::target_contract!(async || Fixture::new(
        "cust omers",
        Ownership::Own,
        Deletes::Propagate
    )
    .await);
}

mod marked {
    use super::*;
    ports::target_contract!(async || Fixture::new(
        "sa les.Cust\"omers",
        Ownership::Own,
        Deletes::Mark
    )
    .await);
}

mod existing {
    use super::*;
    ports::target_contract!(async || Fixture::new(
        "cust omers",
        Ownership::Existing,
        Deletes::Propagate
    )
    .await);
}
