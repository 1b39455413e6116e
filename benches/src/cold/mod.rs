//! How the functions begin on AWS, each a process against stubs of the Runtime API and of the
//! services, beside functions of others that do the work of `webhook-intake`. `benches/cold-start`
//! calls it.

mod api;
mod process;
mod services;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bytes::Bytes;
use clap::Args;

use self::{
    api::RuntimeApi,
    process::{Waiting, start},
};
use crate::table::{Target, heading, line};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder with a folder for each function: `bootstrap`, `syncline.yaml`, `function.zip`
    #[arg(long)]
    functions: PathBuf,
    /// Folder with sample events, by function
    #[arg(long)]
    events: PathBuf,
    /// Python with boto3, to compare with
    #[arg(long)]
    python: Option<PathBuf>,
    /// Node.js, to compare with
    #[arg(long)]
    node: Option<PathBuf>,
    /// Folder with `webhook.py`, and `webhook.mjs` beside its `node_modules`
    #[arg(long)]
    peers: PathBuf,
    /// Starts of each function
    #[arg(long, default_value_t = 20)]
    starts: usize,
    /// Webhooks of each run for the rate
    #[arg(long, default_value_t = 5_000)]
    webhooks: usize,
    /// Only functions whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

/// What `events/` signs webhooks with.
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:bench-alerts";
const HOOK_SECRET: &str = "an example, never a secret";
/// Runs of a rate.
const RUNS: usize = 5;
const MILLI: f64 = 1_000.0;
const MIB: f64 = 1_048_576.0;

/// A function, and the lightest of its events that is worth the name.
#[derive(Debug, Clone, Copy)]
struct Function {
    name: &'static str,
    event: &'static str,
    /// Largest archive, in MiB.
    zip: f64,
}

const FUNCTIONS: [Function; 5] = [
    Function {
        name: "webhook-intake",
        event: "valid",
        zip: 3.0,
    },
    Function {
        name: "recurring-pull",
        event: "scheduled",
        zip: 5.0,
    },
    Function {
        name: "initial-load",
        event: "empty",
        zip: 5.0,
    },
    Function {
        name: "apply",
        event: "empty",
        zip: 5.0,
    },
    Function {
        name: "retry",
        event: "scheduled",
        zip: 5.0,
    },
];

/// What is aimed at. Others have no targets: they are there to compare with.
#[derive(Debug, Clone, Copy)]
struct Targets {
    next: Target,
    first: Target,
    peak: Target,
    rate: Target,
}

const OURS: Targets = Targets {
    next: Target::AtMost(10.0),
    first: Target::AtMost(20.0),
    peak: Target::AtMost(16.0),
    rate: Target::AtLeast(3_000.0),
};
const OTHERS: Targets = Targets {
    next: Target::None,
    first: Target::None,
    peak: Target::None,
    rate: Target::None,
};

/// What starts have come to, in milliseconds and MiB.
#[derive(Debug, Default)]
struct Starts {
    next_wall: Vec<f64>,
    next_cpu: Vec<f64>,
    next_peak: Vec<f64>,
    first_wall: Vec<f64>,
    first_cpu: Vec<f64>,
    second_wall: Vec<f64>,
    second_cpu: Vec<f64>,
    peak: Vec<f64>,
}

/// The stubs.
struct Stubs {
    api: RuntimeApi,
    services: String,
}

