//! Every command as a person or a script meets it: exit codes, JSON, text, help.

use std::{collections::BTreeSet, time::Duration};

use rustix::process::Signal;
use sample_crm::{Fault, SampleCrm, Set};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{Project, Running, Up, crm, run, small_crm};

/// All commands that a person can type, with arguments that are enough to ask for help.
const COMMANDS: &[&[&str]] = &[
    &["init"],
    &["validate"],
    &["check"],
    &["schema"],
    &["up"],
    &["load"],
    &["pull"],
    &["start"],
    &["status"],
    &["balance"],
    &["pause"],
    &["resume"],
    &["failures"],
    &["failures", "list"],
    &["failures", "groups"],
    &["failures", "show"],
    &["failures", "retry"],
    &["failures", "edit"],
    &["failures", "discard"],
    &["trace"],
    &["tail"],
    &["audit"],
    &["completions"],
    &["demo"],
];

/// A project on a CRM with some bad rows, loaded.
async fn loaded() -> (SampleCrm, Project) {
    let crm = crm(60, 3).await;
    let project = Project::demo(&crm.url());
    let load = run(&project, &["load", "--all"]).await;
    assert_eq!(load.code, Some(5), "{load:?}");
    (crm, project)
}

/// The names at the top of a shape such as `[{ map, books: { read, … }, runs }]`.
fn names(shape: &str) -> BTreeSet<String> {
    let list = shape
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let object = list.unwrap_or(shape).strip_prefix('{');
    let inner = object.and_then(|rest| rest.strip_suffix('}'));
    let inner = inner.expect("a shape in braces");
    let (mut depth, mut names, mut name) = (0, BTreeSet::new(), String::new());
    for c in inner.chars().chain([',']) {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                let first = name.split(':').next().unwrap_or_default().trim().to_owned();
                names.insert(first);
                name.clear();
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            name.push(c);
        }
    }
    names
}

/// The names that the help of a command says its JSON has.
async fn documented(project: &Project, command: &[&str]) -> BTreeSet<String> {
    let help = run(project, &[command, &["--help"]].concat()).await.out;
    let (_, after) = help.split_once("With --json: ").expect("documented JSON");
    names(after.split('`').nth(1).expect("a shape"))
}

/// Asserts that JSON has the names that the help of its command says.
async fn assert_documented(project: &Project, command: &[&str], json: &Value) {
    let object = json.get(0).unwrap_or(json).as_object().expect("an object");
    let found: BTreeSet<String> = object.keys().cloned().collect();
    assert_eq!(found, documented(project, command).await, "{command:?}");
}

#[tokio::test]
async fn every_command_has_help_that_is_more_than_its_options() {
    let project = Project::new("");
    for command in COMMANDS {
        let help = run(&project, &[*command, &["--help"]].concat()).await;
        assert_eq!(help.code, Some(0));
        let usage = format!("Usage: syncline {}", command.join(" "));
        let (about, options) = help.out.split_once(&usage).expect("its usage");
        assert!(
            about.trim().contains("\n\n"),
            "{command:?} says only: {about}"
        );
        assert!(options.contains("Options of all commands:"), "{command:?}");
        let short = run(&project, &[*command, &["-h"]].concat()).await.out;
        assert!(short.len() < help.out.len(), "{command:?} has a summary");
    }
    let all = run(&project, &["--help"]).await.out;
    for said in [
        "Exit codes: 0 success",
        "5 done but failures",
        "syncline demo",
    ] {
        assert!(all.contains(said), "{all}");
    }
}

