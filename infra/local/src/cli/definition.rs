//! Commands about `syncline.yaml`.

use std::path::Path;

use definition::{Problem, Severity};
use serde_json::json;

use super::{
    CliError, Context,
    args::{InitArgs, MapArgs},
    code,
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

pub(super) fn init(context: &Context, args: &InitArgs) -> Result<(), CliError> {
    let file = context.paths.definition();
    if file.exists() && !args.force {
        return Err(CliError::Other(format!(
            "{} is there already: --force writes over it",
            file.display()
        )));
    }
    std::fs::create_dir_all(&context.paths.project).map_err(CliError::other)?;
    std::fs::write(&file, TEMPLATE)
        .map_err(|error| CliError::Other(format!("{}: {error}", file.display())))?;
    let ignore = context.paths.project.join(".gitignore");
    if !ignore.exists() {
        // A project without the file works all the same.
        let _ = std::fs::write(ignore, "/.syncline\n/secrets\n");
    }
    if context.format == Format::Json {
        output::json(&json!({ "written": file }));
        return Ok(());
    }
    line(format!(
        "{} is written. Put your own systems in, then:",
        file.display()
    ));
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
    let path = format!("maps.{}.{}", map.name, problem.at);
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
    let home = context.open()?;
    for map in chosen(&home, &args.maps)? {
        let Some(defined) = home.definition.maps.get(&map) else {
            continue;
        };
        let known: Vec<_> = problems
            .iter()
            .map(|problem| (problem.code, problem.path.clone()))
            .collect();
        let mut found = home.plans.check(defined).await;
        found.extend(check_secrets(&home, defined).await);
        let found = found
            .into_iter()
            .map(|problem| place(&home.definition, defined, problem));
        problems
            .extend(found.filter(|problem| !known.contains(&(problem.code, problem.path.clone()))));
    }
    report(context.format, &file, &text, &problems)
}

/// Secrets of a webhook that cannot be had: its requests would be refused.
async fn check_secrets(home: &Home, map: &definition::Map) -> Vec<mapping::PlanProblem> {
    let mut problems = Vec::new();
    let secrets = map.webhook.iter().flat_map(|webhook| &webhook.secrets);
    for name in secrets {
        if let Err(error) = home.functions.intake.secrets.get(name).await {
            let at = "webhook.secret";
            problems.push(mapping::PlanProblem::error(
                "missing-secret",
                at,
                error.to_string(),
            ));
        }
    }
    problems
}

/// The maps of these names, or all.
pub(super) fn chosen(home: &Home, names: &[String]) -> Result<Vec<model::MapName>, CliError> {
    if names.is_empty() {
        return Ok(home.definition.maps.keys().cloned().collect());
    }
    names
        .iter()
        .map(|name| Ok(home.operations.map(name)?.name.clone()))
        .collect()
}

pub(super) fn schema() {
    line(definition::JSON_SCHEMA.trim_end());
}
