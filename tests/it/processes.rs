//! Several processes on one data folder.

use model::MapState;

use sample_crm::Set;
use serde_json::json;

use crate::support::{DEMO, Deployment, Project, Up, assert_equal, run, run_with, small_crm};

#[tokio::test]
async fn a_second_up_on_a_data_folder_is_refused_and_harms_nothing() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    let first = Up::start(&project, &[]).await;
    let second = run(&project, &["up", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(second.code, Some(1));
    assert!(
        second.err.contains("another `syncline up` works on"),
        "{}",
        second.err
    );
    assert!(second.err.contains("--data"), "{}", second.err);

    // Commands beside it are another matter: it does the work they ask for.
    let load = run(&project, &["load", "--all"]).await;
    assert_eq!(load.code, Some(0), "{load:#?}");
    let pull = run(&project, &["pull"]).await;
    assert_eq!(pull.code, Some(0), "{pull:#?}");
    assert_eq!(first.stop().await, Some(0));

    let deployment = Deployment::open(project);
    assert_equal(&crm, &deployment.project.warehouse());
    deployment.assert_balanced().await;
}

#[tokio::test]
async fn an_up_that_was_killed_leaves_the_folder_to_the_next_one() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    Up::start(&project, &[]).await.kill().await;
    let next = Up::start(&project, &[]).await;
    let load = run(&project, &["load", "--all"]).await;
    assert_eq!(load.code, Some(0), "{load:#?}");
    next.kill().await;
    let deployment = Deployment::open(project);
    assert_eq!(deployment.state("orders").await, MapState::Running);
    assert_equal(&crm, &deployment.project.warehouse());
}

#[tokio::test]
async fn two_ups_that_start_at_once_leave_exactly_one() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    let mut ups: Vec<Up> = (0..4).map(|_| Up::spawn(&project, &[])).collect();
    // The data folder is new, so all of them want to make it.
    let (ended, _, left) =
        futures_util::future::select_all(ups.iter_mut().map(|up| Box::pin(up.ended()))).await;
    assert_eq!(ended, Some(1));
    let (ended, _, left) = futures_util::future::select_all(left).await;
    assert_eq!(ended, Some(1));
    let (ended, _, left) = futures_util::future::select_all(left).await;
    assert_eq!((ended, left.len()), (Some(1), 1));
    drop(left);
    let load = run(&project, &["load", "--all"]).await;
    assert_eq!(load.code, Some(0), "{load:#?}");
    assert_equal(&crm, &project.warehouse());
}

#[tokio::test]
async fn a_record_that_kills_the_worker_in_a_bulk_load_is_found_and_its_neighbours_are_loaded() {
    let crm = small_crm().await;
    let fatal = crm.keys(Set::Orders)[13].clone();
    crm.write(Set::Orders, &fatal, &json!({ "Status": "fatal status" }));
    let project = Project::new(&DEMO.replace("{url}", &crm.url()));
    let kills = [("SYNCLINE_CRASH_ON", "fatal status")];
    let mut deaths = 0;
    let load = loop {
        let load = run_with(&project, &["load", "orders"], &kills).await;
        if load.code.is_some() {
            break load;
        }
        deaths += 1;
        assert!(deaths < 40, "the record is not found");
    };
    // The load has come to its end, with one failure.
    assert_eq!(load.code, Some(5), "{load:#?}");
    let deployment = Deployment::open(project);
    let failures = deployment.failures("orders").await;
    let found: Vec<_> = failures
        .iter()
        .map(|one| (one.key.as_deref(), one.cause.code.as_str()))
        .collect();
    assert_eq!(
        found,
        [(Some(fatal.as_str()), "poison")],
        "after {deaths} deaths"
    );
    let rows = deployment.query("SELECT count(*) FROM orders");
    assert_eq!(rows, [[(crm.keys(Set::Orders).len() - 1).to_string()]]);
    deployment.assert_balanced().await;
}
