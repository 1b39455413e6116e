//! The process is killed with SIGKILL at every durable step, and at random, and started again,
//! until the whole story has been told. Then the target equals the source, every change has one
//! outcome, and the books balance.

mod endpoint;
mod process;
mod story;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};

use story::Chain;

use crate::support::package;

/// Every place at which the code marks a step between two durable writes, and how far the next
/// kill of a chain lies behind the last one: commits are many, so some are passed over.
const STEPS: [(&str, u32); 27] = [
    ("apply.parked", 1),
    ("apply.reported", 1),
    ("apply.settled", 1),
    ("apply.written", 1),
    ("host.acknowledged", 2),
    ("intake.queued", 1),
    ("load.begun", 1),
    ("load.done", 1),
    ("load.keyed", 1),
    ("load.loaded", 1),
    ("load.marked", 1),
    ("load.planned", 1),
    ("load.saved", 1),
    ("load.sent", 1),
    ("load.sliced", 1),
    ("load.started", 1),
    ("parking.released", 1),
    ("pull.saved", 1),
    ("pull.sent", 1),
    ("retry.marked", 1),
    ("retry.sent", 1),
    ("retry.stored", 1),
    ("retry.unpacked", 1),
    ("store.commit", 5),
    ("store.committed", 5),
    ("target.commit", 1),
    ("target.committed", 1),
];

/// Steps at which the process is killed once more while it writes to a PostgreSQL server.
const ON_SERVER: [(&str, u32); 5] = [
    ("apply.written", 1),
    ("load.begun", 1),
    ("load.keyed", 1),
    ("target.commit", 1),
    ("target.committed", 1),
];

/// Steps that only a target passes that is called for each row.
const AT_ENDPOINT: [&str; 4] = ["apply.written", "http.called", "http.claimed", "load.sent"];

/// Chains that run side by side.
const AT_ONCE: usize = 2;
/// Chains whose kills come at random moments.
const RANDOM: u64 = 4;
/// Kills that one run has to survive at least.
const ENOUGH: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_every_step_lose_nothing_and_double_nothing() {
    let at_steps = STEPS
        .into_iter()
        .map(|(step, stride)| Chain::at_step(step, stride));
    let on_server = ON_SERVER
        .into_iter()
        .map(|(step, stride)| Chain::at_step(step, stride).on_server());
    let at_random = (0..RANDOM).map(Chain::at_random);
    let random_on_server = std::iter::once(Chain::at_random(RANDOM).on_server());
    let chains: Vec<BoxFuture<'static, (String, u32)>> = at_steps
        .chain(on_server)
        .chain(at_random)
        .chain(random_on_server)
        .map(|chain| chain.run().boxed())
        .chain(AT_ENDPOINT.map(|step| endpoint::run(step).boxed()))
        .collect();
    let told: Vec<(String, u32)> = stream::iter(chains)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let all: u32 = told.iter().map(|(_, kills)| kills).sum();
    for (chain, kills) in &told {
        println!("{kills:>4} kills {chain}");
    }
    println!("{all} kills survived");
    let never: Vec<_> = told.iter().filter(|(_, kills)| *kills == 0).collect();
    assert!(never.is_empty(), "never reached: {never:?}");
    assert!(all >= ENOUGH, "only {all} kills");
}

/// All files of Rust below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_step_in_the_code_is_left_out() {
    let mut files = Vec::new();
    for part in ["functions", "shared", "infra"] {
        sources(&package().join("..").join(part), &mut files);
    }
    let mut marked = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a text");
        let steps = text.split("crash_point(\"").skip(1);
        marked.extend(steps.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    }
    let killed: BTreeSet<String> = STEPS
        .iter()
        .chain(&ON_SERVER)
        .map(|(step, _)| *step)
        .chain(AT_ENDPOINT)
        .map(str::to_owned)
        .collect();
    assert_eq!(marked, killed);
}
