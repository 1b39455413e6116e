//! The books of webhooks on DynamoDB: which partition gets how many units of writing.
//!
//! What is simulated: webhooks come evenly, and each is received up to a second after it was made.
//! Five batches are gathered side by side, or more where there is much, each until it is full or its
//! window is over, so that each has packs of all of that time. What a batch writes when it is
//! settled, where, and how large it is, is decided by the code of `shared/aws`.

use std::collections::HashMap;

use aws::testing::entered;
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
const SECOND: u64 = 1_000_000;
/// Units that a partition key lets through in a second.
const WRITE_UNITS: u64 = 1_000;

/// What has been written.
#[derive(Default)]
struct Meter {
    units: u64,
    bytes: usize,
    of: HashMap<(String, u64), u64>,
    largest: usize,
}

impl Meter {
    fn wrote(&mut self, pk: String, now: u64, bytes: usize) {
        let units = bytes.div_ceil(1024) as u64;
        self.units += units;
        self.bytes += bytes;
        *self.of.entry((pk, now / SECOND)).or_default() += units;
        self.largest = self.largest.max(bytes);
    }

    fn busiest(&self) -> u64 {
        self.of.values().copied().max().unwrap_or(0)
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
fn simulate(per_second: u64, maps: u64, seconds: u64) -> Meter {
    let mut rng = Rng::with_seed(11);
    fastrand::seed(11);
    let names: Vec<MapName> = (0..maps).map(|n| map_name(&format!("map-{n}"))).collect();
    let all = per_second * seconds;
    let mut received: Vec<(u64, Settlement)> = (0..all)
        .map(|n| {
            let made = 1_000 * SECOND + n * SECOND / per_second;
            let map = &names[rng.usize(..names.len())];
            let at = made + rng.u64(..SECOND);
            (at, settlement(map, made, &mut rng))
        })
        .collect();
    received.sort_by_key(|(at, settlement)| (*at, settlement.pack.id));
    let pollers = usize::try_from(POLLERS.max(per_second / EACH)).unwrap();
    let mut meter = Meter::default();
    for poller in 0..pollers {
        let mine = received.iter().skip(poller).step_by(pollers);
        let mine: Vec<_> = mine.cloned().collect();
        for (full, batch) in batches(&mine, rng.f64()) {
            for ((pk, _), bytes) in entered(&batch, i64::try_from(full / 1_000).unwrap()) {
                meter.wrote(pk, full, bytes);
            }
        }
    }
    meter
}

fn assert_said(lines: &[String]) {
    println!("{}", lines.join("\n"));
    for line in lines {
        page::says(line);
    }
}

#[test]
fn the_books_of_webhooks_overload_no_partition() {
    let line = |(rate, seconds): (u64, u64)| {
        let meter = simulate(rate, 1, seconds);
        let busiest = meter.busiest();
        assert!(busiest <= WRITE_UNITS, "{rate}/s: {busiest} units");
        assert!(meter.largest < 400_000, "{} bytes", meter.largest);
        let events = (rate * seconds) as f64;
        format!(
            "| {} | {:.3} | {} | {} | {:.0} |",
            apart(rate),
            meter.units as f64 / events,
            apart(busiest),
            apart(meter.largest.div_ceil(1024) as u64),
            meter.bytes as f64 / events,
        )
    };
    let rates = [(10, 16), (100, 16), (1_000, 16), (10_000, 8), (100_000, 4)];
    assert_said(&rates.map(line));
}

/// The same number of webhooks, of many maps.
#[test]
fn webhooks_of_many_maps_cost_hardly_more() {
    let line = |(rate, maps): (u64, u64)| {
        let seconds = (16_000 / rate).max(8);
        let meter = simulate(rate, maps, seconds);
        let each = meter.units as f64 / (rate * seconds) as f64;
        let largest = apart(meter.largest.div_ceil(1024) as u64);
        format!(
            "| {} | {} | {each:.3} | {largest} |",
            apart(rate),
            apart(maps)
        )
    };
    let all = [
        (100, 100),
        (1_000, 10),
        (1_000, 100),
        (1_000, 1_000),
        (1_000, 10_000),
        (10_000, 1_000),
    ];
    assert_said(&all.map(line));
}