pub(crate) async fn measure(arguments: &Arguments) -> io::Result<()> {
    let mut stubs = Stubs {
        api: RuntimeApi::start().await?,
        services: services::start().await?,
    };
    let wanted = |name: &str| name.contains(&arguments.only);
    for function in FUNCTIONS.iter().filter(|one| wanted(one.name)) {
        let folder = arguments.functions.join(function.name);
        heading(function.name);
        size(&folder, function.zip)?;
        let event = read_event(&arguments.events, function.name, function.event)?;
        let make = || ours(&folder, &stubs.services);
        let starts = many_starts(make, &event, &mut stubs.api, arguments.starts).await?;
        starts.show(OURS);
        if function.name == "webhook-intake" {
            let make = || ours(&folder, &stubs.services);
            rate(make, &event, &mut stubs.api, arguments.webhooks, OURS).await?;
        }
    }
    for (name, program) in peers(arguments).into_iter().filter(|one| wanted(one.0)) {
        heading(name);
        let event = read_event(&arguments.events, "webhook-intake", "valid")?;
        let make = || other(&program, &stubs.services);
        let starts = many_starts(make, &event, &mut stubs.api, arguments.starts).await?;
        starts.show(OTHERS);
        let make = || other(&program, &stubs.services);
        rate(make, &event, &mut stubs.api, arguments.webhooks / 5, OTHERS).await?;
    }
    Ok(())
}

/// The functions of others: a name, and the words that start it.
fn peers(arguments: &Arguments) -> Vec<(&'static str, Vec<PathBuf>)> {
    let mut all = Vec::new();
    if let Some(python) = &arguments.python {
        let words = vec![python.clone(), arguments.peers.join("webhook.py")];
        all.push(("the work of webhook-intake in Python, with boto3", words));
    }
    if let Some(node) = &arguments.node {
        let words = vec![node.clone(), arguments.peers.join("webhook.mjs")];
        all.push((
            "the work of webhook-intake in Node.js, with @aws-sdk/client-sqs",
            words,
        ));
    }
    all
}

fn read_event(events: &Path, function: &str, name: &str) -> io::Result<Bytes> {
    let file = events.join(function).join(format!("{name}.json"));
    let text = fs::read(&file);
    let text = text.map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
    Ok(text.into())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "files here are far smaller than 2^52 bytes"
)]
fn size(folder: &Path, most: f64) -> io::Result<()> {
    let mib = |name: &str| Ok::<_, io::Error>(fs::metadata(folder.join(name))?.len() as f64 / MIB);
    line("program", "MiB", &[mib("bootstrap")?], Target::None);
    line(
        "archive",
        "MiB",
        &[mib("function.zip")?],
        Target::AtMost(most),
    );
    Ok(())
}

/// Where systems have the certificates that they trust, in one file.
const CERTIFICATES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A program with the environment that all have.
fn command(program: &Path, services: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs([
        ("AWS_ENDPOINT_URL", services),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_SESSION_TOKEN", "test"),
        ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
        (
            "SYNCLINE_QUEUE_LIVE",
            "https://sqs.eu-west-1.amazonaws.com/123456789012/bench-live",
        ),
    ]);
    // Debian has each certificate in a file of its own as well, and both would be read.
    if let Some(file) = CERTIFICATES.iter().find(|file| Path::new(file).exists()) {
        command.env("SSL_CERT_FILE", file);
    }
    command
}

fn ours(folder: &Path, services: &str) -> Command {
    let mut command = command(&folder.join("bootstrap"), services);
    for queue in [
        "retry", "load", "failures", "pulls", "loads", "retries", "dead",
    ] {
        let url = format!("https://sqs.eu-west-1.amazonaws.com/123456789012/bench-{queue}");
        command.env(format!("SYNCLINE_QUEUE_{}", queue.to_uppercase()), url);
    }
    command.env("LAMBDA_TASK_ROOT", folder).envs([
        ("SYNCLINE_STACK", "bench"),
        ("SYNCLINE_STATE_TABLE", "bench-state"),
        ("SYNCLINE_FAILURES_TABLE", "bench-failures"),
        ("SYNCLINE_BUCKET", "bench"),
        ("SYNCLINE_SECRETS_PREFIX", "bench/"),
        ("SYNCLINE_ALERT_TOPIC", TOPIC),
        ("SYNCLINE_LOG", "warn"),
    ]);
    // What it counts goes to standard output, what is wrong with it to standard error.
    command.stderr(Stdio::inherit());
    command
}

