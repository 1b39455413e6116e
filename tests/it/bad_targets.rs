//! Targets that do not take what they are given: changes wait, nothing is lost, no neighbour
//! is stopped, and whoever looks is told what to do.

use std::{fs, sync::Arc, time::Duration};

use connector_sqlite::SqliteTarget;
use embedded::LocalSecrets;
use model::MapState;
use ports::Systems;
use sample_crm::{SampleCrm, Set};
use serde_json::json;
use systems::{DefinedSystems, Surroundings};

use crate::support::{DEMO, Deployment, Project, crm, differences_of, name, small_crm};

/// The demo with its accounts in a database of their own.
fn apart(crm: &SampleCrm, url: &str) -> Project {
    let other = format!(
        "  other: {{ kind: sqlite, url: {url}, limits: {{ timeout: 20ms }} }}\n  warehouse:"
    );
    let text = DEMO
        .replace("stream: warehouse.accounts", "stream: other.accounts")
        .replace("  warehouse:", &other);
    Project::new(&text.replace("{url}", &crm.url()))
}

pub(crate) fn change_something(crm: &SampleCrm) {
    for set in Set::ALL {
        let keys = crm.keys(set);
        crm.write(
            set,
            &keys[1],
            &json!({ "Status": "new", "Name": "New", "LastName": "New" }),
        );
        assert!(crm.delete(set, &keys[2]));
    }
}

async fn ask_for_loads(deployment: &Deployment) {
    for map in deployment.home.definition.maps.keys() {
        deployment.home.operations.load(map).await.unwrap();
    }
}

