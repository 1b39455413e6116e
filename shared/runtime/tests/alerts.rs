//! When people are told, over the embedded store.

#![cfg(test)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use embedded::Store;
use jiff::Timestamp;
use model::{Alert, AlertKind, ConnectionName, MapEvent, MapName, MapState};
use ports::{
    Alerts, Clock, QUIET, StoreError, TargetError,
    testing::{ManualClock, map_name},
};
use runtime::{Breakers, MapStates, Pass, Standing, Trial, Wait};
use tokio::sync::Notify;

/// What another system may say, and nobody is to get by mail.
const QUOTED: &str = "Key (email)=(ada@example.com) already exists";

struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let store = Store::open(folder.path(), Arc::clone(&clock) as _).unwrap();
        Self {
            store,
            clock,
            _folder: folder,
        }
    }

    fn states(&self, alerts: Arc<dyn Alerts>) -> MapStates {
        let store = Arc::new(self.store.clone());
        MapStates::new(store, Arc::clone(&self.clock) as _).telling(alerts)
    }

    /// Breakers as another worker has them.
    fn breakers(&self, alerts: Arc<dyn Alerts>) -> Breakers {
        let store = Arc::new(self.store.clone());
        Breakers::new(store, Arc::clone(&self.clock) as _).telling(alerts)
    }

    fn people(&self) -> Arc<dyn Alerts> {
        Arc::new(self.store.clone())
    }

    async fn told(&self) -> Vec<AlertKind> {
        let alerts = self.store.alerts(usize::MAX).await.unwrap();
        assert!(!format!("{alerts:?}").contains("ada@"));
        alerts.into_iter().map(|alert| alert.kind).collect()
    }
}

/// Nobody can be told.
#[derive(Debug)]
struct Mute;

#[async_trait]
impl Alerts for Mute {
    async fn raise(&self, _: &Alert) -> Result<bool, StoreError> {
        Err(StoreError::unavailable("telling people")("no such topic"))
    }
}

/// A worker dies when it wants to tell people.
#[derive(Debug, Default)]
struct Dies(Notify);

#[async_trait]
impl Alerts for Dies {
    async fn raise(&self, _: &Alert) -> Result<bool, StoreError> {
        self.0.notify_one();
        std::future::pending().await
    }
}

/// Others are about to tell people, and how often somebody wanted to do so himself.
#[derive(Debug, Default)]
struct Others(AtomicUsize);

#[async_trait]
impl Alerts for Others {
    async fn raise(&self, _: &Alert) -> Result<bool, StoreError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(false)
    }
}

fn broken() -> MapEvent {
    MapEvent::Break {
        reason: QUOTED.into(),
    }
}

fn warehouse() -> ConnectionName {
    ConnectionName::new("warehouse").unwrap()
}

fn down() -> TargetError {
    TargetError::Unavailable {
        what: QUOTED.into(),
        retry_after: None,
    }
}

fn throttled() -> TargetError {
    TargetError::Throttled {
        what: QUOTED.into(),
        retry_after: Some(Duration::from_secs(5)),
    }
}

fn breaks(map: &MapName) -> AlertKind {
    AlertKind::MapBroken(map.clone())
}

