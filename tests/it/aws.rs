//! The same job on an emulator of AWS, from the template, with the functions as they are deployed.

use futures_util::{StreamExt, stream};
use sample_crm::{SampleCrm, Set};
use serde_json::{Value, json};
use test_postgres::TestDatabase;

use crate::support::{
    DEMO, HOOK_SECRET, Setting, Stack, assert_equal_on_server, crm, on_server, ready,
    server_differences,
};

const ROWS: usize = 10_000;
const BAD: usize = 20;
const HOOKS: usize = 1_000;
/// What a record says that kills whoever works on it.
const POISON: &str = "Deadly Nightshade";
/// Records that come with it.
const NEIGHBOURS: usize = 20;

async fn state(stack: &Stack, map: &str) -> Value {
    let status = stack.run(&["status", map, "--json"]).await.json();
    status["maps"][0].clone()
}

/// Waits until the target is as the source.
async fn equal(stack: &Stack, crm: &SampleCrm, database: &TestDatabase) {
    for _ in 0..2_000 {
        if server_differences(crm, database).await.is_empty() {
            return;
        }
        stack.settled().await;
    }
    assert_equal_on_server(crm, database).await;
}

/// Changes accounts at the source, each with its webhook.
async fn change_accounts(stack: &Stack, crm: &SampleCrm, keys: &[String], name: &str) {
    for key in keys {
        crm.write(Set::Accounts, key, &json!({ "Name": name }));
    }
    let statuses: Vec<u16> = stream::iter(keys)
        .map(|key| stack.notify(crm, Set::Accounts, key))
        .buffer_unordered(16)
        .collect()
        .await;
    assert!(statuses.iter().all(|status| *status == 202), "{statuses:?}");
}

/// Corrects what failed, first in the failure store and then at the source as well.
async fn repair(stack: &Stack, crm: &SampleCrm) {
    let listed = stack
        .run(&["failures", "list", "--limit", "100", "--json"])
        .await
        .json();
    let listed = listed.as_array().expect("failures").clone();
    assert_eq!(listed.len(), BAD);
    let corrections = [
        ("accounts", Set::Accounts, json!({ "Name": "Corrected" })),
        (
            "contacts",
            Set::Contacts,
            json!({ "Email": "corrected@example.com" }),
        ),
        (
            "orders",
            Set::Orders,
            json!({ "Currency": "EUR", "Total": 1234.56 }),
        ),
    ];
    for (map, _, correction) in &corrections {
        let merge = correction.to_string();
        let words = ["failures", "edit", "--map", map, "--merge", &merge];
        let edit = stack.run(&words).await;
        assert_eq!(edit.code, Some(0), "{edit:?}");
    }
    let retry = stack.run(&["failures", "retry", "--all", "--json"]).await;
    assert_eq!(
        retry.json(),
        json!({ "count": BAD, "landed": BAD, "failed": 0, "waiting": 0 }),
        "{retry:?}"
    );
    for failure in &listed {
        let (_, set, correction) = corrections
            .iter()
            .find(|(map, ..)| failure["map"] == *map)
            .expect("a map of the demo");
        crm.write(*set, failure["key"].as_str().expect("a key"), correction);
    }
}

