//! Several processes on one data folder, and how they end.

use std::time::Duration;

use model::MapState;
use rustix::process::Signal;
use sample_crm::{Fault, Set};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use crate::support::{
    DEMO, Deployment, Project, Running, Up, assert_equal, run, run_with, small_crm,
};

#[tokio::test]
async fn a_second_up_on_a_data_folder_is_refused_and_harms_nothing() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    let first = Up::start(&project, &[]).await;
    let second = run(&project, &["up", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(second.code, Some(1));
    assert!(
        second.err.contains("another `syncline up` (process "),
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
    // The command is done when changes flow, and what was parked may still be on its way then.
    deployment.until("orders", MapState::Running).await;
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

#[tokio::test]
async fn a_command_goes_on_by_itself_when_the_process_that_did_its_work_ends() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    let up = Up::start(&project, &[]).await;
    crm.break_pages(Fault::ServerError, 1_000);
    let mut load = Running::spawn(&project, &["load", "orders"], &[]);
    load.notes("orders waits and tries again").await;
    assert_eq!(up.stop().await, Some(0));
    crm.heal();
    let ended = timeout(Duration::from_mins(1), load.ended()).await;
    let ended = ended.expect("nobody has to come and do it");
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn an_up_waits_a_moment_for_a_command_that_has_the_folder() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let project = Project::demo(&url);
    let mut load = Running::spawn(&project, &["load", "orders"], &[]);
    let asked = silent.accept().await.unwrap();
    let mut up = Running::spawn(&project, &["up", "--listen", "127.0.0.1:0"], &[]);
    up.notes("waiting a moment for `syncline load` (process ")
        .await;
    load.signal(Signal::INT);
    load.notes("Ctrl-C again ends at once").await;
    load.signal(Signal::INT);
    assert_eq!(load.ended().await.code, Some(130));
    up.notes("webhooks are taken at").await;
    drop(asked);
}

#[tokio::test]
async fn a_second_interrupt_ends_what_waits_for_a_source() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    for signal in [Signal::INT, Signal::TERM] {
        let project = Project::demo(&url);
        let mut load = Running::spawn(&project, &["load", "orders"], &[]);
        let _asked = silent.accept().await.unwrap();
        load.signal(signal);
        load.notes("Ctrl-C again ends at once").await;
        let began = Instant::now();
        load.signal(signal);
        let ended = load.ended().await;
        assert_eq!(ended.code, Some(130), "{ended:?}");
        assert!(ended.err.contains("interrupted: "), "{}", ended.err);
        assert!(began.elapsed() < Duration::from_secs(5));
        // Nobody is left who holds the folder.
        let up = Up::start(&project, &[]).await;
        up.kill().await;
    }
}

#[tokio::test]
async fn a_client_that_hangs_keeps_no_up_from_its_end() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    let up = Up::start(&project, &[]).await;
    let mut headers = TcpStream::connect(up.address()).await.unwrap();
    headers.write_all(b"POST /hooks/crm HTT").await.unwrap();
    let mut body = TcpStream::connect(up.address()).await.unwrap();
    let request = b"POST /hooks/crm HTTP/1.1\r\nhost: me\r\ncontent-length: 10\r\n\r\n{";
    body.write_all(request).await.unwrap();
    // A third one, so that the first two have been seen.
    let mut health = TcpStream::connect(up.address()).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: me\r\n\r\n";
    health.write_all(request).await.unwrap();
    let mut answer = [0; 12];
    health.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let stopped = timeout(Duration::from_secs(15), up.stop()).await;
    assert_eq!(stopped.expect("an end"), Some(0));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_called_too_large() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    let up = Up::start(&project, &[]).await;
    let mut client = TcpStream::connect(up.address()).await.unwrap();
    let request =
        b"POST /hooks/crm HTTP/1.1\r\nhost: me\r\ntransfer-encoding: chunked\r\n\r\nnot a size";
    client.write_all(request).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(!answer.contains("413"), "{answer}");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    up.kill().await;
}

#[tokio::test]
async fn the_demo_tells_its_story_to_the_end() {
    let project = Project::new("");
    let folder = project.file("demo");
    let folder = folder.to_str().unwrap();
    let demo = run(&project, &["demo", "--fast", "--folder", folder]).await;
    assert_eq!(demo.code, Some(0), "{demo:#?}");
    for said in [
        format!("\n$ syncline --project {folder} load --all\n"),
        format!("\n$ syncline --project {folder} failures groups\n GROUP "),
        format!("\n$ syncline --project {folder} failures list\nno failures\n"),
        "in the version that the source has".into(),
        "Every record of the CRM is in the warehouse, compared by key and version.".into(),
    ] {
        assert!(demo.out.contains(&said), "{said}: {}", demo.out);
    }
    // The next demo may have the folder, and nobody else meanwhile.
    let mut again = Running::spawn(&project, &["demo", "--fast", "--folder", folder], &[]);
    again.says("2. The initial load").await;
    let second = run(&project, &["demo", "--fast", "--folder", folder]).await;
    assert_eq!(second.code, Some(1));
    assert!(
        second.err.contains("another `syncline demo` (process "),
        "{second:?}"
    );
    again.signal(Signal::INT);
    let ended = again.ended().await;
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.err.contains("nothing is left running"), "{ended:?}");
    assert!(!ended.out.contains("The balance"), "{}", ended.out);
}

#[tokio::test]
async fn the_demo_writes_over_nothing_of_others() {
    let crm = small_crm().await;
    let project = Project::demo(&crm.url());
    let text = DEMO
        .split_once('\n')
        .unwrap()
        .1
        .replace("{url}", &crm.url());
    project.define(&text);
    assert_eq!(run(&project, &["load", "orders"]).await.code, Some(0));
    let folder = project.folder().to_str().unwrap();
    let demo = run(&project, &["demo", "--fast", "--folder", folder]).await;
    assert_eq!(demo.code, Some(1), "{demo:?}");
    assert!(demo.err.contains("would write over"), "{}", demo.err);
    let kept = std::fs::read_to_string(project.file("syncline.yaml")).unwrap();
    assert_eq!(kept, text);
    // A folder without a project, but not without anything.
    std::fs::remove_file(project.file("syncline.yaml")).unwrap();
    let demo = run(&project, &["demo", "--fast", "--folder", folder]).await;
    assert_eq!(demo.code, Some(1), "{demo:?}");
    project.define(&text);
    assert_equal_orders(&crm, &project);
    assert_eq!(run(&project, &["status"]).await.code, Some(0));
}

fn assert_equal_orders(crm: &sample_crm::SampleCrm, project: &Project) {
    let count = "SELECT count(*) FROM orders";
    let rows: usize = project
        .warehouse()
        .query_row(count, [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, crm.keys(Set::Orders).len());
}