fn other(words: &[PathBuf], services: &str) -> Command {
    let (program, rest) = words
        .split_first()
        .map_or((Path::new(""), &[][..]), |(one, rest)| (one, rest));
    let mut command = command(program, services);
    let no_advice = ("AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED", "true");
    command
        .args(rest)
        .envs([("HOOK_SECRET", HOOK_SECRET), no_advice]);
    command
}

async fn many_starts(
    make: impl Fn() -> Command,
    event: &Bytes,
    api: &mut RuntimeApi,
    times: usize,
) -> io::Result<Starts> {
    let mut starts = Starts::default();
    // The first finds nothing in the page cache.
    for warm in 0..=times {
        let mut command = make();
        let (started, next, waiting) = start(&mut command, api).await?;
        let begun = std::time::Instant::now();
        let (first, answer, waiting) = waiting.give(event.clone(), api).await?;
        check(&answer)?;
        let between = waiting.spent()?;
        let (second, _, waiting) = waiting.give(event.clone(), api).await?;
        if warm == 0 {
            continue;
        }
        starts
            .next_wall
            .push((next.at - started).as_secs_f64() * MILLI);
        starts.next_cpu.push(next.cpu * MILLI);
        starts.next_peak.push(next.peak);
        starts
            .first_wall
            .push((first.at - begun).as_secs_f64() * MILLI);
        starts.first_cpu.push(first.cpu * MILLI);
        starts
            .second_wall
            .push((second.at - between.at).as_secs_f64() * MILLI);
        starts.second_cpu.push((second.cpu - between.cpu) * MILLI);
        starts.peak.push(waiting.spent()?.peak);
    }
    Ok(starts)
}

/// Whether an answer is a good one: what is refused costs less.
fn check(answer: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(answer);
    let refused = text.contains(r#""statusCode""#) && !text.contains(r#""statusCode":202"#);
    let refused = refused && !text.contains(r#""statusCode": 202"#);
    if refused || text.contains("itemIdentifier") {
        return Err(io::Error::other(format!(
            "it does not take its event: {text}"
        )));
    }
    Ok(())
}

impl Starts {
    fn show(&self, targets: Targets) {
        let Targets {
            next, first, peak, ..
        } = targets;
        line(
            "start to the first `next`, wall",
            "ms",
            &self.next_wall,
            Target::None,
        );
        line("start to the first `next`", "CPU-ms", &self.next_cpu, next);
        line("memory then", "MiB", &self.next_peak, Target::None);
        line("first event, wall", "ms", &self.first_wall, Target::None);
        line(
            "start to the first answer",
            "CPU-ms",
            &self.first_cpu,
            first,
        );
        line("second event, wall", "ms", &self.second_wall, Target::None);
        line("second event", "CPU-ms", &self.second_cpu, Target::None);
        line("peak memory after both", "MiB", &self.peak, peak);
    }
}

/// Webhooks per second of processor time of a process that is warm.
async fn rate(
    make: impl Fn() -> Command,
    event: &Bytes,
    api: &mut RuntimeApi,
    webhooks: usize,
    targets: Targets,
) -> io::Result<()> {
    let mut rates = Vec::new();
    let (_, _, mut waiting) = start(&mut make(), api).await?;
    for _ in 0..=RUNS {
        let before = waiting.spent()?;
        waiting = send(waiting, event, api, webhooks).await?;
        rates.push(crate::rate(webhooks, waiting.spent()?.cpu - before.cpu));
    }
    // The first run warms it up.
    line(
        "webhooks, one after the other",
        "events/CPU-s",
        rates.get(1..).unwrap_or_default(),
        targets.rate,
    );
    Ok(())
}

async fn send(
    mut waiting: Waiting,
    event: &Bytes,
    api: &mut RuntimeApi,
    webhooks: usize,
) -> io::Result<Waiting> {
    for _ in 0..webhooks {
        let (_, answer, again) = waiting.give(event.clone(), api).await?;
        check(&answer)?;
        waiting = again;
    }
    Ok(waiting)
}
