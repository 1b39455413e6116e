//! Logs: a message that can be read alone, identifiers as fields, units in field names. Records,
//! bodies and secrets are in none of them.

mod line;

use std::{
    io::{self, IsTerminal},
    panic::PanicHookInfo,
};

use tracing::Subscriber;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    fmt::{MakeWriter, format::JsonFields},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::line::JsonLine;
use crate::env;

/// Sends logs to standard error, for a person who looks at a terminal. `SYNCLINE_LOG` chooses what is
/// logged: a level, and others for crates or modules, as in `info,apply=debug,aws=warn`; without it,
/// or where it cannot be read, `default` does. Repeating it does nothing.
pub fn log_text(default: &str) {
    let filter = chosen(default);
    // An error means that a subscriber is set already, which is what repeating it does.
    let _ = fmt()
        .with_max_level(most(&filter))
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && env::optional("NO_COLOR").is_none())
        .finish()
        .with(filter)
        .try_init();
}

/// The same with one JSON object for each line.
pub fn log_json(default: &str) {
    std::panic::set_hook(Box::new(log_panic));
    let _ = json(chosen(default), io::stderr).try_init();
}

fn chosen(default: &str) -> Targets {
    let chosen = env::optional("SYNCLINE_LOG");
    let filter = chosen.and_then(|text| text.parse().ok());
    filter.unwrap_or_else(|| targets(default))
}

/// Crates of others, by what their names begin with, that log whole requests and answers when
/// they are asked for details: the events of a function, calls to AWS, calls to other systems.
const TALKATIVE: [&str; 7] = [
    "aws_",
    "hyper",
    "lambda_runtime",
    "reqwest",
    "rustls",
    "tokio_postgres",
    "tower",
];

/// The same without details of the [`TALKATIVE`].
fn discreet(filter: Targets) -> Targets {
    if most(&filter) <= LevelFilter::INFO {
        return filter;
    }
    filter.with_targets(TALKATIVE.map(|name| (name, LevelFilter::INFO)))
}

/// The most that is logged of anything. To say so spares all else a look at the filter.
fn most(filter: &Targets) -> LevelFilter {
    let levels = filter.iter().map(|(_, level)| level);
    let most = levels.chain(filter.default_level()).max();
    most.unwrap_or(LevelFilter::OFF)
}

/// What these directives choose, none if they make no sense.
fn targets(directives: &str) -> Targets {
    directives.parse().unwrap_or_default()
}

/// Logs as of [`log_json`] that go to `writer`, for one who looks at what is logged. `filter` is as
/// there.
pub fn json_lines<W>(filter: &str, writer: W) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    json(targets(filter), writer)
}

fn json<W>(filter: Targets, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    fmt()
        .with_max_level(most(&filter))
        .with_writer(writer)
        .fmt_fields(JsonFields::new())
        .event_format(JsonLine)
        .finish()
        .with(discreet(filter))
}

/// Says where a worker has panicked. What the panic says stays out: it may quote the text that
/// was being worked on.
fn log_panic(panic: &PanicHookInfo<'_>) {
    // Every panic says where it was, so far.
    if let Some(place) = panic.location() {
        let (file, line) = (place.file(), place.line());
        tracing::error!(
            code.file = file,
            code.line = line,
            "a worker panicked at {file}:{line}: this is a mistake in syncline"
        );
    }
}
