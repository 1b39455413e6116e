//! The command line.

mod args;
mod definition;
mod failures;
mod run;
mod show;
mod wait;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{CommandFactory, Parser};
use operations::OperationError;
use ports::SystemClock;
use serde_json::json;

pub(crate) use args::DemoArgs;
pub(crate) use run::{load_and_watch, pull_and_wait};
pub(crate) use show::books_table;

use crate::{
    Home, HomeError, Paths,
    cli::args::{Cli, Command},
    demo,
    output::{Format, note},
};

/// Exit codes, beside 0 for success. The command line parser gives 2 too.
mod code {
    /// The command did not succeed.
    pub(super) const FAILED: u8 = 1;
    /// What was typed makes no sense.
    pub(super) const USAGE: u8 = 2;
    /// The definition has errors.
    pub(super) const INVALID: u8 = 3;
    /// The books do not balance.
    pub(super) const UNBALANCED: u8 = 4;
    /// It succeeded, but failures are left.
    pub(super) const FAILURES: u8 = 5;
}

/// A command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The deployment cannot be opened.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// An operation was not done.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// Another process hosts the deployment.
    #[error(transparent)]
    Lock(#[from] embedded::LockError),
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something else, which says it itself.
    #[error("{0}")]
    Other(String),
    /// All has been said already.
    #[error("")]
    Said(u8),
}

impl CliError {
    pub(crate) fn other(text: impl std::fmt::Display) -> Self {
        Self::Other(text.to_string())
    }
}

/// What every command needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) paths: Paths,
    pub(crate) format: Format,
}

impl Context {
    pub(crate) fn open(&self) -> Result<Home, CliError> {
        Ok(Home::open(&self.paths, Arc::new(SystemClock))?)
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let quiet = !matches!(cli.command, Command::Up(_));
    let default = match (cli.verbose, quiet) {
        (0, true) => "error",
        (0 | 1, _) => "info",
        _ => "debug",
    };
    let format = if cli.log_json {
        runtime::LogFormat::Json
    } else {
        runtime::LogFormat::Text
    };
    runtime::init_tracing(format, default);
    // Threads that wait for work keep what they have allocated: few should.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .thread_keep_alive(Duration::from_millis(10))
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            note(format!("error: {error}"));
            return ExitCode::from(code::FAILED);
        }
    };
    let json = cli.json;
    let result = runtime.block_on(run(cli));
    // A blocking read that nobody waits for must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(explain(error, json)),
    }
}

/// Says on standard error why a command did not succeed; returns the exit code.
fn explain(error: CliError, json: bool) -> u8 {
    let code = match &error {
        CliError::Said(code) => return *code,
        CliError::Home(HomeError::Invalid { .. }) => code::INVALID,
        CliError::Usage(_) => code::USAGE,
        _ => code::FAILED,
    };
    let message = error.to_string();
    match error {
        CliError::Home(HomeError::Invalid { problems, .. }) if json => {
            note(json!({ "error": message, "problems": problems }).to_string());
        }
        _ if json => note(json!({ "error": message }).to_string()),
        CliError::Home(HomeError::Invalid {
            file,
            text,
            problems,
            ..
        }) => definition::show_problems(&problems, &file, &text),
        _ => note(format!("error: {message}")),
    }
    code
}

async fn run(cli: Cli) -> Result<(), CliError> {
    let project = cli.project.unwrap_or_else(|| PathBuf::from("."));
    let data = cli.data.unwrap_or_else(|| project.join(".syncline"));
    let format = if cli.json { Format::Json } else { Format::Text };
    let context = Context {
        paths: Paths { project, data },
        format,
    };
    match cli.command {
        Command::Init(args) => definition::init(&context, &args),
        Command::Validate => definition::validate(&context),
        Command::Check(args) => definition::check(&context, &args).await,
        Command::Schema => {
            definition::schema();
            Ok(())
        }
        Command::Up(args) => run::up(&context, &args).await,
        Command::Load(args) => run::load(&context, &args).await,
        Command::Pull(args) => run::pull(&context, &args).await,
        Command::Start(args) => run::start(&context, &args).await,
        Command::Status(args) => show::status(&context, &args).await,
        Command::Balance(args) => show::balance(&context, &args).await,
        Command::Pause(args) => run::pause(&context, &args).await,
        Command::Resume(args) => run::resume(&context, &args).await,
        Command::Failures(args) => failures::run(&context, args).await,
        Command::Trace(args) => show::trace(&context, &args).await,
        Command::Tail(args) => show::tail(&context, &args).await,
        Command::Audit(args) => show::audit(&context, &args).await,
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "syncline",
                &mut std::io::stdout(),
            );
            Ok(())
        }
        Command::Demo(args) => demo::run(&args).await,
    }
}