#[tokio::test]
async fn json_parses_and_has_the_documented_names() {
    let (_crm, project) = loaded().await;
    for command in [
        &["validate"][..],
        &["check"],
        &["load", "orders"],
        &["pull", "orders"],
        &["status"],
        &["balance", "--runs", "2"],
        &["failures", "list"],
        &["failures", "groups"],
        &["trace", "orders", "100001"],
        &["pause", "orders"],
        &["resume", "orders"],
        &["audit", "--limit", "3"],
        &[
            "failures",
            "edit",
            "--all",
            "--merge",
            "{\"Name\":\"N\",\"Email\":\"e\",\"Currency\":\"EUR\"}",
        ],
        &["failures", "retry", "--all"],
        &[
            "failures", "discard", "--map", "orders", "--reason", "a test",
        ],
    ] {
        let said = run(&project, &[command, &["--json"]].concat()).await;
        let name = if command[0] == "failures" {
            &command[..2]
        } else {
            &command[..1]
        };
        // What `check` finds is said as `validate` says it.
        let name = if name == ["check"] {
            &["validate"][..]
        } else {
            name
        };
        assert_documented(&project, name, &said.json()).await;
    }
    let schema = run(&project, &["schema"]).await.json();
    assert_eq!(schema["title"], "syncline.yaml");
    let tail = run(&project, &["tail", "--for", "0", "--json"]).await;
    assert_eq!((tail.code, tail.out.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn trouble_is_json_too_where_json_is_asked_for() {
    let project = Project::new("connections: {}\nmaps: {}\n");
    let said = run(&project, &["status", "--json"]).await;
    let error: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(
        (said.code, &error["problems"][0]["code"]),
        (Some(3), &json!("no-maps"))
    );
    std::fs::remove_file(project.file("syncline.yaml")).unwrap();
    let said = run(&project, &["status", "--json"]).await;
    let error: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(said.code, Some(1));
    assert!(
        error["error"].as_str().unwrap().contains("syncline init"),
        "{error}"
    );
}

#[tokio::test]
async fn exit_codes_are_as_documented() {
    let (crm, project) = loaded().await;
    let cases: &[(&[&str], i32)] = &[
        (&["status"], 0),
        (&["validate"], 0),
        (&["pull"], 0),
        (&["balance"], 0),
        (&["load", "nothing"], 2),
        (&["pause", "orders", "nothing"], 2),
        (&["trace", "nothing", "1"], 2),
        (&["failures", "list", "--map", "nothing"], 2),
        (&["demo", "--json"], 2),
        (&["completions", "bash", "--json"], 2),
        (&["load", "orders"], 5),
        (&["pause", "orders"], 0),
        (&["pause", "orders"], 1),
        (&["load", "orders"], 1),
        (&["pull", "orders"], 1),
        (&["start", "orders"], 1),
        (&["resume"], 0),
        (&["resume", "orders"], 1),
        (&["init"], 1),
        (&["trace", "orders", "not a number"], 1),
        (&["trace", "orders", "1,2"], 1),
        (&["failures", "show", "zzzz"], 1),
        (&["failures", "discard", "--all", "--reason", " "], 1),
        (&["failures", "retry", "--all"], 5),
        (&["statsu"], 2),
        (&["load"], 2),
        (&["load", "orders", "--all"], 2),
        (&["failures", "retry"], 2),
        (&["failures", "edit", "--all"], 2),
        (&["failures", "edit", "--all", "--merge", "{"], 2),
        (&["failures", "edit", "--all", "--patch", "{}"], 2),
        (&["failures", "discard", "--all"], 2),
        (&["failures", "list", "--class", "bad"], 2),
        (&["up", "--listen", "nowhere"], 2),
        (&["tail", "--for", "soon"], 2),
    ];
    for (command, code) in cases {
        let said = run(&project, command).await;
        assert_eq!(said.code, Some(*code), "{command:?}: {said:?}");
        let silent = said.out.trim().is_empty() && said.err.trim().is_empty();
        assert!(!silent, "{command:?} says nothing");
    }
    crm.break_pages(Fault::ServerError, 100);
    let pull = run(&project, &["pull", "orders"]).await;
    assert_eq!(pull.code, Some(1));
    assert!(pull.err.contains("is tried again later"), "{}", pull.err);
    let unbalanced = project.database(".syncline/syncline.db");
    unbalanced
        .execute_batch("UPDATE books SET read = read + 1")
        .unwrap();
    let balance = run(&project, &["balance"]).await;
    assert_eq!(balance.code, Some(4));
    assert!(balance.out.contains("do not balance"), "{}", balance.out);
}

#[tokio::test]
async fn a_project_begins_with_one_command() {
    let project = Project::new("");
    std::fs::remove_file(project.file("syncline.yaml")).unwrap();
    let init = run(&project, &["init"]).await;
    assert_eq!(init.code, Some(0));
    assert!(init.out.contains("syncline validate") && init.out.contains("syncline load"));
    let validate = run(&project, &["validate"]).await;
    assert_eq!(
        validate.code,
        Some(0),
        "what it begins with is good: {}",
        validate.err
    );
    let again = run(&project, &["init", "--json"]).await;
    assert_eq!(again.code, Some(1));
    let error: Value = serde_json::from_str(&again.err).unwrap();
    assert!(
        error["error"].as_str().unwrap().contains("--force"),
        "{error}"
    );
    let forced = run(&project, &["init", "--force", "--json"]).await;
    assert_documented(&project, &["init"], &forced.json()).await;
}

#[tokio::test]
async fn retry_and_resume_do_the_work_themselves_where_no_up_does() {
    let (crm, project) = loaded().await;
    let merge = "{\"Name\":\"N\",\"Email\":\"e\",\"Currency\":\"EUR\",\"Total\":1}";
    let edit = run(&project, &["failures", "edit", "--all", "--merge", merge]).await;
    assert_eq!(
        (edit.code, edit.out.lines().count()),
        (Some(0), 1),
        "{edit:?}"
    );
    let retry = run(&project, &["failures", "retry", "--all"]).await;
    assert_eq!(retry.code, Some(0), "{retry:?}");
    assert!(
        retry.out.contains("3 failures sent round again: 3 landed"),
        "{}",
        retry.out
    );
    let list = run(&project, &["failures", "list"]).await;
    assert_eq!(list.out.trim(), "no failures");

    crm.write(Set::Orders, "100005", &json!({ "Status": "while paused" }));
    run(&project, &["pause", "orders", "--reason", "stock taking"]).await;
    let status = run(&project, &["status"]).await.out;
    assert!(
        status.contains("orders is paused: stock taking"),
        "{status}"
    );
    let resume = run(&project, &["resume", "orders"]).await;
    assert_eq!(resume.out.trim(), "map `orders` is running");
    run(&project, &["pull", "orders"]).await;
    let trace = run(&project, &["trace", "orders", "100005"]).await.out;
    assert!(
        trace.contains("in the version that the source has"),
        "{trace}"
    );
    assert!(trace.contains("while paused"), "{trace}");
}

#[tokio::test]
async fn a_map_can_be_started_without_a_load_and_only_then() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    let start = run(&project, &["start", "orders", "--json"]).await;
    assert_eq!(
        start.json(),
        json!([{ "map": "orders", "state": "running", "reason": null, "error": null }])
    );
    let again = run(&project, &["start", "orders"]).await;
    assert_eq!(again.code, Some(1));
    assert!(
        again.err.contains("only a map that is stopped"),
        "{}",
        again.err
    );
    let asked = run(&project, &["load", "contacts", "--no-wait", "--json"]).await;
    assert_eq!(
        asked.json(),
        json!([{ "map": "contacts", "generation": 1 }])
    );
}

#[tokio::test]
async fn a_load_says_what_it_waits_for_and_one_of_a_broken_map_is_a_new_try() {
    let crm = small_crm().await;
    let text = crate::support::DEMO.replace("crm.Orders", "crm.Ordres");
    let project = Project::new(&text.replace("{url}", &crm.url()));
    let load = run(&project, &["load", "orders"]).await;
    assert_eq!(load.code, Some(1));
    assert!(
        load.err.contains("Ordres") && load.err.contains("map `orders` is broken"),
        "{}",
        load.err
    );
    project.define(&crate::support::DEMO.replace("{url}", &crm.url()));
    crm.break_set(Set::Orders, Fault::Html, 0, 1);
    let load = run(&project, &["load", "orders"]).await;
    assert_eq!(load.code, Some(0), "{load:?}");
    assert!(
        load.err.contains("orders waits and tries again"),
        "{}",
        load.err
    );
    assert!(load.err.contains("Please sign in"), "{}", load.err);
}

#[tokio::test]
async fn completions_are_there_for_every_shell() {
    let project = Project::new("");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&project, &["completions", shell]).await;
        assert_eq!(script.code, Some(0));
        assert!(
            script.out.contains("failures") && script.out.contains("syncline"),
            "{shell}"
        );
    }
}

