//! A deployment on the emulator, whose functions are set off by this bench alone.
//!
//! It plays what AWS does around functions: it receives messages and invokes with them, as an
//! event-source mapping does, and it ticks. So it knows how many invocations there were, with how
//! many messages, and decides how they are batched.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_proxy::{Between, Proxy};

use super::{
    counts::{Counts, Function, Polled},
    emulator::{Emulator, Logged},
    press::Press,
    watch::{Watch, message, requests},
};
use crate::measure::cpu_of_functions;

/// What the bench is told of the machine it runs on.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Where the emulator listens.
    pub(crate) emulator: String,
    /// A Python with what deploys to it.
    pub(crate) python: PathBuf,
    /// The folder with the functions.
    pub(crate) functions: PathBuf,
}

const FUNCTIONS: [&str; 5] = [
    "webhook-intake",
    "recurring-pull",
    "initial-load",
    "apply",
    "retry",
];
/// The variables that lead the calls of functions through the proxy. The emulator gives functions
/// an endpoint of its own for all services; these win.
const ENDPOINTS: [&str; 4] = ["SQS", "DYNAMODB", "S3", "SECRETS_MANAGER"];
/// Messages of one receipt, and of one deletion.
const RECEIPT: usize = 10;
/// Longest that messages are waited for which are held back.
const PATIENCE: u32 = 2_000;

/// An event-source mapping, as the template has it.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    pub(crate) function: String,
    pub(crate) queue: String,
    pub(crate) batch: usize,
    /// Longest that messages are gathered for a batch.
    pub(crate) window: Duration,
    arn: String,
    url: String,
}

/// Messages for one invocation.
#[derive(Debug)]
pub(crate) struct Batch {
    messages: Vec<Value>,
    /// Requests to receive them.
    receives: f64,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }
}

/// A deployed project.
#[derive(Debug)]
pub(crate) struct Stack {
    name: String,
    emulator: Emulator,
    /// The host of the function URL.
    pub(crate) host: String,
    mappings: Vec<Mapping>,
    watch: Arc<Watch>,
    counted: Mutex<Counts>,
    before: Mutex<Before>,
    _proxy: Proxy,
    _build: TempDir,
}

