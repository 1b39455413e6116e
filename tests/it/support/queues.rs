//! Queues that a test can keep from working as they should.

use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use model::QueueName;
use ports::{Outgoing, Queue, QueueError, Sent, testing::ManualClock};
use tokio::sync::{Notify, Semaphore};

/// A message with a job, as it is received for the first time.
pub(crate) fn message(body: &impl serde::Serialize) -> SqsEvent {
    let mut message = SqsMessage::default();
    message.message_id = Some("1".into());
    message.body = Some(serde_json::to_string(body).expect("a job in JSON"));
    let mut event = SqsEvent::default();
    event.records = vec![message];
    event
}

/// What was sent, and where to.
type Taken = Mutex<Vec<(QueueName, String)>>;

fn take(taken: &Taken, queue: QueueName, messages: Vec<Outgoing>) -> Vec<Sent> {
    let sent = vec![Sent::Queued; messages.len()];
    let mut taken = taken.lock().expect("a lock");
    taken.extend(messages.into_iter().map(|one| (queue, one.body)));
    sent
}

/// A queue that takes a while for each call.
#[derive(Debug)]
pub(crate) struct Slow {
    clock: Arc<ManualClock>,
    takes: Duration,
    taken: Taken,
}

impl Slow {
    pub(crate) fn new(clock: &Arc<ManualClock>, takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::clone(clock),
            takes,
            taken: Mutex::default(),
        })
    }

    /// What was sent since this was last asked.
    pub(crate) fn taken(&self) -> Vec<(QueueName, String)> {
        mem::take(&mut *self.taken.lock().expect("a lock"))
    }
}

#[async_trait]
impl Queue for Slow {
    async fn send(
        &self,
        queue: QueueName,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Sent>, QueueError> {
        self.clock.advance(self.takes);
        Ok(take(&self.taken, queue, messages))
    }

    async fn defer(&self, _: QueueName, _: &str, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}

/// A queue that takes nothing until it is opened.
#[derive(Debug)]
pub(crate) struct Gate {
    reached: Notify,
    open: Semaphore,
    taken: Taken,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            reached: Notify::new(),
            open: Semaphore::new(0),
            taken: Mutex::default(),
        })
    }

    /// Waits until somebody wants to send something.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    /// What was sent since this was last asked.
    pub(crate) fn taken(&self) -> Vec<(QueueName, String)> {
        mem::take(&mut *self.taken.lock().expect("a lock"))
    }
}

#[async_trait]
impl Queue for Gate {
    async fn send(
        &self,
        queue: QueueName,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Sent>, QueueError> {
        self.reached.notify_one();
        // It stays open.
        let open = self.open.acquire().await;
        drop(open.expect("nobody closes it"));
        Ok(take(&self.taken, queue, messages))
    }

    async fn defer(&self, _: QueueName, _: &str, _: Duration) -> Result<(), QueueError> {
        Ok(())
    }
}
