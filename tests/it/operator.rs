//! What an operator does with a deployed stack, by the policy that it has for operators and nothing
//! more; with the parameters that most stacks leave alone.

use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};
use test_postgres::TestDatabase;

use crate::support::{DEMO, HOOK_SECRET, Setting, Stack, crm, on_server, ready};

const OPERATOR: &str = "operator";
const NOBODY: &str = "nobody";
const BAD: usize = 6;

/// What a command of the operator says; it has to end with `code`.
async fn ends(stack: &Stack, code: i32, args: &[&str]) -> Value {
    let mut words = args.to_vec();
    words.push("--json");
    let said = stack.run_as(OPERATOR, &words).await;
    assert_eq!(said.code, Some(code), "{args:?}: {said:?}");
    // `tail` says one thing a line.
    let lines = said.out.lines().map(serde_json::from_str);
    let lines: Result<Vec<Value>, _> = lines.collect();
    lines.map_or_else(|_| said.json(), Value::from)
}

fn texts<'v>(list: &'v Value, field: &str) -> Vec<&'v str> {
    let list = list.as_array().expect("a list").iter();
    list.filter_map(|one| one[field].as_str()).collect()
}

async fn handle_failures(stack: &Stack) {
    let groups = ends(stack, 0, &["failures", "groups"]).await;
    let counts = groups.as_array().expect("groups").iter();
    let counts = counts.map(|group| group["count"].as_u64().expect("a count"));
    assert_eq!(counts.sum::<u64>(), BAD as u64, "{groups}");
    let listed = ends(stack, 0, &["failures", "list", "--map", "orders"]).await;
    let ids = texts(&listed, "id");
    let shown = ends(stack, 0, &["failures", "show", ids[0]]).await;
    assert_eq!(
        (&shown["key"], shown["raw"].is_null()),
        (&listed[0]["key"], false),
        "{shown}"
    );
    let discard = ["failures", "discard", ids[0], "--reason", "a test record"];
    assert_eq!(ends(stack, 0, &discard).await["count"], 1);
    let correction = json!({ "Currency": "EUR", "Total": 1234.56 }).to_string();
    let edit = [
        "failures",
        "edit",
        "--map",
        "orders",
        "--merge",
        &correction,
    ];
    let edited = ends(stack, 0, &edit).await;
    assert_eq!(edited["count"], ids.len() - 1, "{edited}");
    let retried = ends(stack, 0, &["failures", "retry", "--map", "orders"]).await;
    assert_eq!(retried["landed"], ids.len() - 1, "{retried}");
}

/// A stack with the parameters that most leave alone.
async fn deployed(crm: &SampleCrm, database: &TestDatabase) -> Stack {
    let project = on_server(&DEMO.replace("{url}", &crm.url()), database);
    let url = database.url();
    let setting = Setting {
        secrets: &[("crm-hook", HOOK_SECRET), ("warehouse", &url)],
        parameters: &[
            ("RequireTls", "false"),
            ("WebhookDoor", "http-api"),
            ("TableBilling", "provisioned"),
            ("MetricsPerMap", "true"),
        ],
        users: &[(OPERATOR, "OperatorPolicy"), (NOBODY, "")],
        endpoint: &ready("SYNCLINE_TEST_AWS_ENFORCING"),
        ..Setting::default()
    };
    Stack::deploy(project, setting).await
}

#[tokio::test]
async fn an_operator_can_do_all_of_it_and_nobody_else_any() {
    let crm = crm(60, BAD).await;
    let database = TestDatabase::create().await;
    let stack = deployed(&crm, &database).await;
    let refused = stack.run_as(NOBODY, &["status"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("AccessDenied"), "{refused:?}");

    ends(&stack, 0, &["check"]).await;
    let started = ends(&stack, 0, &["start", "contacts"]).await;
    assert_eq!(texts(&started, "state"), ["running"]);
    let loaded = ends(&stack, 5, &["load", "--all"]).await;
    assert_eq!(
        loaded["loaded"].as_array().map(Vec::len),
        Some(3),
        "{loaded}"
    );
    handle_failures(&stack).await;

    // Through the other door.
    let key = crm.keys(Set::Accounts)[0].clone();
    crm.write(
        Set::Accounts,
        &key,
        &json!({ "Name": "Through the other door" }),
    );
    assert_eq!(stack.notify(&crm, Set::Accounts, &key).await, 202);
    stack.settled().await;
    let traced = ends(&stack, 0, &["trace", "accounts", &key]).await;
    let answer = traced["answer"].as_str().unwrap_or_default();
    assert!(
        answer.contains("in the version that the source has"),
        "{traced}"
    );

    ends(&stack, 0, &["pause", "orders", "--reason", "a look"]).await;
    let resumed = ends(&stack, 0, &["resume", "orders"]).await;
    assert_eq!(texts(&resumed, "state"), ["running"]);
    let pulled = ends(&stack, 0, &["pull"]).await;
    assert_eq!(pulled.as_array().map(Vec::len), Some(3), "{pulled}");
    assert_eq!(texts(&pulled, "error"), [""; 0], "{pulled}");
    let tailed = ends(&stack, 0, &["tail", "--for", "1"]).await;
    assert!(tailed.is_array(), "{tailed}");
    let status = ends(&stack, 0, &["status"]).await;
    assert_eq!(texts(&status["maps"], "state"), ["running"; 3], "{status}");
    let balance = ends(&stack, 0, &["balance", "--runs", "3"]).await;
    assert_eq!(balance.as_array().map(Vec::len), Some(3), "{balance}");

    let audit = ends(&stack, 0, &["audit"]).await;
    let mut actions = texts(&audit, "action");
    actions.sort_unstable();
    actions.dedup();
    assert_eq!(
        actions,
        [
            "failures.discard",
            "failures.edit",
            "failures.retry",
            "map.load",
            "map.pause",
            "map.resume",
            "map.start"
        ]
    );
}
