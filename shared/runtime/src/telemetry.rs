//! Logs: a message that can be read alone, identifiers as fields, units in field names.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

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
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    // An error means that a subscriber is set already, which is what repeating it does.
    let _ = match format {
        LogFormat::Text => builder
            .with_ansi(io::stderr().is_terminal() && env::optional("NO_COLOR").is_none())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
