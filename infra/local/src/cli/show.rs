//! Commands that show something.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use model::{Books, MapName};
use operations::{MapStatus, Sighting, Status};

use super::{
    CliError, Context,
    args::{AuditArgs, BalanceArgs, MapArgs, TailArgs, TraceArgs},
    code,
    definition::chosen,
};
use crate::{
    interrupts::Interrupts,
    output::{self, Format, ago, count, line, number, table},
};

pub(super) async fn status(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let maps = chosen(&home.operations, &args.maps)?;
    let mut status = home.operations.status().await?;
    status.maps.retain(|map| maps.contains(&map.map));
    if !args.maps.is_empty() {
        status.undefined.clear();
    }
    if context.format == Format::Json {
        output::json(&status);
        return Ok(());
    }
    let now = home.clock.now();
    let row = |map: &MapStatus| {
        [
            map.map.to_string(),
            map.state.to_string(),
            ago(map.pull.succeeded, now),
            number(map.books.outcomes.applied),
            number(map.books.in_flight),
            number(map.parked.packs),
            number(map.failures),
        ]
    };
    let header = [
        "MAP",
        "STATE",
        "PULLED",
        "APPLIED",
        "IN FLIGHT",
        "PARKED PACKS",
        "FAILURES",
    ];
    line(table(header, status.maps.iter().map(row).collect()));
    remarks(&status, now);
    Ok(())
}

/// What there is to say beside the table.
fn remarks(status: &Status, now: Timestamp) {
    for map in &status.maps {
        if let Some(reason) = &map.reason {
            line(format!("\n{} is {}: {reason}", map.map, map.state));
        }
        if let Some(trouble) = &map.trouble {
            line(format!(
                "\n{}: its load waits and is tried again {}; {} failed since {:.0}: {}",
                map.map,
                ago(Some(trouble.next), now),
                count(trouble.tries.into(), "attempt"),
                trouble.since,
                trouble.message
            ));
        }
        if let Some(error) = &map.pull.error {
            line(format!("\n{}: its last pull failed: {error}", map.map));
        }
    }
    for kept in &status.undefined {
        line(format!(
            "\n{} is not in syncline.yaml: {} kept until it is back",
            kept.map,
            count(kept.parked.packs, "pack")
        ));
    }
    for broken in &status.broken {
        line(format!(
            "\n{} has not worked since {:.0}: {}",
            broken.connection, broken.since, broken.error
        ));
    }
}

fn books_row(name: String, books: &Books) -> [String; 10] {
    let outcomes = &books.outcomes;
    [
        name,
        number(books.read),
        number(outcomes.applied),
        number(outcomes.unchanged),
        number(outcomes.superseded),
        number(outcomes.filtered),
        number(outcomes.failed),
        number(books.in_flight),
        number(books.failing),
        if books.balanced() {
            "yes".into()
        } else {
            "NO".into()
        },
    ]
}

const BOOKS_HEADER: [&str; 10] = [
    "MAP",
    "READ",
    "= APPLIED",
    "+ UNCHANGED",
    "+ SUPERSEDED",
    "+ FILTERED",
    "+ FAILED",
    "+ IN FLIGHT",
    "+ FAILING",
    "BALANCED",
];

/// The books of maps as a table.
fn books_table(books: &[(String, Books)]) -> String {
    table(
        BOOKS_HEADER,
        books
            .iter()
            .map(|(name, books)| books_row(name.clone(), books))
            .collect(),
    )
}

pub(super) async fn balance(context: &Context, args: &BalanceArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let mut balances = Vec::new();
    for map in chosen(&home.operations, &args.maps)? {
        balances.push(home.operations.balance(&map, args.runs).await?);
    }
    let all_balance = balances.iter().all(|balance| balance.balanced);
    if context.format == Format::Json {
        output::json(&balances);
    } else {
        let mut rows = Vec::new();
        for balance in &balances {
            rows.push((balance.map.to_string(), balance.books));
            rows.extend(
                balance
                    .runs
                    .iter()
                    .map(|run| (format!("  run {}", run.run), run.books)),
            );
        }
        line(books_table(&rows));
        if !all_balance {
            line(
                "\nThe books do not balance: a change was lost or counted twice. Please report this with the file .syncline/syncline.db.",
            );
        }
    }
    if all_balance {
        Ok(())
    } else {
        Err(CliError::Said(code::UNBALANCED))
    }
}