#[tokio::test]
async fn people_are_told_of_a_map_each_time_it_breaks() {
    let stage = Stage::new();
    let (states, map) = (stage.states(stage.people()), map_name("customers"));
    for event in [MapEvent::Start, broken(), broken()] {
        states.transition(&map, event).await.unwrap();
        stage.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(stage.told().await, [breaks(&map)]);
    for event in [MapEvent::Resume, broken()] {
        states.transition(&map, event).await.unwrap();
    }
    assert_eq!(stage.told().await, [breaks(&map), breaks(&map)]);
}

#[tokio::test]
async fn of_workers_that_break_a_map_at_once_one_tells() {
    let stage = Stage::new();
    let (states, map) = (stage.states(stage.people()), map_name("customers"));
    let race = (0..8).map(|_| states.transition(&map, broken()));
    for done in futures_util::future::join_all(race).await {
        done.unwrap();
    }
    assert_eq!(stage.told().await, [breaks(&map)]);
}

#[tokio::test]
async fn a_map_that_a_person_has_paused_is_no_news() {
    let stage = Stage::new();
    let (states, map) = (stage.states(stage.people()), map_name("customers"));
    let reason = "maintenance".into();
    let paused = states.transition(&map, MapEvent::Pause { reason });
    paused.await.unwrap();
    assert!(states.transition(&map, broken()).await.is_err());
    assert_eq!(stage.told().await, []);
}

#[tokio::test]
async fn people_are_told_of_an_outage_once_by_all_workers() {
    let stage = Stage::new();
    let workers = [
        stage.breakers(stage.people()),
        stage.breakers(stage.people()),
    ];
    let mut waited = Duration::ZERO;
    for round in 0.. {
        for worker in &workers {
            let wait = worker.failed(&warehouse(), &down()).await.unwrap();
            stage.clock.advance(wait);
            waited += wait;
        }
        if round == 0 {
            assert_eq!(stage.told().await, [], "it is not left alone yet");
        }
        if waited > QUIET * 2 {
            break;
        }
    }
    assert_eq!(stage.told().await, [AlertKind::BreakerOpen(warehouse())]);
}

async fn down_since(breakers: &Breakers) -> Option<Option<Timestamp>> {
    match breakers.standing(&warehouse()).await.unwrap() {
        Standing::Works => None,
        Standing::Down { since, .. } => Some(since),
    }
}

/// The trial of one that asks and may try.
async fn trial(breakers: &Breakers) -> Option<Trial> {
    match breakers.pass(&warehouse()).await.unwrap() {
        Pass::Try(trial) => Some(trial),
        Pass::Wait(_) => None,
        Pass::Open => panic!("it is down"),
    }
}

async fn is_open(breakers: &Breakers) -> bool {
    breakers.standing(&warehouse()).await.unwrap() != Standing::Works
}

#[tokio::test]
async fn one_that_asks_to_be_called_less_often_is_not_down_until_it_is() {
    let stage = Stage::new();
    let breakers = stage.breakers(stage.people());
    for _ in 0..5 {
        breakers.failed(&warehouse(), &throttled()).await.unwrap();
    }
    assert_eq!(down_since(&breakers).await, Some(None));
    assert_eq!(stage.told().await, []);
    let now = stage.clock.now();
    breakers.failed(&warehouse(), &down()).await.unwrap();
    assert_eq!(down_since(&breakers).await, Some(Some(now)));
    assert_eq!(stage.told().await, [AlertKind::BreakerOpen(warehouse())]);
    stage.clock.advance(Duration::from_mins(3));
    breakers.failed(&warehouse(), &throttled()).await.unwrap();
    assert_eq!(down_since(&breakers).await, Some(Some(now)));
}

#[tokio::test]
async fn who_has_not_heard_that_it_is_back_finds_it_so() {
    let stage = Stage::new();
    let (one, other) = (
        stage.breakers(stage.people()),
        stage.breakers(stage.people()),
    );
    for _ in 0..3 {
        one.failed(&warehouse(), &down()).await.unwrap();
    }
    let Pass::Wait(Wait { left, since }) = other.pass(&warehouse()).await.unwrap() else {
        panic!("it is down")
    };
    assert_eq!(since, Some(stage.clock.now()));
    one.worked(&warehouse()).await.unwrap();
    stage.clock.advance(left);
    assert!(left < Duration::from_secs(5), "or it has heard: {left:?}");
    assert_eq!(other.pass(&warehouse()).await.unwrap(), Pass::Open);
}

#[tokio::test]
async fn who_may_try_and_has_nothing_to_ask_leaves_it_to_the_next() {
    let stage = Stage::new();
    let [one, other, third, fourth] = [(); 4].map(|()| stage.breakers(stage.people()));
    for _ in 0..3 {
        one.failed(&warehouse(), &down()).await.unwrap();
    }
    stage.clock.advance(Duration::from_secs(5));
    let first = trial(&one).await.expect("the wait is over");
    assert_eq!(trial(&other).await, None, "one tries");
    one.unused(&warehouse(), first).await.unwrap();
    stage.clock.advance(Duration::from_secs(5));
    let second = trial(&other).await.expect("nobody tries any more");
    // Whoever has given up has no say in what others do.
    one.unused(&warehouse(), first).await.unwrap();
    assert_eq!(trial(&third).await, None);
    other.failed(&warehouse(), &down()).await.unwrap();
    let since = down_since(&one).await;
    other.unused(&warehouse(), second).await.unwrap();
    assert_eq!(trial(&fourth).await, None, "it has just been found down");
    assert_eq!(down_since(&fourth).await, since);
}

/// What a tick does.
async fn tick(states: &MapStates) {
    states.tell_late(&states.all().await.unwrap()).await;
}

#[tokio::test]
async fn what_a_worker_died_over_telling_is_told_once_by_a_tick() {
    let (stage, map) = (Stage::new(), map_name("customers"));
    let dies = Arc::new(Dies::default());
    let dying = stage.states(Arc::clone(&dies) as _);
    tokio::select! {
        broke = dying.transition(&map, broken()) => panic!("it lives: {broke:?}"),
        () = dies.0.notified() => {}
    }
    let states = stage.states(stage.people());
    tick(&states).await;
    assert_eq!(stage.told().await, [], "it may be telling them");
    stage.clock.advance(Duration::from_mins(1));
    // Whoever breaks it once more has no news.
    states.transition(&map, broken()).await.unwrap();
    assert_eq!(stage.told().await, []);
    for _ in 0..3 {
        tick(&states).await;
        assert_eq!(stage.told().await, [breaks(&map)]);
        stage.clock.advance(QUIET * 2);
    }
}

#[tokio::test]
async fn what_nobody_could_be_told_is_told_by_the_first_tick_that_can() {
    let (stage, map) = (Stage::new(), map_name("customers"));
    let mute = stage.states(Arc::new(Mute));
    mute.transition(&map, broken()).await.unwrap();
    stage.clock.advance(Duration::from_mins(1));
    tick(&mute).await;
    // Another worker may die over it, so that it says nothing.
    let others = Arc::new(Others::default());
    for _ in 0..2 {
        tick(&stage.states(Arc::clone(&others) as _)).await;
    }
    assert_eq!(others.0.load(Ordering::SeqCst), 2);
    assert_eq!(stage.told().await, []);
    tick(&stage.states(stage.people())).await;
    assert_eq!(stage.told().await, [breaks(&map)]);
}

#[tokio::test]
async fn a_map_that_a_person_has_dealt_with_meanwhile_is_no_news() {
    let (stage, map) = (Stage::new(), map_name("customers"));
    let mute = stage.states(Arc::new(Mute));
    for event in [broken(), MapEvent::Resume] {
        mute.transition(&map, event).await.unwrap();
    }
    stage.clock.advance(Duration::from_mins(1));
    tick(&stage.states(stage.people())).await;
    assert_eq!(stage.told().await, []);
}

#[tokio::test]
async fn an_outage_whose_finder_died_is_told_by_the_next_who_finds_it() {
    let stage = Stage::new();
    let dies = Arc::new(Dies::default());
    let dying = stage.breakers(Arc::clone(&dies) as _);
    let (name, error) = (warehouse(), down());
    for _ in 0..2 {
        dying.failed(&name, &error).await.unwrap();
    }
    tokio::select! {
        _ = dying.failed(&name, &error) => panic!("it lives"),
        () = dies.0.notified() => {}
    }
    let other = stage.breakers(stage.people());
    assert!(is_open(&other).await);
    other.failed(&warehouse(), &down()).await.unwrap();
    assert_eq!(stage.told().await, [AlertKind::BreakerOpen(warehouse())]);
}

#[tokio::test]
async fn that_nobody_can_be_told_stops_nothing() {
    let stage = Stage::new();
    let (states, map) = (stage.states(Arc::new(Mute)), map_name("customers"));
    let (_, after) = states.transition(&map, broken()).await.unwrap();
    assert_eq!(after.state, MapState::Broken);
    let breakers = stage.breakers(Arc::new(Mute));
    for _ in 0..3 {
        breakers.failed(&warehouse(), &down()).await.unwrap();
    }
    assert!(matches!(
        breakers.pass(&warehouse()).await.unwrap(),
        Pass::Wait(_)
    ));
}
