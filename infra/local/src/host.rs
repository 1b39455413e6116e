//! Delivers messages and ticks to the functions, as event-source mappings and schedulers do
//! in the cloud.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use embedded::{DataLock, LockError};
use jiff::Timestamp;
use model::{Lane, QueueName};
use ports::{Consumer, Queue, QueueError, Received};
use recurring_pull::Tick;
use tokio::{sync::watch, task::JoinSet};

use crate::{Home, Paths};

/// What a host does besides working queues off.
#[derive(Debug, Clone, Copy)]
pub struct HostOptions {
    /// The command it is for, by which others know it.
    pub command: &'static str,
    /// Whether it pulls maps when they are due.
    pub pulls: bool,
    /// Workers that apply packs.
    pub appliers: usize,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            command: "up",
            pulls: true,
            appliers: 2,
        }
    }
}

/// All functions of a deployment, at work. It ends when [`Host::stop`] is called.
#[derive(Debug)]
pub struct Host {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    _lock: DataLock,
}

/// How long an invocation may take before it has to go on in another one.
const BUDGET: Duration = Duration::from_mins(1);
/// The same for applying: whoever waits behind a slow target waits no longer.
const APPLY_BUDGET: Duration = Duration::from_secs(5);
/// How long a message stays invisible while it is worked on.
const VISIBILITY: Duration = Duration::from_mins(5);
/// How often it is looked for messages of other processes, and for messages whose time has
/// come.
const LOOK: Duration = Duration::from_millis(100);
/// How long an idle worker waits before it asks its queue unasked, for messages that somebody
/// has received and never brought to an end.
const IDLE: Duration = Duration::from_secs(2);
/// How long what is under way may take when the host is to stop.
const LONGEST_STOP: Duration = Duration::from_secs(20);

impl Host {
    /// Starts all functions, if no other process does so already.
    pub async fn start(
        home: &Home,
        paths: &Paths,
        options: HostOptions,
    ) -> Result<Self, LockError> {
        let lock = DataLock::take(&paths.data, options.command)?;
        Ok(Self::on(lock, home, options).await)
    }

    /// Starts all functions for whoever has taken the data folder.
    pub(crate) async fn on(lock: DataLock, home: &Home, options: HostOptions) -> Self {
        if let Err(error) = home.store.take_over().await {
            tracing::error!("what a former host left cannot be taken over yet: {error}");
        }
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for _ in 0..options.appliers {
            tasks.spawn(apply_lanes(home.clone(), stopped.clone()));
        }
        for queue in [
            QueueName::Pulls,
            QueueName::Loads,
            QueueName::Failures,
            QueueName::Retries,
            QueueName::Dead,
        ] {
            tasks.spawn(work_queue(home.clone(), queue, stopped.clone()));
        }
        tasks.spawn(watch(home.clone(), stopped.clone()));
        tasks.spawn(tick(home.clone(), options.pulls, stopped));
        Self {
            tasks,
            stop,
            _lock: lock,
        }
    }

    /// Lets what is under way come to its end and stops. What takes too long is broken off; the
    /// next host does it again.
    pub async fn stop(mut self) {
        // An error means that all workers have ended.
        let _ = self.stop.send(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LONGEST_STOP, ended).await.is_err() {
            tracing::warn!("what is still under way is broken off, and done again by the next run");
        }
    }
}

/// Delivers what is visible in every queue, one invocation per queue, and returns how many
/// messages that were. For who wants to see every step end before the next one begins; a
/// running [`Host`] does the same without being asked.
pub async fn deliver_visible(home: &Home) -> usize {
    let mut delivered = 0;
    for queue in QueueName::ALL {
        let messages = receive(home, queue).await;
        if !messages.is_empty() {
            deliver(home, queue, &messages).await;
        }
        delivered += messages.len();
    }
    delivered
}

fn event(queue: QueueName, messages: &[Received]) -> SqsEvent {
    let mut event = SqsEvent::default();
    event.records = messages
        .iter()
        .map(|received| {
            let mut message = SqsMessage::default();
            message.message_id = Some(received.id.clone());
            message.receipt_handle = Some(received.receipt.clone());
            message.body = Some(received.body.clone());
            message.event_source_arn = Some(format!("local:{queue}"));
            message.attributes.insert(
                "ApproximateReceiveCount".into(),
                received.receives.to_string(),
            );
            message
        })
        .collect();
    event
}

/// Deletes what was done. What was not comes back: at once, unless the function has put it
/// off itself.
async fn acknowledge(
    store: &embedded::Store,
    queue: QueueName,
    messages: &[Received],
    response: &SqsBatchResponse,
) -> Result<(), QueueError> {
    let failed = |id: &str| {
        response
            .batch_item_failures
            .iter()
            .any(|item| item.item_identifier == id)
    };
    let done: Vec<String> = messages
        .iter()
        .filter(|message| !failed(&message.id))
        .map(|message| message.receipt.clone())
        .collect();
    store.delete(queue, &done).await
}

/// Messages per invocation: enough to write in bulk, few enough to share.
fn batch_size(queue: QueueName) -> usize {
    match queue {
        QueueName::Live | QueueName::Retry => 250,
        QueueName::Load | QueueName::Pulls | QueueName::Retries => 8,
        QueueName::Failures | QueueName::Dead => 20,
        QueueName::Loads => 4,
    }
}

/// How long messages are gathered once there is one, unless there are enough sooner: the batch
/// window of an event-source mapping. Reports of failures are written together; all else is
/// wanted at once, and what comes while a function works is gathered anyway.
fn batch_window(queue: QueueName) -> Duration {
    match queue {
        QueueName::Failures => Duration::from_millis(50),
        _ => Duration::ZERO,
    }
}

