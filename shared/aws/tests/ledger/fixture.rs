//! The stores of a deployment in which nothing is yet.

use std::{collections::HashMap, sync::Arc};

use aws::{Clients, DynamoFailures, DynamoLedger, Queues, ReportsWaiting, S3Blobs, StateTable};
use aws_sdk_dynamodb::Client;
use model::{
    Attempt, Books, Counts, MapName, Outcome, PackId, PackRef, QueueName, RunId, Settlement,
};
use ports::{
    Blobs, Clock, Consumer, Failures, Ledger, Outgoing, PackEntry, Queue, StoreError,
    testing::{ManualClock, ledger::LedgerFixture},
};
use uuid::{NoContext, Uuid};

use crate::{proxy::Proxy, support, tables};

/// Stores of a deployment in which nothing is yet.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) clock: Arc<ManualClock>,
    client: Client,
    table: String,
    pub(crate) state: StateTable,
    pub(crate) queues: Queues,
    pub(crate) failures: Arc<DynamoFailures>,
    pub(crate) ledger: DynamoLedger,
}

/// Nothing is on its way to the failure store but what a test puts there.
#[derive(Debug)]
struct NoReports;

#[async_trait::async_trait]
impl ReportsWaiting for NoReports {
    async fn waiting(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}

async fn queue(clients: &Clients, queue: QueueName) -> (QueueName, String) {
    let name = support::unique(queue.as_str());
    let made = clients.sqs.create_queue().queue_name(name).send().await;
    (queue, made.unwrap().queue_url.unwrap())
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::of(support::clients().await, Client::clone).await
    }

    /// One whose table is reached through a proxy.
    pub(crate) async fn through_proxy() -> (Self, Proxy) {
        let proxy = Proxy::to(&upstream()).await;
        let fixture = Self::through(proxy.endpoint()).await;
        (fixture, proxy)
    }

    /// One whose table is reached at this address.
    pub(crate) async fn through(endpoint: &str) -> Self {
        let reached = |client: &Client| {
            let config = client.config().to_builder();
            Client::from_conf(config.endpoint_url(endpoint).build())
        };
        Self::of(support::clients().await, reached).await
    }

    async fn of(clients: Clients, reached: impl FnOnce(&Client) -> Client) -> Self {
        let clock = Arc::new(ManualClock::at("2026-11-25T12:00:00Z".parse().unwrap()));
        let state_table = support::unique("state");
        tables::create(&clients.dynamodb, &state_table, false).await;
        let failures_table = support::unique("failures");
        tables::create(&clients.dynamodb, &failures_table, true).await;
        let mut urls = HashMap::new();
        for name in [QueueName::Live, QueueName::Failures] {
            urls.extend([queue(&clients, name).await]);
        }
        let client = reached(&clients.dynamodb);
        let state = StateTable::new(
            client.clone(),
            state_table.clone(),
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        let blobs: Arc<dyn Blobs> = Arc::new(S3Blobs::new(
            &clients.s3,
            "unused".into(),
            String::new(),
            Arc::clone(&clock) as Arc<dyn Clock>,
        ));
        let failures = Arc::new(DynamoFailures::new(clients.dynamodb, failures_table, blobs));
        let queues = Queues::new(
            clients.sqs,
            urls,
            Arc::new(state.clone()),
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        let counted = Arc::clone(&failures);
        let ledger = DynamoLedger::new(state.clone(), counted, Arc::new(NoReports));
        Self {
            clock,
            client,
            table: state_table,
            state,
            queues,
            failures,
            ledger,
        }
    }

    /// A pack made now.
    pub(crate) fn pack(&self, map: &MapName, run: RunId, n: u32) -> PackEntry {
        let now = self.clock.now();
        let (seconds, nanos) = (now.as_second(), now.subsec_nanosecond());
        let time = uuid::Timestamp::from_unix(
            NoContext,
            seconds.try_into().unwrap(),
            nanos.try_into().unwrap(),
        );
        PackEntry {
            id: PackId::from_uuid(Uuid::new_v7(time)),
            map: map.clone(),
            run,
            count: n,
        }
    }

    pub(crate) async fn send(&self, packs: &[PackEntry]) {
        let message = |pack: &PackEntry| Outgoing {
            pack: Some(pack.clone()),
            ..Outgoing::new("pack".into())
        };
        let messages = packs.iter().map(message).collect();
        self.queues.send(QueueName::Live, messages).await.unwrap();
    }

    pub(crate) async fn settle(&self, packs: &[PackEntry], outcome: Outcome) {
        let all = settlements(packs, outcome);
        self.ledger.settle(all).await.unwrap();
    }

    /// The books as another process has them, which remembers nothing of the table.
    pub(crate) fn worker(&self) -> DynamoLedger {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let state = StateTable::new(self.client.clone(), self.table.clone(), clock);
        let failures = Arc::clone(&self.failures);
        DynamoLedger::new(state, failures, Arc::new(NoReports))
    }

    pub(crate) async fn books(&self, map: &MapName) -> Books {
        self.ledger.books(map).await.unwrap()
    }
}

/// The address of the emulator.
pub(crate) fn upstream() -> String {
    runtime::env::optional("SYNCLINE_TEST_AWS").unwrap()
}

pub(crate) fn settlements(packs: &[PackEntry], outcome: Outcome) -> Vec<Settlement> {
    let settlement = |pack: &PackEntry| {
        let mut counts = Counts::default();
        counts.add(outcome, pack.count.into());
        Settlement {
            pack: pack_ref(pack),
            counts,
            attempt: Attempt::default(),
        }
    };
    packs.iter().map(settlement).collect()
}

pub(crate) fn pack_ref(pack: &PackEntry) -> PackRef {
    PackRef {
        id: pack.id,
        map: pack.map.clone(),
        run: pack.run,
    }
}

pub(crate) fn run(id: u128) -> RunId {
    RunId::from_uuid(Uuid::from_u128(id))
}

impl LedgerFixture for Fixture {
    fn queue(&self) -> &dyn Queue {
        &self.queues
    }
    fn consumer(&self) -> &dyn Consumer {
        &self.queues
    }
    fn ledger(&self) -> &dyn Ledger {
        &self.ledger
    }
    fn failures(&self) -> &dyn Failures {
        self.failures.as_ref()
    }
}
