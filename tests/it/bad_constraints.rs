//! Rows that the target's own rules refuse: each fails alone, says which rule and which
//! column, and lands once it is corrected.

use std::{collections::BTreeMap, time::Duration};

use model::{ErrorClass, Failure, FailureStatus, MapState};
use sample_crm::{SampleCrm, Set};
use serde_json::json;

use crate::support::{DEMO, Deployment, Project, assert_equal, differences_of, name, small_crm};

const TABLES: &str = "
CREATE TABLE accounts (
    id TEXT PRIMARY KEY, number TEXT UNIQUE, name TEXT NOT NULL, parent_id TEXT, country TEXT,
    city TEXT NOT NULL, credit_limit DECIMAL(18,2) CHECK (credit_limit < 200000), credit_class TEXT
);
CREATE TABLE contacts (
    id TEXT PRIMARY KEY, account_id TEXT REFERENCES accounts (id), first_name TEXT,
    last_name TEXT, email TEXT, phone TEXT, birthday DATE
);";

/// The demo on tables of the user's own.
fn on_existing_tables(crm: &SampleCrm) -> Project {
    let mut text = DEMO.replace("{url}", &crm.url());
    for table in ["accounts", "contacts"] {
        let to = format!("stream: warehouse.{table}, key: id");
        text = text.replace(&to, &format!("{to}, existing: true"));
    }
    let project = Project::new(&text);
    project.warehouse().execute_batch(TABLES).unwrap();
    project
}

fn by_key(failures: Vec<Failure>) -> BTreeMap<String, Failure> {
    let key = |failure: &Failure| failure.key.clone().expect("a key");
    failures
        .into_iter()
        .map(|failure| (key(&failure), failure))
        .collect()
}

#[tokio::test]
async fn each_constraint_is_named_and_takes_no_neighbour_with_it() {
    let crm = small_crm().await;
    let keys = crm.keys(Set::Accounts);
    let (doubled, rich, homeless) = (&keys[3], &keys[4], &keys[5]);
    let number = crm.row(Set::Accounts, &keys[2]).unwrap()["AccountNumber"].clone();
    crm.write(Set::Accounts, doubled, &json!({ "AccountNumber": number }));
    crm.write(Set::Accounts, rich, &json!({ "CreditLimit": 200_000 }));
    crm.write(
        Set::Accounts,
        homeless,
        &json!({ "Address": { "City": null } }),
    );
    let deployment = Deployment::open(on_existing_tables(&crm));
    deployment.load(&["accounts"]).await;

    let failures = by_key(deployment.failures("accounts").await);
    assert_eq!(failures.len(), 3, "{failures:#?}");
    let expected = [
        (
            doubled,
            ErrorClass::Conflict,
            "unique-violation",
            Some("number"),
            "accounts.number",
        ),
        (
            rich,
            ErrorClass::Invalid,
            "check-violation",
            None,
            "credit_limit < 200000",
        ),
        (
            homeless,
            ErrorClass::Invalid,
            "not-null-violation",
            Some("city"),
            "accounts.city",
        ),
    ];
    for (key, class, code, field, said) in expected {
        let failure = &failures[key];
        let cause = &failure.cause;
        assert_eq!(
            (cause.class, cause.code.as_str(), cause.field.as_deref()),
            (class, code, field)
        );
        assert!(cause.message.contains(said), "{}", cause.message);
        assert_eq!((failure.status, failure.due), (FailureStatus::Open, None));
        assert!(
            failure.raw.contains("AccountId"),
            "the record is kept whole"
        );
    }
    let landed = deployment.query("SELECT count(*) FROM accounts");
    assert_eq!(landed, [[(keys.len() - 3).to_string()]]);
    assert_eq!(deployment.state("accounts").await, MapState::Running);
    correct(&crm, [doubled, rich, homeless]);
    deployment.pull(&["accounts"]).await;
    assert_past(&crm, &deployment).await;
}

/// Corrects records at their source.
fn correct(crm: &SampleCrm, [doubled, rich, homeless]: [&str; 3]) {
    let write = |key, row| crm.write(Set::Accounts, key, &row);
    write(doubled, json!({ "AccountNumber": "A-none" }));
    write(rich, json!({ "CreditLimit": 199_999.99 }));
    write(homeless, json!({ "Address": { "City": "Ulm" } }));
}