async fn receive(home: &Home, queue: QueueName) -> Vec<Received> {
    let most = batch_size(queue);
    let mut messages = receive_some(home, queue, most).await;
    let window = batch_window(queue);
    if !messages.is_empty() && messages.len() < most && !window.is_zero() {
        home.clock.sleep(window).await;
        let left = most - messages.len();
        messages.extend(receive_some(home, queue, left).await);
    }
    messages
}

async fn receive_some(home: &Home, queue: QueueName, most: usize) -> Vec<Received> {
    match home.store.receive(queue, most, VISIBILITY).await {
        Ok(messages) => messages,
        Err(error) => {
            tracing::error!("{error}");
            tokio::time::sleep(LOOK).await;
            Vec::new()
        }
    }
}

/// Applies packs of all lanes, the most urgent lane first.
async fn apply_lanes(home: Home, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let mut found = false;
        for lane in Lane::ALL {
            let queue = lane.queue();
            let messages = receive(&home, queue).await;
            if messages.is_empty() {
                continue;
            }
            found = true;
            deliver(&home, queue, &messages).await;
            break;
        }
        if !found {
            let store = &home.store;
            tokio::select! {
                () = store.arrival(QueueName::Live) => {}
                () = store.arrival(QueueName::Retry) => {}
                () = store.arrival(QueueName::Load) => {}
                () = tokio::time::sleep(IDLE) => {}
                _ = stopped.changed() => {}
            }
        }
    }
}

/// Wakes the workers of queues in which something may be.
async fn watch(home: Home, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.changed() => return,
        }
        if let Err(error) = home.store.look().await {
            tracing::warn!("messages of other processes may be late: {error}");
        }
    }
}

async fn work_queue(home: Home, queue: QueueName, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let messages = receive(&home, queue).await;
        if messages.is_empty() {
            tokio::select! {
                () = home.store.arrival(queue) => {}
                () = tokio::time::sleep(IDLE) => {}
                _ = stopped.changed() => {}
            }
            continue;
        }
        deliver(&home, queue, &messages).await;
    }
}

/// Invokes the function of a queue, apart, so that a panic in it stays there.
async fn deliver(home: &Home, queue: QueueName, messages: &[Received]) {
    let event = event(queue, messages);
    // In a set of its own it ends when the host is dropped.
    let mut invocation = JoinSet::new();
    invocation.spawn(invoke(home.clone(), queue, event));
    let response = match invocation.join_next().await {
        Some(Ok(response)) => response,
        ended => {
            let error = ended.and_then(Result::err).map(|error| error.to_string());
            let error = error.unwrap_or_default();
            tracing::error!(queue.name = %queue, "a function ended without an answer: {error}");
            runtime::failed_items(messages.iter().map(|message| message.id.clone()))
        }
    };
    if let Err(error) = acknowledge(&home.store, queue, messages, &response).await {
        tracing::warn!(queue.name = %queue, "what was done comes back and is done again: {error}");
    }
    ports::crash_point("host.acknowledged");
    if !response.batch_item_failures.is_empty()
        && queue != QueueName::Live
        && queue != QueueName::Retry
        && queue != QueueName::Load
    {
        give_back(home, queue, messages, &response).await;
    }
}

/// Functions other than apply do not put messages off themselves.
async fn give_back(
    home: &Home,
    queue: QueueName,
    messages: &[Received],
    response: &SqsBatchResponse,
) {
    for message in messages {
        if response
            .batch_item_failures
            .iter()
            .any(|item| item.item_identifier == message.id)
        {
            let wait = Duration::from_millis(200 * u64::from(message.receives.min(50)));
            // An error means that the message comes back at its own time.
            let _ = home.store.defer(queue, &message.receipt, wait).await;
        }
    }
}

/// When an invocation that begins now has to come to its end.
fn deadline(home: &Home) -> Timestamp {
    home.clock.now() + BUDGET
}

async fn invoke(home: Home, queue: QueueName, event: SqsEvent) -> SqsBatchResponse {
    let functions = &home.functions;
    let deadline = deadline(&home);
    match queue {
        QueueName::Live | QueueName::Retry | QueueName::Load => {
            functions
                .apply
                .handle(event, home.clock.now() + APPLY_BUDGET)
                .await
        }
        QueueName::Pulls => functions.pull.handle(event, deadline).await,
        QueueName::Loads => functions.load.handle(event, deadline).await,
        QueueName::Failures => functions.retry.handle_reports(event, deadline).await,
        QueueName::Retries => functions.retry.handle_jobs(event, deadline).await,
        QueueName::Dead => functions.retry.handle_dead(event, deadline).await,
    }
}

/// The timers. Each reports its trouble and goes on.
async fn tick(home: Home, pulls: bool, mut stopped: watch::Receiver<bool>) {
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count: u64 = 0;
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            _ = stopped.changed() => return,
        }
        if pulls && let Err(error) = home.functions.pull.tick(Tick::default()).await {
            tracing::warn!("pulls that are due wait: {error}");
        }
        if count.is_multiple_of(2)
            && let Err(error) = home.functions.retry.tick(deadline(&home)).await
        {
            tracing::warn!("failures that are due wait: {error}");
        }
        if count % 60 == 10 {
            slow_tick(&home).await;
        }
        count += 1;
    }
}

async fn slow_tick(home: &Home) {
    if let Err(error) = home.functions.retry.tidy(deadline(home)).await {
        tracing::warn!("tidying failures: {error}");
    }
    if let Err(error) = home.functions.load.watch().await {
        tracing::warn!("looking after loads: {error}");
    }
    if let Err(error) = home.store.tidy().await {
        tracing::warn!("tidying the store: {error}");
    }
}
