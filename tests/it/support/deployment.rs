use std::{sync::Arc, time::Duration};

use aws_lambda_events::{apigw::ApiGatewayV2httpRequest, encodings::Body};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use local::{Home, deliver_visible};
use model::{
    Books, Change, EncodedPack, Failure, Lane, MapName, MapState, Op, Origin, PackHead, PackId,
    RunId, encode_pack,
};
use operations::{MapStatus, Selection};
use ports::{Clock, FailureFilter, Queue, testing::ManualClock};
use recurring_pull::Tick;
use retry::Retry;
use runtime::{Arrival, Outbox, Parking};
use serde_json::Value;

use super::Project;

/// A deployment whose messages move only when the test says so, on a clock of the test's.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) home: Home,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) project: Project,
}

/// Rounds after which a test gives up waiting.
const PATIENCE: usize = 10_000;

impl Deployment {
    #[expect(
        clippy::disallowed_methods,
        reason = "sources of the tests have clocks of their own, which show the time of day"
    )]
    pub(crate) fn open(project: Project) -> Self {
        Self::open_at(project, Timestamp::now())
    }

    pub(crate) fn open_at(project: Project, now: Timestamp) -> Self {
        let clock = Arc::new(ManualClock::at(now));
        let home = match Home::open(&project.paths(), Arc::clone(&clock) as _) {
            Ok(home) => home,
            Err(local::HomeError::Invalid { problems, .. }) => panic!("{problems:#?}"),
            Err(error) => panic!("{error}"),
        };
        Self {
            home,
            clock,
            project,
        }
    }

    /// When an invocation that begins now has to come to its end.
    pub(crate) fn deadline(&self) -> Timestamp {
        self.clock.now() + Duration::from_mins(1)
    }

    /// The function `retry`, sending to another queue.
    pub(crate) fn retry_through(&self, queue: Arc<dyn Queue>) -> Retry {
        let operations = &self.home.operations;
        Retry {
            definition: Arc::clone(&operations.definition),
            failures: Arc::clone(&operations.failures),
            outbox: Outbox::new(queue, Arc::new(self.home.store.clone())),
            parking: operations.parking.clone(),
            states: operations.states.clone(),
            breakers: operations.breakers.clone(),
            checkpoints: Arc::clone(&operations.checkpoints),
            ledger: Arc::clone(&operations.ledger),
            clock: Arc::clone(&operations.clock),
            keep: Duration::MAX,
        }
    }

    /// Delivers messages until none is visible.
    pub(crate) async fn settle(&self) {
        for _ in 0..PATIENCE {
            if deliver_visible(&self.home).await == 0 {
                return;
            }
        }
        panic!("messages go round and round");
    }

    /// Lets time pass and everything happen that is due by then.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.home
            .functions
            .retry
            .tick(self.deadline())
            .await
            .expect("a tick");
        self.settle().await;
    }

    /// Lets time pass and all timers of a host run, with everything they set off.
    pub(crate) async fn live(&self, time: Duration) {
        self.clock.advance(time);
        let functions = &self.home.functions;
        functions.pull.tick(Tick::default()).await.expect("a tick");
        functions.retry.tick(self.deadline()).await.expect("a tick");
        functions.retry.tidy(self.deadline()).await.expect("a tick");
        functions.load.watch().await.expect("a tick");
        self.settle().await;
    }

    /// The same while a store is expected not to work: a host only notes that in its log.
    pub(crate) async fn struggle(&self, time: Duration) {
        self.clock.advance(time);
        let functions = &self.home.functions;
        let _ = functions.pull.tick(Tick::default()).await;
        let _ = functions.retry.tick(self.deadline()).await;
        let _ = functions.retry.tidy(self.deadline()).await;
        let _ = functions.load.watch().await;
        for _ in 0..3 {
            deliver_visible(&self.home).await;
        }
    }

    /// Lets time pass until a map is in a state and nothing is on its way to it.
    pub(crate) async fn until(&self, map: &str, state: MapState) {
        for _ in 0..1_000 {
            let status = self.status(map).await;
            if status.state == state && status.books.in_flight == 0 {
                return;
            }
            self.live(Duration::from_secs(2)).await;
        }
        panic!("`{map}` never is {state}: {:#?}", self.status(map).await);
    }

    /// Lets time pass, in steps, until nothing is on its way and no failure waits for its time.
    pub(crate) async fn run_dry(&self) {
        self.settle().await;
        for _ in 0..PATIENCE {
            if at_rest(&self.home).await {
                return;
            }
            self.pass(Duration::from_secs(2)).await;
        }
        panic!(
            "it never comes to rest: {:#?}",
            self.home.operations.status().await
        );
    }

    /// A change of a map, packed as a webhook would.
    pub(crate) fn packed(&self, map: &str, raw: String) -> EncodedPack {
        let map = name(map);
        let clock = &self.home.clock;
        let head = PackHead {
            id: PackId::from_uuid(clock.new_id()),
            run: RunId::live(&map),
            map,
            origin: Origin::Webhook,
            generation: 0,
            created: clock.now(),
            trace: None,
        };
        let change = Change {
            op: Op::Upsert,
            observed: clock.now().as_microsecond(),
            raw: raw.into(),
            failure: None,
        };
        encode_pack(head, &[change])
    }

    /// Loads maps and waits for their end.
    pub(crate) async fn load(&self, maps: &[&str]) {
        for map in maps {
            self.home.operations.load(&name(map)).await.expect("a load");
        }
        self.run_dry().await;
    }

    /// Loads all maps and waits for their end.
    pub(crate) async fn load_all(&self) {
        for map in self.home.definition.maps.keys() {
            self.home.operations.load(map).await.expect("a load");
        }
        self.run_dry().await;
    }

    /// Makes the table of a map that is not loaded.
    pub(crate) async fn prepare_target(&self, map: &MapName) {
        let operations = &self.home.operations;
        let plan = operations.plans.plan(map).await.expect("a plan");
        let target = operations.systems.target(map).await.expect("a target");
        target.prepare(plan.table()).await.expect("prepared");
    }

    /// Pulls maps and waits for their end.
    pub(crate) async fn pull(&self, maps: &[&str]) {
        for map in maps {
            self.home.operations.pull(&name(map)).await.expect("a pull");
        }
        self.settle().await;
    }

    /// Posts a webhook; returns the status and the body of the answer.
    pub(crate) async fn post(
        &self,
        endpoint: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (i64, Value) {
        let mut event = ApiGatewayV2httpRequest::default();
        event.request_context.http.method = Method::POST;
        let (path, query) = endpoint.split_once('?').unwrap_or((endpoint, ""));
        event.raw_path = Some(format!("/hooks/{path}"));
        event.raw_query_string = Some(query.to_owned());
        event.headers = header_map(headers);
        if let Ok(text) = std::str::from_utf8(body) {
            event.body = Some(text.to_owned());
        } else {
            event.body = Some(STANDARD.encode(body));
            event.is_base64_encoded = true;
        }
        let response = self.home.functions.intake.handle(event).await;
        let body = match response.body {
            Some(Body::Text(text)) => serde_json::from_str(&text).expect("an answer in JSON"),
            _ => Value::Null,
        };
        (response.status_code, body)
    }

    /// The books of a map.
    pub(crate) async fn books(&self, map: &str) -> Books {
        let balance = self.home.operations.balance(&name(map), 0).await;
        balance.expect("a store").books
    }

    /// Asserts that the books of every map balance.
    pub(crate) async fn assert_balanced(&self) {
        for map in self.home.definition.maps.keys() {
            let books = self.books(map.as_str()).await;
            assert!(books.balanced(), "{map}: {books:?}");
        }
    }

    /// Where a map stands.
    pub(crate) async fn status(&self, map: &str) -> MapStatus {
        let status = self.home.operations.map_status(&name(map)).await;
        status.expect("a store")
    }

    /// The state of a map.
    pub(crate) async fn state(&self, map: &str) -> MapState {
        self.status(map).await.state
    }

    /// Failures of a map that still ask for something.
    pub(crate) async fn failures(&self, map: &str) -> Vec<Failure> {
        let filter = FailureFilter {
            map: Some(name(map)),
            ..FailureFilter::unresolved()
        };
        let page = self
            .home
            .operations
            .failures
            .query(&filter, None, 1_000)
            .await;
        page.expect("a store")
            .failures
            .into_iter()
            .map(|stored| stored.value)
            .collect()
    }

    /// Sends all failures round again, and lets that come to its end.
    pub(crate) async fn retry_all(&self) {
        let sent = self.home.operations.retry_failures(&all()).await;
        sent.expect("sent");
        self.run_dry().await;
    }

    /// All rows a query finds in the warehouse, as text.
    pub(crate) fn query(&self, sql: &str) -> Vec<Vec<String>> {
        query(&self.project.warehouse(), sql)
    }
}

