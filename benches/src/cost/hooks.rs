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
    definition, prices,
    stack::{Mapping, Stack},
};
use crate::{
    loads::source,
    table::{heading, say},
};

/// Events per second of which the bill is.
const RATE: usize = 100;
/// Batches that Lambda reads from a queue side by side:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html>.
const POLLERS: usize = 5;
/// Messages of a full batch.
const FULL: usize = 500;
/// Requests on their way at once.
const SENDERS: usize = 4;
/// Seconds of webhooks before counting begins: a whole number of windows of up to 3 s.
const WARM: usize = 6;
/// Seconds that a function keeps a secret that it verifies with.
const SECRET_SECONDS: f64 = 300.0;
/// Seconds after which a worker says again that a run has news.
const MARK_SECONDS: f64 = 300.0;
/// Requests that an endpoint gets at once, by default of a connection.
const CONCURRENCY: usize = 8;
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

/// Sends the webhooks of one second, at the rate they have, or slower if the emulator is.
async fn second(stack: &Stack, numbers: &AtomicU64) -> io::Result<()> {
    let began = Instant::now();
    let senders = (0..SENDERS).map(|sender| async move {
        for at in (sender..RATE).step_by(SENDERS) {
            let due = Duration::from_secs_f64(crate::real(at) / crate::real(RATE));
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

/// Sends the webhooks of a window.
async fn gather(stack: &Stack, numbers: &AtomicU64, window: usize) -> io::Result<()> {
    for _ in 0..window {
        second(stack, numbers).await?;
    }
    stack.note_invocations("webhook-intake", RATE * window);
    Ok(())
}

/// Delivers all of them in batches, so many side by side and begun within a time.
async fn deliver(
    stack: &Stack,
    live: &Mapping,
    gathered: usize,
    batch: usize,
    at_once: (usize, Duration),
) -> io::Result<()> {
    let mut left = gathered;
    while left > 0 {
        let delivered = stack.deliver_side_by_side(live, batch, at_once).await?;
        if delivered == 0 {
            return Err(io::Error::other(format!("{left} messages are missing")));
        }
        left -= delivered;
    }
    Ok(())
}

/// Sends webhooks second by second and delivers those of each window to `pollers` invocations.
async fn run(
    stack: &Stack,
    numbers: &AtomicU64,
    seconds: usize,
    pollers: usize,
) -> io::Result<Counts> {
    let (live, window) = (stack.mapping("live")?, window(stack)?);
    let (batch, windows) = (RATE * window / pollers, (WARM + seconds) / window);
    // Side by side they are not in step: each begins at its own moment of the window. At first they
    // are, so that there are as many environments as there will ever be.
    let mut within = Duration::ZERO;
    for at in 0..windows {
        if at == WARM / window {
            stack.begin().await?;
            within = if pollers > 1 { live.window } else { within };
        }
        gather(stack, numbers, window).await?;
        deliver(stack, live, RATE * window, batch, (pollers, within)).await?;
    }
    let mut counts = stack.end().await?;
    if pollers > 1 {
        stack.begin().await?;
        gather(stack, numbers, window).await?;
        deliver(stack, live, RATE * window, batch, (1, Duration::ZERO)).await?;
        let mut alone = stack.end().await?;
        counts.function("apply").wait_as(alone.function("apply"));
    }
    // Each makes its one call by itself, however many run side by side.
    let intake = counts.function("webhook-intake");
    intake.usage.rounds = crate::real(intake.usage.calls.values().sum());
    Ok(counts)
}

/// What happens by the clock and not by the event, for a million events at the rate: each
/// environment reads its secret and marks its run now and then.
fn by_the_clock(counts: &mut Counts, pollers: usize, scale: f64) {
    let span = MILLION / crate::real(RATE);
    let intake = counts.function("webhook-intake");
    let busy = crate::real(RATE) * duration_ms(intake, 0.0) / 1_000.0;
    let environments = busy.ceil() + 1.0;
    intake.usage.secrets = span / SECRET_SECONDS * environments / scale;
    let apply = counts.function("apply");
    apply.usage.secrets = 0.0;
    apply.usage.dynamodb.write += span / MARK_SECONDS * crate::real(pollers) / scale;
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
    cost: &Cost,
    pollers: usize,
    outside: Outside<'_>,
) -> io::Result<Priced> {
    let window = window(stack)?;
    let seconds = (cost.hooks / RATE).max(1).next_multiple_of(window);
    let mut counts = run(stack, numbers, seconds, pollers).await?;
    let scale = MILLION / crate::real(seconds * RATE);
    by_the_clock(&mut counts, pollers, scale);
    let bill = Bill::of(&counts, scale, outside);
    explain(&counts, outside);
    bill.show();
    let waiting = bill.total() - Bill::of(&counts, scale, &[]).total();
    say(format!("  (of it {waiting:.4} for waiting outside)"));
    Ok(Priced { bill, waiting })
}

/// Dollars of a million events at other rates: what a batch costs is so much for itself and so
/// much for each message, found from two sizes of batches. Returns those of full batches.
fn at_other_rates(window: usize, small: (usize, &Bill), large: (usize, &Bill)) -> f64 {
    let batch = |(size, bill): (usize, &Bill)| bill.of_whom("apply") / MILLION * crate::real(size);
    // Batches that do not meet others can cost less although they are larger.
    let each = ((batch(large) - batch(small)) / crate::real(large.0 - small.0)).max(0.0);
    let own = batch(small) - each * crate::real(small.0);
    let rest = small.1.of_whom("webhook-intake");
    say(format!(
        "  a batch of apply costs {:.3} µ$ and {:.4} µ$ for each of its messages",
        own * MILLION,
        each * MILLION
    ));
    let dollars = |size: usize| {
        let size = crate::real(size);
        let polled = 2.0 * prices::SQS.cost((size / 10.0).ceil()) / size;
        rest + (own / size + each + polled) * MILLION
    };
    for rate in [10, RATE, 10 * RATE, 50 * RATE] {
        let size = (rate * window / POLLERS).clamp(1, FULL);
        say(format!(
            "  at {rate} events/s, batches of {size}: {:.3}",
            dollars(size)
        ));
    }
    dollars(FULL)
}

/// Webhooks for a map of a database that is loaded.
pub(crate) async fn measure_database(cost: &Cost, stack: &Stack) -> io::Result<()> {
    let numbers = AtomicU64::new(20_000_000);
    let outside = [("apply", super::bill::DATABASE_MS)];
    let window = window(stack)?;
    heading(&format!(
        "a million webhooks into PostgreSQL, {RATE}/s, window of {window} s, {POLLERS} batches side by side"
    ));
    let small = priced(stack, &numbers, cost, POLLERS, &outside).await?.bill;
    verdict(
        "a million webhooks, target that compares",
        small.total(),
        Some(DATABASE_TARGET),
    );
    heading("the same in one batch for each window");
    let large = priced(stack, &numbers, cost, 1, &outside).await?.bill;
    verdict(
        "a million webhooks, one batch for each window",
        large.total(),
        None,
    );
    heading(FORMULA);
    let gathered = RATE * window;
    let full = at_other_rates(window, (gathered / POLLERS, &small), (gathered, &large));
    verdict("the same in full batches", full, Some(DATABASE_TARGET));
    Ok(())
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
    let numbers = AtomicU64::new(30_000_000);
    let window = window(&stack)?;
    let mut priced_so_far = Vec::new();
    for pollers in [POLLERS, 1] {
        let rows = RATE * window / pollers;
        let calls = crate::real(rows.div_ceil(CONCURRENCY));
        let outside = [("apply", calls * ENDPOINT_MS)];
        heading(&format!(
            "a million webhooks to an HTTP endpoint, {RATE}/s, batches of {rows}"
        ));
        let priced = priced(&stack, &numbers, cost, pollers, &outside).await?;
        verdict(
            &format!("guard in the link table, batches of {rows}"),
            priced.bill.total(),
            Some(GUARD_TARGET),
        );
        priced_so_far.push((rows, priced));
    }
    if let [(few, small), (many, large)] = &priced_so_far[..] {
        heading(FORMULA);
        let full = at_other_rates(window, (*few, &small.bill), (*many, &large.bill));
        verdict("the same in full batches", full, Some(GUARD_TARGET));
        let own = full - large.waiting;
        verdict(
            "and without waiting for the endpoint",
            own,
            Some(GUARD_TARGET),
        );
    }
    Ok(())
}
