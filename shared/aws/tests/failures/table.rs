//! A table of failures for one test.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use aws::{Clients, DynamoFailures};
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use bytes::Bytes;
use model::{Counts, Failure, MapName, Outcome, RunId};
use ports::{Blobs, FailureFilter, Failures, StoreError};

use crate::{support, tables};

/// The emulators.
pub(crate) const ALL: [&str; 2] = ["ministack", "moto"];

/// A table that no other test has.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) store: DynamoFailures,
    pub(crate) blobs: Arc<Memory>,
    name: String,
    clients: Clients,
}

impl Fixture {
    pub(crate) async fn on(whose: &str) -> Self {
        let all = support::dynamodb_clients().await;
        let mut its = all.into_iter().filter(|(name, _)| *name == whose);
        let (_, clients) = its.next().expect("an emulator of that name");
        let name = support::unique("failures");
        tables::create(&clients.dynamodb, &name, true).await;
        let blobs = Arc::new(Memory::default());
        let shared = Arc::clone(&blobs) as Arc<dyn Blobs>;
        Self {
            store: DynamoFailures::new(clients.dynamodb.clone(), &name, shared),
            blobs,
            name,
            clients,
        }
    }

    /// The same table at another address.
    pub(crate) fn through(self, endpoint: &str) -> Self {
        let config = self.clients.dynamodb.config().to_builder();
        let client = Client::from_conf(config.endpoint_url(endpoint).build());
        let blobs = Arc::clone(&self.blobs) as Arc<dyn Blobs>;
        Self {
            store: DynamoFailures::new(client, &self.name, blobs),
            ..self
        }
    }

    /// Makes the indexes say something of a failure that its record does not.
    pub(crate) async fn pretend(&self, failure: &Failure, says: &[(&str, String)]) {
        let mut call = self
            .clients
            .dynamodb
            .update_item()
            .table_name(&self.name)
            .key("pk", AttributeValue::S(format!("F#{}", failure.id)))
            .key("sk", AttributeValue::S("F".into()));
        let mut sets = Vec::new();
        for (name, value) in says {
            sets.push(format!("#{name} = :{name}"));
            call = call
                .expression_attribute_names(format!("#{name}"), *name)
                .expression_attribute_values(format!(":{name}"), AttributeValue::S(value.clone()));
        }
        let call = call.update_expression(format!("SET {}", sets.join(", ")));
        call.send().await.unwrap();
    }

    /// The store in a table that is not made here.
    pub(crate) fn elsewhere(&self, table: &str) -> DynamoFailures {
        let blobs = Arc::clone(&self.blobs) as Arc<dyn Blobs>;
        DynamoFailures::new(self.clients.dynamodb.clone(), table, blobs)
    }
}

/// Counts the stored failures one by one.
pub(crate) async fn recount(fixture: &Fixture, map: &MapName, run: Option<RunId>) -> Counts {
    let filter = FailureFilter {
        map: Some(map.clone()),
        run,
        ..FailureFilter::default()
    };
    let mut counts = Counts::default();
    let page = fixture.store.query(&filter, None, 10_000).await.unwrap();
    for stored in page.failures {
        let end = stored.value.resolution;
        let outcome = end.map_or(Outcome::Failed, |end| end.outcome);
        counts.add(outcome, stored.value.weight.into());
    }
    counts
}

/// Blobs in memory.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<BTreeMap<String, Bytes>>);

impl Memory {
    pub(crate) fn names(&self) -> Vec<String> {
        self.with(|blobs| blobs.keys().cloned().collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Bytes>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Blobs for Memory {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let name = name.to_owned();
        Ok(self.with(|blobs| blobs.insert(name, bytes)).is_none())
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.with(|blobs| blobs.get(name).cloned()))
    }

    async fn delete(&self, names: &[String]) -> Result<(), StoreError> {
        self.with(|blobs| blobs.retain(|name, _| !names.contains(name)));
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut names = self.names();
        names.retain(|name| name.starts_with(prefix) && after.is_none_or(|after| &**name > after));
        names.truncate(limit);
        Ok(names)
    }

    async fn measure(&self, prefix: &str) -> Result<(u64, u64), StoreError> {
        Ok(self.with(|blobs| {
            let named = blobs.iter().filter(|(name, _)| name.starts_with(prefix));
            named.fold((0, 0), |(n, size), (_, bytes)| {
                (n + 1, size + bytes.len() as u64)
            })
        }))
    }
}
