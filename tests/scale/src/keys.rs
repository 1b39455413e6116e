//! Where everything else is written: how many partitions of the tables a workload reaches.

use std::collections::{BTreeMap, BTreeSet};

use aws::testing::{checkpoint_key, failure_keys, fold_turn, link_key, name_key};
use fastrand::Rng;
use jiff::Timestamp;
use model::{FailureId, MapName, PackId, RunId, pull_key};
use ports::testing::{failure, map_name};
use uuid::Uuid;

use crate::page::{self, apart};

/// Units of writing that a partition key lets through in a second.
const WRITE_UNITS: u64 = 1_000;

/// Partitions that so many keys are in, and the largest share that one has of them.
fn spread<'k>(keys: impl IntoIterator<Item = &'k String>) -> (u64, f64) {
    let mut counts: BTreeMap<&String, u64> = BTreeMap::new();
    let mut all = 0;
    for key in keys {
        *counts.entry(key).or_default() += 1;
        all += 1;
    }
    let most = counts.values().max().copied().unwrap_or_default();
    (counts.len() as u64, most as f64 / f64::from(all))
}

/// Writes a second of all until the busiest partition has its units, in whole hundreds.
fn most(share: f64) -> u64 {
    (WRITE_UNITS as f64 / share / 100.0).floor() as u64 * 100
}

fn line(what: &str, keys: &[String]) -> String {
    let (partitions, share) = spread(keys);
    format!(
        "| {what} | {} | {} |",
        apart(partitions),
        apart(most(share))
    )
}

fn maps() -> impl Iterator<Item = MapName> {
    (0..10_000).map(|n| map_name(&format!("map-{n}")))
}

#[test]
fn what_is_kept_of_maps_and_rows_is_spread() {
    let one = map_name("customers");
    let pulls: Vec<String> = maps()
        .map(|map| checkpoint_key(&pull_key(&map)).0)
        .collect();
    let rows = (0..100_000).map(|row| link_key(&one, &format!("K-{row}")).0);
    let names = (0..1_000).map(|name| name_key(&format!("hook/customers/{name}")).0);
    let lines = [
        line("`pull/`, `state/` of 10,000 maps", &pulls),
        line("links of one map", &rows.collect::<Vec<_>>()),
    ];
    println!("{}", lines.join("\n"));
    for line in &lines {
        page::says(line);
    }
    assert_eq!(spread(&names.collect::<Vec<_>>()).0, 1_000);
    // A breaker and a rate are one item each, and connections share partitions.
    let rates = (0..1_000).map(|n| checkpoint_key(&format!("rate/c-{n}")).0);
    let (partitions, share) = spread(&rates.collect::<Vec<_>>());
    assert!(partitions == 8 && share < 0.15, "{partitions} {share}");
}

/// Failures of one map, each with news of its own.
#[test]
fn failures_are_spread_over_their_indexes() {
    let map = map_name("customers");
    let mut rng = Rng::with_seed(3);
    let mut of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for n in 0..100_000 {
        let pack = PackId::from_uuid(Uuid::from_u128(rng.u128(..)));
        let one = model::Failure {
            id: FailureId::of(pack, n % 500),
            due: Some(Timestamp::UNIX_EPOCH),
            raw: format!(r#"{{"id":"K-{n}"}}"#),
            ..failure(n as u128, &map, RunId::live(&map))
        };
        for (index, partition) in failure_keys(&one) {
            of.entry(index).or_default().push(partition);
        }
    }
    let indexes: BTreeSet<&str> = of.keys().copied().collect();
    assert_eq!(indexes, ["by_age", "by_due", "by_map", "by_news"].into());
    let lines = ["by_age", "by_map", "by_due"]
        .map(|index| line(&format!("failures of one map, index `{index}`"), &of[index]));
    println!("{}", lines.join("\n"));
    for line in &lines {
        page::says(line);
    }
    assert_eq!(spread(&of["by_news"]).0, 100_000);
}

/// The books of ten thousand maps are looked after in turns, each map in every fifth minute.
#[test]
fn the_books_of_all_maps_have_their_turn() {
    let mut most = 0;
    for minute in 29_000_000..29_000_005 {
        let turn = maps().filter(|map| fold_turn(map, minute)).count();
        most = most.max(turn);
    }
    for map in maps() {
        let turns = (100..105).filter(|minute| fold_turn(&map, *minute)).count();
        assert_eq!(turns, 1, "{map}");
    }
    page::says(&format!(
        "| looking after the books | {} maps in one minute at most |",
        apart(most as u64)
    ));
}
