//! What can be typed.

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgGroup, Args, Parser, Subcommand};
use clap_complete::Shell;
use model::ErrorClass;

/// The heading of options that every command has.
const COMMON: &str = "Options of all commands";

/// Keeps business systems equal.
///
/// A project is a folder with a syncline.yaml. Its state is kept in the folder .syncline
/// beside it, in one SQLite file.
#[derive(Debug, Parser)]
#[command(
    name = "syncline",
    version,
    max_term_width = 100,
    bin_name = "syncline",
    after_help = "Exit codes: 0 success, 1 failed, 2 wrong usage, 3 errors in syncline.yaml or in what it says of its systems, 4 the books do not balance, 5 done but failures are left, 130 interrupted.\n\nWith --json results are JSON on standard output, what went wrong is { error } on standard error, and nothing else is said unless -v asks for it. What cannot be understood as a command is answered in text.\n\nBegin with `syncline demo` to see all of it at work, or `syncline init` for a project of your own."
)]
pub(crate) struct Cli {
    /// Folder with syncline.yaml [default: the current one]
    #[arg(long, global = true, value_name = "DIR", env = "SYNCLINE_PROJECT", help_heading = COMMON)]
    pub(crate) project: Option<PathBuf>,
    /// Folder for the state [default: .syncline in the project]
    #[arg(long, global = true, value_name = "DIR", env = "SYNCLINE_DATA", help_heading = COMMON)]
    pub(crate) data: Option<PathBuf>,
    /// Work on the deployment of this name on AWS, instead of the one on this machine
    #[arg(long, global = true, value_name = "NAME", env = "SYNCLINE_STACK", help_heading = COMMON)]
    pub(crate) stack: Option<String>,
    /// Show results as JSON
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    /// Show what is done; twice for details
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = COMMON)]
    pub(crate) verbose: u8,
    /// Write logs as JSON
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a syncline.yaml to begin with
    ///
    /// One map as an example, the schema for your editor, and in .gitignore what keeps state and
    /// secrets out of version control. Put your own systems in, then try `syncline validate` and
    /// `syncline check`.
    ///
    /// With --json: `{ written: [file] }`
    Init(InitArgs),
    /// Check syncline.yaml without using the network
    ///
    /// Finds misspelt keys, keys that are half-mapped, secrets in plain text, expressions that do not
    /// compile, and what would lose changes. Each problem has a stable code, its line and column, and
    /// what to do. Ends with 3 if there are errors; warnings alone are no reason to fail.
    ///
    /// With --json: `{ file, errors, warnings, problems: [{ severity, code, line, column, path,
    /// message, help }] }`
    Validate,
    /// Check syncline.yaml against the systems it names: connections, fields, types, keys
    ///
    /// Everything that `validate` finds, and what shows only when the systems are asked: those that do
    /// not answer, fields and columns that are not there, types that do not fit, mandatory columns,
    /// tables of others, secrets that are not set. The first page of each source is read and mapped, and
    /// nothing is written. Of a stack its secrets are used, and its systems are asked from this
    /// machine. Ends with 3 if there are errors.
    ///
    /// With --json: as `validate`
    Check(MapArgs),
    /// Print the JSON Schema of syncline.yaml, for editors
    ///
    /// For completion and checks while you type: syncline schema > syncline.schema.json, and as the
    /// first line of syncline.yaml: # yaml-language-server: $schema=./syncline.schema.json
    Schema,
    /// Run everything: pulls, webhooks, loads, retries
    ///
    /// Runs until Ctrl-C, which lets what is under way come to its end. All other commands work beside
    /// it. Only one `up` can run on a data folder. Webhooks are taken at /hooks/{endpoint}, and /healthz
    /// answers while it runs. Its log goes to standard error, with --json as JSON;
    /// `SYNCLINE_LOG=debug` shows more.
    Up(UpArgs),
    /// Load maps from their sources, and show the progress
    ///
    /// Works with and without a running `up`. A load that is interrupted goes on where it was when the
    /// command is repeated. A map that was loaded before is compared, and only differences are written.
    /// Ends with 5 if all is loaded but some records failed; `syncline failures groups` shows why.
    ///
    /// With --json: `{ loaded: [{ map, rows, took_ms, failures }], stopped: [reason] }`, with --no-wait
    /// `[{ map, generation }]`
    Load(LoadArgs),
    /// Pull changes now, due or not
    ///
    /// Waits until all that was pulled is applied. Works with and without a running `up`, which pulls
    /// by itself as often as `pull.every` says. A map that cannot be pulled keeps no other from it;
    /// the command ends with 1 then.
    ///
    /// With --json: `[{ map, changes, error }]`
    Pull(MapArgs),
    /// Let a map run without loading it: what the target has is as good as loaded
    ///
    /// For a target that was filled by other means. Changes flow from now on; `syncline load` compares
    /// both sides at any time later.
    ///
    /// With --json: `[{ map, state, reason, error }]`
    Start(MapArgs),
    /// Show where every map stands
    ///
    /// Its state and why, when it was last pulled, what waits, how many failures ask for something, and
    /// which connections are being left alone because they do not work.
    ///
    /// With --json: `{ maps: [{ map, process, state, since, reason, books, balanced, parked, failures,
    /// pull, load, trouble }], broken: [{ connection, since, error }], undefined: [{ map, parked }] }`
    Status(MapArgs),
    /// Show the books: read = applied + unchanged + superseded + filtered + failed + in flight
    ///
    /// Every change that was read has exactly one outcome, or is on its way. Ends with 4 if that does
    /// not hold for a map.
    ///
    /// With --json: `[{ map, books: { read, applied, unchanged, superseded, filtered, failed, in_flight,
    /// failing }, balanced, runs: [{ run, books }] }]`
    Balance(BalanceArgs),
    /// Pause maps: nothing is read or written, what arrives is kept
    ///
    /// Without limit of time or size. `syncline resume` lets them go on with what was kept first.
    ///
    /// With --json: `[{ map, state, reason, error }]`
    Pause(PauseArgs),
    /// Let paused or broken maps go on, with what was kept first
    ///
    /// Without a name all of them. A map whose load was interrupted goes on with it. If what broke a map
    /// is still so, it breaks again; then this says why and ends with 1.
    ///
    /// With --json: `[{ map, state, reason, error }]`
    Resume(MapArgs),
    /// See, correct, retry and discard what could not be applied
    ///
    /// Each record that could not be applied is kept whole, with the reason, until it lands or somebody
    /// gives it up. What passes by itself is tried again by itself; the rest waits for you:
    ///
    ///   syncline failures groups                          what fails, most frequent first
    ///   syncline failures show 3f2a                       one of them, whole
    ///   syncline failures edit --group 7863942cff50 --merge '{"Currency":"EUR"}'
    ///   syncline failures retry --group 7863942cff50
    ///   syncline failures discard 3f2a --reason "test record"
    #[command(verbatim_doc_comment)]
    Failures(FailureArgs),
    /// Where is my record?
    ///
    /// Looks for one record at the source, on the way, and at the target, and says where it is in one
    /// sentence: syncline trace orders 100001
    ///
    /// With --json: `{ map, key, answer, state, source: { exists, version, record, error }, target,
    /// parked, failures }`
    Trace(TraceArgs),
    /// Follow what happens
    ///
    /// Looks twice a second, and shows for each map what is otherwise than before: its state, its books,
    /// whether a pull has failed. What came and went between two looks is not seen.
    ///
    /// With --json: one `{ at, map, event }` a line
    Tail(TailArgs),
    /// Show who changed what, newest first
    ///
    /// Every load, pause, resume, correction, retry and discarding, with who did it and how.
    ///
    /// With --json: `[{ at, who, action, subject, detail }]`
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
    /// and by pull, failures, their repair, and the balance. The CRM ends with it; the project, with its
    /// state and its warehouse, stays to be looked at until the next demo.
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
#[command(group = ArgGroup::new("which").required(true).args(["maps", "all"]))]
pub(crate) struct LoadArgs {
    /// Maps
    #[arg(value_name = "MAP")]
    pub(crate) maps: Vec<String>,
    /// All maps
    #[arg(long)]
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
    /// Folder for its project: new, empty, or of a former demo, which is written over [default:
    /// syncline-demo]
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
    ///
    /// Without the records, which may hold personal data; `show` has them.
    ///
    /// With --json: `[{ id, map, key, status, class, code, field, message, group, attempts, last, due }]`
    List(ListArgs),
    /// Show failures by cause, most frequent first
    ///
    /// With --json: `[{ group, map, count, class, code, field, message, first, last }]`
    Groups(SelectArgs),
    /// Show one failure whole: its error chain and its record
    ///
    /// With --json: all that is kept of it; `raw` is the record, `original` the one before it was edited
    Show {
        /// Its identifier, or the beginning of it
        id: String,
    },
    /// Send failures round again: one, a group, all that match, or all
    ///
    /// Nothing is read from the source: the kept records are applied again. Waits for what becomes of
    /// them. Ends with 5 if some failed again or are still on their way.
    ///
    /// With --json: `{ count, landed, failed, waiting }`
    Retry(ChooseArgs),
    /// Correct the records of failures; they wait for a retry afterwards
    ///
    /// A correction that does not fit all of them changes none. The record as it was is kept beside the
    /// corrected one.
    ///
    /// With --json: `{ count, skipped }`
    Edit(EditArgs),
    /// Give failures up
    ///
    /// They are kept for 30 days, with the reason, and count as failed; after that they count as
    /// left out.
    ///
    /// With --json: `{ count, skipped }`
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
#[command(group = ArgGroup::new("correction").required(true).args(["patch", "merge"]))]
pub(crate) struct EditArgs {
    #[command(flatten)]
    pub(crate) choose: ChooseArgs,
    /// JSON Patch (RFC 6902): '[{"op":"replace","path":"/Name","value":"Alpine"}]'
    #[arg(long, value_name = "JSON")]
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
