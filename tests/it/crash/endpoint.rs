//! The same for an HTTP endpoint, which can be told twice what a database is told once.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use local::Home;
use model::MapState;
use ports::SystemClock;
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use super::process::{Up, free_port};
use crate::support::{Hub, Project, assert_equal_at_hub, at_rest, crm, name, to_hub};

/// How long a chapter may go on before something is wrong.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// One project whose process dies each time it passes `step` for the n-th time since its
/// start; n grows with every kill, so that the story gets on.
struct Chain<'c> {
    step: &'static str,
    n: u32,
    kills: u32,
    crm: &'c SampleCrm,
    project: Project,
    home: Home,
    listen: SocketAddr,
    up: Option<Up>,
}

/// Tells the whole story, whatever kills come; returns how many did.
pub(crate) async fn run(step: &'static str) -> (String, u32) {
    let crm = crm(120, 0).await;
    let hub = Hub::start().await;
    let every = "pull: { every: 5m }";
    let text = to_hub(&crm, &hub);
    assert!(text.contains(every));
    let project = Project::new(&text.replace(every, "pull: { every: 5m, page_size: 6 }"));
    let home = Home::open(&project.paths(), Arc::new(SystemClock)).expect("a home");
    let mut chain = Chain {
        step,
        n: 1,
        kills: 0,
        crm: &crm,
        project,
        home,
        listen: free_port(),
        up: None,
    };
    chain.load().await;
    assert_equal_at_hub(&crm, &hub);
    chain.change().await;
    assert_equal_at_hub(&crm, &hub);
    for key in crm.keys(Set::Orders).iter().step_by(7) {
        assert!(crm.delete(Set::Orders, key));
    }
    chain.load().await;
    assert_equal_at_hub(&crm, &hub);
    chain.assert_effects(&hub).await;
    if let Some(up) = &mut chain.up {
        up.kill().await;
    }
    (format!("at {step}, HTTP endpoint"), chain.kills)
}

impl Chain<'_> {
    async fn load(&mut self) {
        let asked = self.home.clock.now();
        let operations = self.home.operations.clone();
        operations.load(&name("orders")).await.expect("asked");
        self.last("load", asked).await;
    }

    async fn change(&mut self) {
        for key in self.crm.keys(Set::Orders).iter().step_by(3) {
            self.crm.write(
                Set::Orders,
                key,
                &json!({ "Status": format!("told {key}") }),
            );
        }
        let asked = self.home.clock.now();
        let operations = self.home.operations.clone();
        operations.pull(&name("orders")).await.expect("asked");
        self.last("change", asked).await;
    }

    /// Goes on, with a new process after every kill, until all that was asked for has happened.
    async fn last(&mut self, chapter: &str, asked: jiff::Timestamp) {
        let began = tokio::time::Instant::now();
        while !self.ended(chapter, asked).await {
            let arm = format!("{}:{}", self.step, self.n);
            let folder = self.project.folder().to_owned();
            let listen = self.listen;
            let up = self
                .up
                .get_or_insert_with(|| Up::start(&folder, listen, Some(&arm)));
            if up.died_within(LOOK).await {
                self.up = None;
                self.kills += 1;
                self.n += 1;
                self.age_claims();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "at {} it is stuck in {chapter} after {} kills: {:#?}",
                self.step,
                self.kills,
                self.home.operations.map_status(&name("orders")).await
            );
        }
    }

    /// A claim of a process that died ends by itself after half a minute. Here it ends at once.
    fn age_claims(&self) {
        let store = self.project.database(".syncline/syncline.db");
        let age = "UPDATE links SET link = json_set(link, '$.claim.until', '1970-01-01T00:00:00Z')
                   WHERE json_extract(link, '$.claim.until') IS NOT NULL";
        store.execute_batch(age).expect("aged");
    }

    async fn ended(&self, chapter: &str, asked: jiff::Timestamp) -> bool {
        if !at_rest(&self.home).await {
            return false;
        }
        let status = self.home.operations.map_status(&name("orders")).await;
        let status = status.expect("status");
        let pulled = status.pull.covers.is_some_and(|began| began > asked);
        let load = status.load.and_then(|load| load.finished);
        let done = match chapter {
            "load" => load.is_some_and(|end| end > asked),
            _ => pulled,
        };
        status.state == MapState::Running && done
    }

    /// Under a new name each thing was said once: a process that does not know whether it was
    /// heard says it again under the same name.
    async fn assert_effects(&self, hub: &Hub) {
        let effects = hub.inner().effects.clone();
        let each: BTreeSet<&String> = effects.iter().collect();
        assert_eq!(each.len(), effects.len(), "said twice: {effects:#?}");
        let balance = self.home.operations.balance(&name("orders"), 0).await;
        let balance = balance.expect("books");
        assert!(balance.balanced, "{:?}", balance.books);
    }
}
