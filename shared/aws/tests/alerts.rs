//! The suite of alerts, on SNS with a queue that is subscribed.

#![cfg(test)]

mod support;
#[path = "support/tables.rs"]
mod tables;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws::{Clients, SnsAlerts, StateTable};
use aws_sdk_sqs::types::QueueAttributeName;
use model::{Alert, AlertKind, ConnectionName};
use ports::{
    Alerts, Clock, StoreError,
    testing::{ManualClock, alerts::AlertsFixture, map_name},
};
use serde_json::Value;

/// A topic, a queue that is subscribed to it, and a table.
#[derive(Debug)]
struct Fixture {
    clients: Clients,
    topic: String,
    queue: String,
    state: StateTable,
    clock: Arc<ManualClock>,
    alerts: SnsAlerts,
}

impl Fixture {
    async fn new() -> Self {
        let clients = support::clients().await;
        let topic = clients.sns.create_topic().name(support::unique("alerts"));
        let topic = topic.send().await.unwrap().topic_arn.unwrap();
        let queue = subscribed(&clients, &topic).await;
        let table = support::unique("state");
        tables::create(&clients.dynamodb, &table, false).await;
        let clock = Arc::new(ManualClock::default());
        let port = || Arc::clone(&clock) as Arc<dyn Clock>;
        let state = StateTable::new(clients.dynamodb.clone(), table, port());
        let alerts = to(&clients, &topic, &state, port());
        Self {
            clients,
            topic,
            queue,
            state,
            clock,
            alerts,
        }
    }

    /// All messages that have come since this was last asked.
    async fn messages(&self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let receive = self.clients.sqs.receive_message().queue_url(&self.queue);
            let receive = receive.max_number_of_messages(10).wait_time_seconds(1);
            let received = receive.send().await.unwrap().messages.unwrap_or_default();
            if received.is_empty() {
                return all;
            }
            for message in received {
                all.push(serde_json::from_str(&message.body.unwrap()).unwrap());
                let delete = self.clients.sqs.delete_message().queue_url(&self.queue);
                let delete = delete.receipt_handle(message.receipt_handle.unwrap());
                delete.send().await.unwrap();
            }
        }
    }
}

fn to(clients: &Clients, topic: &str, state: &StateTable, clock: Arc<dyn Clock>) -> SnsAlerts {
    SnsAlerts::new(clients.sns.clone(), topic, "crm", state.clone(), clock)
}

/// A queue that gets what a topic is told.
async fn subscribed(clients: &Clients, topic: &str) -> String {
    let queue = clients.sqs.create_queue();
    let queue = queue.queue_name(support::unique("people")).send().await;
    let queue = queue.unwrap().queue_url.unwrap();
    let arn = QueueAttributeName::QueueArn;
    let asked = clients.sqs.get_queue_attributes().queue_url(&queue);
    let asked = asked.attribute_names(arn.clone()).send().await.unwrap();
    let arn = asked.attributes.unwrap().remove(&arn).unwrap();
    let subscribe = clients.sns.subscribe().topic_arn(topic).protocol("sqs");
    subscribe.endpoint(arn).send().await.unwrap();
    queue
}

#[async_trait]
impl AlertsFixture for Fixture {
    fn alerts(&self) -> &dyn Alerts {
        &self.alerts
    }
    fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
    async fn told(&self) -> Vec<String> {
        let incident = |message: &Value| {
            let text = message["Message"].as_str().unwrap();
            let mut lines = text.lines();
            let found = lines.find_map(|line| line.strip_prefix("incident: "));
            found.unwrap().to_owned()
        };
        self.messages().await.iter().map(incident).collect()
    }
}

mod contract_of_alerts {
    use super::*;
    ports::alerts_contract!(async || Fixture::new().await);
}

#[tokio::test]
async fn an_alert_arrives_with_what_a_subscription_can_filter_by() {
    let fixture = Fixture::new().await;
    let at = fixture.clock.now();
    let map = AlertKind::MapBroken(map_name("customers"));
    let connection = AlertKind::BreakerOpen(ConnectionName::new("warehouse").unwrap());
    for (kind, subject, about) in [
        (map, "Syncline: map customers is broken (crm)", "map"),
        (
            connection,
            "Syncline: connection warehouse is down (crm)",
            "connection",
        ),
    ] {
        let alert = Alert { kind, at };
        fixture.alerts.raise(&alert).await.unwrap();
        let messages = fixture.messages().await;
        assert_eq!(messages.len(), 1, "{messages:#?}");
        assert_eq!(messages[0]["Subject"], subject);
        assert_eq!(messages[0]["Message"], format!("{alert}stack: crm\n"));
        let attributes = &messages[0]["MessageAttributes"];
        assert_eq!(attributes["kind"]["Value"], alert.kind.as_str());
        assert_eq!(attributes[about]["Value"], alert.kind.about().1);
        assert_eq!(attributes.as_object().unwrap().len(), 2, "{attributes}");
    }
}

#[tokio::test]
async fn an_alert_that_could_not_be_published_is_told_by_the_next() {
    let fixture = Fixture::new().await;
    let kind = AlertKind::MapBroken(map_name("customers"));
    let at = fixture.clock.now();
    let alert = Alert { kind, at };
    let missing = format!("{}-missing", fixture.topic);
    let clock = Arc::clone(&fixture.clock) as Arc<dyn Clock>;
    let nowhere = to(&fixture.clients, &missing, &fixture.state, clock);
    for _ in 0..2 {
        let error = nowhere.raise(&alert).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("NotFound"), "{error}");
    }
    fixture.alerts.raise(&alert).await.unwrap();
    fixture.alerts.raise(&alert).await.unwrap();
    assert_eq!(fixture.told().await, [alert.incident()]);
}

#[tokio::test]
async fn what_a_worker_died_over_telling_is_told_by_who_raises_it_after_a_while() {
    let fixture = Fixture::new().await;
    let kind = AlertKind::BreakerOpen(ConnectionName::new("warehouse").unwrap());
    let at = fixture.clock.now();
    let alert = Alert { kind, at };
    // It reaches SNS, and has no answer yet when it dies.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let slow = fixture.clients.sns.config().to_builder().endpoint_url(url);
    let slow = aws_sdk_sns::Client::from_conf(slow.build());
    let clock = || Arc::clone(&fixture.clock) as Arc<dyn Clock>;
    let dying = SnsAlerts::new(slow, &fixture.topic, "crm", fixture.state.clone(), clock());
    tokio::select! {
        raised = dying.raise(&alert) => panic!("it lives: {raised:?}"),
        called = silent.accept() => drop(called.unwrap()),
    }
    assert!(!fixture.alerts.raise(&alert).await.unwrap(), "it may live");
    assert_eq!(fixture.told().await, [""; 0]);
    fixture.clock.advance(Duration::from_mins(1));
    for _ in 0..2 {
        assert!(fixture.alerts.raise(&alert).await.unwrap());
    }
    assert_eq!(fixture.told().await, [alert.incident()]);
}
