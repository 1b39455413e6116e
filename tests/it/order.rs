//! Whatever the order in which changes arrive, on whatever lane, once, twice or late, and whichever
//! of them the target refuses: it ends at the newest version, what is deleted stays deleted, and
//! as long as it cannot, somebody is told.

use std::time::Duration;

use local::deliver_visible;
use model::{
    Change, EncodedPack, Lane, Op, Origin, PackHead, PackId, RetryJob, RunId, encode_pack,
};
use ports::{Outgoing, PackEntry, Queue};
use proptest::{prelude::*, test_runner::TestCaseError};
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use crate::support::{Deployment, Project, message, name, small_crm};

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

const VERSION: &str = ", version: { field: OrderDate, kind: timestamp }";

/// The target takes all states, or not the odd ones.
const TAKING: &str = "DROP TRIGGER IF EXISTS inserted; DROP TRIGGER IF EXISTS updated;";
const REFUSING: &str = "
CREATE TRIGGER IF NOT EXISTS inserted BEFORE INSERT ON orders WHEN NEW.status LIKE 'odd %'
BEGIN SELECT RAISE(ABORT, 'not now'); END;
CREATE TRIGGER IF NOT EXISTS updated BEFORE UPDATE ON orders WHEN NEW.status LIKE 'odd %'
BEGIN SELECT RAISE(ABORT, 'not now'); END;";

/// The rows that change.
const KEYS: [&str; 3] = ["500001", "500002", "500003"];

/// What becomes of a row.
#[derive(Debug, Clone, Copy)]
enum Becomes {
    /// Another state; an odd one is one that the target does not always take.
    Written { odd: bool },
    /// Nothing; a dated deletion says its version.
    Deleted { dated: bool },
}

/// One thing that happens at the source.
#[derive(Debug, Clone)]
struct Step {
    key: usize,
    becomes: Becomes,
    /// The target does not take odd states from now on.
    strict: bool,
    /// The source's clock has not moved on: two states have one version.
    coarse: bool,
    news: Vec<News>,
    /// How often all failures are sent round again after it, at once.
    retries: usize,
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
    // The lane of retries has what failed on these.
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::Load)];
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
    let becomes = prop_oneof![
        2 => prop::bool::weighted(0.3).prop_map(|odd| Becomes::Written { odd }),
        1 => any::<bool>().prop_map(|dated| Becomes::Deleted { dated }),
    ];
    let state = (
        0..KEYS.len(),
        becomes,
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.4),
    );
    let retries = prop_oneof![2 => Just(0), 1 => 1_usize..3];
    let told = (prop::collection::vec(any_news(), 1..4), retries, 0_usize..4);
    (state, told).prop_map(|(state, (news, retries, rounds))| {
        let (key, becomes, strict, coarse) = state;
        Step {
            key,
            becomes,
            strict,
            coarse,
            news,
            retries,
            rounds,
        }
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
        self.rule(step.strict);
        if !step.coarse {
            self.tick += 1;
        }
        let version = format!("2026-01-01T00:{:02}:{:02}Z", self.tick / 60, self.tick % 60);
        self.states += 1;
        let number: i64 = key.parse().expect("a number");
        let (op, raw) = match step.becomes {
            Becomes::Written { odd } => {
                let kind = if odd { "odd" } else { "state" };
                let state = format!("{kind} {}", self.states);
                let state = json!({ "Status": state, "OrderDate": version });
                self.crm.write(Set::Orders, key, &state);
                let row = self.crm.row(Set::Orders, key).expect("a row");
                (Op::Upsert, row)
            }
            Becomes::Deleted { dated } => {
                // Deleting what is not there is news too.
                let _ = self.crm.delete(Set::Orders, key);
                let mut row = json!({ "OrderNo": number });
                if dated {
                    row["OrderDate"] = version.into();
                }
                (Op::Delete, row)
            }
        };
        for news in &step.news {
            let op = if news.thin { Op::Touch } else { op };
            self.send(news, op, raw.to_string()).await;
        }
        self.retry(step.retries).await;
        for _ in 0..step.rounds {
            deliver_visible(&self.deployment.home).await;
        }
        self.deployment.clock.advance(Duration::from_secs(7));
    }

    /// Lets the target be strict, or not.
    fn rule(&self, strict: bool) {
        let warehouse = self.deployment.project.warehouse();
        let rule = if strict { REFUSING } else { TAKING };
        warehouse.execute_batch(rule).expect("a rule");
    }

    /// Sends all failures round, as a job does that comes again and again.
    async fn retry(&self, times: usize) {
        let failures = self.deployment.failures("orders").await;
        let failures = failures.iter().map(|failure| failure.id).collect();
        let mut job = message(&RetryJob::Replay { failures });
        let again = ("ApproximateReceiveCount".into(), "2".into());
        job.records[0].attributes.extend([again]);
        let retry = &self.deployment.home.functions.retry;
        for _ in 0..times {
            let deadline = self.deployment.deadline();
            let answer = retry.handle_jobs(job.clone(), deadline).await;
            assert!(answer.batch_item_failures.is_empty());
        }
    }

    /// Asserts of each row that the target has it as it is, or that somebody is told.
    async fn assert_told(&self) -> Result<(), TestCaseError> {
        let failures = self.deployment.failures("orders").await;
        for key in KEYS {
            let told = failures.iter().any(|one| one.key.as_deref() == Some(key));
            let (found, wanted) = self.row(key);
            prop_assert!(
                told || found == wanted,
                "row {key}: {found:?}, not {wanted:?}"
            );
        }
        Ok(())
    }

    /// The state of a row in the target, and as it should be.
    fn row(&self, key: &str) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
        let sql = format!("SELECT status FROM orders WHERE order_no = {key}");
        let row = self.crm.row(Set::Orders, key);
        let state = row.map(|row| vec![row["Status"].as_str().expect("text").to_owned()]);
        (self.deployment.query(&sql), state.into_iter().collect())
    }

    async fn send(&self, news: &News, op: Op, raw: String) {
        let clock = &self.deployment.home.clock;
        let map = name("orders");
        let head = PackHead {
            id: PackId::from_uuid(clock.new_id()),
            run: RunId::live(&map),
            map: map.clone(),
            origin: if news.lane == Lane::Load {
                Origin::Load
            } else {
                Origin::Pull
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
            pack: Some(entry),
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

async fn play(steps: &[Step], map: &str) -> Result<(), TestCaseError> {
    let crm = small_crm().await;
    let deployment = Deployment::open(Project::new(&map.replace("{url}", &crm.url())));
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
    told.assert_told().await?;
    told.rule(false);
    deployment.retry_all().await;
    for key in KEYS {
        let (found, wanted) = told.row(key);
        prop_assert_eq!(found, wanted, "row {}", key);
    }
    prop_assert_eq!(deployment.failures("orders").await, []);
    let books = deployment.books("orders").await;
    prop_assert!(books.balanced() && books.in_flight == 0, "{:?}", books);
    Ok(())
}

fn run(steps: &[Step], map: &str) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(play(steps, map))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn every_order_of_arrival_ends_at_the_newest_version(steps in prop::collection::vec(any_step(), 1..14)) {
        run(&steps, MAP)?;
    }

    #[test]
    fn without_versions_it_ends_at_what_the_source_has(steps in prop::collection::vec(any_step(), 1..14)) {
        run(&steps, &MAP.replace(VERSION, ""))?;
    }
}
