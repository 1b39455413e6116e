//! Measures Syncline beside what the databases themselves need. `benches/run` calls it.

mod cold;
mod cost;
mod data;
mod hooks;
mod idle;
mod limits;
mod loads;
mod measure;
mod serve;
mod table;

use std::io;

use clap::{Parser, Subcommand};

use loads::Into;

/// Measures Syncline.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Rows of the large loads
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Runs of each load, of which the median counts
    #[arg(long, default_value_t = 3)]
    times: usize,
    /// Address of a PostgreSQL database that may be emptied
    #[arg(long, env = "SYNCLINE_TEST_POSTGRES")]
    postgres: Option<String>,
    /// Only what contains this: limits, postgres, sqlite, growth, hooks, idle
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Count what AWS would charge; `benches/cost` makes everything ready for it
    Cost(cost::Cost),
    /// Serve customers over OData; the bench starts this itself
    Serve {
        /// How many
        rows: usize,
    },
    /// Measure how functions begin on AWS; `benches/cold-start` builds them first
    ColdStart(cold::Arguments),
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn real(count: usize) -> f64 {
    count as f64
}

/// Rows per second of processor time.
pub(crate) fn rate(rows: usize, seconds: f64) -> f64 {
    real(rows) / seconds.max(0.001)
}

/// Says what the columns are.
fn columns() {
    let titles = ["", "median", "", "spread", "target"];
    let [what, median, unit, spread, target] = titles;
    table::say(format!(
        "{what:<58} {median:>10} {unit:<12} {spread:<22} {target:<12}"
    ));
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.what {
        Some(What::Serve { rows }) => return serve::serve(*rows).await,
        Some(What::ColdStart(functions)) => {
            columns();
            return cold::measure(functions).await;
        }
        Some(What::Cost(cost)) => return cost::measure(cost).await,
        None => {}
    }
    let wanted = |name: &str| name.contains(&arguments.only);
    let rows = arguments.rows;
    columns();
    if wanted("limits") {
        table::heading("the databases' own cost for the same rows");
        if let Some(url) = &arguments.postgres {
            limits::postgres(url, rows).await?;
        }
        limits::sqlite(tempfile::TempDir::new()?.path(), rows)?;
    }
    if let Some(url) = arguments.postgres.clone().filter(|_| wanted("postgres")) {
        loads::measure(Into::Postgres(url), rows, arguments.times).await?;
    }
    if wanted("sqlite") {
        loads::measure(Into::Sqlite, rows, arguments.times).await?;
    }
    if wanted("growth") {
        let small = loads::measure(Into::Sqlite, rows / 10, arguments.times).await?;
        let large = loads::measure(Into::Sqlite, rows, 1).await?;
        table::heading("growth");
        let bound = table::Target::AtMost(10.5);
        table::line(
            "ten times the rows, times the time",
            "",
            &[large / small],
            bound,
        );
    }
    if wanted("hooks") {
        hooks::measure().await?;
    }
    if wanted("idle") {
        idle::measure().await?;
    }
    Ok(())
}
