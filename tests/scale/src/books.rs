//! The books of webhooks on DynamoDB: which partition gets how many units of reading and writing.
//!
//! What is simulated: webhooks come evenly, and each is received up to a second after it was made.
//! Five batches are gathered side by side, or more where there is much, each until it is full or its
//! window is over, so that each has packs of all of that time. A worker reads the books, applies for
//! 300 ms, and settles; a call takes 5 ms, and who was late is refused, pays, and tries again. Where
//! a pack is entered, how large the item is, and what comes next is decided by the code of
//! `shared/aws`.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use aws::testing::{BookItem, BookStep, Key, settling};
use fastrand::Rng;
use model::{Attempt, Counts, MapName, Outcome, PackId, PackRef, RunId, Settlement};
use ports::testing::map_name;

use crate::page::{self, apart};

/// Messages of a batch of the live lane, as the template says.
const BATCH: usize = 500;
/// Batches that are gathered side by side, at least, and for how long. Where there is more than 500
/// webhooks a second for each, Lambda gathers more.
const POLLERS: u64 = 5;
const EACH: u64 = 500;
const WINDOW: u64 = 2 * SECOND;
/// Writes that a worker has under way, as in `shared/aws`.
const AT_ONCE: usize = 16;
const SECOND: u64 = 1_000_000;
const CALL: u64 = 5_000;
const APPLY: u64 = 300_000;
/// Units that a partition key lets through in a second.
const WRITE_UNITS: u64 = 1_000;
const READ_UNITS: u64 = 3_000;

/// One call of a worker.
enum Call {
    /// It looks at what is settled.
    Read(Vec<BookStep>),
    /// It looks again at items that others write to, before it writes.
    Look(Vec<BookStep>),
    /// It writes an item.
    Write(Box<Write>),
}

struct Write {
    step: BookStep,
    /// The item as it was seen, what it becomes, and what comes after that.
    seen: BookItem,
    after: BookItem,
    below: Vec<BookStep>,
    /// How often it was refused.
    tried: u32,
}

/// A worker with one batch.
struct Worker {
    steps: Vec<BookStep>,
    /// Items as it has read them.
    seen: HashMap<Key, BookItem>,
    /// Writes that wait for one that is under way.
    waiting: Vec<BookStep>,
    under_way: usize,
    /// What comes after all of that.
    below: Vec<BookStep>,
}

#[derive(Default)]
struct Units {
    write: u64,
    read: u64,
}

/// What has been used.
#[derive(Default)]
struct Meter {
    total: Units,
    refused: u64,
    of: HashMap<(String, u64), Units>,
    largest: usize,
}

impl Meter {
    fn wrote(&mut self, (pk, _): &Key, now: u64, bytes: usize) {
        let units = bytes.div_ceil(1024) as u64;
        self.total.write += units;
        self.of.entry((pk.clone(), now / SECOND)).or_default().write += units;
        self.largest = self.largest.max(bytes);
    }

    fn read(&mut self, (pk, _): &Key, now: u64, bytes: usize) {
        let units = bytes.div_ceil(4096).max(1) as u64;
        self.total.read += units;
        self.of.entry((pk.clone(), now / SECOND)).or_default().read += units;
    }

    fn busiest(&self) -> Units {
        self.of.values().fold(Units::default(), |most, now| Units {
            write: most.write.max(now.write),
            read: most.read.max(now.read),
        })
    }
}

struct Model {
    rng: Rng,
    table: HashMap<Key, BookItem>,
    workers: Vec<Worker>,
    /// What happens next: when, in which order of that, to which worker.
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    calls: HashMap<u64, Call>,
    next: u64,
    meter: Meter,
}

impl Model {
    fn new() -> Self {
        Self {
            rng: Rng::with_seed(11),
            table: HashMap::new(),
            workers: Vec::new(),
            queue: BinaryHeap::new(),
            calls: HashMap::new(),
            next: 0,
            meter: Meter::default(),
        }
    }

    fn plan(&mut self, at: u64, worker: usize, call: Call) {
        self.calls.insert(self.next, call);
        self.queue.push(Reverse((at, self.next, worker)));
        self.next += 1;
    }

    fn batch(&mut self, at: u64, settlements: &[Settlement]) {
        let steps = settling(settlements);
        self.workers.push(Worker {
            steps: steps.clone(),
            seen: HashMap::new(),
            waiting: Vec::new(),
            under_way: 0,
            below: Vec::new(),
        });
        self.plan(at, self.workers.len() - 1, Call::Read(steps));
    }

