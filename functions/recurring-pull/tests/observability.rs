//! What recurring-pull says of its work.
#![cfg(test)]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use bytes::Bytes;
use definition::Definition;
use embedded::Store;
use jiff::Timestamp;
use model::{MapEvent, MapName, Op, PullJob, SliceRange};
use ports::{
    LowWater, Next, Page, PageRecord, ReadFrom, Source, SourceError, StreamSchema, Systems,
    SystemsError, Target,
    testing::{Captured, ManualClock, map_name},
};
use recurring_pull::{RecurringPull, Schedule, Tick};
use runtime::{MapStates, Metrics, Outbox};
use serde_json::{Value, json};

/// A source of two full pages, which is down after them.
#[derive(Debug, Default)]
struct TwoPages(AtomicU32);

#[async_trait]
impl Source for TwoPages {
    async fn describe(&self) -> Result<StreamSchema, SourceError> {
        unreachable!("a pull reads")
    }
    async fn low_water(&self) -> Result<LowWater, SourceError> {
        unreachable!("a pull reads")
    }
    async fn slices(&self, _: u32) -> Result<Vec<Option<SliceRange>>, SourceError> {
        unreachable!("a pull reads")
    }
    async fn read(&self, _: ReadFrom<'_>, _: Option<&str>) -> Result<Page, SourceError> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 2 {
            let (what, retry_after) = ("it is down".into(), None);
            return Err(SourceError::Unavailable { what, retry_after });
        }
        let record = PageRecord {
            op: Op::Upsert,
            raw: Bytes::from_static(br#"{"id":"a"}"#),
        };
        Ok(Page {
            records: vec![record; 3],
            observed: 0,
            next: Next::Page("more".into()),
        })
    }
    async fn fetch(&self, _: &[Bytes]) -> Result<Vec<Option<Bytes>>, SourceError> {
        unreachable!("a pull reads")
    }
    fn can_fetch(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct World(Arc<TwoPages>);

#[async_trait]
impl Systems for World {
    async fn source(&self, _: &MapName) -> Result<Arc<dyn Source>, SystemsError> {
        Ok(Arc::clone(&self.0) as _)
    }
    async fn target(&self, _: &MapName) -> Result<Arc<dyn Target>, SystemsError> {
        unreachable!("a pull writes nothing")
    }
}

const DEFINITION: &str = r#"
connections:
  crm: { kind: odata, url: "https://crm.example.com" }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  customers:
    from: { stream: crm.Customers, key: id, version: modified }
    to: { stream: warehouse.customers, key: id }
    fields: { id: id }
    pull: { every: 5m }
"#;

fn stage(folder: &std::path::Path) -> (RecurringPull, Captured) {
    let clock = Arc::new(ManualClock::default());
    let store = Arc::new(Store::open(folder, Arc::clone(&clock) as _).unwrap());
    let metrics = Captured::default();
    let pull = RecurringPull {
        definition: Arc::new(Definition::read(DEFINITION).definition.unwrap()),
        systems: Arc::new(World(Arc::default())),
        outbox: Outbox::new(Arc::clone(&store) as _, Arc::clone(&store) as _),
        states: MapStates::new(Arc::clone(&store) as _, Arc::clone(&clock) as _),
        checkpoints: store,
        clock,
        metrics: Metrics::to("crm", true, metrics.clone()),
        schedule: Schedule::default(),
    };
    (pull, metrics)
}

/// Names of the map and values of the metric in each line so far.
fn said(metrics: &Captured, name: &str) -> Vec<(Value, Value)> {
    let text = metrics.text();
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["Map"].clone(), line[name].clone())
    });
    lines.collect()
}

#[tokio::test]
async fn every_tick_is_a_heartbeat_whether_maps_are_due_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let (pull, metrics) = stage(folder.path());
    assert_eq!(pull.tick(Tick::default()).await.unwrap(), 1);
    assert_eq!(pull.tick(Tick::default()).await.unwrap(), 0);
    let by_hand = Tick {
        map: Some(map_name("customers")),
    };
    assert_eq!(pull.tick(by_hand).await.unwrap(), 1);
    let beat = (Value::Null, json!(1));
    assert_eq!(said(&metrics, "pull_heartbeat"), [beat.clone(), beat]);
}

#[tokio::test]
async fn what_was_queued_before_a_pull_failed_is_received() {
    let folder = tempfile::tempdir().unwrap();
    let (pull, metrics) = stage(folder.path());
    let customers = map_name("customers");
    pull.states
        .transition(&customers, MapEvent::Start)
        .await
        .unwrap();
    let job = PullJob::Pull {
        asked: None,
        map: customers,
        wanted: false,
    };
    let mut message = SqsMessage::default();
    message.message_id = Some("m".into());
    message.body = Some(serde_json::to_string(&job).unwrap());
    let mut event = SqsEvent::default();
    event.records.push(message);
    let response = pull
        .handle(event, Timestamp::MAX - std::time::Duration::from_hours(1))
        .await;
    assert!(response.batch_item_failures.is_empty());
    assert_eq!(said(&metrics, "received"), [(json!("customers"), json!(6))]);
}
