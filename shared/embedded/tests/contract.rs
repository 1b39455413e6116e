//! The suites of the ports, on SQLite.

#![cfg(test)]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use embedded::Store;
use ports::{
    Clock, Consumer, Failures, Ledger, Queue,
    testing::{ManualClock, ledger::LedgerFixture, queue::QueueFixture},
};

#[derive(Debug)]
struct Fixture {
    store: Store,
    clock: Arc<ManualClock>,
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
