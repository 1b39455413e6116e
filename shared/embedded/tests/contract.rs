//! The suites of the ports, on SQLite.

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
use model::Alert;
use ports::{
    Alerts, Clock, Consumer, Failures, Ledger, Queue,
    testing::{ManualClock, alerts::AlertsFixture, ledger::LedgerFixture, queue::QueueFixture},
};

#[derive(Debug)]
struct Fixture {
    store: Store,
    clock: Arc<ManualClock>,
    asked: AtomicUsize,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let store = Store::open(folder.path(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        Self {
            store,
            clock,
            asked: AtomicUsize::new(0),
            _folder: folder,
        }
    }
}

#[async_trait]
impl QueueFixture for Fixture {
    fn queue(&self) -> &dyn Queue {
        &self.store
    }
    fn consumer(&self) -> &dyn Consumer {
        &self.store
    }
    fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

impl LedgerFixture for Fixture {
    fn queue(&self) -> &dyn Queue {
        &self.store
    }
    fn consumer(&self) -> &dyn Consumer {
        &self.store
    }
    fn ledger(&self) -> &dyn Ledger {
        &self.store
    }
    fn failures(&self) -> &dyn Failures {
        &self.store
    }
}

#[async_trait]
impl AlertsFixture for Fixture {
    fn alerts(&self) -> &dyn Alerts {
        &self.store
    }
    fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
    async fn told(&self) -> Vec<String> {
        let all = self.store.alerts(usize::MAX).await.unwrap();
        let asked = self.asked.swap(all.len(), Ordering::SeqCst);
        let new = all.iter().rev().skip(asked);
        new.map(Alert::incident).collect()
    }
}

/// The store alone; the folder lives as long as the process.
fn store() -> Store {
    let fixture = Fixture::new();
    let store = fixture.store.clone();
    std::mem::forget(fixture);
    store
}

mod queue {
    use super::*;
    ports::queue_contract!(async || Fixture::new());
}

mod alerts {
    use super::*;
    ports::alerts_contract!(async || Fixture::new());
}

mod ledger {
    use super::*;
    ports::ledger_contract!(async || Fixture::new());
}

mod checkpoints {
    use super::*;
    ports::checkpoints_contract!(async || store());
}

mod failures {
    use super::*;
    ports::failures_contract!(async || store());
}

mod blobs {
    use super::*;
    ports::blobs_contract!(async || store());
}

mod links {
    use super::*;
    ports::links_contract!(async || store());
}