    fn run(&mut self) {
        while let Some(Reverse((now, id, worker))) = self.queue.pop() {
            match self.calls.remove(&id).unwrap() {
                Call::Read(steps) => self.read(now, worker, &steps),
                Call::Look(steps) => self.look(now, worker, &steps),
                Call::Write(write) => self.write(now, worker, *write),
            }
        }
    }

    fn read(&mut self, now: u64, worker: usize, steps: &[BookStep]) {
        let mut below = Vec::new();
        for step in steps {
            let item = self.table.get(&step.key());
            let bytes = item.map_or(0, |item| step.bytes(item));
            self.meter.read(&step.key(), now, bytes);
            if let Some(item) = item {
                self.workers[worker].seen.insert(step.key(), item.clone());
                // What an item has no room for is looked for below it.
                let (after, next) = step.enter(item);
                below.extend(next.into_iter().filter(|_| after.is_none()));
            }
        }
        if below.is_empty() {
            let steps = std::mem::take(&mut self.workers[worker].steps);
            self.settle(now + APPLY, worker, steps);
        } else {
            self.plan(now + CALL, worker, Call::Read(below));
        }
    }

    /// Begins to write to items, after another look at those that are busy.
    fn settle(&mut self, now: u64, worker: usize, steps: Vec<BookStep>) {
        let it = &mut self.workers[worker];
        let none = BookItem::default();
        let seen = |step: &BookStep| it.seen.get(&step.key()).unwrap_or(&none).clone();
        let busy = steps.iter().filter(|step| step.looks_again(&seen(step)));
        let busy: Vec<BookStep> = busy.cloned().collect();
        it.waiting = steps;
        if busy.is_empty() {
            self.go_on(now, worker);
        } else {
            self.plan(now + CALL, worker, Call::Look(busy));
        }
    }

    fn look(&mut self, now: u64, worker: usize, steps: &[BookStep]) {
        for step in steps {
            let item = self.table.get(&step.key());
            let bytes = item.map_or(0, |item| step.bytes(item));
            self.meter.read(&step.key(), now, bytes);
            let item = item.cloned().unwrap_or_default();
            self.workers[worker].seen.insert(step.key(), item);
        }
        self.go_on(now, worker);
    }

    /// Begins writes as long as there may be more under way.
    fn go_on(&mut self, now: u64, worker: usize) {
        loop {
            let it = &mut self.workers[worker];
            if it.under_way == AT_ONCE {
                return;
            }
            let Some(step) = it.waiting.pop() else {
                if it.under_way > 0 || it.below.is_empty() {
                    return;
                }
                let below = std::mem::take(&mut it.below);
                return self.settle(now, worker, below);
            };
            let seen = it.seen.remove(&step.key()).unwrap_or_default();
            self.begin(now, worker, step, seen, 0);
        }
    }

    fn begin(&mut self, now: u64, worker: usize, step: BookStep, seen: BookItem, tried: u32) {
        let (after, below) = step.enter(&seen);
        let Some(after) = after else {
            self.workers[worker].below.extend(below);
            return;
        };
        self.workers[worker].under_way += 1;
        let write = Write {
            step,
            seen,
            after,
            below,
            tried,
        };
        self.plan(now + CALL, worker, Call::Write(Box::new(write)));
    }

    fn write(&mut self, now: u64, worker: usize, write: Write) {
        let (key, tried) = (write.step.key(), write.tried);
        self.workers[worker].under_way -= 1;
        let there = self.table.entry(key.clone()).or_default();
        if there.is(&write.seen) {
            self.meter.wrote(&key, now, write.step.bytes(&write.after));
            *there = write.after;
            self.workers[worker].below.extend(write.below);
        } else {
            let there = there.clone();
            self.meter.refused += 1;
            self.meter.wrote(&key, now, write.step.bytes(&there));
            let wait = 20_000.0 * f64::from(1 << tried.min(6)) * self.rng.f64();
            self.begin(now + wait as u64, worker, write.step, there, tried + 1);
        }
        self.go_on(now, worker);
    }
}

fn settlement(map: &MapName, micros: u64, rng: &mut Rng) -> Settlement {
    let random: [u8; 10] = rng.u128(..).to_be_bytes()[..10].try_into().unwrap();
    let id = uuid::Builder::from_unix_timestamp_millis(micros / 1_000, &random).into_uuid();
    let mut counts = Counts::default();
    counts.add(Outcome::Applied, 1);
    let pack = PackRef {
        id: PackId::from_uuid(id),
        map: map.clone(),
        run: RunId::live(map),
    };
    Settlement {
        pack,
        counts,
        attempt: Attempt::default(),
    }
}

