//! Declared rates, over the embedded store.

#![cfg(test)]

use std::{sync::Arc, time::Duration};

use embedded::Store;
use model::{ConnectionName, Lane};
use ports::{Clock, testing::ManualClock};
use runtime::{Rate, Rates};

/// Calls of a lane that get their turn within `span`, while nobody else asks.
async fn calls_within(span: Duration, per_second: f64, lane: Lane) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let store = Store::open(folder.path(), Arc::clone(&clock)).unwrap();
    let rates = Rates::new(Arc::new(store), Arc::clone(&clock));
    let connection = ConnectionName::new("crm").unwrap();
    let end = clock.now() + span;
    let mut calls = 0;
    loop {
        match rates.take(&connection, Rate { per_second }, lane).await {
            Ok(None) => calls += 1,
            Ok(Some(wait)) => clock.sleep(wait).await,
            Err(error) => panic!("{error}"),
        }
        if clock.now() >= end {
            return calls;
        }
    }
}

#[tokio::test]
async fn every_lane_gets_its_turn_at_every_rate() {
    for lane in Lane::ALL {
        for (per_second, seconds, least, most) in [
            (0.01, 1_000, 9, 12),
            (0.5, 100, 48, 52),
            (1.67, 60, 96, 103),
            (50.0, 4, 170, 255),
        ] {
            let calls = calls_within(Duration::from_secs(seconds), per_second, lane).await;
            assert!(
                (least..=most).contains(&calls),
                "{lane} at {per_second}/s: {calls} calls in {seconds} s"
            );
        }
    }
}

#[tokio::test]
async fn a_live_change_does_not_wait_for_a_load_that_takes_all_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let store = Store::open(folder.path(), Arc::clone(&clock)).unwrap();
    let rates = Rates::new(Arc::new(store), Arc::clone(&clock));
    let connection = ConnectionName::new("crm").unwrap();
    let rate = Rate { per_second: 10.0 };
    let take = async |lane| rates.take(&connection, rate, lane).await.unwrap();
    let (mut loads, mut retries) = (0, 0);
    for _ in 0..100 {
        while take(Lane::Load).await.is_none() {
            loads += 1;
        }
        while take(Lane::Retry).await.is_none() {
            retries += 1;
        }
        assert_eq!(
            take(Lane::Live).await,
            None,
            "after {loads} and {retries} calls"
        );
        clock.sleep(Duration::from_millis(200)).await;
    }
    assert!(loads >= 5 && retries > 50, "{loads} {retries}");
}

#[tokio::test]
async fn workers_whose_clocks_differ_fill_no_second_twice() {
    let folder = tempfile::tempdir().unwrap();
    let right = Arc::new(ManualClock::default());
    let wrong = Arc::new(ManualClock::default());
    let store = Arc::new(Store::open(folder.path(), Arc::clone(&right) as _).unwrap());
    let of = |clock: &Arc<ManualClock>| Rates::new(Arc::clone(&store) as _, Arc::clone(clock) as _);
    let workers = [of(&right), of(&wrong)];
    let connection = ConnectionName::new("crm").unwrap();
    let rate = Rate { per_second: 10.0 };
    for behind in [Duration::from_millis(300), Duration::from_secs(2)] {
        let began = right.now();
        let mut calls = 0;
        while right.now() < began + Duration::from_mins(1) {
            right.advance(Duration::from_millis(100));
            wrong.set(right.now() - behind);
            for rates in &workers {
                let taken = rates.take(&connection, rate, Lane::Load).await.unwrap();
                calls += u32::from(taken.is_none());
            }
        }
        assert!(
            (500..=620).contains(&calls),
            "{calls} calls, {behind:?} behind"
        );
    }
}
