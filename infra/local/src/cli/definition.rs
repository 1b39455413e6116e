//! Commands about `syncline.yaml`.

use std::path::Path;

use definition::{Problem, Severity};
use model::ConnectionName;
use operations::Operations;
use serde_json::json;

use super::{
    CliError, Context,
    args::{InitArgs, MapArgs},
    code,
    deployment::Deployment,
};
use crate::{
    Home, HomeError,
    output::{self, Format, count, line, note},
};

/// What `syncline init` writes.
const TEMPLATE: &str = include_str!("../../template/syncline.yaml");

/// Shows problems on standard error, each with its line.
pub(super) fn show_problems(problems: &[Problem], file: &Path, text: &str) {
    for problem in problems {
        note(problem.render(&file.display().to_string(), text));
    }
}

/// What a project keeps out of version control.
const IGNORED: [&str; 3] = ["/.syncline/", "/secrets/", "/warehouse.db*"];

/// Adds to a `.gitignore` what it lacks; says whether that was anything.
fn ignore_more(file: &Path) -> std::io::Result<bool> {
    let mut text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    let name = |line: &str| line.trim().trim_matches(['/', '*']).to_owned();
    let known: Vec<String> = text.lines().map(name).collect();
    let missing = IGNORED.iter().filter(|line| !known.contains(&name(line)));
    let missing: Vec<&str> = missing.copied().collect();
    if missing.is_empty() {
        return Ok(false);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in missing {
        text += line;
        text.push('\n');
    }
    std::fs::write(file, text)?;
    Ok(true)
}

pub(super) fn init(context: &Context, args: &InitArgs) -> Result<(), CliError> {
    let file = context.paths.definition();
    if file.exists() && !args.force {
        return Err(CliError::Other(format!(
            "{} is there already: --force writes over it",
            file.display()
        )));
    }
    let folder = &context.paths.project;
    let at = |path: &Path, error: std::io::Error| {
        CliError::Other(format!("{}: {error}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    let ignore = folder.join(".gitignore");
    let ignored = ignore_more(&ignore).map_err(|error| at(&ignore, error))?;
    let schema = folder.join("syncline.schema.json");
    std::fs::write(&schema, definition::JSON_SCHEMA).map_err(|error| at(&schema, error))?;
    std::fs::write(&file, TEMPLATE).map_err(|error| at(&file, error))?;
    let mut written = vec![&file, &schema];
    if ignored {
        written.push(&ignore);
    }
    if context.format == Format::Json {
        output::json(&json!({ "written": written }));
        return Ok(());
    }
    line(format!("{} is written.", file.display()));
    line(format!("{} is written, for your editor.", schema.display()));
    if ignored {
        line(format!(
            "{} now keeps state and secrets out of version control.",
            ignore.display()
        ));
    }
    line("Put your own systems in, then:");
    line("  syncline validate        finds mistakes in the file");
    line("  syncline check           asks the systems whether it fits them");
    line("  syncline load --all      loads everything");
    line("  syncline up              keeps it equal");
    Ok(())
}

fn report(format: Format, file: &Path, text: &str, problems: &[Problem]) -> Result<(), CliError> {
    let errors = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .count();
    let warnings = problems.len() - errors;
    match format {
        Format::Json => output::json(
            &json!({ "file": file, "errors": errors, "warnings": warnings, "problems": problems }),
        ),
        Format::Text => {
            show_problems(problems, file, text);
            let name = file.display();
            match (errors, warnings) {
                (0, 0) => line(format!("{name} is good")),
                (0, _) => line(format!(
                    "{name} is good, with {}",
                    count(warnings as u64, "warning")
                )),
                _ => line(format!(
                    "{name} has {} and {}",
                    count(errors as u64, "error"),
                    count(warnings as u64, "warning")
                )),
            }
        }
    }
    if errors > 0 {
        Err(CliError::Said(code::INVALID))
    } else {
        Ok(())
    }
}

/// The definition, its problems, and those that show only when its maps are compiled.
fn read(
    context: &Context,
) -> Result<(Option<definition::Definition>, Vec<Problem>, String), CliError> {
    match Home::read_definition(&context.paths) {
        Ok((definition, mut problems, text)) => {
            for map in definition.maps.values() {
                let (_, found) = mapping::Plan::compile(map, mapping::Schemas::default());
                problems.extend(
                    found
                        .into_iter()
                        .map(|problem| place(&definition, map, problem)),
                );
            }
            problems.sort_by_key(|problem| (problem.place, problem.severity));
            Ok((Some(definition), problems, text))
        }
        Err(HomeError::Invalid { text, problems, .. }) => Ok((None, problems, text)),
        Err(error) => Err(error.into()),
    }
}

fn place(
    definition: &definition::Definition,
    map: &definition::Map,
    problem: mapping::PlanProblem,
) -> Problem {
    let path = if problem.at.starts_with("connections.") {
        problem.at
    } else {
        format!("maps.{}.{}", map.name, problem.at)
    };
    let mapping::PlanProblem {
        severity,
        code,
        message,
        help,
        ..
    } = problem;
    definition.problem(severity, code, &path, message, help)
}

pub(super) fn validate(context: &Context) -> Result<(), CliError> {
    let (_, problems, text) = read(context)?;
    report(
        context.format,
        &context.paths.definition(),
        &text,
        &problems,
    )
}

pub(super) async fn check(context: &Context, args: &MapArgs) -> Result<(), CliError> {
    let (definition, mut problems, text) = read(context)?;
    let file = context.paths.definition();
    if definition.is_none()
        || problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    {
        return report(context.format, &file, &text, &problems);
    }
    let deployment = context.open().await?;
    let definition = &deployment.operations.definition;
    for map in chosen(&deployment.operations, &args.maps)? {
        let Some(defined) = definition.maps.get(&map) else {
            continue;
        };
        let mut found = check_secrets(&deployment, defined).await;
        let lacking = |connection: &ConnectionName| {
            let at = format!("connections.{connection}.");
            found.iter().any(|problem| problem.at.starts_with(&at))
        };
        let (source, target) = (
            lacking(&defined.from.connection),
            lacking(&defined.to.connection),
        );
        let mut others = deployment.plans.check(defined).await;
        // What a system says to a connection without its secret is a consequence.
        others.retain(|problem| {
            let refused = ["system-refuses", "bad-connection"].contains(&problem.code);
            let of = |side: &str| problem.at == side || problem.at == format!("{side}.stream");
            !(refused && (source && of("from") || target && of("to")))
        });
        found.extend(others);
        for problem in found {
            let problem = place(definition, defined, problem);
            let same = |one: &Problem| one.code == problem.code && one.path == problem.path;
            if !problems.iter().any(same) {
                problems.push(problem);
            }
        }
    }
    report(context.format, &file, &text, &problems)
}

/// Secrets of a map that cannot be had: of its connections, and of its webhook, whose requests
/// would be refused.
async fn check_secrets(
    deployment: &Deployment,
    map: &definition::Map,
) -> Vec<mapping::PlanProblem> {
    let mut wanted: Vec<(String, &str)> = Vec::new();
    for name in [&map.from.connection, &map.to.connection] {
        if let Some(connection) = deployment.operations.definition.connection(name) {
            let secrets = connection.secrets();
            wanted.extend(
                secrets
                    .into_iter()
                    .map(|(at, secret)| (format!("connections.{name}.{at}"), secret)),
            );
        }
    }
    if let Some(webhook) = &map.webhook {
        let at = "webhook.secret".to_owned();
        wanted.extend(
            webhook
                .secrets
                .iter()
                .map(|secret| (at.clone(), secret.as_str())),
        );
    }
    let mut problems = Vec::new();
    for (at, name) in wanted {
        if let Err(error) = deployment.secrets.get(name).await {
            problems.push(mapping::PlanProblem::error(
                "missing-secret",
                &at,
                error.to_string(),
            ));
        }
    }
    problems
}

/// The maps of these names, or all.
pub(super) fn chosen(
    operations: &Operations,
    names: &[String],
) -> Result<Vec<model::MapName>, CliError> {
    if names.is_empty() {
        return Ok(operations.definition.maps.keys().cloned().collect());
    }
    names
        .iter()
        .map(|name| Ok(operations.map(name)?.name.clone()))
        .collect()
}

pub(super) fn schema() {
    line(definition::JSON_SCHEMA.trim_end());
}
