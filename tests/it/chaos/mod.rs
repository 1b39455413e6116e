//! A deployment on the emulator in a bad world: processes of functions are killed at random,
//! messages come twice and late, webhooks out of order, tables and queues refuse calls and lose
//! answers, the target goes away. Through all of it no row goes back in time; and once the world
//! is good again, nothing has been lost and the books balance.
//!
//! `SYNCLINE_TEST_CHAOS_SECONDS` says how long it is bad, and `SYNCLINE_TEST_CHAOS_SEED` how; the
//! latter is printed. (The same seed is the same plan, and not the same run: processes and network
//! have a will of their own.)

mod answers;
mod audit;
mod copies;
mod emulator;
mod kills;
mod leases;
mod records;
mod rest;
mod source;
mod story;
mod tally;
mod trouble;
mod writer;

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use futures_util::future::join_all;
use runtime::env;
use test_postgres::TestDatabase;
use test_proxy::Proxy;
use tokio::time::Instant;

use self::{
    emulator::Emulator,
    source::Source,
    story::Scene,
    tally::{Kind, Tally},
    trouble::Trouble,
    writer::Writer,
};
use crate::support::{DEMO, HOOK_SECRET, Project, Setting, Stack, crm, on_server, ready};

const ROWS: usize = 3_000;
const BAD: usize = 18;
/// How long the world is bad if nothing else is said.
const SECONDS: u64 = 300;
/// Writers at the source, side by side.
const WRITERS: usize = 3;
const FUNCTIONS: [&str; 5] = [
    "webhook-intake",
    "recurring-pull",
    "initial-load",
    "apply",
    "retry",
];

/// The demo's maps, read in small pages; contacts are not pulled: what no webhook brings is lost.
fn definition(url: &str) -> String {
    let every = "    pull: { every: 5m }\n";
    let parts: Vec<&str> = DEMO.split(every).collect();
    let [accounts, contacts, orders, rest] = parts[..] else {
        panic!("the demo has other maps");
    };
    let pull = "    pull: { every: 20s, page_size: 100 }\n";
    format!("{accounts}{pull}{contacts}{orders}{pull}{rest}").replace("{url}", url)
}

/// Deploys to an emulator, with a proxy between it and the functions.
async fn deploy(project: Project, emulator: &str, proxy: &Proxy, warehouse: &str) -> Stack {
    let services = ["DYNAMODB", "S3", "SECRETS_MANAGER", "SQS"];
    let variables = services.map(|service| format!("AWS_ENDPOINT_URL_{service}"));
    let variables = variables
        .each_ref()
        .map(|name| (name.as_str(), proxy.endpoint()));
    let setting = Setting {
        secrets: &[("crm-hook", HOOK_SECRET), ("warehouse", warehouse)],
        variables: &variables,
        endpoint: emulator,
        ..Setting::default()
    };
    Stack::deploy(project, setting).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_goes_back_in_time() {
    let seconds = env::parsed("SYNCLINE_TEST_CHAOS_SECONDS", SECONDS).expect("seconds");
    let seed = env::parsed("SYNCLINE_TEST_CHAOS_SEED", fastrand::u64(..)).expect("a number");
    println!("{seconds} s with SYNCLINE_TEST_CHAOS_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let tally = Arc::new(Tally::default());
    let trouble = Arc::new(Trouble::new(random.fork(), Arc::clone(&tally)));

    let crm = crm(ROWS, BAD).await;
    let database = TestDatabase::create().await;
    audit::set_up(&database).await;
    let upstream = ready("SYNCLINE_TEST_AWS");
    let proxy = Proxy::to(&upstream, Arc::clone(&trouble) as _).await;
    let proxy = proxy.expect("a proxy");
    let project = on_server(&definition(&crm.url()), &database);
    let stack = deploy(project, &upstream, &proxy, &database.url()).await;
    let source = Source::new(&crm, &stack, &tally);
    let scene = Scene {
        stack: &stack,
        crm: &crm,
        database: &database,
        source: &source,
        trouble: &trouble,
        tally: &tally,
    };

    Box::pin(scene.live_through(Duration::from_secs(seconds), random)).await;
    println!("{tally}");
    assert_enough(&tally);
}

impl Scene<'_> {
    /// Lets it all happen for so long, and then come to its end.
    async fn live_through(&self, time: Duration, mut random: Rng) {
        let (stack, tally) = (self.stack, self.tally);
        let emulator = &Emulator::at(stack.endpoint());
        let state = format!("{}-state", stack.name());
        let end = Instant::now() + time;
        let writers = (0..WRITERS)
            .map(|number| Writer::new(self.source, number, WRITERS, random.fork()))
            .map(|writer| writer.write_until(end));
        let writers = join_all(writers);
        let (killer, copier, director) = (random.fork(), random.fork(), random.fork());
        let told = async {
            tokio::join!(writers, self.tell(end, director), self.retry_midway(end));
        };
        let run = async {
            self.trouble.let_loose(true);
            tokio::select! {
                () = kills::kill_some(stack.name(), killer, tally) => {}
                () = copies::send_again(emulator, self.trouble, copier, tally) => {}
                () = told => {}
            }
            self.trouble.let_loose(false);
            self.come_to_rest().await;
        };
        tokio::select! {
            () = leases::end_orphaned(emulator, &state) => {}
            () = run => {}
        }
    }
}

/// Asserts that each kind of trouble has happened, and that each function was killed.
fn assert_enough(tally: &Tally) {
    for kind in Kind::ALL {
        assert!(tally.of(kind) > 0, "{kind:?} never happened");
    }
    for function in FUNCTIONS {
        let kills = tally.of_one(Kind::Killed, function);
        assert!(kills > 0, "{function} was never killed");
    }
}
