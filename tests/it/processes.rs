//! Several processes on one data folder.

use model::MapState;

use crate::support::{Deployment, Project, Up, assert_equal, run, small_crm};

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
