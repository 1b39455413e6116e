//! HTTP endpoints as targets, against a server of the tests' own.

#![cfg(test)]

mod answers;
mod batched;
mod contract;
mod endpoint;
mod order;

use std::sync::Arc;

use async_trait::async_trait;
use connector_http::HttpClient;
use connector_http_target::HttpTarget;
use definition::Definition;
use embedded::Store;
use model::{ConnectionName, MapName, Rows, Value, Version};
use ports::{
    Clock, Deletes, Links, Ownership, RowOp, RowOutcome, Secret, SecretError, Secrets, TableSpec,
    Target, TargetError, WriteBatch,
    testing::{ManualClock, target::standard_spec},
};
use runtime::Rates;

pub(crate) use endpoint::Endpoint;

#[derive(Debug)]
struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn get(&self, _name: &str) -> Result<Secret, SecretError> {
        Ok(Secret::new("token".into()))
    }
}

/// An endpoint, a link table, and the target that stands between them.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) endpoint: Endpoint,
    pub(crate) target: HttpTarget,
    pub(crate) spec: TableSpec,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Store,
    _folder: tempfile::TempDir,
}

/// One request per record.
pub(crate) const SINGLE: &str = "{ upsert: { path: \"/rows/{{ key.company }}/{{ key.no }}\" }, delete: { path: \"/rows/{{ key.company }}/{{ key.no }}\" } }";
/// One request for many records.
pub(crate) const BATCH: &str =
    "{ upsert: { method: POST, path: /rows }, delete: { method: POST, path: /gone }, batch: 7 }";

impl Fixture {
    pub(crate) async fn new(http: &str) -> Self {
        Self::with_links(http, |links| links).await
    }

    /// A fixture whose target sees its links through something of the test's.
    pub(crate) async fn with_links(
        http: &str,
        wrap: impl FnOnce(Arc<dyn Links>) -> Arc<dyn Links>,
    ) -> Self {
        let endpoint = Endpoint::start().await;
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let store = Store::open(folder.path(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let target = target(
            &endpoint.url,
            http,
            wrap(Arc::new(store.clone())),
            &store,
            &clock,
        )
        .await;
        Self {
            endpoint,
            target,
            spec: standard_spec("rows", Ownership::Existing, Deletes::Propagate),
            clock,
            store,
            _folder: folder,
        }
    }

    pub(crate) async fn write(&self, writes: &[Write<'_>]) -> Result<Vec<RowOutcome>, TargetError> {
        self.target.write(&self.spec, &batch(writes)).await
    }

    /// Writes one row and says what became of it.
    pub(crate) async fn write_one(&self, write: Write<'_>) -> RowOutcome {
        self.write(&[write]).await.unwrap().remove(0)
    }
}

async fn target(
    url: &str,
    http: &str,
    links: Arc<dyn Links>,
    store: &Store,
    clock: &Arc<ManualClock>,
) -> HttpTarget {
    let deletes = if http.contains("delete:") {
        "propagate"
    } else {
        "ignore"
    };
    let text = format!(
        "connections:
  crm: {{ kind: rest, url: \"https://crm.example.com\" }}
  hub: {{ kind: http, url: \"{url}\", auth: {{ bearer: secret://hub }}, limits: {{ concurrency: 8, timeout: 2s }} }}
maps:
  rows:
    from: {{ stream: crm.rows, key: [company, no], rest: {{ path: /rows }} }}
    to: {{ stream: hub.rows, key: [company, no], http: {http} }}
    fields: {{ company: company, no: no, name: name, amount: amount, at: at }}
    deletes: {deletes}
"
    );
    let reading = Definition::read(&text);
    let problems = reading.problems;
    let definition = reading
        .definition
        .unwrap_or_else(|| panic!("{problems:#?}"));
    let name = ConnectionName::new("hub").unwrap();
    let connection = definition.connection(&name).unwrap();
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let rates = Rates::new(Arc::new(store.clone()), Arc::clone(&clock));
    let client = HttpClient::new(name, connection, Arc::new(NoSecrets), rates, clock);
    let client = Arc::new(client.await.unwrap());
    let map = &definition.maps[&MapName::new("rows").unwrap()];
    HttpTarget::new(map, connection, client, links).unwrap()
}

/// A write: number of the row, version, and content; without content it is a delete.
pub(crate) type Write<'w> = (i64, i64, Option<&'w str>);

pub(crate) fn batch(writes: &[Write<'_>]) -> WriteBatch<'static> {
    let mut rows = Rows::new(5);
    let mut ops = Vec::new();
    for (no, version, content) in writes {
        let cells = rows.push_empty();
        cells[0] = Value::Text("c".into());
        cells[1] = Value::Int(*no);
        let version = Version(*version);
        ops.push(match content {
            Some(content) => {
                cells[2] = Value::Text((*content).to_owned().into());
                RowOp::Upsert { version }
            }
            None => RowOp::Delete { version },
        });
    }
    WriteBatch {
        rows,
        ops,
        bulk: None,
        found_in: None,
        lane: model::Lane::Live,
        traces: Vec::new(),
    }
}
