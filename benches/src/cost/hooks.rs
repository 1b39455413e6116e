//! A million webhooks.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode};
use futures_util::future::try_join_all;
use serde_json::json;

use super::{
    Cost, MILLION,
    bill::{Bill, ENDPOINT_MS, Outside, duration_ms, explain, verdict},
    counts::Counts,
    definition,
    press::Press,
    prices,
    stack::{Batch, Stack},
};
use crate::{
    loads::source,
    table::{heading, say},
};

/// Events per second that are sent.
const SENT: usize = 100;
/// Batches that Lambda reads from a queue side by side:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html>.
const POLLERS: usize = 5;
/// Messages of a full batch.
const FULL: usize = 500;
/// Requests on their way at once.
const SENDERS: usize = 4;
/// Seconds that a function keeps a secret that it verifies with.
const SECRET_SECONDS: f64 = 300.0;
/// Seconds after which a worker says again that a run has news.
const MARK_SECONDS: f64 = 300.0;
/// Requests that an endpoint gets at once, by default of a connection.
const CONCURRENCY: usize = 10;
/// Dollars that are aimed at. They were reckoned with full batches.
const DATABASE_TARGET: f64 = 0.75;
const GUARD_TARGET: f64 = 1.40;
const FORMULA: &str =
    "at other rates: intake + send + (batch + messages) / messages + receive and delete";

async fn send(stack: &Stack, number: u64) -> io::Result<()> {
    let request = crate::hooks::request(&stack.host, number)?;
    let status = stack.emulator().post(&stack.host, request).await?;
    if status == StatusCode::ACCEPTED {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "a webhook was answered with {status}"
    )))
}

/// Sends webhooks of one second, at the rate they have, or slower if the emulator is.
async fn second(stack: &Stack, numbers: &AtomicU64, count: usize) -> io::Result<()> {
    let began = Instant::now();
    let senders = (0..SENDERS).map(|sender| async move {
        for at in (sender..count).step_by(SENDERS) {
            let due = Duration::from_secs_f64(crate::real(at) / crate::real(SENT));
            tokio::time::sleep_until((began + due).into()).await;
            send(stack, numbers.fetch_add(1, Ordering::Relaxed)).await?;
        }
        Ok::<_, io::Error>(())
    });
    try_join_all(senders).await.map(|_| ())
}

/// Seconds that webhooks are gathered, as the template has it.
fn window(stack: &Stack) -> io::Result<usize> {
    let seconds = stack.mapping("live")?.window.as_secs();
    Ok(usize::try_from(seconds).unwrap_or(1).max(1))
}

/// A stream of webhooks.
#[derive(Debug, Clone, Copy)]
struct Flow {
    /// Webhooks a second. If it is more than are sent, the times in the names of packs are pressed
    /// together.
    rate: usize,
    /// Windows before counting begins, and those that are counted.
    warm: usize,
    windows: usize,
}

impl Flow {
    /// As many as are sent.
    fn steady(cost: &Cost, window: usize) -> Self {
        Self {
            rate: SENT,
            warm: 3,
            windows: (cost.hooks / SENT).div_ceil(window).max(1),
        }
    }

    /// As many as fill the batches of a window.
    fn full(window: usize) -> Self {
        Self {
            rate: FULL * POLLERS / window,
            warm: 1,
            windows: 2,
        }
    }

    /// Messages of a window, and of each batch.
    fn sizes(self, window: usize) -> (usize, usize) {
        let gathered = self.rate * window;
        (gathered, gathered / POLLERS)
    }
}

