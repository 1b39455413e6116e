//! Alerts: SNS.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_sns::{Client, error::BuildError, types::MessageAttributeValue};
use model::Alert;
use ports::{Alerts, BoxError, Clock, QUIET, StoreError};

use crate::{StateTable, said::said, state::Incident};

/// Characters of a subject. SNS takes no more.
const SUBJECT: usize = 100;
/// How long the work may be kept waiting for a message to go out.
const LONGEST: Duration = Duration::from_secs(5);
/// How long others leave it to a worker that has begun to tell people.
const CLAIM: Duration = Duration::from_secs(30);

/// Publishes to a topic, whose subscribers are told by mail or otherwise. Incidents are remembered
/// in the table of the state.
#[derive(Debug, Clone)]
pub struct SnsAlerts {
    client: Client,
    topic: String,
    /// Which deployment it is that speaks.
    stack: String,
    state: StateTable,
    clock: Arc<dyn Clock>,
}

impl SnsAlerts {
    /// Alerts of the deployment `stack` to the topic with this ARN.
    #[must_use]
    pub fn new(
        client: Client,
        topic: impl Into<String>,
        stack: impl Into<String>,
        state: StateTable,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            client,
            topic: topic.into(),
            stack: stack.into(),
            state,
            clock,
        }
    }

    async fn notify(&self, alert: &Alert) -> Result<(), BoxError> {
        let (what, name) = alert.kind.about();
        let publish = self
            .client
            .publish()
            .topic_arn(&self.topic)
            .subject(subject(alert, &self.stack))
            .message(format!("{alert}stack: {}\n", self.stack))
            .message_attributes("kind", attribute(alert.kind.as_str())?)
            .message_attributes(what, attribute(name)?);
        let sent = tokio::time::timeout(LONGEST, publish.send()).await;
        let sent = sent.map_err(|_| format!("SNS did not answer in {} s", LONGEST.as_secs()))?;
        sent.map_err(|error| said(&error))?;
        Ok(())
    }
}

/// What is the matter comes first, so that it stays whole whatever the stack is called.
fn subject(alert: &Alert, stack: &str) -> String {
    let whole = format!("Syncline: {} ({stack})", alert.subject());
    let allowed = |c: &char| *c == ' ' || c.is_ascii_graphic();
    whole.chars().filter(allowed).take(SUBJECT).collect()
}

fn attribute(value: &str) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
}

#[async_trait]
impl Alerts for SnsAlerts {
    async fn raise(&self, alert: &Alert) -> Result<bool, StoreError> {
        let incident = alert.incident();
        let now = self.clock.now();
        let after = |time| now.saturating_add(time).unwrap_or(now);
        let (claimed, over) = (after(CLAIM), after(QUIET));
        let raised = self.state.raise_incident(&incident, claimed, over);
        let claim = match raised.await? {
            Incident::Told => return Ok(true),
            Incident::Claimed => return Ok(false),
            Incident::News(claim) => claim,
        };
        let Err(error) = self.notify(alert).await else {
            // People may be told twice where this fails, but they know.
            if let Err(error) = self.state.end_claim(&incident, claim, over).await {
                tracing::warn!(
                    alert.incident = incident,
                    "people may be told once more: {error}"
                );
            }
            return Ok(true);
        };
        // Nobody was told, so the next one has to.
        self.state.end_claim(&incident, claim, now).await?;
        Err(StoreError::Unavailable {
            what: "publishing an alert",
            source: error,
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use model::{AlertKind, MapName};

    use super::*;

    #[test]
    fn a_subject_is_what_sns_takes() {
        let alert = |name: &str| Alert {
            kind: AlertKind::MapBroken(MapName::new(name).unwrap()),
            at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            subject(&alert("customers"), "crm\n"),
            "Syncline: map customers is broken (crm)"
        );
        let long = subject(&alert(&"m".repeat(63)), &"s".repeat(128));
        assert_eq!(long.len(), SUBJECT);
        assert!(long.contains("m is broken (sss"), "{long}");
    }
}
