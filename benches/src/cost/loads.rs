//! A million loaded rows, and a map that is pulled for a month.

use std::io;

use serde_json::json;

use super::{
    Cost, MILLION,
    bill::{Bill, DATABASE_MS, SOURCE_MS, explain, verdict},
    definition, fixed, hooks,
    stack::Stack,
};
use crate::{limits, loads::source, table::heading};

/// Rows of a page of the source.
const PAGE: usize = 5_000;
/// Pulls of a map in a month of 30 days, one every five minutes.
const PULLS: f64 = 30.0 * 24.0 * 12.0;
/// Seconds between them.
const EVERY: f64 = 300.0;
/// Seconds that a function keeps the secret it sends to a source.
const KEPT_SECONDS: f64 = 3_600.0;

async fn rows(url: &str) -> io::Result<i64> {
    let client = limits::connect(url).await?;
    let counted = client
        .query_one("SELECT count(*) FROM customers", &[])
        .await;
    Ok(counted.map_err(io::Error::other)?.get(0))
}

/// Loads, pulls and takes webhooks in, one after the other in one deployment.
pub(crate) async fn measure(cost: &Cost) -> io::Result<()> {
    let client = limits::connect(&cost.postgres).await?;
    let drop = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    client.batch_execute(drop).await.map_err(io::Error::other)?;
    let (_source, from) = source(cost.loaded)?;
    let warehouse = "warehouse: { kind: postgres, url: secret://warehouse }";
    let definition = definition(&from, warehouse, "{ stream: warehouse.customers, key: id }");
    let secrets = [
        ("crm", "a token"),
        ("hook", crate::hooks::SECRET),
        ("warehouse", &cost.postgres),
    ];
    let stack = Stack::deploy(&cost.tools(), &definition, &secrets).await?;
    load(cost, &stack).await?;
    pull(cost, &stack).await?;
    hooks::measure_database(cost, &stack).await?;
    fixed::measure(&stack).await
}

async fn load(cost: &Cost, stack: &Stack) -> io::Result<()> {
    stack.begin().await?;
    let start = json!({ "type": "load-start.v1", "map": "customers", "replaces_mark": false, "generation": 0 });
    stack.send("loads", &start).await?;
    stack.settle().await?;
    let counts = stack.end().await?;
    let (found, wanted) = (rows(&cost.postgres).await?, cost.loaded);
    if usize::try_from(found).ok() != Some(wanted) {
        return Err(io::Error::other(format!(
            "{found} rows of {wanted} were loaded"
        )));
    }
    let jobs = counts
        .functions
        .get("initial-load")
        .map_or(1, |load| load.invocations);
    let pages = crate::real(wanted.div_ceil(PAGE));
    let outside = [
        ("apply", DATABASE_MS),
        ("initial-load", pages * SOURCE_MS / crate::real(jobs)),
    ];
    let bill = Bill::of(&counts, MILLION / crate::real(wanted), &outside);
    heading(&format!(
        "a million rows loaded into PostgreSQL, counted with {wanted}"
    ));
    explain(&counts, &outside);
    bill.show();
    verdict("a million loaded rows", bill.total(), Some(0.03));
    Ok(())
}

/// Pulls that find nothing. What they find costs what webhooks or loaded rows cost.
async fn pull(cost: &Cost, stack: &Stack) -> io::Result<()> {
    let pulls = stack.mapping("pulls")?;
    for at in 0..=cost.pulls {
        // The first makes everything ready.
        if at == 1 {
            stack.begin().await?;
        }
        stack
            .invoke("recurring-pull", &json!({ "map": "customers" }))
            .await?;
        stack.deliver(pulls, 1).await?;
    }
    let mut counts = stack.end().await?;
    let done = crate::real(cost.pulls);
    let function = counts.function("recurring-pull");
    function.usage.secrets = done * (EVERY / KEPT_SECONDS).min(1.0);
    // Half of the invocations are the ticks that ask for a pull; only a pull waits for the source.
    let outside = [("recurring-pull", SOURCE_MS / 2.0)];
    let bill = Bill::of(&counts, PULLS / done, &outside);
    heading(&format!(
        "one map pulled every five minutes for a month, counted with {} pulls",
        cost.pulls
    ));
    explain(&counts, &outside);
    bill.show();
    verdict("a pulled map, a month", bill.total(), Some(0.06));
    Ok(())
}
