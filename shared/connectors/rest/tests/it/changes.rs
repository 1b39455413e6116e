//! No change is missed, in whatever order a service lists them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use connector_rest::RestSource;
use model::SourceMark;
use ports::{ReadFrom, Source};
use serde_json::{Value as Json, json};

use crate::{Found, Shop, read, read_all, source, versioned};

/// Pages by key, whose order has nothing to do with that of the versions.
const SINCE: &str = "{ path: /keyset, records: items, query: { size: \"2\" }, since: since, paging: { cursor: { at: next, param: after } } }";

async fn pull(source: &RestSource, mark: &mut Option<SourceMark>) -> Found {
    let found = match &mark {
        Some(mark) => read(source, ReadFrom::Mark(mark), None).await,
        None => read_all(source).await,
    };
    let found = found.unwrap();
    if found.mark.is_some() {
        mark.clone_from(&found.mark);
    }
    found
}

#[tokio::test]
async fn a_pull_begins_at_the_newest_version_less_the_overlap() {
    let shop = Shop::with(6).await;
    let source = source(&shop, SINCE).await;
    let mut mark = source.low_water().await.unwrap().mark;
    assert!(mark.is_some());
    // The shop's clock is the bound: its rows are much older.
    pull(&source, &mut mark).await;
    let first = shop.inner().requests[1].clone();
    assert!(first.contains("since=2026-03-01T11%3A59%3A00Z"), "{first}");
    shop.inner().now += Duration::from_mins(10);
    shop.inner()
        .write(2, &json!("2026-03-01T12:05:00Z"), "changed");
    assert_eq!(pull(&source, &mut mark).await.ids(), [2]);
    shop.inner().requests.clear();
    pull(&source, &mut mark).await;
    let second = shop.inner().requests[0].clone();
    assert!(
        second.contains("since=2026-03-01T12%3A04%3A00Z"),
        "{second}"
    );
}

#[tokio::test]
async fn without_a_way_to_ask_for_changes_a_pull_reads_everything() {
    let shop = Shop::with(6).await;
    let all = "{ path: /none }";
    for source in [
        source(&shop, all).await,
        versioned(&shop, all, "deleted: src.gone").await,
    ] {
        let mut mark = source.low_water().await.unwrap().mark;
        assert_eq!(mark, None);
        assert_eq!(pull(&source, &mut mark).await.ids().len(), 6);
        assert_eq!(mark, None);
        assert_eq!(pull(&source, &mut mark).await.ids().len(), 6);
    }
}

#[tokio::test]
async fn a_stream_without_records_has_a_mark_as_soon_as_one_can_be_made() {
    for (kind, has_mark) in [
        ("timestamp", true),
        ("unix-seconds", true),
        ("auto", false),
        ("integer", false),
    ] {
        let shop = Shop::with(0).await;
        let version = format!("version: {{ field: updated_at, kind: {kind} }}");
        let source = versioned(&shop, SINCE, &version).await;
        let low = source.low_water().await.unwrap().mark;
        assert_eq!(low.is_some(), has_mark, "{kind}");
        let mut mark = source.after_load(low, vec![]);
        let version = match kind {
            "unix-seconds" | "integer" => json!(1_772_367_000),
            _ => json!("2026-03-01T12:10:00Z"),
        };
        shop.inner().write(1, &version, "new");
        assert_eq!(pull(&source, &mut mark).await.ids(), [1], "{kind}");
    }
}

/// A service whose versions are times or counters, in any order of its list.
#[derive(Clone)]
struct Story {
    counter: Arc<AtomicI64>,
    by_time: bool,
}

impl Story {
    fn change(&self, shop: &mut crate::shop::Inner, random: &mut fastrand::Rng) {
        let counter = self.counter.fetch_add(1, Ordering::SeqCst) + 1;
        let id = random.i64(0..20);
        let version = if self.by_time {
            // Some rows are committed late, and carry an earlier time; but no row's own goes
            // back.
            let late = Duration::from_secs(random.u64(..30));
            let before = shop.rows.iter().find(|row| row["id"] == id);
            let before = before.and_then(|row| row["updated_at"].as_str());
            let time = shop.now.saturating_sub(late).unwrap().to_string();
            let after = |text: &str| {
                let text: jiff::Timestamp = text.parse().unwrap();
                (text + Duration::from_secs(1)).to_string()
            };
            json!(before.map_or(time.clone(), |before| time.max(after(before))))
        } else {
            json!(counter)
        };
        let name = format!("change {counter}");
        shop.write(id, &version, &name);
    }
}

/// What a target has that takes whatever is newer, or as new.
fn apply(target: &mut BTreeMap<i64, Json>, found: &Found) {
    for record in &found.records {
        let record: Json = serde_json::from_slice(record).unwrap();
        let version = |record: &Json| match &record["updated_at"] {
            Json::String(text) => text.parse::<jiff::Timestamp>().unwrap().as_microsecond(),
            number => number.as_i64().unwrap(),
        };
        let known = target
            .entry(record["id"].as_i64().unwrap())
            .or_insert_with(|| record.clone());
        if version(&record) >= version(known) {
            *known = record;
        }
    }
}

#[tokio::test]
async fn no_change_is_missed_while_pages_are_read() {
    for seed in 0..60_u64 {
        let by_time = seed % 2 == 0;
        let shop = Shop::with(0).await;
        let story = Story {
            counter: Arc::default(),
            by_time,
        };
        let later = story.clone();
        let mut between = fastrand::Rng::with_seed(seed + 2_000);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..25 {
            story.change(&mut shop.inner(), &mut random);
        }
        let mut inside = fastrand::Rng::with_seed(seed + 1_000);
        shop.inner().script = Some(Box::new(move |_, shop| {
            // Requests take their time, and the next one comes much later.
            shop.now += Duration::from_secs(inside.u64(..200));
            if inside.bool() {
                story.change(shop, &mut inside);
            }
        }));
        let kind = if by_time { "timestamp" } else { "integer" };
        let version = format!("version: {{ field: updated_at, kind: {kind} }}");
        let source = versioned(&shop, SINCE, &version).await;
        let low = source.low_water().await.unwrap().mark;
        let load = read_all(&source).await.unwrap();
        let mut target = BTreeMap::new();
        apply(&mut target, &load);
        // Half of the loads know nothing of the place before them.
        let low = low.filter(|_| seed % 4 < 2);
        let mut mark = source.after_load(low, load.mark.into_iter().collect());
        for _ in 0..6 {
            for _ in 0..between.usize(..16) {
                let now = &mut shop.inner();
                later.change(now, &mut between);
            }
            apply(&mut target, &pull(&source, &mut mark).await);
        }
        shop.inner().script = None;
        apply(&mut target, &pull(&source, &mut mark).await);
        for row in &shop.inner().rows {
            let id = row["id"].as_i64().unwrap();
            assert_eq!(target.get(&id), Some(row), "seed {seed}, {kind}");
        }
    }
}