/// The whole way, on an emulator.
async fn from_the_template_to_equality(endpoint: &str, parameters: &[(&str, &str)]) {
    let crm = crm(ROWS, BAD).await;
    let database = TestDatabase::create().await;
    let definition = DEMO
        .replace("{url}", &crm.url())
        .replace("every: 5m", "every: 20s");
    let project = on_server(&definition, &database);
    let url = database.url();
    let setting = Setting {
        secrets: &[("crm-hook", HOOK_SECRET), ("warehouse", &url)],
        parameters,
        endpoint,
        ..Setting::default()
    };
    let stack = Stack::deploy(project, setting).await;

    let check = stack.run(&["check", "--json"]).await;
    assert_eq!(check.code, Some(0), "{check:?}");

    // The load, with bad rows.
    let load = stack.run(&["load", "--all", "--json"]).await;
    assert_eq!(load.code, Some(5), "done, but failures are left: {load:?}");
    let loaded = load.json();
    assert_eq!(
        loaded["loaded"].as_array().map(Vec::len),
        Some(3),
        "{loaded}"
    );
    repair(&stack, &crm).await;

    // Webhooks.
    let keys = crm.keys(Set::Accounts);
    change_accounts(&stack, &crm, &keys[..HOOKS], "Renamed by a webhook").await;
    stack.settled().await;

    // A change that no webhook tells of is found by the schedule.
    let order = &crm.keys(Set::Orders)[0];
    crm.write(Set::Orders, order, &json!({ "Status": "paid" }));
    equal(&stack, &crm, &database).await;

    // A paused map keeps what comes, and lets it go in order.
    let pause = stack
        .run(&["pause", "accounts", "--reason", "a test"])
        .await;
    assert_eq!(pause.code, Some(0), "{pause:?}");
    change_accounts(&stack, &crm, &keys[..50], "Changed while paused").await;
    // For half a second a worker may go by what it has read before.
    while state(&stack, "accounts").await["parked"]["packs"] == 0 {}
    change_accounts(&stack, &crm, &keys[..10], "Changed again while paused").await;
    let resume = stack.run(&["resume", "accounts"]).await;
    assert_eq!(resume.code, Some(0), "{resume:?}");

    // A target that is dead opens the breaker; nothing is lost.
    database.refuse(true).await;
    change_accounts(
        &stack,
        &crm,
        &keys[50..100],
        "Changed while the target was dead",
    )
    .await;
    while stack.run(&["status", "--json"]).await.json()["broken"] == json!([]) {}
    database.refuse(false).await;

    equal(&stack, &crm, &database).await;
    stack.settled().await;
    let balance = stack.run(&["balance", "--json"]).await;
    assert_eq!(balance.code, Some(0), "the books balance: {}", balance.out);
}

#[tokio::test]
async fn the_main_job() {
    from_the_template_to_equality(&ready("SYNCLINE_TEST_AWS"), &[]).await;
}

/// Each function may do what its role says and nothing else.
#[tokio::test]
async fn the_main_job_with_policies_enforced() {
    // The emulator speaks plain HTTP, which the policies of a deployment forbid.
    let parameters = [("RequireTls", "false")];
    from_the_template_to_equality(&ready("SYNCLINE_TEST_AWS_ENFORCING"), &parameters).await;
}

#[tokio::test]
async fn a_pack_that_kills_its_workers_is_bisected() {
    let crm = crm(NEIGHBOURS, 0).await;
    let database = TestDatabase::create().await;
    let project = on_server(&DEMO.replace("{url}", &crm.url()), &database);
    let url = database.url();
    let setting = Setting {
        secrets: &[("crm-hook", HOOK_SECRET), ("warehouse", &url)],
        parameters: &[("RequireTls", "false")],
        variables: &[("SYNCLINE_CRASH_ON", POISON)],
        // What a killed worker had comes back soon.
        visibility: 4,
        endpoint: &ready("SYNCLINE_TEST_AWS_ENFORCING"),
        ..Setting::default()
    };
    let stack = Stack::deploy(project, setting).await;
    let load = stack.run(&["load", "accounts", "--json"]).await;
    assert_eq!(load.code, Some(0), "{load:?}");

    let keys = crm.keys(Set::Accounts);
    let (deadly, others) = keys.split_last().expect("accounts");
    crm.write(Set::Accounts, deadly, &json!({ "Name": POISON }));
    for key in others {
        crm.write(Set::Accounts, key, &json!({ "Name": "Beside a poison" }));
    }
    let pull = stack.run(&["pull", "accounts"]).await;
    assert_eq!(pull.code, Some(0), "{pull:?}");
    let found = loop {
        let listed = stack.run(&["failures", "list", "--json"]).await.json();
        let listed = listed.as_array().expect("failures").clone();
        if !listed.is_empty() {
            break listed;
        }
    };
    // Pulled twice it can be there twice: a look into an index may come too soon.
    let mut told = found.iter().map(|one| (&one["key"], &one["code"]));
    let poison = (&json!(deadly), &json!("poison"));
    assert!(told.all(|one| one == poison), "{found:#?}");
    // All others have come through.
    stack.settled().await;
    let sql = "SELECT count(*)::text FROM accounts WHERE name = 'Beside a poison'";
    assert_eq!(database.query(sql).await, [[others.len().to_string()]]);
    let balance = stack.run(&["balance", "--json"]).await;
    assert_eq!(balance.code, Some(0), "the books balance: {}", balance.out);
}