pub(super) async fn trace(context: &Context, args: &TraceArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let map = home.operations.map(&args.map)?.name.clone();
    let trace = home.operations.trace(&map, &args.key).await?;
    if context.format == Format::Json {
        output::json(&trace);
        return Ok(());
    }
    line(format!("{} {}: {}", trace.map, trace.key, trace.answer));
    let show = |name: &str, sighting: &Sighting| {
        let what = match (&sighting.error, sighting.exists) {
            (Some(error), _) => format!("not known: {error}"),
            (None, Some(true)) => "there".to_owned(),
            (None, _) => "not there".to_owned(),
        };
        let version = sighting
            .version
            .map_or_else(String::new, |version| format!(", version {}", version.0));
        line(format!("\n{name}: {what}{version}"));
        if let Some(record) = &sighting.record {
            line(format!("  {}", record.get()));
        }
    };
    show("source", &trace.source);
    show("target", &trace.target);
    if !trace.parked.is_empty() {
        let news = count(trace.parked.len() as u64, "pack");
        line(format!("\nkept: {news} with news of it"));
    }
    for failure in &trace.failures {
        line(format!(
            "\nfailure {} ({}, {}): {}",
            failure.id, failure.status, failure.class, failure.message
        ));
    }
    Ok(())
}

pub(super) async fn audit(context: &Context, args: &AuditArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let entries = home.operations.audit_log(args.limit).await?;
    if context.format == Format::Json {
        output::json(&entries);
        return Ok(());
    }
    let rows = entries
        .into_iter()
        .map(|entry| {
            [
                format!("{:.0}", entry.at),
                entry.who,
                entry.action,
                entry.subject,
                entry.detail.to_string(),
            ]
        })
        .collect();
    line(table(["WHEN", "WHO", "WHAT", "ON", "HOW"], rows));
    Ok(())
}

/// How often `tail` looks.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn tail(context: &Context, args: &TailArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    let maps = chosen(&home.operations, &args.maps)?;
    let mut interrupts = Interrupts::listen();
    let mut before: HashMap<MapName, MapStatus> = HashMap::new();
    let end = args
        .seconds
        .map(|seconds| home.clock.now() + Duration::from_secs(seconds));
    loop {
        for map in &maps {
            let status = home.operations.map_status(map).await?;
            let events = before
                .get(map)
                .map(|before| events(before, &status))
                .unwrap_or_default();
            for event in events {
                let now = home.clock.now();
                match context.format {
                    Format::Text => line(format!("{now:.3} {map}: {event}")),
                    Format::Json => line(
                        serde_json::json!({ "at": now, "map": map, "event": event }).to_string(),
                    ),
                }
            }
            before.insert(map.clone(), status);
        }
        if end.is_some_and(|end| home.clock.now() >= end) {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = interrupts.next() => return Ok(()),
        }
    }
}

/// What has happened between two looks.
fn events(before: &MapStatus, after: &MapStatus) -> Vec<String> {
    let mut events = Vec::new();
    if before.state != after.state {
        let reason = after
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        events.push(format!("{} → {}{reason}", before.state, after.state));
    }
    let (old, new) = (&before.books, &after.books);
    let counts = [
        ("read", old.read, new.read),
        ("applied", old.outcomes.applied, new.outcomes.applied),
        ("unchanged", old.outcomes.unchanged, new.outcomes.unchanged),
        (
            "superseded",
            old.outcomes.superseded,
            new.outcomes.superseded,
        ),
        ("filtered", old.outcomes.filtered, new.outcomes.filtered),
        ("failed", old.outcomes.failed, new.outcomes.failed),
    ];
    let moved: Vec<String> = counts
        .iter()
        .filter(|(_, old, new)| new > old)
        .map(|(name, old, new)| format!("+{} {name}", number(new - old)))
        .collect();
    if !moved.is_empty() {
        let waiting = if new.in_flight > 0 {
            format!(", {} in flight", number(new.in_flight))
        } else {
            String::new()
        };
        events.push(format!("{}{waiting}", moved.join(", ")));
    }
    if after.pull.failed > before.pull.failed {
        events.push(format!(
            "pull failed: {}",
            after.pull.error.clone().unwrap_or_default()
        ));
    }
    events
}
