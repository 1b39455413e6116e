//! What can be typed.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use model::ErrorClass;

/// Keeps business systems equal.
///
/// A project is a folder with a syncline.yaml. Its state is kept in the folder .syncline
/// beside it, in one SQLite file.
#[derive(Debug, Parser)]
#[command(
    name = "syncline",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 success, 1 failed, 2 wrong usage, 3 errors in syncline.yaml, 4 the books do not balance, 5 done but failures are left.\n\nBegin with `syncline demo` to see all of it at work, or `syncline init` for a project of your own."
)]
pub(crate) struct Cli {
    /// Folder with syncline.yaml [default: the current one]
    #[arg(long, global = true, value_name = "DIR", env = "SYNCLINE_PROJECT")]
    pub(crate) project: Option<PathBuf>,
    /// Folder for the state [default: .syncline in the project]
    #[arg(long, global = true, value_name = "DIR", env = "SYNCLINE_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Show results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Show what is done; twice for details
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Write logs as JSON
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a syncline.yaml to begin with
    Init(InitArgs),
    /// Check syncline.yaml without using the network
    Validate,
    /// Check syncline.yaml against the systems it names: connections, fields, types, keys
    Check(MapArgs),
    /// Print the JSON Schema of syncline.yaml, for editors
    Schema,
    /// Run everything: pulls, webhooks, loads, retries
    ///
    /// Runs until Ctrl-C. All other commands work beside it. Only one `up` can run on a data
    /// folder.
    Up(UpArgs),
    /// Load maps from their sources, and show the progress
    ///
    /// Works with and without a running `up`. A load that is interrupted goes on where it was.
    /// A map that was loaded before is compared, and only differences are written.
    Load(LoadArgs),
    /// Pull changes now, due or not
    Pull(MapArgs),
    /// Let a map run without loading it: what the target has is as good as loaded
    Start(MapArgs),
    /// Show where every map stands
    Status(MapArgs),
    /// Show the books: read = applied + unchanged + superseded + filtered + failed + in flight
    Balance(BalanceArgs),
    /// Pause maps: nothing is read or written, what arrives is kept
    Pause(PauseArgs),
    /// Let paused or broken maps go on, with what was kept first
    Resume(MapArgs),
    /// See, correct, retry and discard what could not be applied
    Failures(FailureArgs),
    /// Where is my record?
    ///
    /// Looks for one record at the source, on the way, and at the target.
    Trace(TraceArgs),
    /// Follow what happens
    Tail(TailArgs),
    /// Show who changed what, newest first
    Audit(AuditArgs),
    /// Print a completion script for a shell
    ///
    /// For example: syncline completions bash > ~/.local/share/bash-completion/completions/syncline
    Completions {
        /// The shell
        shell: Shell,
    },
    /// See all of it at work on a made-up CRM
    ///
    /// Needs nothing: no server, no account. Loads a CRM into SQLite, shows changes by webhook
    /// and by pull, failures, their repair, and the balance.
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Write over a file that is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    /// Maps [default: all]
    #[arg(value_name = "MAP")]
    pub(crate) maps: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where webhooks are taken
    #[arg(long, default_value = "127.0.0.1:8787", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Do not pull maps when they are due
    #[arg(long)]
    pub(crate) no_pulls: bool,
    /// Load maps that have never been loaded
    #[arg(long)]
    pub(crate) load: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Maps
    #[arg(value_name = "MAP", required_unless_present = "all")]
    pub(crate) maps: Vec<String>,
    /// All maps
    #[arg(long, conflicts_with = "maps")]
    pub(crate) all: bool,
    /// Only ask a running `up` to do it
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BalanceArgs {
    /// Maps [default: all]
    #[arg(value_name = "MAP")]
    pub(crate) maps: Vec<String>,
    /// Show so many of the newest runs of each map too
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) runs: usize,
}

#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// Maps
    #[arg(value_name = "MAP", required = true)]
    pub(crate) maps: Vec<String>,
    /// Why, for whoever wonders later
    #[arg(long, default_value = "paused by hand")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The map
    pub(crate) map: String,
    /// The record's key; the parts of a composite key with commas between
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Maps [default: all]
    #[arg(value_name = "MAP")]
    pub(crate) maps: Vec<String>,
    /// Stop after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// At most so many entries
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// A small one without pauses, for continuous integration
    #[arg(long)]
    pub(crate) fast: bool,
    /// Keep the project in this folder, to go on with it [default: syncline-demo, new each time]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FailureArgs {
    #[command(subcommand)]
    pub(crate) command: FailureCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FailureCommand {
    /// List failures that still ask for something
    List(ListArgs),
    /// Show failures by cause, most frequent first
    Groups(SelectArgs),
    /// Show one failure whole: its error chain and its record
    Show {
        /// Its identifier, or the beginning of it
        id: String,
    },
    /// Send failures round again: one, a group, all that match, or all
    Retry(ChooseArgs),
    /// Correct the records of failures; they wait for a retry afterwards
    Edit(EditArgs),
    /// Give failures up
    Discard(DiscardArgs),
}

/// Conditions; all that are given have to hold.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SelectArgs {
    /// Of this map
    #[arg(long, value_name = "MAP")]
    pub(crate) map: Option<String>,
    /// Of this kind: transient, throttled, conflict, reference, invalid, mapping, auth, too-large
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<ErrorClass>,
    /// Of this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Of this record
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// Those that have ended too
    #[arg(long)]
    pub(crate) ended: bool,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
}

/// Which failures are meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChooseArgs {
    /// One, by its identifier or the beginning of it
    #[arg(conflicts_with_all = ["map", "class", "group", "key", "all"])]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    #[command(flatten)]
    pub(crate) choose: ChooseArgs,
    /// JSON Patch (RFC 6902): '[{"op":"replace","path":"/Name","value":"Alpine"}]'
    #[arg(
        long,
        value_name = "JSON",
        required_unless_present = "merge",
        conflicts_with = "merge"
    )]
    pub(crate) patch: Option<String>,
    /// JSON Merge Patch (RFC 7396): '{"Name":"Alpine"}'
    #[arg(long, value_name = "JSON")]
    pub(crate) merge: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DiscardArgs {
    #[command(flatten)]
    pub(crate) choose: ChooseArgs,
    /// Why; it goes into the audit log
    #[arg(long)]
    pub(crate) reason: String,
}
