//! Two hundred thousand rows, 37 of them bad, through the command a person types.

use std::collections::BTreeSet;

use model::FailureStatus;
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use crate::support::{Deployment, Project, Up, crm, repaired, run};

const ROWS: usize = 200_000;
const BAD: usize = 37;

/// Rows in the three tables.
fn landed(project: &Project) -> usize {
    let count = "SELECT (SELECT count(*) FROM accounts) + (SELECT count(*) FROM contacts)
        + (SELECT count(*) FROM orders)";
    let rows: i64 = project
        .warehouse()
        .query_row(count, [], |row| row.get(0))
        .unwrap();
    usize::try_from(rows).unwrap()
}

fn pages(crm: &SampleCrm) -> [usize; 3] {
    Set::ALL.map(|set| crm.pages_served(set))
}

/// Asserts that every bad row is listed by itself, with the reason and the record.
async fn assert_listed(project: Project) -> Project {
    let deployment = Deployment::open(project);
    let mut keys = BTreeSet::new();
    for map in ["accounts", "contacts", "orders"] {
        for failure in deployment.failures(map).await {
            let key = failure.key.clone().expect("a key");
            assert!(failure.raw.contains(&key), "the record is kept whole");
            assert!(!failure.cause.message.is_empty() && failure.cause.field.is_some());
            assert_eq!(failure.status, FailureStatus::Open);
            assert!(keys.insert((map, key)), "each is listed once");
        }
    }
    assert_eq!(keys.len(), BAD);
    deployment.assert_balanced().await;
    deployment.project
}

#[tokio::test]
async fn of_200_000_rows_37_bad_ones_fail_and_are_repaired_without_reading_the_rest() {
    let crm = crm(ROWS, BAD).await;
    let project = Project::demo(&crm.url());
    let load = run(&project, &["load", "--all", "--json"]).await;
    assert_eq!(
        load.code,
        Some(5),
        "done, but failures are left: {}",
        load.err
    );
    assert_eq!(landed(&project), ROWS - BAD);
    let project = assert_listed(project).await;

    // What changed during the load is read once more; from here on nothing is.
    let up = Up::start(&project, &[]).await;
    assert_eq!(run(&project, &["pull"]).await.code, Some(0));
    let before = pages(&crm);
    for (map, correction) in [
        ("accounts", json!({ "Name": "Corrected" })),
        ("contacts", json!({ "Email": "corrected@example.com" })),
        ("orders", json!({ "Currency": "EUR", "Total": 1234.56 })),
    ] {
        let merge = correction.to_string();
        let edit = run(
            &project,
            &["failures", "edit", "--map", map, "--merge", &merge],
        )
        .await;
        assert_eq!(edit.code, Some(0), "{edit:?}");
    }
    let retry = run(&project, &["failures", "retry", "--all", "--json"]).await;
    assert_eq!(
        retry.json(),
        json!({ "count": BAD, "landed": BAD, "failed": 0, "waiting": 0 })
    );
    repaired(&project).await;
    assert_eq!(landed(&project), ROWS);
    assert_eq!(pages(&crm), before, "nothing was read again");
    let balance = run(&project, &["balance", "--json"]).await;
    assert_eq!(balance.code, Some(0), "the books balance: {}", balance.out);
    for map in balance.json().as_array().unwrap() {
        assert_eq!(
            (&map["books"]["failed"], &map["balanced"]),
            (&json!(0), &json!(true))
        );
    }
    assert_eq!(up.stop().await, Some(0));
}
