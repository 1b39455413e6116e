//! Ten thousand maps that are due at once, and the workers that pull them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use bytes::Bytes;
use definition::Definition;
use futures_util::future::{AbortHandle, join_all};
use model::{MapEvent, MapName, Op, QueueName, SliceRange};
use ports::{
    Blobs, Clock, LowWater, Next, Outgoing, Page, PageRecord, Queue, QueueError, ReadFrom, Sent,
    Source, SourceError, StoreError, StreamSchema, Systems, SystemsError, Target,
    testing::{Captured, map_name},
};
use recurring_pull::{RecurringPull, Schedule, Tick};
use runtime::{MapStates, Metrics, Outbox};

use crate::{
    page::{self, apart},
    simulated::{Simulated, Table},
};

const MAPS: usize = 10_000;
/// What a source takes to answer, in the model.
const ANSWER: Duration = Duration::from_secs(1);
/// What a call of SQS takes, in the model, and how many of them `shared/aws` has under way.
const SEND: Duration = Duration::from_millis(10);
const SENDS: usize = 4;
/// Messages of one invocation, as the template says.
const BATCH: usize = 8;

/// Queues of which one is looked at.
#[derive(Debug)]
struct Queues {
    clock: Arc<Simulated>,
    pulls: Mutex<VecDeque<String>>,
    sent: Mutex<HashMap<QueueName, (usize, usize)>>,
}

impl Queues {
    /// Messages that were sent, and calls that they took.
    fn sent(&self, queue: QueueName) -> (usize, usize) {
        let sent = self.sent.lock().unwrap();
        sent.get(&queue).copied().unwrap_or_default()
    }

    fn take(&self) -> Vec<String> {
        let mut pulls = self.pulls.lock().unwrap();
        let count = pulls.len().min(BATCH);
        pulls.drain(..count).collect()
    }
}

#[async_trait]
impl Queue for Queues {
    async fn send(
        &self,
        queue: QueueName,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Sent>, QueueError> {
        let calls = messages.len().div_ceil(10);
        let rounds = u32::try_from(calls.div_ceil(SENDS)).unwrap();
        self.clock.wait(SEND * rounds).await;
        let mut sent = self.sent.lock().unwrap();
        let (count, of) = sent.entry(queue).or_default();
        *count += messages.len();
        *of += calls;
        let all = vec![Sent::Queued; messages.len()];
        if queue == QueueName::Pulls {
            let mut pulls = self.pulls.lock().unwrap();
            pulls.extend(messages.into_iter().map(|message| message.body));
        }
        Ok(all)
    }
    async fn defer(&self, _: QueueName, _: &str, _: Duration) -> Result<(), QueueError> {
        unreachable!("a pull puts nothing off")
    }
}

/// No message here is large.
#[derive(Debug)]
struct NoBlobs;

#[async_trait]
impl Blobs for NoBlobs {
    async fn put_new(&self, _: &str, _: Bytes) -> Result<bool, StoreError> {
        unreachable!("no message is large")
    }
    async fn get(&self, _: &str) -> Result<Option<Bytes>, StoreError> {
        unreachable!("no message is large")
    }
    async fn delete(&self, _: &[String]) -> Result<(), StoreError> {
        unreachable!("no message is large")
    }
    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<String>, StoreError> {
        unreachable!("no message is large")
    }
    async fn measure(&self, _: &str) -> Result<(u64, u64), StoreError> {
        unreachable!("no message is large")
    }
}

/// Sources that answer with one record after a while, and how often each was asked.
#[derive(Debug, Clone)]
struct Sources {
    clock: Arc<Simulated>,
    asked: Arc<Mutex<HashMap<MapName, usize>>>,
}

#[derive(Debug)]
struct Slow(Arc<Simulated>);

#[async_trait]
impl Systems for Sources {
    async fn source(&self, map: &MapName) -> Result<Arc<dyn Source>, SystemsError> {
        *self.asked.lock().unwrap().entry(map.clone()).or_default() += 1;
        Ok(Arc::new(Slow(Arc::clone(&self.clock))))
    }
    async fn target(&self, _: &MapName) -> Result<Arc<dyn Target>, SystemsError> {
        unreachable!("a pull writes nothing")
    }
}

#[async_trait]
impl Source for Slow {
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
        self.0.wait(ANSWER).await;
        let raw = Bytes::from_static(br#"{"id":"a"}"#);
        let op = Op::Upsert;
        Ok(Page {
            records: vec![PageRecord { op, raw }],
            observed: 0,
            next: Next::End(None),
        })
    }
    async fn fetch(&self, _: &[Bytes]) -> Result<Vec<Option<Bytes>>, SourceError> {
        unreachable!("a pull reads")
    }
    fn can_fetch(&self) -> bool {
        false
    }
}

const ONE_MAP: &str = r#"
connections:
  crm: { kind: odata, url: "https://crm.example.com" }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  one:
    from: { stream: crm.Customers, key: id, version: modified }
    to: { stream: warehouse.customers, key: id }
    fields: { id: id }
    pull: { every: 15m }
"#;

fn definition() -> Definition {
    let mut definition = Definition::read(ONE_MAP).definition.unwrap();
    let one = definition.maps.pop_first().unwrap().1;
    for n in 0..MAPS {
        let name = map_name(&format!("map-{n}"));
        let map = definition::Map {
            name: name.clone(),
            ..one.clone()
        };
        definition.maps.insert(name, map);
    }
    definition
}

struct World {
    clock: Arc<Simulated>,
    table: Arc<Table>,
    queues: Arc<Queues>,
    sources: Sources,
    definition: Arc<Definition>,
}

impl World {
    /// Maps that run and have not been pulled for long.
    fn new() -> Self {
        let clock = Simulated::new();
        let world = Self {
            table: Arc::new(Table::new(&clock)),
            queues: Arc::new(Queues {
                clock: Arc::clone(&clock),
                pulls: Mutex::default(),
                sent: Mutex::default(),
            }),
            sources: Sources {
                clock: Arc::clone(&clock),
                asked: Arc::default(),
            },
            definition: Arc::new(definition()),
            clock,
        };
        let states = world.states();
        let started = world.definition.maps.keys();
        let started = started.map(|map| states.transition(map, MapEvent::Start));
        for done in world.clock.run(join_all(started)) {
            done.unwrap();
        }
        world
    }

