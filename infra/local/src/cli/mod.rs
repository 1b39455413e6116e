//! The command line.

mod args;
mod definition;
mod deployment;
mod failures;
mod pull;
mod run;
mod show;
mod states;
mod wait;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{CommandFactory, Parser};
use operations::OperationError;
use ports::SystemClock;
use serde_json::json;

pub(crate) use args::DemoArgs;
use deployment::Deployment;
pub(crate) use wait::Looks;

use crate::{
    Home, HomeError, Paths,
    cli::args::{Cli, Command},
    demo,
    output::{Format, note},
};

/// Exit codes, beside 0 for success. The command line parser gives 2 too.
pub(crate) mod code {
    /// The command did not succeed.
    pub(super) const FAILED: u8 = 1;
    /// What was typed makes no sense.
    pub(super) const USAGE: u8 = 2;
    /// The definition has errors.
    pub(super) const INVALID: u8 = 3;
    /// The books do not balance.
    pub(super) const UNBALANCED: u8 = 4;
    /// It succeeded, but failures are left.
    pub(crate) const FAILURES: u8 = 5;
    /// Ctrl-C.
    pub(super) const INTERRUPTED: u8 = 130;
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
    /// Ctrl-C came first; what that means for what was asked.
    #[error("interrupted: {0}")]
    Interrupted(&'static str),
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
    /// The deployment on AWS that is meant, if it is not the one on this machine.
    stack: Option<String>,
    pub(crate) format: Format,
}

impl Context {
    fn of(project: Option<PathBuf>, data: Option<PathBuf>, json: bool) -> Self {
        let project = project.unwrap_or_else(|| PathBuf::from("."));
        let data = data.unwrap_or_else(|| project.join(".syncline"));
        let format = if json { Format::Json } else { Format::Text };
        Self {
            paths: Paths { project, data },
            stack: None,
            format,
        }
    }

    /// The deployment on this machine.
    pub(crate) fn home(&self) -> Result<Home, CliError> {
        Ok(Home::open(&self.paths, Arc::new(SystemClock))?)
    }

    /// The deployment that is meant.
    pub(crate) async fn open(&self) -> Result<Deployment, CliError> {
        match &self.stack {
            None => Ok(self.home()?.into()),
            Some(name) => self.of_stack(name).await,
        }
    }

    #[cfg(feature = "aws")]
    async fn of_stack(&self, name: &str) -> Result<Deployment, CliError> {
        let (definition, _, _) = Home::read_definition(&self.paths)?;
        Deployment::of_stack(name, definition).await
    }

    #[cfg(not(feature = "aws"))]
    #[expect(clippy::unused_async, reason = "it is not with the feature")]
    async fn of_stack(&self, name: &str) -> Result<Deployment, CliError> {
        Err(CliError::Usage(format!(
            "this `syncline` cannot reach the stack `{name}`: install one that can with `cargo install --locked --path infra/local --features aws`"
        )))
    }

    /// Refuses what makes no sense for a deployment on AWS.
    fn only_here(&self, command: &str) -> Result<(), CliError> {
        match &self.stack {
            None => Ok(()),
            Some(_) => Err(CliError::Usage(format!(
                "`{command}` works on this machine only: leave --stack out"
            ))),
        }
    }

    /// Says something beside the results, unless a program reads them.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if self.format == Format::Text {
            note(text);
        }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let up = matches!(cli.command, Command::Up(_));
    let default = match (cli.verbose, up) {
        (0, false) if cli.json => "off",
        (0, false) => "error",
        (0 | 1, _) => "info",
        _ => "debug",
    };
    // What `up` has to say is its log.
    if cli.log_json || cli.json && up {
        runtime::log_json(default);
    } else {
        runtime::log_text(default);
    }
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
        CliError::Usage(_) | CliError::Operation(OperationError::UnknownMap { .. }) => code::USAGE,
        CliError::Interrupted(_) => code::INTERRUPTED,
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
        CliError::Interrupted(_) => note(message),
        _ => note(format!("error: {message}")),
    }
    code
}

/// Runs a command that works beside a host, on the data folder `data`, as if it had been typed.
pub(crate) async fn typed(words: &[&str], data: &Path) -> Result<(), CliError> {
    let cli = Cli::try_parse_from(words).map_err(CliError::other)?;
    let context = Context::of(cli.project, Some(data.to_owned()), cli.json);
    beside(&context, cli.command).await
}

async fn run(cli: Cli) -> Result<(), CliError> {
    if cli.json && matches!(cli.command, Command::Demo(_) | Command::Completions { .. }) {
        return Err(CliError::Usage(
            "this command is for people and has no JSON: leave --json out".into(),
        ));
    }
    let context = Context {
        stack: cli.stack,
        ..Context::of(cli.project, cli.data, cli.json)
    };
    match &cli.command {
        Command::Up(_) => context.only_here("up")?,
        Command::Demo(_) => context.only_here("demo")?,
        _ => {}
    }
    match cli.command {
        Command::Init(args) => definition::init(&context, &args),
        Command::Validate => definition::validate(&context),
        Command::Check(args) => definition::check(&context, &args).await,
        Command::Schema => {
            definition::schema();
            Ok(())
        }
        Command::Up(args) => run::up(&context, &args).await,
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
        other => beside(&context, other).await,
    }
}

/// Runs a command that works beside a host as well as without one.
async fn beside(context: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Load(args) => run::load(context, &args).await,
        Command::Pull(args) => pull::pull(context, &args).await,
        Command::Start(args) => states::start(context, &args).await,
        Command::Status(args) => show::status(context, &args).await,
        Command::Balance(args) => show::balance(context, &args).await,
        Command::Pause(args) => states::pause(context, &args).await,
        Command::Resume(args) => states::resume(context, &args).await,
        Command::Failures(args) => failures::run(context, args).await,
        Command::Trace(args) => show::trace(context, &args).await,
        Command::Tail(args) => show::tail(context, &args).await,
        Command::Audit(args) => show::audit(context, &args).await,
        _ => Err(CliError::Usage("this command works alone".into())),
    }
}
