//! What apply says of its work, and what it keeps to itself.
#![cfg(test)]

use std::{io::Write, sync::Arc, time::Duration};

use apply::Apply;
use async_trait::async_trait;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use bytes::Bytes;
use definition::Definition;
use embedded::Store;
use mapping::{Plan, Plans, PlansError, Schemas};
use model::{
    Cause, Change, ErrorClass, Lane, LoadMode, MapEvent, MapName, Op, Origin, PackHead, PackId,
    Rows, RunId, SliceRange, TraceId, Value, encode_pack,
};
use ports::{
    Clock, LoadEnd, LowWater, Page, ReadFrom, RowOutcome, Source, SourceError, StreamSchema, Sweep,
    Systems, SystemsError, TableSchema, TableSpec, Target, TargetError, TargetRow, WriteBatch,
    testing::{Captured, ManualClock, map_name},
};
use runtime::{Breakers, MapStates, Metrics, Outbox, Parking, Traces, json_lines};
use serde_json::{Value as Json, json};

/// Is in every record, and may be in no line.
const MARKER: &str = "Jane-Doe-1970";

/// A target that does with a row what its key asks for, and notes the traces it is told of.
#[derive(Debug)]
struct Obedient(Arc<ManualClock>, Captured);

#[async_trait]
impl Target for Obedient {
    async fn describe(&self, _: &str) -> Result<Option<TableSchema>, TargetError> {
        unreachable!("apply writes")
    }
    async fn prepare(&self, _: &TableSpec) -> Result<(), TargetError> {
        unreachable!("apply writes")
    }
    async fn begin_load(&self, _: &TableSpec, _: u32) -> Result<LoadMode, TargetError> {
        unreachable!("apply writes")
    }
    async fn end_bulk(&self, _: &TableSpec, _: u32) -> Result<LoadEnd, TargetError> {
        unreachable!("apply writes")
    }
    async fn missing(
        &self,
        _: &TableSpec,
        _: u32,
        _: Option<&[Value<'static>]>,
        _: usize,
    ) -> Result<Sweep, TargetError> {
        unreachable!("apply writes")
    }
    async fn end_load(&self, _: &TableSpec, _: u32) -> Result<(), TargetError> {
        unreachable!("apply writes")
    }
    async fn look(&self, _: &TableSpec, _: &Rows<'_>) -> Result<Vec<TargetRow>, TargetError> {
        unreachable!("nothing is tied")
    }
    async fn show(&self, _: &TableSpec, _: &Rows<'_>) -> Result<Option<String>, TargetError> {
        unreachable!("apply writes")
    }

    async fn write(
        &self,
        _: &TableSpec,
        batch: &WriteBatch<'_>,
    ) -> Result<Vec<RowOutcome>, TargetError> {
        self.0.advance(Duration::from_millis(250));
        for (row, trace) in &batch.traces {
            let row = batch.rows.row(*row);
            writeln!(self.1.clone(), "{trace} {:?}", row[0]).unwrap();
        }
        let refused = |row: &[Value<'_>]| {
            let message = format!("{row:?} is refused");
            RowOutcome::Failed(Box::new(Cause::new(
                ErrorClass::Invalid,
                "refused",
                message,
            )))
        };
        let mut outcomes = Vec::new();
        for row in &batch.rows {
            let Some(Value::Text(key)) = row.first() else {
                panic!("{row:?} has no key")
            };
            outcomes.push(match key.split('-').next().unwrap_or_default() {
                "applied" => RowOutcome::Applied,
                // What is filtered out has never been there.
                "unchanged" | "skip" => RowOutcome::Unchanged,
                "superseded" => RowOutcome::Superseded,
                "down" => {
                    return Err(TargetError::Unavailable {
                        what: "the warehouse is closed".into(),
                        retry_after: Some(Duration::from_mins(1)),
                    });
                }
                "silent" => std::future::pending().await,
                "panic" => std::panic::panic_any(format!("{row:?}")),
                _ => refused(row),
            });
        }
        Ok(outcomes)
    }
}

/// A source that cannot be asked for single records.
#[derive(Debug)]
struct Mute;

#[async_trait]
impl Source for Mute {
    async fn describe(&self) -> Result<StreamSchema, SourceError> {
        unreachable!("apply reads nothing")
    }
    async fn low_water(&self) -> Result<LowWater, SourceError> {
        unreachable!("apply reads nothing")
    }
    async fn slices(&self, _: u32) -> Result<Vec<Option<SliceRange>>, SourceError> {
        unreachable!("apply reads nothing")
    }
    async fn read(&self, _: ReadFrom<'_>, _: Option<&str>) -> Result<Page, SourceError> {
        unreachable!("apply reads nothing")
    }
    async fn fetch(&self, _: &[Bytes]) -> Result<Vec<Option<Bytes>>, SourceError> {
        unreachable!("it cannot be asked")
    }
    fn can_fetch(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct World {
    plan: Arc<Plan>,
    clock: Arc<ManualClock>,
    traced: Captured,
}

#[async_trait]
impl Systems for World {
    async fn source(&self, _: &MapName) -> Result<Arc<dyn Source>, SystemsError> {
        Ok(Arc::new(Mute))
    }
    async fn target(&self, _: &MapName) -> Result<Arc<dyn Target>, SystemsError> {
        let traced = self.traced.clone();
        Ok(Arc::new(Obedient(Arc::clone(&self.clock), traced)))
    }
}

#[async_trait]
impl Plans for World {
    async fn plan(&self, _: &MapName) -> Result<Arc<Plan>, PlansError> {
        Ok(Arc::clone(&self.plan))
    }
    async fn forget(&self, _: &MapName) {}
}

const DEFINITION: &str = r#"
connections:
  crm: { kind: odata, url: "https://crm.example.com" }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  customers:
    from: { stream: crm.Customers, key: id, version: modified }
    to: { stream: warehouse.customers, key: id }
    filter: src.kind != "skip"
    fields: { id: id, name: name, born: { from: born, type: date } }
    pull: { every: 5m }
"#;

struct Stage {
    apply: Apply,
    clock: Arc<ManualClock>,
    metrics: Captured,
    /// What targets are told of traces.
    traced: Captured,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let reading = Definition::read(DEFINITION);
        let definition = reading
            .definition
            .unwrap_or_else(|| panic!("{:#?}", reading.problems));
        let map = &definition.maps[&map_name("customers")];
        let (plan, problems) = Plan::compile(map, Schemas::default());
        let plan = Arc::new(plan.unwrap_or_else(|| panic!("{problems:#?}")));
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(Store::open(folder.path(), Arc::clone(&clock) as _).unwrap());
        let traced = Captured::default();
        let world = Arc::new(World {
            plan,
            clock: Arc::clone(&clock),
            traced: traced.clone(),
        });
        let metrics = Captured::default();
        let apply = Apply {
            definition: Arc::new(definition),
            plans: Arc::clone(&world) as _,
            systems: world,
            outbox: Outbox::new(Arc::clone(&store) as _, Arc::clone(&store) as _),
            parking: Parking::new(Arc::clone(&store) as _),
            states: MapStates::new(Arc::clone(&store) as _, Arc::clone(&clock) as _),
            breakers: Breakers::new(Arc::clone(&store) as _, Arc::clone(&clock) as _),
            ledger: Arc::clone(&store) as _,
            checkpoints: store,
            clock: Arc::clone(&clock) as _,
            metrics: Metrics::to("crm", false, metrics.clone()),
            traces: Traces::percent(100.0),
            grace: None,
        };
        let customers = map_name("customers");
        apply
            .states
            .transition(&customers, MapEvent::Start)
            .await
            .unwrap();
        Self {
            apply,
            clock,
            metrics,
            traced,
            _folder: folder,
        }
    }

    /// A pack with a change for each key, made two seconds ago.
    async fn pack(&self, keys: &[&str], origin: Origin, trace: Option<TraceId>) -> String {
        let now = self.clock.now();
        let made = now - Duration::from_secs(2);
        let changes: Vec<Change> = keys
            .iter()
            .map(|key| {
                let kind = key.split('-').next().unwrap_or_default();
                let born = if kind == "unmapped" {
                    MARKER
                } else {
                    "1970-01-01"
                };
                let record = json!({
                    "id": format!("{key}-{MARKER}"), "kind": kind, "name": MARKER, "born": born,
                    "modified": made.to_string(),
                });
                Change {
                    op: Op::Upsert,
                    observed: now.as_microsecond(),
                    raw: record.to_string().into(),
                    failure: None,
                }
            })
            .collect();
        let map = map_name("customers");
        let head = PackHead {
            id: PackId::from_uuid(self.clock.new_id()),
            run: RunId::live(&map),
            map,
            origin,
            generation: 0,
            created: now,
            trace,
        };
        let pack = encode_pack(head, &changes);
        let body = pack.body.clone();
        self.apply
            .outbox
            .send_packs(Lane::Live, vec![pack])
            .await
            .unwrap();
        body
    }

    /// Applies messages; says which come back.
    async fn apply(&self, lane: &str, bodies: Vec<String>) -> Vec<String> {
        let mut event = SqsEvent::default();
        for (at, body) in bodies.into_iter().enumerate() {
            let mut message = SqsMessage::default();
            message.message_id = Some(format!("m{at}"));
            message.receipt_handle = Some(format!("r{at}"));
            message.event_source_arn = Some(format!("arn:aws:sqs:eu-west-1:1:crm-{lane}"));
            message.body = Some(body);
            event.records.push(message);
        }
        let deadline = self.clock.now() + Duration::from_secs(45);
        let response = self.apply.handle(event, deadline).await;
        let failed = response.batch_item_failures.into_iter();
        failed.map(|item| item.item_identifier).collect()
    }

    /// The lines of metrics so far.
    fn lines(&self) -> Vec<Json> {
        let text = self.metrics.text();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

const MIXED: [&str; 9] = [
    "applied-1",
    "applied-2",
    "applied-3",
    "unchanged-1",
    "unchanged-2",
    "superseded-1",
    "skip-1",
    "refused-1",
    "unmapped-1",
];

#[tokio::test]
async fn a_batch_is_one_line_with_what_became_of_all_its_changes() {
    let stage = Stage::new().await;
    let one = stage.pack(&MIXED, Origin::Webhook, None).await;
    let other = stage.pack(&["applied-4"], Origin::Pull, None).await;
    // One of them comes twice.
    let bodies = vec![one.clone(), other, one.clone()];
    assert!(stage.apply("live", bodies).await.is_empty());
    let lines = stage.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let mut line = lines[0].as_object().unwrap().clone();
    let metadata = line.remove("_aws").unwrap();
    assert_eq!(metadata["CloudWatchMetrics"][0]["Namespace"], "Syncline");
    // The target took a quarter of a second; only what it has written had so far to go.
    let expected = json!({
        "Stack": "crm", "Map": "customers", "applied": 4, "unchanged": 2, "superseded": 1,
        "filtered": 1, "failed": 2, "balance": -10, "lag_ms": [2250, 2250, 2250, 2250], "breaker_open": 0,
    });
    assert_eq!(Json::Object(line), expected);
    // A message that comes again has an outcome already.
    assert!(stage.apply("live", vec![one]).await.is_empty());
    assert_eq!(stage.lines().len(), 1);
}

#[tokio::test]
async fn the_rows_of_a_load_are_counted_and_not_late() {
    let stage = Stage::new().await;
    let pack = stage.pack(&["applied-1"], Origin::Load, None).await;
    assert!(stage.apply("load", vec![pack]).await.is_empty());
    let lines = stage.lines();
    assert_eq!(
        (&lines[0]["applied"], &lines[0]["lag_ms"]),
        (&json!(1), &Json::Null)
    );
}

#[tokio::test]
async fn a_target_that_is_down_opens_its_breaker_and_the_line_says_so() {
    let stage = Stage::new().await;
    let pack = stage.pack(&["down-1"], Origin::Webhook, None).await;
    for _ in 0..2 {
        assert_eq!(stage.apply("live", vec![pack.clone()]).await, ["m0"]);
    }
    let lines = stage.lines();
    let open: Vec<_> = lines.iter().map(|line| &line["breaker_open"]).collect();
    assert_eq!(open, [&json!(1), &json!(1)], "{lines:?}");
    assert!(lines.iter().all(|line| line["failed"].is_null()));
    // It is said to be back by what has been written, not by what might have been.
    for key in ["unmapped-1", "applied-1"] {
        stage.clock.advance(Duration::from_mins(2));
        let pack = stage.pack(&[key], Origin::Webhook, None).await;
        assert!(stage.apply("live", vec![pack]).await.is_empty());
    }
    let lines = stage.lines();
    let open: Vec<_> = lines.iter().map(|line| &line["breaker_open"]).collect();
    assert_eq!(open[2..], [&json!(1), &json!(0)], "{lines:?}");
}

#[tokio::test]
async fn what_is_not_done_in_time_comes_back_before_the_worker_is_ended() {
    let mut stage = Stage::new().await;
    stage.apply.grace = Some(Duration::from_secs(9));
    let silent = stage.pack(&["silent-1"], Origin::Webhook, None).await;
    for _ in 0..4 {
        let began = stage.clock.now();
        assert_eq!(stage.apply("live", vec![silent.clone()]).await, ["m0"]);
        let took = stage.clock.now().duration_since(began).as_secs();
        assert!((54..55).contains(&took), "{took} s");
    }
    // Nobody knows who was slow, so others still try.
    stage.clock.advance(Duration::from_secs(10));
    let other = stage.pack(&["applied-1"], Origin::Webhook, None).await;
    assert!(stage.apply("live", vec![other]).await.is_empty());
    let lines = stage.lines();
    assert!(lines.iter().all(|line| line["failed"].is_null()));
    assert_eq!(lines.last().unwrap()["applied"], 1);
}

#[tokio::test]
async fn a_trace_of_the_sample_ends_in_the_log() {
    let stage = Stage::new().await;
    let logged = Captured::default();
    let writer = logged.clone();
    let _guard = tracing::subscriber::set_default(json_lines("info", move || writer.clone()));
    let trace: TraceId = TRACE.parse().unwrap();
    let traced = stage.pack(&MIXED, Origin::Webhook, Some(trace)).await;
    let other = stage.pack(&["applied-4"], Origin::Pull, None).await;
    stage.apply("live", vec![traced, other]).await;
    let logged = logged.text();
    let line = logged.lines().find(|line| line.contains("trace.id"));
    let line: Json = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!(logged.matches("trace.id").count(), 1, "{logged}");
    for (name, value) in [
        ("trace.id", json!(TRACE)),
        ("map.name", json!("customers")),
        ("applied", json!(3)),
        ("failed", json!(2)),
        ("since_queued_ms", json!(250)),
    ] {
        assert_eq!(line[name], value, "{name} of {line}");
    }
}

#[tokio::test]
async fn a_trace_of_the_sample_goes_on_to_the_target_with_each_of_its_rows() {
    let mut stage = Stage::new().await;
    let trace: TraceId = TRACE.parse().unwrap();
    let other = stage.pack(&["applied-4"], Origin::Pull, None).await;
    let keys = ["unmapped-1", "applied-1", "applied-2"];
    let traced = stage.pack(&keys, Origin::Webhook, Some(trace)).await;
    // The newer of two changes is written.
    stage.clock.advance(Duration::from_secs(1));
    let newer = stage
        .pack(&["applied-4"], Origin::Webhook, Some(trace))
        .await;
    let bodies = vec![other, traced, newer];
    stage.apply("live", bodies).await;
    let told = stage.traced.text();
    let mut told: Vec<_> = told.lines().collect();
    told.sort_unstable();
    let key = |line: &str| {
        line.split('"')
            .nth(1)
            .unwrap()
            .replace(&format!("-{MARKER}"), "")
    };
    let keys: Vec<String> = told.iter().map(|line| key(line)).collect();
    assert_eq!(keys, ["applied-1", "applied-2", "applied-4"], "{told:#?}");
    let of = |line: &str| line.starts_with(&format!("00-{TRACE}-")) && line[..55].ends_with("-01");
    assert!(told.iter().all(|line| of(line)), "{told:#?}");

    stage.apply.traces = Traces::none();
    let traced = stage
        .pack(&["applied-5"], Origin::Webhook, Some(trace))
        .await;
    stage.apply("live", vec![traced]).await;
    assert_eq!(stage.traced.text().lines().count(), told.len());
}

#[tokio::test]
async fn no_line_has_anything_of_a_record() {
    let stage = Stage::new().await;
    let logged = Captured::default();
    let writer = logged.clone();
    let _guard = tracing::subscriber::set_default(json_lines("trace", move || writer.clone()));
    let trace = TRACE.parse().ok();
    let mixed = stage.pack(&MIXED, Origin::Webhook, trace).await;
    stage.apply("live", vec![mixed]).await;
    for bad in [
        format!(r#"{{"type":"{MARKER}"}}"#),
        format!(r#"{{"type":"pack.v1","map":"{MARKER}","id":"{MARKER}"}}"#),
        format!("{MARKER} is no JSON"),
    ] {
        assert!(stage.apply("live", vec![bad]).await.is_empty());
    }
    let panics = stage.pack(&["panic-1"], Origin::Webhook, trace).await;
    assert_eq!(stage.apply("live", vec![panics]).await, ["m0"]);
    let down = stage.pack(&["down-1"], Origin::Webhook, trace).await;
    assert_eq!(stage.apply("live", vec![down]).await, ["m0"]);
    let (logged, metrics) = (logged.text(), stage.metrics.text());
    assert!(logged.lines().count() >= 6, "{logged}");
    assert!(metrics.lines().count() >= 5, "{metrics}");
    for line in logged.lines().chain(metrics.lines()) {
        assert!(!line.contains(MARKER), "{line}");
    }
    assert!(logged.contains("panicked") && logged.contains("the warehouse is closed"));
}