/// Sends the webhooks of a window, and receives them in batches.
async fn gather(
    stack: &Stack,
    numbers: &AtomicU64,
    flow: Flow,
    press: Option<Press>,
) -> io::Result<Vec<Batch>> {
    let (gathered, batch) = flow.sizes(window(stack)?);
    let mut left = gathered;
    while left > 0 {
        let count = left.min(SENT);
        second(stack, numbers, count).await?;
        left -= count;
    }
    stack.note_invocations("webhook-intake", gathered);
    let live = stack.mapping("live")?;
    let dealt = stack.deal(live, batch, POLLERS, press).await?;
    let count: usize = dealt.iter().map(Batch::len).sum();
    if count == gathered {
        return Ok(dealt);
    }
    let missing = format!("{count} messages came of {gathered}");
    Err(io::Error::other(missing))
}

/// Sends webhooks second by second and delivers those of each window side by side.
async fn run(stack: &Stack, numbers: &AtomicU64, flow: Flow) -> io::Result<Counts> {
    let live = stack.mapping("live")?;
    let times = crate::real(flow.rate) / crate::real(SENT);
    let press = (flow.rate > SENT).then(|| Press::from_now(times));
    // Side by side they are not in step: each begins at its own moment of the window. At first they
    // are, so that there are as many environments as there will ever be.
    let mut within = Duration::ZERO;
    for at in 0..flow.warm + flow.windows {
        if at == flow.warm {
            stack.begin().await?;
            within = live.window;
        }
        let batches = gather(stack, numbers, flow, press).await?;
        stack.deliver_side_by_side(live, batches, within).await?;
    }
    let mut counts = stack.end().await?;
    // Their calls cannot be told apart, so of each it is taken how many wait for one another.
    stack.begin().await?;
    for batch in gather(stack, numbers, flow, press).await? {
        let alone = vec![batch];
        stack
            .deliver_side_by_side(live, alone, Duration::ZERO)
            .await?;
    }
    let mut alone = stack.end().await?;
    counts.function("apply").wait_as(alone.function("apply"));
    // Each makes its one call by itself, however many run side by side.
    let intake = counts.function("webhook-intake");
    intake.usage.rounds = crate::real(intake.usage.calls.values().sum());
    Ok(counts)
}

/// What happens by the clock and not by the event, for a million events at the rate: each
/// environment reads its secret and marks its run now and then.
fn by_the_clock(counts: &mut Counts, flow: Flow, scale: f64) {
    let rate = crate::real(flow.rate);
    let span = MILLION / rate;
    let intake = counts.function("webhook-intake");
    let busy = rate * duration_ms(intake, 0.0) / 1_000.0;
    let environments = busy.ceil() + 1.0;
    intake.usage.secrets = span / SECRET_SECONDS * environments / scale;
    let apply = counts.function("apply");
    apply.usage.secrets = 0.0;
    apply.usage.dynamodb.write += span / MARK_SECONDS * crate::real(POLLERS) / scale;
}

/// The bill of a million, and what of it is for waiting for others.
struct Priced {
    bill: Bill,
    waiting: f64,
}

/// Runs and prints.
async fn priced(
    stack: &Stack,
    numbers: &AtomicU64,
    flow: Flow,
    outside: Outside<'_>,
) -> io::Result<Priced> {
    let (gathered, batch) = flow.sizes(window(stack)?);
    say(format!(
        "{} a second, batches of {batch}, {POLLERS} side by side",
        flow.rate
    ));
    let mut counts = run(stack, numbers, flow).await?;
    let scale = MILLION / crate::real(gathered * flow.windows);
    by_the_clock(&mut counts, flow, scale);
    let bill = Bill::of(&counts, scale, outside);
    explain(&counts, outside);
    bill.show();
    let waiting = bill.total() - Bill::of(&counts, scale, &[]).total();
    say(format!("  (of it {waiting:.4} for waiting outside)"));
    Ok(Priced { bill, waiting })
}