#[tokio::test]
async fn one_map_that_cannot_be_changed_hides_no_other() {
    let (_crm, project) = loaded().await;
    assert_eq!(run(&project, &["pause", "accounts"]).await.code, Some(0));
    let maps = ["accounts", "contacts"];
    let pause = run(&project, &[&["pause"], &maps[..], &["--json"]].concat()).await;
    let said = pause.json();
    assert_eq!((pause.code, pause.err.as_str()), (Some(1), ""));
    let error = said[0]["error"].as_str().unwrap();
    assert!(error.contains("cannot be paused again"), "{error}");
    assert_eq!(
        (&said[1]["state"], &said[1]["error"]),
        (&json!("paused"), &Value::Null)
    );
    let resume = run(&project, &["resume", "orders", "accounts"]).await;
    assert_eq!(resume.code, Some(1));
    assert!(
        resume.err.starts_with("error: map `orders`: "),
        "{resume:?}"
    );
    assert_eq!(resume.out.trim(), "map `accounts` is running");

    let pull = run(&project, &["pull", "--json"]).await;
    let said = pull.json();
    assert_eq!((pull.code, pull.err.as_str()), (Some(1), ""));
    assert_eq!(said[0]["error"], Value::Null);
    let error = said[1]["error"].as_str().unwrap();
    assert!(error.contains("is paused (paused by hand)"), "{error}");
    assert_eq!(
        said[2],
        json!({ "map": "orders", "changes": 0, "error": null })
    );
}

