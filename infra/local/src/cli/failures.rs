//! Commands about failures.

use model::{Cause, Fingerprint};
use operations::{Changed, Edit, Selection};
use ports::FailureFilter;

use super::{
    CliError, Context, Deployment,
    args::{ChooseArgs, EditArgs, FailureArgs, FailureCommand, ListArgs, SelectArgs},
    code, wait,
};
use crate::output::{self, Format, ago, line, number, table};

pub(super) async fn run(context: &Context, args: FailureArgs) -> Result<(), CliError> {
    let home = context.open().await?;
    match args.command {
        FailureCommand::List(args) => list(context, &home, &args).await,
        FailureCommand::Groups(args) => groups(context, &home, &args).await,
        FailureCommand::Show { id } => show(context, &home, &id).await,
        FailureCommand::Retry(args) => retry(context, &home, &args).await,
        FailureCommand::Edit(args) => {
            let edit = edit(&args)?;
            let changed = home
                .operations
                .edit_failures(&selection(&home, &args.choose)?, &edit)
                .await?;
            said(
                context,
                changed,
                "corrected; `syncline failures retry` sends them round again",
            );
            Ok(())
        }
        FailureCommand::Discard(args) => {
            let chosen = selection(&home, &args.choose)?;
            let changed = home
                .operations
                .discard_failures(&chosen, &args.reason)
                .await?;
            said(context, changed, "given up");
            Ok(())
        }
    }
}

fn said(context: &Context, changed: Changed, what: &str) {
    if context.format == Format::Json {
        output::json(&changed);
        return;
    }
    line(format!(
        "{} {what}",
        output::count(changed.count, "failure")
    ));
    if changed.skipped > 0 {
        line(format!(
            "{} left alone: being tried, or changed by somebody else meanwhile",
            output::count(changed.skipped, "failure")
        ));
    }
}

/// Sends failures round again and waits for what becomes of them.
async fn retry(context: &Context, home: &Deployment, args: &ChooseArgs) -> Result<(), CliError> {
    let chosen = selection(home, args)?;
    let operations = &home.operations;
    let asked = home.clock.now();
    let command = async {
        let sent = operations.retry_failures(&chosen).await?;
        let patience = wait::Patience::new();
        while !wait::is_settled(operations, &sent, asked).await? && patience.goes_on().await {}
        wait::retried(operations, &sent, asked).await
    };
    let retried = wait::hosted(context, home, "failures retry", command).await?;
    match context.format {
        Format::Json => output::json(&retried),
        Format::Text => line(format!(
            "{} sent round again: {} landed, {} failed again, {} on their way",
            output::count(retried.count as u64, "failure"),
            number(retried.landed as u64),
            number(retried.failed as u64),
            number(retried.waiting as u64)
        )),
    }
    if retried.failed + retried.waiting > 0 {
        return Err(CliError::Said(code::FAILURES));
    }
    Ok(())
}

/// The beginning of an identifier, which is enough to name it.
fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

fn filter(home: &Deployment, args: &SelectArgs) -> Result<FailureFilter, CliError> {
    let map = match &args.map {
        Some(name) => Some(home.operations.map(name)?.name.clone()),
        None => None,
    };
    Ok(FailureFilter {
        map,
        class: args.class,
        fingerprint: args.group.clone().map(Fingerprint),
        key: args.key.clone(),
        ..FailureFilter::unresolved()
    })
}

fn selection(home: &Deployment, args: &ChooseArgs) -> Result<Selection, CliError> {
    let select = &args.select;
    let given = select.map.is_some()
        || select.class.is_some()
        || select.group.is_some()
        || select.key.is_some();
    match &args.id {
        Some(id) => Ok(Selection::One(id.clone())),
        None if given || args.all => Ok(Selection::Matching(filter(home, select)?)),
        None => Err(CliError::Usage(
            "say which: an identifier, --group, --map, --class, --key, or --all".into(),
        )),
    }
}

fn edit(args: &EditArgs) -> Result<Edit, CliError> {
    let bad = |error: serde_json::Error| {
        CliError::Usage(format!("the correction is not what it should be: {error}"))
    };
    match (&args.patch, &args.merge) {
        (Some(patch), _) => Edit::patch(patch).map_err(bad),
        (None, Some(merge)) => Edit::merge(merge).map_err(bad),
        (None, None) => Err(CliError::Usage("give a --patch or a --merge".into())),
    }
}

