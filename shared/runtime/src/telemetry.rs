//! Logs: a message that can be read alone, identifiers as fields, units in field names. Records,
//! bodies and secrets are in none of them.

mod line;

use std::{
    io::{self, IsTerminal},
    panic::PanicHookInfo,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter,
    filter::LevelFilter,
    fmt,
    fmt::{MakeWriter, format::JsonFields},
    util::SubscriberInitExt,
};

use self::line::JsonLine;
use crate::env;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends logs to standard error. `SYNCLINE_LOG` chooses what is logged, in the syntax of
/// `tracing_subscriber::EnvFilter`; without it, `default` does. Repeating it does nothing.
pub fn init_tracing(format: LogFormat, default: &str) {
    let directives = env::optional("SYNCLINE_LOG").unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&directives).unwrap_or_else(|_| EnvFilter::new(default));
    // An error means that a subscriber is set already, which is what repeating it does.
    let _ = match format {
        LogFormat::Text => fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_target(false)
            .with_ansi(io::stderr().is_terminal() && env::optional("NO_COLOR").is_none())
            .try_init(),
        LogFormat::Json => {
            std::panic::set_hook(Box::new(log_panic));
            json_lines(filter, io::stderr)
                .try_init()
                .map_err(Into::into)
        }
    };
}

/// Crates of others, by what their names begin with, that log whole requests and answers when
/// they are asked for details: the events of a function, calls to AWS, calls to other systems.
const TALKATIVE: [&str; 8] = [
    "aws_",
    "h2",
    "hyper",
    "lambda_runtime",
    "reqwest",
    "rustls",
    "tokio_postgres",
    "tower",
];

/// The same without details of the [`TALKATIVE`].
fn discreet(filter: EnvFilter) -> EnvFilter {
    if filter
        .max_level_hint()
        .is_some_and(|level| level <= LevelFilter::INFO)
    {
        return filter;
    }
    let silenced = TALKATIVE.iter().map(|name| format!("{name}=info").parse());
    silenced.flatten().fold(filter, EnvFilter::add_directive)
}

/// Logs of [`LogFormat::Json`] that go to `writer`, for one who looks at what is logged.
pub fn json_lines<W>(filter: impl Into<EnvFilter>, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    fmt()
        .with_env_filter(discreet(filter.into()))
        .with_writer(writer)
        .fmt_fields(JsonFields::new())
        .event_format(JsonLine)
        .finish()
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