/// What there was when counting began.
#[derive(Debug, Default)]
struct Before {
    cpu: BTreeMap<String, BTreeMap<u32, f64>>,
    logged: BTreeMap<String, Logged>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder for each function with its program and the definition.
fn build(programs: &Path, definition: &str) -> io::Result<TempDir> {
    let build = TempDir::new()?;
    for name in FUNCTIONS {
        let folder = build.path().join(name);
        std::fs::create_dir(&folder)?;
        std::os::unix::fs::symlink(programs.join(name), folder.join("bootstrap"))?;
        std::fs::write(folder.join("syncline.yaml"), definition)?;
    }
    Ok(build)
}

impl Stack {
    /// Packages the functions with a definition and deploys them, with these secrets.
    pub(crate) async fn deploy(
        tools: &Tools,
        definition: &str,
        secrets: &[(&str, &str)],
    ) -> io::Result<Self> {
        let name = format!("c{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let watch = Arc::new(Watch::new(format!("{name}-")));
        let proxy = Proxy::to(&tools.emulator, Arc::clone(&watch) as Arc<dyn Between>).await?;
        let build = build(&tools.functions, definition)?;
        let mut deploy = tokio::process::Command::new(&tools.python);
        deploy.arg("tests/aws/deploy.py").args([
            "--endpoint",
            &tools.emulator,
            "--stack",
            &name,
            "--build",
        ]);
        deploy.arg(build.path());
        for parameter in ["Architecture=x86_64", "Deliveries=disabled"] {
            deploy.args(["--parameter", parameter]);
        }
        for service in ENDPOINTS {
            deploy.args([
                "--variable",
                &format!("AWS_ENDPOINT_URL_{service}={}", proxy.endpoint()),
            ]);
        }
        for (name, text) in secrets {
            deploy.args(["--secret", &format!("{name}={text}")]);
        }
        let done = deploy
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await?;
        if !done.status.success() {
            return Err(io::Error::other(format!(
                "deploying failed: {}",
                String::from_utf8_lossy(&done.stdout)
            )));
        }
        let outputs: Value = serde_json::from_slice(&done.stdout).map_err(io::Error::other)?;
        let hooks = outputs["WebhookUrl"].as_str().unwrap_or_default();
        let host = hooks.split("://").last().unwrap_or_default();
        let emulator = Emulator::new(&tools.emulator);
        let mappings = mappings(&emulator, &name).await?;
        Ok(Self {
            host: host.split(['/', ':']).next().unwrap_or_default().to_owned(),
            name,
            emulator,
            mappings,
            watch,
            counted: Mutex::default(),
            before: Mutex::default(),
            _proxy: proxy,
            _build: build,
        })
    }

    pub(crate) fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    fn full(&self, function: &str) -> String {
        format!("{}-{function}", self.name)
    }

    /// The mapping of a queue.
    pub(crate) fn mapping(&self, queue: &str) -> io::Result<&Mapping> {
        let mut mappings = self.mappings.iter();
        let found = mappings.find(|mapping| mapping.queue == queue);
        found.ok_or_else(|| {
            io::Error::other(format!("the template has no mapping of the queue {queue}"))
        })
    }

    /// Sends a job.
    pub(crate) async fn send(&self, queue: &str, body: &Value) -> io::Result<()> {
        let url = &self.mapping(queue)?.url;
        let message = json!({ "QueueUrl": url, "MessageBody": body.to_string() });
        self.emulator.sqs("SendMessage", &message).await.map(|_| ())
    }

    /// Invokes a function with an event.
    pub(crate) async fn invoke(&self, function: &str, event: &Value) -> io::Result<Value> {
        self.watch.begin(function);
        let answer = self.emulator.invoke(&self.full(function), event).await;
        self.watch.end(function, 1);
        self.note_invocations(function, 1);
        answer
    }

    /// Notes invocations that were made otherwise.
    pub(crate) fn note_invocations(&self, function: &str, count: usize) {
        lock(&self.counted).function(function).invocations += count;
    }

    /// Delivers messages in one invocation, as a mapping does; returns how many.
    async fn deliver_one(&self, mapping: &Mapping, batch: Batch) -> io::Result<usize> {
        let Batch { messages, receives } = batch;
        if messages.is_empty() {
            return Ok(0);
        }
        let records: Vec<Value> = messages
            .iter()
            .map(|message| record(mapping, message))
            .collect();
        let event = json!({ "Records": records });
        let answer = self
            .emulator
            .invoke(&self.full(&mapping.function), &event)
            .await?;
        let failed: Vec<&Value> = answer["batchItemFailures"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let failed: Vec<&str> = failed
            .iter()
            .filter_map(|item| item["itemIdentifier"].as_str())
            .collect();
        let done = messages
            .iter()
            .filter(|message| !failed.contains(&message["MessageId"].as_str().unwrap_or_default()));
        let receipt_of: Vec<&Value> = done.map(|message| &message["ReceiptHandle"]).collect();
        let mut deletes = 0.0;
        for some in receipt_of.chunks(RECEIPT) {
            let entries = (0..)
                .zip(some)
                .map(|(id, receipt)| json!({ "Id": format!("{id}"), "ReceiptHandle": receipt }));
            let request =
                json!({ "QueueUrl": mapping.url, "Entries": entries.collect::<Vec<_>>() });
            self.emulator.sqs("DeleteMessageBatch", &request).await?;
            deletes += 1.0;
        }
        lock(&self.counted).polled(&mapping.queue).add(&Polled {
            invocations: 1,
            messages: messages.len(),
            failed: failed.len(),
            receives,
            deletes,
        });
        Ok(messages.len())
    }

    async fn receive(&self, mapping: &Mapping, most: usize) -> io::Result<(Vec<Value>, f64)> {
        let (mut messages, mut receipts) = (Vec::new(), 0.0);
        while messages.len() < most {
            let wanted = RECEIPT.min(most - messages.len());
            let request = json!({
                "QueueUrl": mapping.url, "MaxNumberOfMessages": wanted,
                "AttributeNames": ["All"], "MessageAttributeNames": ["All"]
            });
            let mut answer = self.emulator.sqs("ReceiveMessage", &request).await?;
            let Value::Array(some) = answer["Messages"].take() else {
                break;
            };
            if some.is_empty() {
                break;
            }
            receipts += requests(some.iter().map(message).sum());
            messages.extend(some);
        }
        Ok((messages, receipts))
    }

    /// Delivers up to `most` messages in one invocation; returns how many.
    pub(crate) async fn deliver(&self, mapping: &Mapping, most: usize) -> io::Result<usize> {
        let batches = self.deal(mapping, most, 1, None).await?;
        self.deliver_side_by_side(mapping, batches, Duration::ZERO)
            .await
    }

    /// Receives batches of `most` messages that are gathered side by side, so that each has its
    /// share of whatever came at any time.
    pub(crate) async fn deal(
        &self,
        mapping: &Mapping,
        most: usize,
        at_once: usize,
        press: Option<Press>,
    ) -> io::Result<Vec<Batch>> {
        let (messages, receives) = self.receive(mapping, most * at_once).await?;
        let empty = || Batch {
            messages: Vec::with_capacity(most),
            receives: receives / crate::real(at_once),
        };
        let mut dealt: Vec<Batch> = std::iter::repeat_with(empty).take(at_once).collect();
        for (at, mut message) in messages.into_iter().enumerate() {
            if let Some(press) = press {
                press.message(&mut message)?;
            }
            dealt[at % at_once].messages.push(message);
        }
        Ok(dealt)
    }

    /// Delivers each batch in an invocation, which begins somewhere `within` a time; returns how many
    /// messages in all.
    pub(crate) async fn deliver_side_by_side(
        &self,
        mapping: &Mapping,
        batches: Vec<Batch>,
        within: Duration,
    ) -> io::Result<usize> {
        self.watch.begin(&mapping.function);
        let all = batches.into_iter().map(|batch| async move {
            tokio::time::sleep(within.mul_f64(fastrand::f64())).await;
            self.deliver_one(mapping, batch).await
        });
        let delivered = futures_util::future::join_all(all).await;
        let delivered = delivered.into_iter().collect::<io::Result<Vec<usize>>>()?;
        let invocations = delivered.iter().filter(|count| **count > 0).count();
        self.watch.end(&mapping.function, invocations);
        self.note_invocations(&mapping.function, invocations);
        Ok(delivered.iter().sum())
    }

    /// Delivers all messages there are, with the batches of the template, until none is left.
    pub(crate) async fn settle(&self) -> io::Result<()> {
        let mut waits = 0;
        loop {
            let (mut delivered, mut waiting) = (0, 0);
            for mapping in &self.mappings {
                delivered += self.deliver(mapping, mapping.batch).await?;
                waiting += self.waiting(mapping).await?;
            }
            if delivered == 0 && waiting == 0 {
                return Ok(());
            }
            if delivered == 0 {
                waits += 1;
                if waits > PATIENCE {
                    return Err(io::Error::other(format!(
                        "{waiting} messages do not come back"
                    )));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn waiting(&self, mapping: &Mapping) -> io::Result<u64> {
        let asked = json!({ "QueueUrl": mapping.url, "AttributeNames": ["All"] });
        let answer = self.emulator.sqs("GetQueueAttributes", &asked).await?;
        let counts =
            ["", "NotVisible", "Delayed"].map(|kind| format!("ApproximateNumberOfMessages{kind}"));
        let count = |name: &String| answer["Attributes"][name].as_str()?.parse::<u64>().ok();
        Ok(counts.iter().filter_map(count).sum())
    }

    /// Begins to count anew.
    pub(crate) async fn begin(&self) -> io::Result<()> {
        let mut before = Before::default();
        for function in FUNCTIONS {
            let full = self.full(function);
            before
                .cpu
                .insert(function.to_owned(), cpu_of_functions(&full));
            before.logged.insert(
                function.to_owned(),
                self.emulator.logged(&full).await.unwrap_or_default(),
            );
        }
        *lock(&self.before) = before;
        *lock(&self.counted) = Counts::default();
        self.watch.take();
        Ok(())
    }

    /// What was counted since.
    pub(crate) async fn end(&self) -> io::Result<Counts> {
        let mut counts = std::mem::take(&mut *lock(&self.counted));
        let before = std::mem::take(&mut *lock(&self.before));
        for (name, usage) in self.watch.take() {
            counts.function(&name).usage = usage;
        }
        for name in FUNCTIONS {
            let full = self.full(name);
            let logged = self.emulator.logged(&full).await.unwrap_or_default();
            let earlier = before.logged.get(name).copied().unwrap_or_default();
            let cpu = before.cpu.get(name).cloned().unwrap_or_default();
            let spent = |(pid, spent): (u32, f64)| spent - cpu.get(&pid).copied().unwrap_or(0.0);
            let memory = self
                .emulator
                .lambda(&format!("functions/{full}/configuration"))
                .await?;
            let function: &mut Function = counts.function(name);
            function.cpu = cpu_of_functions(&full).into_iter().map(spent).sum();
            function.log_lines = logged.lines - earlier.lines;
            function.log_bytes = logged.bytes - earlier.bytes;
            function.memory = memory["MemorySize"].as_f64().unwrap_or_default();
        }
        Ok(counts)
    }
}

/// A message as Lambda gives it to a function.
fn record(mapping: &Mapping, message: &Value) -> Value {
    let attributes = message["MessageAttributes"]
        .as_object()
        .into_iter()
        .flatten();
    let attribute = |(name, value): (&String, &Value)| {
        let value = json!({ "stringValue": value["StringValue"], "dataType": value["DataType"] });
        (name.clone(), value)
    };
    json!({
        "messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"], "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": attributes.map(attribute).collect::<serde_json::Map<_, _>>(),
        "md5OfBody": message["MD5OfBody"], "eventSource": "aws:sqs", "eventSourceARN": mapping.arn,
        "awsRegion": "us-east-1"
    })
}

/// The mappings of a stack.
async fn mappings(emulator: &Emulator, stack: &str) -> io::Result<Vec<Mapping>> {
    let mut mappings = Vec::new();
    for function in FUNCTIONS {
        let path = format!("event-source-mappings/?FunctionName={stack}-{function}");
        let found = emulator.lambda(&path).await?;
        for one in found["EventSourceMappings"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let arn = one["EventSourceArn"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let name = arn.rsplit(':').next().unwrap_or_default().to_owned();
            let url = emulator
                .sqs("GetQueueUrl", &json!({ "QueueName": name }))
                .await?;
            let batch = one["BatchSize"]
                .as_u64()
                .and_then(|batch| usize::try_from(batch).ok());
            mappings.push(Mapping {
                function: function.to_owned(),
                queue: name.rsplit('-').next().unwrap_or_default().to_owned(),
                batch: batch.unwrap_or(1),
                window: Duration::from_secs(
                    one["MaximumBatchingWindowInSeconds"].as_u64().unwrap_or(0),
                ),
                arn,
                url: url["QueueUrl"].as_str().unwrap_or_default().to_owned(),
            });
        }
    }
    if mappings.is_empty() {
        return Err(io::Error::other(format!(
            "the stack {stack} has no event-source mappings"
        )));
    }
    Ok(mappings)
}