/// Dollars of a million events at other rates: what a batch costs is so much for itself and so
/// much for each message, found from two sizes of batches.
fn at_other_rates(window: usize, small: (usize, &Bill), large: (usize, &Bill)) {
    let batch = |(size, bill): (usize, &Bill)| bill.of_whom("apply") / MILLION * crate::real(size);
    let each = ((batch(large) - batch(small)) / crate::real(large.0 - small.0)).max(0.0);
    let own = batch(small) - each * crate::real(small.0);
    let rest = small.1.of_whom("webhook-intake");
    say(format!(
        "  a batch of apply costs {:.3} µ$ and {:.4} µ$ for each of its messages",
        own * MILLION,
        each * MILLION
    ));
    for rate in [10, SENT, 2 * SENT, 5 * SENT, 10 * SENT] {
        let size = (rate * window / POLLERS).clamp(1, FULL);
        let messages = crate::real(size);
        let polled = 2.0 * prices::SQS.cost((messages / 10.0).ceil()) / messages;
        let dollars = rest + (own / messages + each + polled) * MILLION;
        say(format!(
            "  at {rate} events/s, batches of {size}: {dollars:.3}"
        ));
    }
}

/// Measures both flows; `outside` is what a batch of so many waits for others.
async fn measure(
    cost: &Cost,
    stack: &Stack,
    what: &str,
    target: f64,
    numbers: u64,
    outside: impl Fn(usize) -> f64,
) -> io::Result<()> {
    let (numbers, window) = (AtomicU64::new(numbers), window(stack)?);
    let mut bills = Vec::new();
    for flow in [Flow::steady(cost, window), Flow::full(window)] {
        let (_, batch) = flow.sizes(window);
        heading(&format!("a million webhooks {what}, window of {window} s"));
        let priced = priced(stack, &numbers, flow, &[("apply", outside(batch))]).await?;
        let total = priced.bill.total();
        verdict(&format!("{what}, batches of {batch}"), total, Some(target));
        verdict("  without what waits outside", total - priced.waiting, None);
        bills.push((batch, priced.bill));
    }
    if let [(few, small), (many, large)] = &bills[..] {
        heading(FORMULA);
        at_other_rates(window, (*few, small), (*many, large));
    }
    Ok(())
}

/// Webhooks for a map of a database that is loaded.
pub(crate) async fn measure_database(cost: &Cost, stack: &Stack) -> io::Result<()> {
    let outside = |_| super::bill::DATABASE_MS;
    let what = "into PostgreSQL";
    measure(cost, stack, what, DATABASE_TARGET, 20_000_000, outside).await
}

/// An endpoint that takes everything.
async fn endpoint(taken: Arc<AtomicU64>) -> io::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new().fallback(move || {
        taken.fetch_add(1, Ordering::Relaxed);
        async { StatusCode::NO_CONTENT }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

/// Webhooks for a map of an HTTP endpoint, whose guard is in the link table.
pub(crate) async fn measure_endpoint(cost: &Cost) -> io::Result<()> {
    const FIRST: usize = 200;
    let (_source, from) = source(FIRST)?;
    let taken = Arc::new(AtomicU64::new(0));
    let hub = format!(
        "hub: {{ kind: http, url: \"{}\" }}",
        endpoint(Arc::clone(&taken)).await?
    );
    let to = "{ stream: hub.customers, key: id, http: { upsert: { path: \"/customers/{{ key }}\" }, delete: { path: \"/customers/{{ key }}\" } } }";
    let secrets = [("crm", "a token"), ("hook", crate::hooks::SECRET)];
    let stack = Stack::deploy(&cost.tools(), &definition(&from, &hub, to), &secrets).await?;
    stack.send("loads", &json!({ "type": "load-start.v1", "map": "customers", "replaces_mark": false, "generation": 0 })).await?;
    stack.settle().await?;
    let before = taken.load(Ordering::Relaxed);
    if before != FIRST as u64 {
        return Err(io::Error::other(format!(
            "the endpoint was called {before} times for {FIRST} rows"
        )));
    }
    let outside = |rows: usize| crate::real(rows.div_ceil(CONCURRENCY)) * ENDPOINT_MS;
    let what = "to an HTTP endpoint, guard in the link table";
    measure(cost, &stack, what, GUARD_TARGET, 30_000_000, outside).await
}