fn assert_neighbours_equal(crm: &SampleCrm, deployment: &Deployment) {
    for set in [Set::Contacts, Set::Orders] {
        let found = differences_of(set, crm, &deployment.project.warehouse());
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// Asserts that nothing is missing, with the accounts in the database `other`.
async fn assert_well(crm: &SampleCrm, deployment: &Deployment, other: &str) {
    assert_neighbours_equal(crm, deployment);
    let found = differences_of(Set::Accounts, crm, &deployment.project.database(other));
    assert!(found.is_empty(), "{found:#?}");
    deployment.assert_balanced().await;
    for map in ["accounts", "contacts", "orders"] {
        assert_eq!(deployment.state(map).await, MapState::Running);
        assert_eq!(deployment.failures(map).await, []);
    }
    assert!(
        deployment
            .home
            .operations
            .status()
            .await
            .unwrap()
            .broken
            .is_empty()
    );
}

/// Loads into a target in trouble, then into the same one without it.
async fn load_through(
    project: Project,
    crm: &SampleCrm,
    said: &[&str],
    cure: impl FnOnce(&Project),
) {
    let deployment = Deployment::open(project);
    ask_for_loads(&deployment).await;
    for map in ["contacts", "orders"] {
        deployment.until(map, MapState::Running).await;
    }
    assert_neighbours_equal(crm, &deployment);
    let trouble = deployment
        .status("accounts")
        .await
        .trouble
        .expect("a load that waits");
    for part in said {
        assert!(
            trouble.message.contains(part),
            "no `{part}` in: {}",
            trouble.message
        );
    }
    cure(&deployment.project);
    deployment.until("accounts", MapState::Running).await;
    deployment.run_dry().await;
}

#[tokio::test]
async fn a_load_waits_for_a_folder_that_is_not_there() {
    let crm = small_crm().await;
    let project = apart(&crm, "nowhere/other.db");
    let said = [
        "nowhere/other.db",
        "cannot be opened",
        "does its folder exist?",
    ];
    load_through(project, &crm, &said, |project| {
        fs::create_dir(project.file("nowhere")).unwrap();
    })
    .await;
}

/// Marks a database as one that only a later SQLite can write; that goes for every user.
fn set_write_version(project: &Project, version: u8) {
    let file = project.file("other.db");
    let mut bytes = fs::read(&file).unwrap();
    bytes[18] = version;
    fs::write(&file, bytes).unwrap();
}

#[tokio::test]
async fn a_load_waits_for_a_file_that_cannot_be_written() {
    let crm = small_crm().await;
    let project = apart(&crm, "other.db");
    project
        .database("other.db")
        .execute_batch("CREATE TABLE x (y)")
        .unwrap();
    set_write_version(&project, 3);
    let said = [
        "other.db",
        "readonly",
        "make the file and its folder writable",
    ];
    load_through(project, &crm, &said, |project| {
        set_write_version(project, 1);
    })
    .await;
}

#[tokio::test]
async fn a_load_waits_for_a_file_that_another_program_keeps_locked() {
    let crm = small_crm().await;
    let project = apart(&crm, "other.db");
    let other = project.database("other.db");
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let said = ["other.db", "another program keeps the file locked"];
    load_through(project, &crm, &said, |_| {
        other.execute_batch("COMMIT").unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_load_stops_at_a_file_that_is_no_database() {
    let crm = small_crm().await;
    let project = apart(&crm, "other.db");
    fs::write(project.file("other.db"), "Dear customer, ".repeat(1_000)).unwrap();
    let deployment = Deployment::open(project);
    ask_for_loads(&deployment).await;
    deployment.until("orders", MapState::Running).await;
    let status = deployment.status("accounts").await;
    let reason = status.reason.unwrap();
    assert_eq!(status.state, MapState::Broken);
    assert!(
        reason.contains("other.db is no SQLite database"),
        "{reason}"
    );
    fs::remove_file(deployment.project.file("other.db")).unwrap();
    deployment.load(&["accounts"]).await;
    assert_well(&crm, &deployment, "other.db").await;
}

#[tokio::test]
async fn changes_wait_while_a_file_is_locked_or_away() {
    for away in [false, true] {
        let crm = small_crm().await;
        let project = apart(&crm, "folder/other.db");
        fs::create_dir(project.file("folder")).unwrap();
        let deployment = Deployment::open(project);
        deployment.load_all().await;
        change_something(&crm);
        let (folder, moved) = (
            deployment.project.file("folder"),
            deployment.project.file("moved"),
        );
        let locker = deployment.project.database("folder/other.db");
        if away {
            fs::rename(&folder, &moved).unwrap();
        } else {
            locker.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
        for _ in 0..10 {
            deployment.live(Duration::from_mins(1)).await;
        }
        assert_neighbours_equal(&crm, &deployment);
        let status = deployment.home.operations.status().await.unwrap();
        assert_eq!(status.broken.len(), 1);
        assert_eq!(status.broken[0].connection, "other");
        assert!(
            status.broken[0].error.contains("other.db"),
            "{}",
            status.broken[0].error
        );
        let told = deployment.home.store.alerts(usize::MAX).await.unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].subject(), "connection other is down");
        let accounts = deployment.status("accounts").await;
        assert_eq!((accounts.state, accounts.failures), (MapState::Running, 0));
        assert!(accounts.books.in_flight > 0);

        if away {
            fs::rename(&moved, &folder).unwrap();
        } else {
            locker.execute_batch("COMMIT").unwrap();
        }
        deployment.run_dry().await;
        assert_well(&crm, &deployment, "folder/other.db").await;
    }
}

#[tokio::test]
async fn a_full_disk_holds_a_load_and_changes_up_and_loses_none() {
    let crm = crm(900, 0).await;
    let mut deployment = Deployment::open(apart(&crm, "other.db"));
    let small = SqliteTarget::new(&deployment.project.file("other.db"));
    let target = small.clone();
    deployment.wrap_targets(move |map, target| match map.as_str() {
        "accounts" => Arc::new(small.clone()),
        _ => target,
    });
    // Room for its tables, not for their rows.
    target.limit_size(9);
    ask_for_loads(&deployment).await;
    deployment.until("orders", MapState::Running).await;
    for _ in 0..20 {
        deployment.live(Duration::from_mins(1)).await;
    }
    let status = deployment.home.operations.status().await.unwrap();
    assert!(
        status.broken[0].error.contains("free some space"),
        "{}",
        status.broken[0].error
    );
    assert_eq!(deployment.state("accounts").await, MapState::Initializing);
    target.limit_size(1_000_000);
    deployment.until("accounts", MapState::Running).await;
    assert_well(&crm, &deployment, "other.db").await;

    target.limit_size(1);
    change_something(&crm);
    for number in 0..50 {
        let key = uuid::Uuid::from_u128(number).to_string();
        let row = json!({ "Name": "N".repeat(500), "AccountNumber": "A", "ParentAccountId": null,
            "Country": "Japan", "CreditLimit": 5, "Address": { "City": "C".repeat(500) } });
        crm.write(Set::Accounts, &key, &row);
    }
    for _ in 0..20 {
        deployment.live(Duration::from_mins(1)).await;
    }
    assert_neighbours_equal(&crm, &deployment);
    assert!(deployment.books("accounts").await.in_flight > 0);
    target.limit_size(1_000_000);
    deployment.run_dry().await;
    assert_well(&crm, &deployment, "other.db").await;
}

#[tokio::test]
async fn a_table_that_is_gone_stops_its_map_until_it_is_loaded_again() {
    let crm = small_crm().await;
    let deployment = Deployment::open(apart(&crm, "other.db"));
    deployment.load_all().await;
    deployment
        .project
        .database("other.db")
        .execute_batch("DROP TABLE accounts")
        .unwrap();
    change_something(&crm);
    deployment.live(Duration::from_mins(5)).await;
    let status = deployment.status("accounts").await;
    let reason = status.reason.unwrap();
    assert_eq!(status.state, MapState::Broken);
    assert!(
        reason.contains("no such table: accounts") && reason.contains("`syncline load`"),
        "{reason}"
    );
    assert!(status.parked.packs > 0, "what came meanwhile is kept");
    assert_neighbours_equal(&crm, &deployment);
    deployment.load(&["accounts"]).await;
    assert_well(&crm, &deployment, "other.db").await;
}

#[tokio::test]
async fn a_column_that_is_gone_stops_its_map_until_it_is_back() {
    let crm = small_crm().await;
    let project = apart(&crm, "other.db");
    let text = fs::read_to_string(project.file("syncline.yaml")).unwrap();
    project.define(&text.replace(
        "stream: other.accounts, key: id",
        "stream: other.accounts, key: id, existing: true",
    ));
    let table =
        "CREATE TABLE accounts (id TEXT PRIMARY KEY, number TEXT, name TEXT, parent_id TEXT,
        country TEXT, city TEXT, credit_limit DECIMAL(18,2), credit_class TEXT)";
    project.database("other.db").execute_batch(table).unwrap();
    let deployment = Deployment::open(project);
    deployment.load_all().await;
    let other = deployment.project.database("other.db");
    other
        .execute_batch("ALTER TABLE accounts RENAME COLUMN city TO town")
        .unwrap();
    change_something(&crm);
    deployment.live(Duration::from_mins(5)).await;
    let status = deployment.status("accounts").await;
    let reason = status.reason.unwrap();
    assert_eq!(status.state, MapState::Broken);
    assert!(
        reason.contains("city") && reason.contains("`syncline check`"),
        "{reason}"
    );
    assert_neighbours_equal(&crm, &deployment);

    // Going on too early changes nothing.
    deployment
        .home
        .operations
        .resume(&name("accounts"))
        .await
        .unwrap();
    deployment.settle().await;
    let status = deployment.status("accounts").await;
    assert_eq!(status.state, MapState::Broken);
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("table `accounts` has no column `city`"),
        "{reason}"
    );

    other
        .execute_batch("ALTER TABLE accounts RENAME COLUMN town TO city")
        .unwrap();
    deployment
        .home
        .operations
        .resume(&name("accounts"))
        .await
        .unwrap();
    deployment.run_dry().await;
    assert_well(&crm, &deployment, "other.db").await;
}

/// On AWS: rows that are written to a file of a function are gone with its environment.
#[tokio::test]
async fn a_file_is_refused_where_none_lasts() {
    let deployment = Deployment::open(Project::demo("http://localhost"));
    let operations = &deployment.home.operations;
    let around = Surroundings {
        secrets: Arc::new(LocalSecrets::new(
            deployment.project.folder(),
            Arc::clone(&operations.clock),
        )),
        checkpoints: Arc::clone(&operations.checkpoints),
        links: Arc::new(deployment.home.store.clone()),
        clock: Arc::clone(&operations.clock),
        folder: None,
    };
    let systems = DefinedSystems::new(Arc::clone(&operations.definition), around);
    let refused = systems.target(&name("orders")).await.unwrap_err();
    assert!(!refused.passes(), "it would be tried for ever");
    assert!(
        refused
            .to_string()
            .contains("`warehouse`: a target of kind sqlite"),
        "{refused}"
    );
}

#[tokio::test]
async fn two_maps_wait_for_a_dead_target_and_the_third_does_not() {
    let crm = small_crm().await;
    let mut deployment = Deployment::open(apart(&crm, "other.db"));
    deployment.load_all().await;
    let switch = deployment.switch_targets(&["contacts", "orders"]);
    switch.turn(true);
    change_something(&crm);
    for _ in 0..10 {
        deployment.live(Duration::from_mins(1)).await;
    }
    let other = deployment.project.database("other.db");
    assert_eq!(differences_of(Set::Accounts, &crm, &other), [""; 0]);
    assert!(!differences_of(Set::Orders, &crm, &deployment.project.warehouse()).is_empty());
    switch.turn(false);
    deployment.run_dry().await;
    assert_well(&crm, &deployment, "other.db").await;
}
