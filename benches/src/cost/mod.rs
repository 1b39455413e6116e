//! What AWS would charge, counted on an emulator from the real template with the real functions.

mod bill;
mod counts;
mod emulator;
mod fixed;
mod hooks;
mod loads;
mod press;
mod prices;
mod stack;
mod units;
mod watch;

use std::{io, path::PathBuf};

use clap::Args;

use crate::table::{heading, say};
use bill::{CALL_MS, DATABASE_MS, ENDPOINT_MS, SOURCE_MS};
use stack::Tools;

pub(crate) const MILLION: f64 = 1e6;

/// Count what AWS would charge; `benches/cost` makes everything ready for it.
#[derive(Debug, Args)]
pub(crate) struct Cost {
    /// Rows that are loaded
    #[arg(long, default_value_t = 200_000)]
    pub(crate) loaded: usize,
    /// Webhooks of each run
    #[arg(long, default_value_t = 2_000)]
    pub(crate) hooks: usize,
    /// Pulls
    #[arg(long, default_value_t = 50)]
    pub(crate) pulls: usize,
    /// Where the emulator listens
    #[arg(long, env = "SYNCLINE_TEST_AWS")]
    emulator: String,
    /// A Python with boto3
    #[arg(long, env = "SYNCLINE_TEST_PYTHON")]
    python: PathBuf,
    /// The folder with the functions as programs
    #[arg(long, env = "SYNCLINE_TEST_FUNCTIONS")]
    functions: PathBuf,
    /// Address of a PostgreSQL database that may be emptied
    #[arg(long, env = "SYNCLINE_TEST_POSTGRES")]
    pub(crate) postgres: String,
}

impl Cost {
    pub(crate) fn tools(&self) -> Tools {
        Tools {
            emulator: self.emulator.clone(),
            python: self.python.clone(),
            functions: self.functions.clone(),
        }
    }
}

/// The definition of one map: customers from `source` into what `to` says of connection and map.
fn definition(source: &str, connection: &str, to: &str) -> String {
    format!(
        "connections:
  crm: {{ kind: odata, url: {source}, auth: {{ bearer: secret://crm }} }}
  {connection}
maps:
  customers:
    from: {{ stream: crm.Customers, key: id, version: modifiedAt }}
    to: {to}
    fields:
      id: id
      account_number: accountNumber
      name: name
      email: email
      credit_limit: {{ from: creditLimit, type: \"decimal(18,2)\" }}
      country: country
      modified_at: modifiedAt
      area: dataAreaId
    webhook: {{ endpoint: crm, scheme: standard, secret: secret://hook }}
    pull: {{ every: 5m }}
"
    )
}

fn introduce() {
    heading("prices: us-east-1, arm64, US dollars, no free tiers");
    for price in prices::ALL {
        let (of, per) = (price.of, crate::table::number(price.per));
        say(format!(
            "  {of:<28} {:>12} per {per:<16} {} {}",
            price.dollars, price.page, price.seen
        ));
    }
    heading("assumed");
    say(format!(
        "  a call of SQS, DynamoDB or Secrets Manager takes {CALL_MS} ms, a batch waits {DATABASE_MS} ms for a database,"
    ));
    say(format!(
        "  a call of an endpoint takes {ENDPOINT_MS} ms, a page of a source {SOURCE_MS} ms; a processor there is as fast as one here;"
    ));
    say("  environments are warm; mappings receive and delete ten messages at a time");
}

/// Counts everything and prints the bills.
pub(crate) async fn measure(cost: &Cost) -> io::Result<()> {
    introduce();
    loads::measure(cost).await?;
    hooks::measure_endpoint(cost).await
}
