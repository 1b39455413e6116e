use std::{net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use local::Home;
use model::{
    Change, Fingerprint, MapName, MapState, Op, Origin, PackHead, PackId, QueueName, RunId,
    encode_pack,
};
use operations::{Edit, Selection};
use ports::{Clock, FailureFilter, Outgoing, PackEntry, Queue, SystemClock};
use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};
use test_postgres::TestDatabase;

use super::process::{Up, free_port};
use crate::support::{
    DEMO, HOOK_SECRET, Project, assert_equal, assert_equal_on_server, at_rest, crm, name, on_server,
};

/// When the process dies next.
enum Kills {
    /// When it passes a step for the n-th time since its start; n grows by a stride with every
    /// kill, so that the story gets on.
    Step { step: String, n: u32, stride: u32 },
    /// After a random while.
    Random(fastrand::Rng),
}

/// One project whose process is killed again and again.
pub(crate) struct Chain {
    label: String,
    server: bool,
    kills: Kills,
    count: u32,
}

/// The demo's maps, read in small pages, so that a read has several.
fn definition(url: &str) -> String {
    let every = "pull: { every: 5m }";
    assert!(DEMO.contains(every));
    DEMO.replace("{url}", url)
        .replace(every, "pull: { every: 5m, page_size: 6 }")
}

/// How long a story may go on before something is wrong.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// Kills at random per chain, after which the process is left alone.
const RANDOM_KILLS: u32 = 12;

impl Chain {
    pub(crate) fn at_step(step: &str, stride: u32) -> Self {
        Self {
            label: format!("at {step}"),
            server: false,
            kills: Kills::Step {
                step: step.to_owned(),
                n: 1,
                stride,
            },
            count: 0,
        }
    }

    pub(crate) fn at_random(seed: u64) -> Self {
        Self {
            label: format!("at random ({seed})"),
            server: false,
            kills: Kills::Random(fastrand::Rng::with_seed(seed)),
            count: 0,
        }
    }

    /// The same with a PostgreSQL server as the target.
    pub(crate) fn on_server(self) -> Self {
        Self {
            label: format!("{}, PostgreSQL", self.label),
            server: true,
            ..self
        }
    }

    /// Tells the whole story, whatever kills come; returns what it was and how many kills.
    pub(crate) async fn run(mut self) -> (String, u32) {
        let crm = crm(240, 4).await;
        let definition = definition(&crm.url());
        if self.server {
            let database = TestDatabase::create().await;
            let project = on_server(&definition, &database);
            self.tell(&crm, &project).await;
            assert_equal_on_server(&crm, &database).await;
        } else {
            let project = Project::new(&definition);
            self.tell(&crm, &project).await;
            assert_equal(&crm, &project.warehouse());
        }
        (self.label, self.count)
    }

    async fn tell(&mut self, crm: &SampleCrm, project: &Project) {
        let paths = project.paths();
        let home = Home::open(&paths, Arc::new(SystemClock)).expect("a home");
        let listen = free_port();
        let mut scene = Scene {
            crm,
            home: &home,
            project,
            listen,
            up: None,
            began: tokio::time::Instant::now(),
        };
        for chapter in Chapter::ALL {
            let asked = home.clock.now();
            scene.ask(chapter).await;
            scene.last(self, chapter, asked).await;
        }
        scene.assert_books().await;
        if let Some(up) = &mut scene.up {
            up.kill().await;
        }
    }

    fn crash_at(&self) -> Option<String> {
        match &self.kills {
            Kills::Step { step, n, .. } => Some(format!("{step}:{n}")),
            Kills::Random(_) => None,
        }
    }

    fn died(&mut self) {
        self.count += 1;
        if let Kills::Step { n, stride, .. } = &mut self.kills {
            *n += *stride;
        }
    }

    /// How long the process may live from now on, where that is decided here.
    fn life(&mut self) -> Option<Duration> {
        match &mut self.kills {
            Kills::Random(random) if self.count < RANDOM_KILLS => {
                Some(Duration::from_millis(random.u64(20..700)))
            }
            _ => None,
        }
    }
}

/// What happens, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chapter {
    /// A load in bulk.
    Load,
    /// Webhooks and pulls.
    Live,
    /// Changes while a map is paused, and its release.
    Pause,
    /// A load past the guard, with rows gone from the source.
    Reload,
    /// Failures corrected and sent round again.
    Repair,
}

impl Chapter {
    const ALL: [Self; 5] = [
        Self::Load,
        Self::Live,
        Self::Pause,
        Self::Reload,
        Self::Repair,
    ];
}

struct Scene<'s> {
    crm: &'s SampleCrm,
    home: &'s Home,
    project: &'s Project,
    listen: SocketAddr,
    up: Option<Up>,
    began: tokio::time::Instant,
}