/// All failures that ask for something.
pub(crate) fn all() -> Selection {
    Selection::Matching(FailureFilter::unresolved())
}

/// Whether nothing is on its way and no failure waits for its time.
pub(crate) async fn at_rest(home: &Home) -> bool {
    let moving = FailureFilter {
        status: vec![
            model::FailureStatus::Waiting,
            model::FailureStatus::Retrying,
        ],
        ..FailureFilter::default()
    };
    let waiting = home.operations.count_failures(&moving).await;
    let mut rests = waiting.expect("a store") == 0;
    for map in home.definition.maps.keys() {
        let status = home.operations.map_status(map).await.expect("a store");
        rests &= status.books.in_flight == 0 && status.books.failing == 0;
        rests &= !matches!(status.state, MapState::Initializing | MapState::Resuming);
        rests &= status.trouble.is_none();
    }
    rests
}

/// All rows a query finds, as text.
pub(crate) fn query(db: &rusqlite::Connection, sql: &str) -> Vec<Vec<String>> {
    use rusqlite::types::ValueRef;
    let mut statement = db.prepare(sql).expect("a query that can be run");
    let width = statement.column_count();
    let text = |value: ValueRef<'_>| match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(n) => n.to_string(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
    };
    let rows = statement.query_map([], |row| {
        (0..width).map(|at| row.get_ref(at).map(text)).collect()
    });
    rows.expect("rows").collect::<Result<_, _>>().expect("rows")
}

/// Parks a pack for the live lane by itself.
pub(crate) async fn park_one(parking: &Parking, head: &PackHead, message: &str, body: &str) {
    let arrival = Arrival {
        head,
        message,
        body,
    };
    let parked = parking.park(&head.map, Lane::Live, vec![arrival]).await;
    parked.expect("the store takes it");
}

pub(crate) fn name(map: &str) -> MapName {
    MapName::new(map).expect("a name")
}

pub(crate) fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            )
        })
        .collect()
}
