//! The suite of the queues, on SQS.

#![cfg(test)]

mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use aws::{Books, Queues};
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use model::{MAX_RECEIVES, MapName, QueueName, Settlement};
use ports::{
    Clock, Consumer, Dedupe, Outgoing, PackEntry, Queue, QueueError, Received, Sent, StoreError,
    SystemClock,
    testing::{map_name, queue::QueueFixture},
};

/// Books in memory: those on DynamoDB are tested elsewhere.
#[derive(Debug, Default)]
struct MemoryBooks(Mutex<HashSet<String>>);

#[async_trait]
impl Books for MemoryBooks {
    async fn known(&self, names: &[&Dedupe]) -> Result<Vec<bool>, StoreError> {
        let known = self.0.lock().unwrap();
        Ok(names
            .iter()
            .map(|name| known.contains(&name.name))
            .collect())
    }

    async fn remember(&self, names: &[&Dedupe]) -> Result<(), StoreError> {
        let mut known = self.0.lock().unwrap();
        known.extend(names.iter().map(|name| name.name.clone()));
        Ok(())
    }

    async fn open(&self, _packs: &[PackEntry]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn settle(&self, _settlements: Vec<Settlement>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The queues on an emulator that knows no fair ones: receives all there is and gives it group by
/// group in turn. AWS looks after the groups itself; that they are sent is a test of its own below.
#[derive(Debug)]
struct Fair {
    queues: Queues,
    groups: Mutex<HashMap<String, Option<MapName>>>,
    held: Mutex<HashMap<QueueName, Vec<Received>>>,
}

#[async_trait]
impl Queue for Fair {
    async fn send(
        &self,
        queue: QueueName,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Sent>, QueueError> {
        let groups = messages.iter().map(|m| (m.body.clone(), m.group.clone()));
        self.groups.lock().unwrap().extend(groups);
        self.queues.send(queue, messages).await
    }

    async fn defer(
        &self,
        queue: QueueName,
        receipt: &str,
        delay: Duration,
    ) -> Result<(), QueueError> {
        self.queues.defer(queue, receipt, delay).await
    }
}

#[async_trait]
impl Consumer for Fair {
    async fn receive(
        &self,
        queue: QueueName,
        max: usize,
        visibility: Duration,
    ) -> Result<Vec<Received>, QueueError> {
        let visible = self.queues.receive(queue, 1000, visibility).await?;
        let mut held = self.held.lock().unwrap();
        let held = held.entry(queue).or_default();
        held.extend(visible);
        let groups = self.groups.lock().unwrap();
        let mut places = HashMap::new();
        held.sort_by_cached_key(|message| {
            let place = places.entry(groups.get(&message.body)).or_insert(0);
            *place += 1;
            *place
        });
        let given = held.len().min(max);
        Ok(held.drain(..given).collect())
    }

    async fn delete(&self, queue: QueueName, receipts: &[String]) -> Result<(), QueueError> {
        self.queues.delete(queue, receipts).await
    }
}

#[derive(Debug)]
struct Fixture(Fair);

impl Fixture {
    async fn new() -> Self {
        let sqs = support::clients().await.sqs;
        let urls = create_queues(&sqs).await;
        let books = Arc::new(MemoryBooks::default());
        Self(Fair {
            queues: Queues::new(sqs, urls, books, Arc::new(SystemClock)),
            groups: Mutex::default(),
            held: Mutex::default(),
        })
    }
}

/// Queues of its own, as a deployment has them.
async fn create_queues(sqs: &aws_sdk_sqs::Client) -> HashMap<QueueName, String> {
    let deployment = support::unique("queues");
    let mut urls = HashMap::new();
    let size = "1048576".to_owned();
    let mut attributes = HashMap::from([(QueueAttributeName::MaximumMessageSize, size)]);
    // The dead letters first, for the others name them.
    for queue in QueueName::ALL.into_iter().rev() {
        let created = sqs
            .create_queue()
            .queue_name(format!("{deployment}-{queue}"))
            .set_attributes(Some(attributes.clone()))
            .send()
            .await
            .unwrap();
        let url = created.queue_url.unwrap();
        if queue == QueueName::Dead {
            let policy = redrive_to(sqs, &url).await;
            attributes.insert(QueueAttributeName::RedrivePolicy, policy);
        }
        urls.insert(queue, url);
    }
    urls
}

async fn redrive_to(sqs: &aws_sdk_sqs::Client, url: &str) -> String {
    let arn = QueueAttributeName::QueueArn;
    let found = sqs
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(arn.clone())
        .send()
        .await
        .unwrap();
    let policy = serde_json::json!({
        "deadLetterTargetArn": found.attributes().unwrap()[&arn],
        "maxReceiveCount": MAX_RECEIVES,
    });
    policy.to_string()
}

#[async_trait]
impl QueueFixture for Fixture {
    fn queue(&self) -> &dyn Queue {
        &self.0
    }
    fn consumer(&self) -> &dyn Consumer {
        &self.0
    }
    fn now(&self) -> jiff::Timestamp {
        SystemClock.now()
    }
    async fn pass(&self, time: Duration) {
        // Whole seconds may end a little late.
        tokio::time::sleep(time + Duration::from_millis(200)).await;
    }
}

ports::queue_contract!(async || Fixture::new().await);

/// What keeps a queue of AWS fair.
#[tokio::test]
async fn a_message_carries_its_group() {
    let sqs = support::clients().await.sqs;
    let urls = create_queues(&sqs).await;
    let live = urls[&QueueName::Live].clone();
    let books = Arc::new(MemoryBooks::default());
    let queues = Queues::new(sqs.clone(), urls, books, Arc::new(SystemClock));
    let message = Outgoing {
        group: Some(map_name("customers")),
        ..Outgoing::new("a".into())
    };
    queues.send(QueueName::Live, vec![message]).await.unwrap();
    let group = MessageSystemAttributeName::MessageGroupId;
    let received = sqs
        .receive_message()
        .queue_url(live)
        .message_system_attribute_names(group.clone())
        .send()
        .await
        .unwrap();
    let attributes = received.messages()[0].attributes().unwrap();
    assert_eq!(attributes[&group], "customers");
}
