//! A clock that leaps to the next thing to happen, and a checkpoint table that counts.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, BoxFuture, abortable, poll_fn},
    stream::FuturesUnordered,
};
use jiff::Timestamp;
use ports::{CheckpointError, Checkpoints, Clock, Revision, StoreError, Stored};

/// What a call of DynamoDB takes, in the models.
pub(crate) const CALL: Duration = Duration::from_millis(5);

/// Simulated time, and what happens in it. When all wait, it is later at once.
#[derive(Debug)]
pub(crate) struct Simulated {
    random: Mutex<Rng>,
    state: Mutex<State>,
    tasks: Mutex<Vec<Task>>,
}

struct Task(BoxFuture<'static, ()>);

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

#[derive(Debug, Default)]
struct State {
    now: Duration,
    /// When to wake somebody, in order; who comes first is woken first.
    timers: BinaryHeap<Reverse<(Duration, u64)>>,
    wakers: HashMap<u64, Waker>,
    next: u64,
}

/// Whether anything has been woken.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Simulated {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            random: Mutex::new(Rng::with_seed(7)),
            state: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// Since the beginning.
    pub(crate) fn passed(&self) -> Duration {
        self.state.lock().unwrap().now
    }

    pub(crate) async fn wait(&self, time: Duration) {
        let until = self.passed() + time;
        let mut planned = None;
        poll_fn(|context| {
            let mut state = self.state.lock().unwrap();
            if planned.is_some() && state.now >= until {
                return Poll::Ready(());
            }
            let id = *planned.get_or_insert_with(|| {
                let id = state.next;
                state.next += 1;
                state.timers.push(Reverse((until, id)));
                id
            });
            state.wakers.insert(id, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Begins something that happens beside all else until it ends or is aborted.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let (task, handle) = abortable(task);
        let task = Task(task.map(drop).boxed());
        self.tasks.lock().unwrap().push(task);
        handle
    }

    /// Lets time pass until `main` is done.
    pub(crate) fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut main = pin!(main);
        let mut running = FuturesUnordered::new();
        loop {
            woken.0.store(false, Ordering::SeqCst);
            if let Poll::Ready(done) = main.as_mut().poll(&mut context) {
                // The others go on when more time passes.
                let left = running.into_iter().map(Task);
                self.tasks.lock().unwrap().extend(left);
                return done;
            }
            running.extend(self.tasks.lock().unwrap().drain(..).map(|task| task.0));
            while let Poll::Ready(Some(())) = running.poll_next_unpin(&mut context) {}
            if !woken.0.load(Ordering::SeqCst) && self.tasks.lock().unwrap().is_empty() {
                self.leap();
            }
        }
    }

    fn leap(&self) {
        let mut state = self.state.lock().unwrap();
        let Reverse((at, id)) = state.timers.pop().expect("somebody waits for something");
        state.now = state.now.max(at);
        let waker = state.wakers.remove(&id);
        drop(state);
        waker.unwrap().wake();
    }
}

#[async_trait]
impl Clock for Simulated {
    fn now(&self) -> Timestamp {
        let began: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        began + self.passed()
    }

    async fn sleep(&self, time: Duration) {
        self.wait(time).await;
    }

    fn random(&self) -> f64 {
        self.random.lock().unwrap().f64()
    }
}

/// What happened to one item in one second.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) reads: u64,
    /// Refused ones too: they are paid for like the others.
    pub(crate) writes: u64,
}

/// Checkpoints that cost time, all in memory.
#[derive(Debug)]
pub(crate) struct Table {
    clock: Arc<Simulated>,
    records: Mutex<BTreeMap<String, Stored<String>>>,
    calls: Mutex<HashMap<(String, u64), Calls>>,
}

impl Table {
    pub(crate) fn new(clock: &Arc<Simulated>) -> Self {
        Self {
            clock: Arc::clone(clock),
            records: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    async fn called(&self, key: &str, count: impl FnOnce(&mut Calls) + Send) {
        self.clock.wait(CALL).await;
        let second = self.clock.passed().as_secs();
        let mut calls = self.calls.lock().unwrap();
        count(calls.entry((key.to_owned(), second)).or_default());
    }

    /// The most that happened to a record in one second.
    pub(crate) fn busiest(&self, key: &str) -> Calls {
        let calls = self.calls.lock().unwrap();
        let of = calls.iter().filter(|((name, _), _)| name == key);
        of.fold(Calls::default(), |most, (_, now)| Calls {
            reads: most.reads.max(now.reads),
            writes: most.writes.max(now.writes),
        })
    }

    /// All that happened.
    pub(crate) fn total(&self) -> Calls {
        let calls = self.calls.lock().unwrap();
        calls.values().fold(Calls::default(), |sum, now| Calls {
            reads: sum.reads + now.reads,
            writes: sum.writes + now.writes,
        })
    }
}

#[async_trait]
impl Checkpoints for Table {
    async fn get(&self, key: &str) -> Result<Option<Stored<String>>, StoreError> {
        self.called(key, |calls| calls.reads += 1).await;
        Ok(self.records.lock().unwrap().get(key).cloned())
    }

    async fn put(
        &self,
        key: &str,
        expected: Option<Revision>,
        value: String,
    ) -> Result<Revision, CheckpointError> {
        self.called(key, |calls| calls.writes += 1).await;
        let mut records = self.records.lock().unwrap();
        let seen = records.get(key).map(|stored| stored.revision);
        if seen != expected {
            return Err(CheckpointError::Conflict { key: key.into() });
        }
        let revision = Revision(seen.map_or(1, |seen| seen.0 + 1));
        records.insert(key.into(), Stored { value, revision });
        Ok(revision)
    }

    async fn delete(&self, _: &str, _: Revision) -> Result<(), CheckpointError> {
        unreachable!("nothing here is deleted")
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Stored<String>)>, StoreError> {
        self.called(prefix, |calls| calls.reads += 1).await;
        let records = self.records.lock().unwrap();
        let found = records.range(prefix.to_owned()..);
        let found = found.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found
            .map(|(key, stored)| (key.clone(), stored.clone()))
            .collect())
    }
}

#[test]
fn what_waits_happens_in_its_order() {
    let clock = Simulated::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for seconds in [3, 1, 2] {
        let (clock, seen) = (Arc::clone(&clock), Arc::clone(&seen));
        let here = Arc::clone(&clock);
        here.spawn(async move {
            clock.wait(Duration::from_secs(seconds)).await;
            seen.lock().unwrap().push(clock.passed().as_secs());
        });
    }
    clock.run(clock.wait(Duration::from_millis(2_500)));
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
}