/// Asserts that failures of accounts have nothing left to say once they are tried again.
async fn assert_past(crm: &SampleCrm, deployment: &Deployment) {
    deployment.retry_all().await;
    assert_eq!(deployment.failures("accounts").await, []);
    let found = differences_of(Set::Accounts, crm, &deployment.project.warehouse());
    assert_eq!(found, [""; 0]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn rows_wait_for_the_row_they_refer_to_and_nobody_has_to_do_anything() {
    let crm = small_crm().await;
    let deployment = Deployment::open(on_existing_tables(&crm));
    deployment
        .home
        .operations
        .load(&name("contacts"))
        .await
        .unwrap();
    deployment.until("contacts", MapState::Running).await;
    let failures = deployment.failures("contacts").await;
    assert_eq!(failures.len(), crm.keys(Set::Contacts).len());
    for failure in &failures {
        assert_eq!(
            (failure.cause.class, failure.cause.code.as_str()),
            (ErrorClass::Reference, "foreign-key-violation")
        );
        assert!(failure.due.is_some(), "it is tried again by itself");
    }
    deployment.load(&["accounts", "orders"]).await;
    assert_equal(&crm, &deployment.project.warehouse());
    assert_eq!(deployment.failures("contacts").await, []);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_delete_that_others_refer_to_waits_for_them() {
    let crm = small_crm().await;
    let deployment = Deployment::open(on_existing_tables(&crm));
    deployment.load(&["accounts", "contacts", "orders"]).await;
    let contact = crm.keys(Set::Contacts)[0].clone();
    let account = crm.row(Set::Contacts, &contact).unwrap()["AccountId"].clone();
    let account = account.as_str().unwrap();
    assert!(crm.delete(Set::Accounts, account));
    deployment.pull(&["accounts"]).await;
    let failures = deployment.failures("accounts").await;
    assert_eq!(failures[0].cause.code, "foreign-key-violation");
    assert_eq!(failures[0].key.as_deref(), Some(account));
    for row in crm.rows(Set::Contacts) {
        if row["AccountId"] == account {
            assert!(crm.delete(Set::Contacts, row["ContactId"].as_str().unwrap()));
        }
    }
    deployment.pull(&["contacts"]).await;
    deployment.run_dry().await;
    assert_eq!(deployment.failures("accounts").await, []);
    let found = differences_of(Set::Accounts, &crm, &deployment.project.warehouse());
    assert_eq!(found, [""; 0]);
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn a_text_that_is_too_long_is_refused_and_never_cut() {
    let crm = small_crm().await;
    let keys = crm.keys(Set::Contacts);
    // Eighty characters of two bytes each fit, one more does not.
    crm.write(Set::Contacts, &keys[0], &json!({ "Email": "ä".repeat(80) }));
    crm.write(Set::Contacts, &keys[1], &json!({ "Email": "ä".repeat(81) }));
    let text = DEMO.replace("pull: { every: 5m }", "pull: { every: 5m, mode: cursor }");
    let deployment = Deployment::open(Project::new(&text.replace("{url}", &crm.url())));
    deployment.load_all().await;
    let failures = deployment.failures("contacts").await;
    assert_eq!(failures.len(), 1);
    let cause = &failures[0].cause;
    assert_eq!(
        (cause.class, cause.code.as_str(), cause.field.as_deref()),
        (ErrorClass::Mapping, "too-long", Some("email"))
    );
    assert_eq!(cause.message, "the text has 81 characters, 80 are allowed");
    assert_eq!(failures[0].key.as_ref(), Some(&keys[1]));
    let lengths = deployment.query("SELECT max(length(email)) FROM contacts");
    assert_eq!(lengths, [["80"]]);
    // A pull with its overlap reads the bad record again, and that makes no second failure.
    for _ in 0..3 {
        deployment.live(Duration::from_mins(5)).await;
    }
    assert_eq!(deployment.failures("contacts").await.len(), 1);
    deployment.assert_balanced().await;
    crm.write(
        Set::Contacts,
        &keys[1],
        &json!({ "Email": "a@example.com" }),
    );
    deployment.pull(&["contacts"]).await;
    deployment.retry_all().await;
    assert_equal(&crm, &deployment.project.warehouse());
    assert_eq!(deployment.failures("contacts").await, []);
}
