//! Whatever the order in which changes arrive, on whatever lane, once, twice or late: the target
//! ends at the newest version, and what is deleted stays deleted.

use std::time::Duration;

use local::deliver_visible;
use model::{Change, EncodedPack, Lane, Op, Origin, PackHead, PackId, RunId, encode_pack};
use ports::{Outgoing, PackEntry, Queue};
use proptest::{prelude::*, test_runner::TestCaseError};
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use crate::support::{Deployment, Project, name, small_crm};

const MAP: &str = "\
connections:
  crm: { kind: odata, url: {url} }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  orders:
    from: { stream: crm.Orders, key: OrderNo, version: { field: OrderDate, kind: timestamp } }
    to: { stream: warehouse.orders, key: order_no }
    fields: { order_no: OrderNo, status: Status }
";

/// The rows that change.
const KEYS: [&str; 3] = ["500001", "500002", "500003"];

/// One thing that happens at the source.
#[derive(Debug, Clone)]
struct Step {
    key: usize,
    deletes: bool,
    /// The source's clock has not moved on: two states have one version.
    coarse: bool,
    /// Whether a delete says its version.
    dated: bool,
    news: Vec<News>,
    /// How many rounds of delivery come after it.
    rounds: usize,
}

/// One way on which a step is told.
#[derive(Debug, Clone)]
struct News {
    lane: Lane,
    late: Duration,
    /// The same message again, as a queue may deliver it.
    redelivered: bool,
    /// Only that something has changed.
    thin: bool,
}

fn any_news() -> impl Strategy<Value = News> {
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::Retry), Just(Lane::Load)];
    (lane, 0_u64..40, any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(lane, late, redelivered, thin)| News {
            lane,
            late: Duration::from_secs(late),
            redelivered,
            thin,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let news = prop::collection::vec(any_news(), 1..4);
    let key = 0..KEYS.len();
    (
        key,
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.4),
        any::<bool>(),
        news,
        0_usize..3,
    )
        .prop_map(|(key, deletes, coarse, dated, news, rounds)| Step {
            key,
            deletes,
            coarse,
            dated,
            news,
            rounds,
        })
}

/// A source and what is told of it.
struct Told<'t> {
    crm: &'t SampleCrm,
    deployment: &'t Deployment,
    tick: i64,
    states: usize,
}

impl Told<'_> {
    async fn happen(&mut self, step: &Step) {
        let key = KEYS[step.key];
        if !step.coarse {
            self.tick += 1;
        }
        let version = format!("2026-01-01T00:{:02}:{:02}Z", self.tick / 60, self.tick % 60);
        self.states += 1;
        if step.deletes {
            // Deleting what is not there is news too.
            let _ = self.crm.delete(Set::Orders, key);
        } else {
            let state = json!({ "Status": format!("state {}", self.states), "OrderDate": version });
            self.crm.write(Set::Orders, key, &state);
        }
        let number: i64 = key.parse().expect("a number");
        let (op, raw) = match self.crm.row(Set::Orders, key) {
            Some(row) => (Op::Upsert, row),
            None if step.dated => (
                Op::Delete,
                json!({ "OrderNo": number, "OrderDate": version }),
            ),
            None => (Op::Delete, json!({ "OrderNo": number })),
        };
        for news in &step.news {
            let op = if news.thin { Op::Touch } else { op };
            self.send(news, op, raw.to_string()).await;
        }
        for _ in 0..step.rounds {
            deliver_visible(&self.deployment.home).await;
        }
        self.deployment.clock.advance(Duration::from_secs(7));
    }

    async fn send(&self, news: &News, op: Op, raw: String) {
        let clock = &self.deployment.home.clock;
        let map = name("orders");
        let head = PackHead {
            id: PackId::from_uuid(clock.new_id()),
            run: RunId::live(&map),
            map: map.clone(),
            origin: match news.lane {
                Lane::Load => Origin::Load,
                Lane::Live | Lane::Retry => Origin::Pull,
            },
            generation: 0,
            created: clock.now(),
            trace: None,
        };
        let change = Change {
            op,
            observed: clock.now().as_microsecond(),
            raw: raw.into(),
            failure: None,
        };
        let EncodedPack { head, count, body } = encode_pack(head, &[change]);
        let entry = PackEntry {
            id: head.id,
            map: map.clone(),
            run: head.run,
            count,
        };
        let message = Outgoing {
            group: Some(map),
            delay: news.late,
            pack: (news.lane != Lane::Retry).then_some(entry),
            ..Outgoing::new(body)
        };
        let copies = if news.redelivered { 2 } else { 1 };
        let sent = self
            .deployment
            .home
            .store
            .send(news.lane.queue(), vec![message; copies])
            .await;
        sent.expect("sent");
    }
}

async fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::new(&MAP.replace("{url}", &crm.url())));
    let map = name("orders");
    let operations = &deployment.home.operations;
    operations.start_without_load(&map).await.expect("started");
    deployment.prepare_target(&map).await;
    deployment.settle().await;
    let mut told = Told {
        crm: &crm,
        deployment: &deployment,
        tick: 0,
        states: 0,
    };
    for step in steps {
        told.happen(step).await;
    }
    deployment.clock.advance(Duration::from_mins(2));
    deployment.run_dry().await;
    for key in KEYS {
        let found = deployment.query(&format!("SELECT status FROM orders WHERE order_no = {key}"));
        let wanted: Vec<Vec<String>> = crm
            .row(Set::Orders, key)
            .map(|row| vec![row["Status"].as_str().expect("text").to_owned()])
            .into_iter()
            .collect();
        prop_assert_eq!(found, wanted, "row {}", key);
    }
    prop_assert_eq!(deployment.failures("orders").await, []);
    let books = deployment.books("orders").await;
    prop_assert!(books.balanced() && books.in_flight == 0, "{:?}", books);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn every_order_of_arrival_ends_at_the_newest_version(steps in prop::collection::vec(any_step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(&steps))?;
    }
}