/// What one of those gathers who receive side by side: when each batch is full, and what is in it.
/// They are not in step: the first of its batches is but so large a part of one.
fn batches(received: &[(u64, Settlement)], part: f64) -> Vec<(u64, Vec<Settlement>)> {
    let mut batches = Vec::new();
    let (mut rest, mut part) = (received, part);
    while let Some((first, _)) = rest.first() {
        let most = ((BATCH as f64 * part) as usize).max(1);
        let end = first + (WINDOW as f64 * part) as u64;
        part = 1.0;
        let window = rest.iter().take(most);
        let size = window.take_while(|(at, _)| *at <= end).count();
        let (batch, later) = rest.split_at(size);
        let full = if size == most { batch[size - 1].0 } else { end };
        let settlements = batch.iter().map(|(_, one)| one.clone());
        batches.push((full, settlements.collect()));
        rest = later;
    }
    batches
}

/// Webhooks of some seconds, at so many a second over so many maps.
fn simulate(per_second: u64, maps: u64, seconds: u64) -> Model {
    let mut model = Model::new();
    let names: Vec<MapName> = (0..maps).map(|n| map_name(&format!("map-{n}"))).collect();
    let all = per_second * seconds;
    let mut received: Vec<(u64, Settlement)> = (0..all)
        .map(|n| {
            let made = 1_000 * SECOND + n * SECOND / per_second;
            let map = &names[model.rng.usize(..names.len())];
            let at = made + model.rng.u64(..SECOND);
            (at, settlement(map, made, &mut model.rng))
        })
        .collect();
    received.sort_by_key(|(at, settlement)| (*at, settlement.pack.id));
    let pollers = usize::try_from(POLLERS.max(per_second / EACH)).unwrap();
    for poller in 0..pollers {
        let mine = received.iter().skip(poller).step_by(pollers);
        let mine: Vec<_> = mine.cloned().collect();
        for (full, batch) in batches(&mine, model.rng.f64()) {
            model.batch(full, &batch);
        }
    }
    model.run();
    let ended: u64 = model.table.values().map(BookItem::ended).sum();
    assert_eq!(ended, all, "each counts once");
    model
}

/// A line of the page, for one map.
fn of_one_map(per_second: u64, seconds: u64) -> String {
    let model = simulate(per_second, 1, seconds);
    let events = (per_second * seconds) as f64;
    let (busiest, meter) = (model.meter.busiest(), &model.meter);
    let most = meter
        .of
        .iter()
        .max_by_key(|(_, units)| units.write)
        .unwrap();
    eprintln!(
        "{per_second}: {} {} refused {}",
        most.0.0,
        most.1.write,
        meter.refused as f64 / events
    );
    assert!(
        busiest.read <= READ_UNITS,
        "{per_second}/s: {} reads",
        busiest.read
    );
    assert!(
        busiest.write <= WRITE_UNITS,
        "{per_second}/s: {} writes",
        busiest.write
    );
    assert!(meter.largest < 400_000, "{} bytes", meter.largest);
    format!(
        "| {} | {:.3} | {:.3} | {} | {} | {} |",
        apart(per_second),
        meter.total.write as f64 / events,
        meter.total.read as f64 / events,
        apart(busiest.write),
        apart(busiest.read),
        apart(meter.largest.div_ceil(1024) as u64),
    )
}

fn assert_said(lines: &[String]) {
    println!("{}", lines.join("\n"));
    for line in lines {
        page::says(line);
    }
}

#[test]
fn the_books_of_one_map_overload_no_partition() {
    assert_said(&[10, 100, 1_000, 10_000].map(|rate| of_one_map(rate, 16)));
}

#[test]
fn the_books_of_one_very_busy_map_overload_no_partition() {
    assert_said(&[30_000].map(|rate| of_one_map(rate, 4)));
}

/// The same number of webhooks, of many maps.
#[test]
fn webhooks_of_many_maps_cost_more() {
    let all = [
        (1_000, 10),
        (1_000, 100),
        (1_000, 1_000),
        (1_000, 10_000),
        (10_000, 1_000),
    ];
    let lines = all.map(|(rate, maps)| {
        let seconds = (16_000 / rate).max(8);
        let meter = simulate(rate, maps, seconds).meter;
        let writes = meter.total.write as f64 / (rate * seconds) as f64;
        format!("| {} | {} | {writes:.3} |", apart(rate), apart(maps))
    });
    assert_said(&lines);
}
