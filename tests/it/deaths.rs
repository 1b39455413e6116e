//! Workers that die in the middle, and how soon others go on where they were.

use std::{sync::Arc, time::Duration};

use model::{Failure, FailureStatus, MapState, QueueName, RetryJob, RunId};
use ports::Clock;
use sample_crm::{SampleCrm, Set};

use crate::support::{Deployment, Gate, Project, Slow, message, name, orders, small_crm};

#[tokio::test]
async fn a_load_whose_worker_dies_over_its_end_is_ended_by_another_soon_after() {
    let crm = small_crm().await;
    let mut deployment = Deployment::open(Project::new(&orders(&crm.url(), "", "")));
    let switch = deployment.switch_targets(&["orders"]);
    switch.stick();
    deployment
        .home
        .operations
        .load(&name("orders"))
        .await
        .unwrap();
    // Whoever works on it is dropped there, and gives nothing back.
    tokio::select! {
        () = deployment.settle() => panic!("it came to its end"),
        () = switch.reached() => {}
    }
    let died = deployment.clock.now();
    while deployment.state("orders").await != MapState::Running {
        let passed = deployment.clock.now().duration_since(died);
        // The minute it was given, the margin, and a look of the timer.
        assert!(passed.as_secs() < 210, "it is held by the dead");
        deployment.live(Duration::from_secs(10)).await;
    }
    assert_eq!(deployment.query("SELECT count(*) FROM orders"), [["20"]]);
}

/// Orders whose map runs, and failures of them that are due.
async fn with_due(crm: &SampleCrm, count: u128) -> Deployment {
    let deployment = Deployment::open(Project::new(&orders(&crm.url(), "", "")));
    deployment.load(&["orders"]).await;
    let row = crm.row(Set::Orders, "100001").unwrap().to_string();
    let map = name("orders");
    let due = |id| Failure {
        raw: row.clone(),
        status: FailureStatus::Waiting,
        due: Some(deployment.clock.now()),
        ..ports::testing::failure(id, &map, RunId::live(&map))
    };
    let failures: Vec<Failure> = (0..count).map(due).collect();
    let store = &deployment.home.operations.failures;
    store.put_new(&failures).await.unwrap();
    deployment
}

/// How many failures stand there.
async fn standing(deployment: &Deployment, status: FailureStatus) -> usize {
    let failures = deployment.failures("orders").await;
    let there = failures.iter().filter(|failure| failure.status == status);
    there.count()
}

#[tokio::test]
async fn failures_whose_worker_dies_before_it_sends_them_are_sent_soon_after() {
    let crm = small_crm().await;
    let deployment = with_due(&crm, 3).await;
    let gate = Gate::new();
    let dying = deployment.retry_through(Arc::clone(&gate) as _);
    tokio::select! {
        ticked = dying.tick(deployment.deadline()) => panic!("it came to its end: {ticked:?}"),
        () = gate.reached() => {}
    }
    assert_eq!(standing(&deployment, FailureStatus::Retrying).await, 3);
    let died = deployment.clock.now();
    while !deployment.failures("orders").await.is_empty() {
        let passed = deployment.clock.now().duration_since(died);
        // The minute it was given and the margin.
        assert!(passed.as_secs() < 140, "nobody sends what it has marked");
        deployment.pass(Duration::from_secs(10)).await;
    }
}

#[tokio::test]
async fn what_a_worker_has_sent_is_not_sent_again_by_who_comes_after_it() {
    let crm = small_crm().await;
    let deployment = with_due(&crm, 3).await;
    let slow = Slow::new(&deployment.clock, Duration::ZERO);
    let retry = deployment.retry_through(Arc::clone(&slow) as _);
    // Nobody receives what is sent: it is on its way for a long time.
    for _ in 0..14 {
        retry.tick(deployment.deadline()).await.unwrap();
        deployment.clock.advance(Duration::from_mins(1));
    }
    assert_eq!(slow.taken().len(), 1);
    deployment.clock.advance(Duration::from_mins(1));
    retry.tick(deployment.deadline()).await.unwrap();
    assert_eq!(slow.taken().len(), 1, "it counts as lost now");
}

#[tokio::test]
async fn a_tick_stops_at_its_deadline_and_the_next_one_goes_on() {
    const FAILURES: u128 = 450;
    let crm = small_crm().await;
    let deployment = with_due(&crm, FAILURES).await;
    let slow = Slow::new(&deployment.clock, Duration::from_secs(61));
    let retry = deployment.retry_through(Arc::clone(&slow) as _);
    let mut marked = 0;
    for _ in 0..3 {
        let deadline = deployment.deadline();
        retry.tick(deadline).await.unwrap();
        let after = standing(&deployment, FailureStatus::Retrying).await;
        assert!((1..=200).contains(&(after - marked)), "{marked} to {after}");
        marked = after;
    }
    assert_eq!(marked as u128, FAILURES);
    assert_eq!(standing(&deployment, FailureStatus::Waiting).await, 0);
}

#[tokio::test]
async fn a_replay_that_has_no_time_left_goes_on_in_a_job_of_its_own() {
    let crm = small_crm().await;
    let deployment = with_due(&crm, 450).await;
    let slow = Slow::new(&deployment.clock, Duration::from_secs(61));
    let retry = deployment.retry_through(Arc::clone(&slow) as _);
    let failures = deployment.failures("orders").await;
    let all = RetryJob::Replay {
        failures: failures.iter().map(|failure| failure.id).collect(),
    };
    let mut next = Some(all);
    let mut jobs = 0;
    while let Some(job) = next {
        jobs += 1;
        let answer = retry.handle_jobs(message(&job), deployment.deadline());
        assert!(answer.await.batch_item_failures.is_empty());
        let mut sent = slow.taken().into_iter();
        let rest = sent.find(|(queue, _)| *queue == QueueName::Retries);
        next = rest.map(|(_, body)| serde_json::from_str(&body).unwrap());
    }
    assert_eq!(jobs, 3);
    assert_eq!(standing(&deployment, FailureStatus::Retrying).await, 450);
}
