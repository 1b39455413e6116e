//! The suite of the target port, with a link table in front of a server without versions.

use async_trait::async_trait;
use model::{LoadMode, Rows, Value};
use ports::{
    LoadEnd, RowOutcome, Sweep, TableSchema, TableSpec, Target, TargetError, TargetRow, WriteBatch,
    testing::target::TargetFixture,
};

use crate::{BATCH, Fixture, SINGLE};

impl TargetFixture for Fixture {
    fn target(&self) -> &dyn Target {
        &self.target
    }
    fn spec(&self) -> &TableSpec {
        &self.spec
    }
}

/// Rows that are sent in batches have no address of their own to be read at, so the test
/// looks for them at the server.
#[derive(Debug)]
struct Shown(Fixture);

impl TargetFixture for Shown {
    fn target(&self) -> &dyn Target {
        self
    }
    fn spec(&self) -> &TableSpec {
        &self.0.spec
    }
}

#[async_trait]
impl Target for Shown {
    async fn describe(&self, table: &str) -> Result<Option<TableSchema>, TargetError> {
        self.0.target.describe(table).await
    }
    async fn prepare(&self, table: &TableSpec) -> Result<(), TargetError> {
        self.0.target.prepare(table).await
    }
    async fn begin_load(&self, table: &TableSpec, load: u32) -> Result<LoadMode, TargetError> {
        self.0.target.begin_load(table, load).await
    }
    async fn end_bulk(&self, table: &TableSpec, load: u32) -> Result<LoadEnd, TargetError> {
        self.0.target.end_bulk(table, load).await
    }
    async fn missing(
        &self,
        table: &TableSpec,
        load: u32,
        after: Option<&[Value<'static>]>,
        limit: usize,
    ) -> Result<Sweep, TargetError> {
        self.0.target.missing(table, load, after, limit).await
    }
    async fn end_load(&self, table: &TableSpec, load: u32) -> Result<(), TargetError> {
        self.0.target.end_load(table, load).await
    }
    async fn write(
        &self,
        table: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> Result<Vec<RowOutcome>, TargetError> {
        self.0.target.write(table, batch).await
    }
    async fn look(
        &self,
        table: &TableSpec,
        keys: &Rows<'_>,
    ) -> Result<Vec<TargetRow>, TargetError> {
        self.0.target.look(table, keys).await
    }
    async fn show(&self, _: &TableSpec, key: &Rows<'_>) -> Result<Option<String>, TargetError> {
        let (Value::Text(company), Value::Int(no)) = (&key.row(0)[0], &key.row(0)[1]) else {
            panic!("{:?}", key.row(0));
        };
        let key = (company.clone().into_owned(), *no);
        let row = self.0.endpoint.inner().rows.get(&key).cloned();
        Ok(row.map(|row| row.to_string()))
    }
}

mod single {
    use super::*;
    ports::target_contract!(async || Fixture::new(SINGLE).await);
}

mod batches {
    use super::*;
    ports::target_contract!(async || Shown(Fixture::new(BATCH).await));
}