#[tokio::test]
async fn a_pull_says_what_became_of_itself_and_of_no_other() {
    let (crm, project) = loaded().await;
    crm.break_pages(Fault::ServerError, 100);
    let pull = run(&project, &["pull", "orders"]).await;
    assert_eq!(pull.code, Some(1));
    assert!(pull.err.contains("is tried again later"), "{}", pull.err);
    crm.heal();
    crm.write(Set::Orders, "100005", &json!({ "Status": "paid" }));
    let pull = run(&project, &["pull", "orders"]).await;
    assert_eq!((pull.code, pull.out.trim()), (Some(0), "orders: 1 change"));
}

#[tokio::test]
async fn a_pull_ends_when_its_map_is_paused() {
    let (crm, project) = loaded().await;
    let up = Up::start(&project, &[]).await;
    let locked = project.warehouse();
    locked.execute_batch("BEGIN EXCLUSIVE").unwrap();
    crm.write(Set::Orders, "100005", &json!({ "Status": "paid" }));
    let mut pull = Running::spawn(&project, &["pull", "orders"], &[]);
    let mut in_flight = Value::Null;
    while in_flight != json!(1) {
        let balance = run(&project, &["balance", "orders", "--json"]).await;
        in_flight = balance.json()[0]["books"]["in_flight"].clone();
    }
    assert_eq!(run(&project, &["pause", "orders"]).await.code, Some(0));
    let pull = timeout(Duration::from_secs(20), pull.ended())
        .await
        .unwrap();
    assert_eq!(pull.code, Some(1));
    assert!(pull.err.contains("map `orders` is paused"), "{}", pull.err);
    up.kill().await;
}

#[tokio::test]
async fn a_map_that_breaks_again_is_no_success() {
    let (crm, project) = loaded().await;
    let table = "DROP TABLE orders; CREATE TABLE orders (order_no INTEGER PRIMARY KEY, mine TEXT)";
    project.warehouse().execute_batch(table).unwrap();
    crm.write(Set::Orders, "100005", &json!({ "Status": "paid" }));
    let pull = run(&project, &["pull", "orders"]).await;
    assert_eq!(pull.code, Some(1));
    assert!(pull.err.contains("map `orders` is broken"), "{pull:?}");
    let resume = run(&project, &["resume", "--json"]).await;
    let said = resume.json();
    assert_eq!(
        (resume.code, &said[0]["state"]),
        (Some(1), &json!("broken"))
    );
    let reason = said[0]["reason"].as_str().unwrap();
    assert!(reason.contains("orders"), "{reason}");
    let resume = run(&project, &["resume", "orders"]).await;
    assert_eq!(resume.code, Some(1));
    let text = format!("error: map `orders` is broken: {reason}");
    assert!(resume.err.contains(&text), "{resume:?}");
}

#[tokio::test]
async fn json_stands_alone() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    crm.break_set(Set::Orders, Fault::Html, 0, 1);
    let load = run(&project, &["load", "--all", "--json"]).await;
    assert_eq!((load.code, load.err.as_str()), (Some(0), ""));
    assert_eq!(load.json()["loaded"].as_array().unwrap().len(), 3);
    // The log of `up` is JSON then.
    let mut up = Running::spawn(&project, &["up", "--listen", "127.0.0.1:0", "--json"], &[]);
    up.notes("\"message\":\"webhooks are taken at").await;
    up.signal(Signal::TERM);
    let ended = up.ended().await;
    assert_eq!(ended.code, Some(0));
    for line in ended.err.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

#[tokio::test]
async fn a_new_project_keeps_its_secrets_to_itself() {
    let project = Project::new("");
    std::fs::remove_file(project.file("syncline.yaml")).unwrap();
    std::fs::write(project.file(".gitignore"), "target\n.syncline/").unwrap();
    let init = run(&project, &["init"]).await;
    assert_eq!(init.code, Some(0), "{init:?}");
    assert!(init.out.contains(".gitignore"), "{}", init.out);
    let ignored = std::fs::read_to_string(project.file(".gitignore")).unwrap();
    assert_eq!(ignored, "target\n.syncline/\n/secrets/\n/warehouse.db*\n");
    // The first line of the file is true.
    let schema = std::fs::read_to_string(project.file("syncline.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["title"], "syncline.yaml");
    let forced = run(&project, &["init", "--force", "--json"]).await;
    let written = forced.json()["written"].clone();
    assert_eq!(written.as_array().unwrap().len(), 2, "{written}");
}