impl Scene<'_> {
    fn maps(&self) -> Vec<MapName> {
        self.home.definition.maps.keys().cloned().collect()
    }

    /// Asks for what a chapter is about. Nothing of it needs a running process, save webhooks,
    /// which are sent by [`Scene::last`] until they are taken.
    async fn ask(&self, chapter: Chapter) {
        let operations = &self.home.operations;
        match chapter {
            Chapter::Load => {
                for map in self.maps() {
                    operations.load(&map).await.expect("asked");
                }
            }
            Chapter::Live => {
                self.change_some("live");
                self.send_unreadable().await;
                for map in self.maps() {
                    operations.pull(&map).await.expect("asked");
                }
            }
            Chapter::Pause => {
                let accounts = name("accounts");
                operations
                    .pause(&accounts, "inventory")
                    .await
                    .expect("paused");
                self.change_some("paused");
            }
            Chapter::Reload => {
                for key in self.crm.keys(Set::Orders).iter().step_by(20) {
                    assert!(self.crm.delete(Set::Orders, key));
                }
                operations.load(&name("orders")).await.expect("asked");
            }
            Chapter::Repair => self.repair().await,
        }
    }

    /// News of an account in a message that no version of today can read.
    async fn send_unreadable(&self) {
        let accounts = name("accounts");
        let key = self.crm.keys(Set::Accounts)[1].clone();
        let row = self.crm.row(Set::Accounts, &key).expect("an account");
        let now = self.home.clock.now();
        let head = PackHead {
            id: PackId::from_uuid(self.home.clock.new_id()),
            run: RunId::live(&accounts),
            map: accounts,
            origin: Origin::Webhook,
            generation: 0,
            created: now,
            trace: None,
        };
        let change = Change {
            op: Op::Upsert,
            observed: now.as_microsecond(),
            raw: row.to_string().into(),
            failure: None,
        };
        let pack = encode_pack(head, &[change]);
        let message = Outgoing {
            group: Some(pack.head.map.clone()),
            pack: Some(PackEntry {
                id: pack.head.id,
                map: pack.head.map.clone(),
                run: pack.head.run,
                count: pack.count,
            }),
            ..Outgoing::new(pack.body.replace("pack.v1", "pack.v9"))
        };
        let sent = self.home.store.send(QueueName::Live, vec![message]);
        sent.await.expect("sent");
    }

    fn change_some(&self, text: &str) {
        for key in self.crm.keys(Set::Accounts).iter().step_by(9) {
            let changes = json!({ "Name": format!("{text} {key}"), "CreditLimit": 1_000 });
            self.crm.write(Set::Accounts, key, &changes);
        }
        for key in self.crm.keys(Set::Contacts).iter().step_by(17) {
            assert!(self.crm.delete(Set::Contacts, key));
        }
    }

    async fn repair(&self) {
        let operations = &self.home.operations;
        let open = FailureFilter::unresolved();
        for group in operations.failure_groups(&open, 10).await.expect("groups") {
            let merge = match group.code.as_str() {
                "unmapped-value" => json!({ "Currency": "EUR" }),
                "too-long" => json!({ "Email": "short@example.com" }),
                "precision-loss" => json!({ "Total": 1_234.57 }),
                "required-null" => json!({ "Name": "Corrected Ltd" }),
                "unreadable-message" => json!({ "type": "pack.v1" }),
                // Kills that come thick and fast can accuse an innocent record: it is kept
                // like any other failure, and sending it again is all it needs.
                "poison" => continue,
                other => panic!("an unexpected failure: {other}: {}", group.message),
            };
            self.correct_at_the_source(&group.group, &merge).await;
            let chosen = Selection::Matching(FailureFilter {
                fingerprint: Some(group.group),
                ..open.clone()
            });
            let merge = Edit::merge(&merge.to_string()).expect("a correction");
            let edited = operations.edit_failures(&chosen, &merge).await;
            edited.expect("edited");
        }
        let sent = operations.retry_failures(&Selection::Matching(open)).await;
        assert!(!sent.expect("sent").is_empty());
        for map in self.maps() {
            operations.pull(&map).await.expect("asked");
        }
    }

    /// The source gets the same correction, so that both sides can be compared.
    async fn correct_at_the_source(&self, group: &Fingerprint, merge: &Value) {
        let filter = FailureFilter {
            fingerprint: Some(group.clone()),
            ..FailureFilter::unresolved()
        };
        let failures = self.home.operations.failures(&filter, 100).await;
        for failure in failures.expect("failures") {
            let set = match failure.map.as_str() {
                "accounts" => Set::Accounts,
                "contacts" => Set::Contacts,
                _ => Set::Orders,
            };
            // A message that could not be read has none.
            let Some(key) = failure.key else { continue };
            if self.crm.row(set, &key).is_some() {
                self.crm.write(set, &key, merge);
            }
        }
    }

    /// Goes on, with a new process after every kill, until the chapter has come to its end.
    async fn last(&mut self, chain: &mut Chain, chapter: Chapter, asked: Timestamp) {
        let home = self.home;
        let mut hooks = match chapter {
            Chapter::Live | Chapter::Pause => Hooks::of_some_accounts(self.crm),
            _ => Hooks::default(),
        };
        let mut paused = chapter == Chapter::Pause;
        loop {
            self.survive(chain).await;
            hooks.send(self.listen).await;
            if !hooks.is_empty() {
                continue;
            }
            if paused {
                // A process goes on for a moment before it notices a pause: what it takes then
                // is applied, so more is sent until something is parked.
                if parked(home).await {
                    let resumed = home.operations.resume(&name("accounts")).await;
                    resumed.expect("resumed");
                    paused = false;
                } else {
                    hooks = Hooks::of_some_accounts(self.crm);
                }
            }
            if !paused && ended(home, chapter, asked).await {
                return;
            }
            assert!(
                self.began.elapsed() < PATIENCE,
                "{} is stuck in {chapter:?} after {} kills, {} hooks left: {} {}",
                chain.label,
                chain.count,
                hooks.0.len(),
                describe(home).await,
                std::fs::read_to_string(self.project.file("up.log")).unwrap_or_default()
            );
        }
    }

    /// Lets the process live for a moment; replaces it when it has died, and kills it when its
    /// time has come.
    async fn survive(&mut self, chain: &mut Chain) {
        let folder = self.project.folder();
        let up = self
            .up
            .get_or_insert_with(|| Up::start(folder, self.listen, chain.crash_at().as_deref()));
        let life = chain.life();
        let died = up.died_within(life.unwrap_or(LOOK)).await;
        if !died && life.is_some() {
            up.kill().await;
        }
        if died || life.is_some() {
            chain.died();
            self.up = None;
        }
    }

    async fn assert_books(&self) {
        for map in self.maps() {
            let balance = self.home.operations.balance(&map, 0).await.expect("books");
            assert!(balance.balanced, "{map}: {:?}", balance.books);
        }
    }
}

