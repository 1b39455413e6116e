//! Workers that die in the middle, and how soon others go on where they were.

use std::time::Duration;

use model::MapState;
use ports::Clock;

use crate::support::{Deployment, Project, name, orders, small_crm};

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