async fn list(context: &Context, home: &Deployment, args: &ListArgs) -> Result<(), CliError> {
    let mut filter = filter(home, &args.select)?;
    if args.ended {
        filter.status.clear();
    }
    let found = home.operations.failures(&filter, args.limit).await?;
    if context.format == Format::Json {
        output::json(&found);
        return Ok(());
    }
    if found.is_empty() {
        line("no failures");
        return Ok(());
    }
    let now = home.clock.now();
    let rows = found
        .iter()
        .map(|failure| {
            let next = match failure.due {
                Some(due) => ago(Some(due), now),
                None => String::new(),
            };
            [
                short(&failure.id.to_string()),
                failure.map.to_string(),
                failure.key.clone().unwrap_or_default(),
                failure.status.to_string(),
                failure.code.clone(),
                failure.field.clone().unwrap_or_default(),
                failure.attempts.to_string(),
                next,
                failure.message.clone(),
            ]
        })
        .collect();
    line(table(
        [
            "ID", "MAP", "KEY", "STATUS", "CODE", "FIELD", "TRIED", "NEXT", "MESSAGE",
        ],
        rows,
    ));
    let all = home.operations.count_failures(&filter).await?;
    if all > found.len() as u64 {
        line(format!(
            "… and {} more: --limit shows them",
            number(all - found.len() as u64)
        ));
    }
    Ok(())
}

async fn groups(context: &Context, home: &Deployment, args: &SelectArgs) -> Result<(), CliError> {
    let groups = home
        .operations
        .failure_groups(&filter(home, args)?, 100)
        .await?;
    if context.format == Format::Json {
        output::json(&groups);
        return Ok(());
    }
    if groups.is_empty() {
        line("no failures");
        return Ok(());
    }
    let rows = groups
        .into_iter()
        .map(|group| {
            [
                group.group.to_string(),
                number(group.count),
                group.map.to_string(),
                group.class.to_string(),
                group.code,
                group.field.unwrap_or_default(),
                group.message,
            ]
        })
        .collect();
    line(table(
        [
            "GROUP",
            "COUNT",
            "MAP",
            "CLASS",
            "CODE",
            "FIELD",
            "FOR EXAMPLE",
        ],
        rows,
    ));
    Ok(())
}

fn show_cause(cause: &Cause) {
    line(format!("cause     {} {}", cause.class, cause.code));
    line(format!("          {}", cause.message));
    for error in &cause.chain {
        line(format!("          because: {error}"));
    }
    if let Some(field) = &cause.field {
        line(format!("field     {field}"));
    }
    if let Some(value) = &cause.value {
        line(format!("value     {value}"));
    }
}

async fn show(context: &Context, home: &Deployment, id: &str) -> Result<(), CliError> {
    let failure = home.operations.failure(id).await?;
    if context.format == Format::Json {
        output::json(&failure);
        return Ok(());
    }
    line(format!("failure   {}", failure.id));
    line(format!(
        "map       {} (version {})",
        failure.map, failure.map_version
    ));
    line(format!(
        "key       {}",
        failure.key.as_deref().unwrap_or("could not be read")
    ));
    line(format!(
        "status    {}, tried {}, last {:.0}",
        failure.status,
        output::count(failure.attempts.into(), "time"),
        failure.last
    ));
    if let Some(due) = failure.due {
        line(format!("next      {due:.0}"));
    }
    show_cause(&failure.cause);
    line(format!("group     {}", failure.fingerprint));
    line(format!("change    {:?} by {:?}", failure.op, failure.origin).to_lowercase());
    line(format!(
        "run       {} (load {})",
        failure.run, failure.generation
    ));
    if let Some(trace) = failure.trace {
        line(format!("trace     {trace}"));
    }
    if let Some(resolution) = &failure.resolution {
        let reason = resolution
            .reason
            .as_deref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        line(format!(
            "ended     {:.0} {}{reason}",
            resolution.at,
            format!("{:?}", resolution.outcome).to_lowercase()
        ));
    }
    if let Some(original) = &failure.original {
        line(format!("original  {original}"));
    }
    line(format!("record    {}", failure.raw));
    Ok(())
}