    fn states(&self) -> MapStates {
        MapStates::new(Arc::clone(&self.table) as _, Arc::clone(&self.clock) as _)
    }

    /// The function in a process that has just begun and remembers nothing.
    fn function(&self) -> RecurringPull {
        RecurringPull {
            definition: Arc::clone(&self.definition),
            systems: Arc::new(self.sources.clone()),
            outbox: Outbox::new(Arc::clone(&self.queues) as _, Arc::new(NoBlobs)),
            states: self.states(),
            checkpoints: Arc::clone(&self.table) as _,
            clock: Arc::clone(&self.clock) as _,
            metrics: Metrics::to("crm", false, Captured::default()),
            schedule: Schedule::default(),
        }
    }

    /// Works the queue off with so many invocations side by side, until it is aborted.
    fn work(&self, side_by_side: usize) -> Vec<AbortHandle> {
        let worker = |_| {
            let (function, queues) = (self.function(), Arc::clone(&self.queues));
            let clock = Arc::clone(&self.clock);
            self.clock.spawn(async move {
                loop {
                    let bodies = queues.take();
                    if bodies.is_empty() {
                        clock.wait(Duration::from_millis(100)).await;
                        continue;
                    }
                    let deadline = clock.now() + Duration::from_secs(110);
                    let answer = function.handle(event(bodies), deadline).await;
                    assert!(answer.batch_item_failures.is_empty());
                }
            })
        };
        (0..side_by_side).map(worker).collect()
    }

    fn pulled(&self) -> usize {
        self.sources.asked.lock().unwrap().len()
    }

    fn asked(&self) -> usize {
        self.sources.asked.lock().unwrap().values().sum()
    }
}

fn event(bodies: Vec<String>) -> SqsEvent {
    let message = |(at, body): (usize, String)| {
        let mut message = SqsMessage::default();
        message.message_id = Some(at.to_string());
        message.body = Some(body);
        message
    };
    let mut event = SqsEvent::default();
    event.records = bodies.into_iter().enumerate().map(message).collect();
    event
}

/// The time limit of the function, as the template says.
const TIMEOUT: Duration = Duration::from_mins(2);

#[test]
fn a_tick_asks_for_ten_thousand_pulls_within_its_time() {
    let world = World::new();
    let began = world.clock.passed();
    let function = world.function();
    let due = world.clock.run(function.tick(Tick::default())).unwrap();
    let took = world.clock.passed().saturating_sub(began);
    assert_eq!(due, MAPS);
    assert!(took < TIMEOUT / 10, "{took:?}");
    let (messages, calls) = world.queues.sent(QueueName::Pulls);
    page::says(&format!(
        "| a tick | {} messages in {} calls, {:.1} s |",
        apart(messages as u64),
        apart(calls as u64),
        took.as_secs_f64()
    ));
}

/// After an outage all maps are due. Ticks go on, each in a process that knows nothing of what
/// waits in the queue.
fn catch_up(side_by_side: usize) -> String {
    let world = World::new();
    let (began, before) = (world.clock.passed(), world.table.total());
    let workers = world.work(side_by_side);
    world.clock.run(async {
        for tick in 0..20 {
            let next = began + Duration::from_secs(60 * tick);
            let wait = next.saturating_sub(world.clock.passed());
            world.clock.wait(wait).await;
            world.function().tick(Tick::default()).await.unwrap();
            while world.pulled() < MAPS && world.clock.passed() < next + Duration::from_mins(1) {
                world.clock.wait(Duration::from_secs(1)).await;
            }
            if world.pulled() == MAPS {
                return;
            }
        }
    });
    assert_eq!(world.pulled(), MAPS);
    let took = world.clock.passed().saturating_sub(began);
    // What was asked for twice is not pulled twice.
    world.clock.run(world.clock.wait(Duration::from_mins(1)));
    assert!(world.queues.take().is_empty(), "everything is done");
    assert_eq!(world.asked(), MAPS, "each map is pulled once");
    workers.iter().for_each(AbortHandle::abort);
    let (messages, _) = world.queues.sent(QueueName::Pulls);
    let used = world.table.total();
    format!(
        "| {side_by_side} | {} | {} | {:.2} | {:.2} |",
        took.as_secs(),
        apart(messages as u64),
        (used.reads - before.reads) as f64 / MAPS as f64,
        (used.writes - before.writes) as f64 / MAPS as f64,
    )
}

#[test]
fn after_an_outage_each_map_is_pulled_once() {
    let mut lines = Vec::new();
    for side_by_side in [10, 25] {
        lines.push(catch_up(side_by_side));
    }
    println!("{}", lines.join("\n"));
    for line in lines {
        page::says(&line);
    }
}
