//! One declared rate and very many workers, each with its own memory, over one record.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::AbortHandle;
use model::{ConnectionName, Lane};
use ports::Clock;
use runtime::{Pace, Rates};

use crate::{
    page,
    simulated::{Simulated, Table},
};

/// The declared rate, in calls a second.
const RATE: f64 = 100.0;
const KEY: &str = "rate/crm";
/// Reads and writes of one item that DynamoDB lets through in a second.
const MOST_READS: u64 = 3_000;
const MOST_WRITES: u64 = 1_000;

/// A call: when it was made and by whom.
type Call = (Duration, usize, Lane);

/// A connection as many workers see it.
struct World {
    clock: Arc<Simulated>,
    table: Arc<Table>,
    calls: Arc<Mutex<Vec<Call>>>,
    workers: Vec<AbortHandle>,
}

impl World {
    fn new() -> Self {
        let clock = Simulated::new();
        Self {
            table: Arc::new(Table::new(&clock)),
            clock,
            calls: Arc::default(),
            workers: Vec::new(),
        }
    }

    /// A worker in a process of its own that calls without a pause.
    fn pace(&self) -> Pace {
        let rates = Rates::new(Arc::clone(&self.table) as _, Arc::clone(&self.clock) as _);
        Pace::new(ConnectionName::new("crm").unwrap(), Some(RATE), rates)
    }

    fn start(&mut self, worker: usize, lane: Lane, call: Duration) {
        let (pace, clock) = (self.pace(), Arc::clone(&self.clock));
        let calls = Arc::clone(&self.calls);
        self.workers.push(self.clock.spawn(async move {
            // Lambda makes a hundred a second, as its scaling rate says.
            clock
                .wait(Duration::from_millis(10) * u32::try_from(worker).unwrap())
                .await;
            loop {
                pace.turn(lane).await.unwrap();
                calls.lock().unwrap().push((clock.passed(), worker, lane));
                clock.wait(call.mul_f64(0.5 + clock.random())).await;
            }
        }));
    }

    fn kill(&mut self) {
        self.workers.drain(..).for_each(|worker| worker.abort());
    }

    /// Lets time pass.
    fn until(&self, end: Duration) {
        self.clock
            .run(self.clock.wait(end.saturating_sub(self.clock.passed())));
    }

    /// All calls that were made.
    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

/// No stretch of time has more calls than the rate allows for it and two seconds more.
fn assert_within_rate(calls: &[Call]) {
    for seconds in [1, 5, 30] {
        let span = Duration::from_secs(seconds);
        let most = RATE * (span + Duration::from_secs(2)).as_secs_f64();
        let mut first = 0;
        for (at, (now, ..)) in calls.iter().enumerate() {
            while calls[first].0 + span <= *now {
                first += 1;
            }
            let count = at + 1 - first;
            assert!(
                count as f64 <= most,
                "{count} calls in {seconds} s until {now:?}"
            );
        }
    }
}

fn counts(calls: &[Call], workers: usize) -> Vec<usize> {
    let mut counts = vec![0; workers];
    for (_, worker, _) in calls {
        counts[*worker] += 1;
    }
    counts
}

/// What many workers get of a rate, and what it costs the record that they share.
fn shared_by(workers: usize) -> String {
    let mut world = World::new();
    for worker in 0..workers {
        world.start(worker, Lane::Live, Duration::from_millis(50));
    }
    let seconds = 60;
    world.until(Duration::from_secs(seconds));
    let (calls, table) = (world.calls(), &world.table);
    assert_within_rate(&calls);
    let per_second = calls.len() as f64 / seconds as f64;
    assert!(
        per_second >= 0.97 * RATE,
        "{workers} workers: {per_second} calls/s"
    );
    let busiest = table.busiest(KEY);
    let fits = busiest.reads <= MOST_READS && busiest.writes <= MOST_WRITES;
    assert!(fits, "{workers} workers: {busiest:?}");
    let each = counts(&calls, workers);
    let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
    format!(
        "| {} | {per_second:.1} | {least} to {most} | {} | {} |",
        page::apart(workers as u64),
        page::apart(busiest.reads),
        page::apart(busiest.writes),
    )
}

#[test]
fn however_many_workers_share_a_rate_none_is_exceeded_and_none_is_wasted() {
    let mut lines = Vec::new();
    for workers in [10, 65, 1_000] {
        lines.push(shared_by(workers));
    }
    println!("{}", lines.join("\n"));
    for line in lines {
        page::says(&line);
    }
}

/// Workers that stand still with calls in their hands make none of them when they wake.
#[test]
fn workers_that_slept_do_not_catch_up() {
    let world = World::new();
    let paces: Vec<Pace> = (0..200).map(|_| world.pace()).collect();
    let calls = world.clock.run(async {
        let mut calls = Vec::new();
        for _ in 0..3 {
            // Each makes some calls, has the rest of its lease, and is frozen for minutes.
            for (worker, pace) in paces.iter().enumerate() {
                for _ in 0..5 {
                    pace.turn(Lane::Live).await.unwrap();
                    calls.push((world.clock.passed(), worker, Lane::Live));
                }
            }
            world.clock.wait(Duration::from_mins(5)).await;
        }
        calls
    });
    assert_within_rate(&calls);
}

/// Nine of ten workers are killed whenever it may be; the rest get the whole rate.
#[test]
fn workers_that_die_take_no_more_with_them_than_they_held() {
    let mut world = World::new();
    for worker in 0..50 {
        world.start(worker, Lane::Live, Duration::from_millis(50));
    }
    world.until(Duration::from_secs(10));
    world.kill();
    let died = world.clock.passed();
    for worker in 50..55 {
        world.start(worker, Lane::Live, Duration::from_millis(10));
    }
    world.until(Duration::from_secs(40));
    let calls = world.calls();
    assert_within_rate(&calls);
    let after = calls.iter().filter(|(at, ..)| *at > died).count();
    let lost = RATE * 30.0 - after as f64;
    // What was promised ahead of time, and a lease for each that was being asked for.
    assert!(lost <= 3.0 * RATE, "{lost} calls lost");
}

/// Live changes come first, and what they leave goes to the others.
#[test]
fn live_changes_come_first() {
    let mut world = World::new();
    for worker in 0..10 {
        world.start(worker, Lane::Load, Duration::from_millis(10));
    }
    world.until(Duration::from_secs(20));
    // Twenty calls a second of the live lane.
    for worker in 10..12 {
        world.start(worker, Lane::Live, Duration::from_millis(100));
    }
    world.until(Duration::from_secs(50));
    let calls = world.calls();
    assert_within_rate(&calls);
    let busy = calls.iter().filter(|(at, ..)| at.as_secs() >= 20);
    let (live, load): (Vec<&Call>, Vec<&Call>) = busy.partition(|(.., lane)| *lane == Lane::Live);
    // Without anybody else it would be 600 less what its own calls of the table take.
    assert!(live.len() >= 550, "{} live calls", live.len());
    let left = RATE * 30.0 - live.len() as f64;
    assert!(
        load.len() as f64 >= 0.9 * left,
        "{} of {left} calls",
        load.len()
    );
    let before = calls.iter().filter(|(at, ..)| at.as_secs() < 20).count();
    assert!(
        before as f64 >= 0.9 * RATE * 20.0,
        "{before} calls of the load alone"
    );
}
