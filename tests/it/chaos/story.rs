//! What operators do meanwhile, and what befalls the target.

use std::time::Duration;

use fastrand::Rng;
use sample_crm::SampleCrm;
use serde_json::Value;
use test_postgres::TestDatabase;
use tokio::time::Instant;

use super::{
    audit,
    source::Source,
    tally::{Kind, Tally},
    trouble::{SERVICES, Trouble},
};
use crate::support::Stack;

/// How often something may begin, and it is looked whether a row went back in time.
const EVERY: Duration = Duration::from_secs(2);

/// All that takes part.
#[derive(Debug)]
pub(super) struct Scene<'s> {
    pub(super) stack: &'s Stack,
    pub(super) crm: &'s SampleCrm,
    pub(super) database: &'s TestDatabase,
    pub(super) source: &'s Source<'s>,
    pub(super) trouble: &'s Trouble,
    pub(super) tally: &'s Tally,
}

/// What happens once.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// All maps are loaded, in bulk.
    Load,
    /// A map is paused.
    Pause,
    Resume,
    /// The target goes away.
    Down,
    Up,
    /// Maps are loaded again, past the guard.
    Reload,
}

/// When each may happen at the soonest, as a share of the time. Each waits for the one before.
const ACTS: [(f64, Act); 7] = [
    (0.0, Act::Load),
    (0.2, Act::Pause),
    (0.3, Act::Resume),
    (0.4, Act::Down),
    (0.43, Act::Up),
    (0.5, Act::Reload),
    (0.8, Act::Reload),
];

impl Scene<'_> {
    /// Lets everything happen until `end`.
    pub(super) async fn tell(&self, end: Instant, mut random: Rng) {
        let began = Instant::now();
        let time = end - began;
        let mut pace = tokio::time::interval(EVERY);
        let mut acts = ACTS.into_iter().peekable();
        let mut down = false;
        while Instant::now() < end {
            pace.tick().await;
            let struck = random.bool().then(|| random.choice(SERVICES)).flatten();
            self.trouble.strike(struck);
            if let Some((at, act)) = acts.peek().copied()
                && began.elapsed() >= time.mul_f64(at)
                && self.act(act).await
            {
                down = matches!(act, Act::Down);
                acts.next();
            }
            if !down {
                audit::assert_never_back(self.database).await;
            }
        }
        if down {
            self.database.refuse(false).await;
        }
        let left: Vec<_> = acts.collect();
        if !left.is_empty() {
            println!("no time was left for {left:?}: {}", self.status().await);
        }
    }

    /// Does something; says whether it could be done.
    async fn act(&self, act: Act) -> bool {
        match act {
            Act::Load => self.does(&["load", "--all", "--no-wait"]).await,
            Act::Pause => {
                let done = self.does(&["pause", "accounts", "--reason", "chaos"]).await;
                if done {
                    self.tally.add(Kind::Paused, "accounts");
                }
                done
            }
            Act::Resume => self.does(&["resume", "accounts"]).await,
            Act::Down => {
                self.database.refuse(true).await;
                self.tally.add(Kind::Down, "PostgreSQL");
                true
            }
            Act::Up => {
                self.database.refuse(false).await;
                true
            }
            // A load that is under way would be given up.
            Act::Reload => {
                self.all_run().await
                    && self
                        .does(&["load", "accounts", "orders", "--no-wait"])
                        .await
            }
        }
    }

    async fn does(&self, words: &[&str]) -> bool {
        self.stack.run(words).await.code == Some(0)
    }

    /// Where every map stands.
    pub(super) async fn status(&self) -> Value {
        self.stack.run(&["status", "--json"]).await.json()
    }

    /// Whether all maps run.
    pub(super) async fn all_run(&self) -> bool {
        let status = self.status().await;
        let maps = status["maps"].as_array().expect("maps");
        maps.iter().all(|map| map["state"] == "running")
    }

    /// Sends failures round again in the middle of it all; most of them fail again.
    pub(super) async fn retry_midway(&self, end: Instant) {
        let now = Instant::now();
        tokio::time::sleep_until(now + (end - now).mul_f64(0.6)).await;
        let retry = self.stack.run(&["failures", "retry", "--all", "--json"]);
        println!("in the middle: {}", retry.await.out.trim());
    }
}