/// Where every map stands, in a line each.
async fn describe(home: &Home) -> String {
    let status = home.operations.status().await.expect("status");
    let line = |map: &operations::MapStatus| {
        let load = map.load.as_ref().map(|load| (load.status, load.finished));
        let (map, state, books, parked, failures, pull) = (
            &map.map,
            map.state,
            &map.books,
            map.parked,
            map.failures,
            &map.pull,
        );
        format!("{map} {state} {books:?} parked {parked:?} failures {failures} {pull:?} {load:?}\n")
    };
    let open = FailureFilter::unresolved();
    let failures = home.operations.failures(&open, 10).await.expect("failures");
    let maps: String = status.maps.iter().map(line).collect();
    format!("{maps}{failures:#?}")
}

/// Whether the packs of the paused map have been put aside.
async fn parked(home: &Home) -> bool {
    let status = home.operations.map_status(&name("accounts")).await;
    status.expect("status").parked.packs > 0
}

/// Whether all that a chapter asked for has happened.
async fn ended(home: &Home, chapter: Chapter, asked: Timestamp) -> bool {
    if !at_rest(home).await {
        return false;
    }
    let status = home.operations.status().await.expect("status");
    status.maps.iter().all(|map| {
        let pulled = map.pull.covers.is_some_and(|began| began > asked);
        let loaded = map
            .load
            .as_ref()
            .is_some_and(|load| load.finished.is_some_and(|end| end > asked));
        map.state == MapState::Running
            && match chapter {
                Chapter::Load => pulled && loaded,
                Chapter::Live => pulled,
                Chapter::Pause => true,
                Chapter::Reload => loaded || map.map.as_str() != "orders",
                Chapter::Repair => pulled && map.failures == 0,
            }
    })
}

/// Webhooks whose sender tries until they are taken.
#[derive(Default)]
struct Hooks(Vec<(String, Value)>);

impl Hooks {
    /// One for every account that [`Scene::change_some`] has changed.
    fn of_some_accounts(crm: &SampleCrm) -> Self {
        let keys = crm.keys(Set::Accounts);
        let event = |key: &String| {
            let row = crm.row(Set::Accounts, key);
            let id = format!("msg_{:016x}", fastrand::u64(..));
            (id, json!({ "type": "account.updated", "data": row }))
        };
        Self(keys.iter().step_by(9).map(event).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends what has not been taken yet.
    async fn send(&mut self, listen: SocketAddr) {
        while let Some((id, event)) = self.0.last() {
            let sent = post(listen, id, event);
            // A process that is gone refuses, breaks off, or never answers.
            let taken = tokio::time::timeout(Duration::from_secs(2), sent).await;
            if taken.is_ok_and(|taken| taken) {
                self.0.pop();
            } else {
                return;
            }
        }
    }
}

async fn post(listen: SocketAddr, id: &str, event: &Value) -> bool {
    let body = event.to_string();
    let now = SystemClock.now().as_second();
    // An error means that it has been chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let webhook = standardwebhooks::Webhook::new(HOOK_SECRET).expect("a secret");
    let signature = webhook.sign(id, now, body.as_bytes()).expect("signed");
    let answer = reqwest::Client::new()
        .post(format!("http://{listen}/hooks/crm"))
        .header("webhook-id", id)
        .header("webhook-timestamp", now.to_string())
        .header("webhook-signature", signature)
        .body(body)
        .send()
        .await;
    answer.is_ok_and(|answer| answer.status() == 202)
}
