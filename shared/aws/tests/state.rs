//! The suites of the ports that one DynamoDB table serves.

#![cfg(test)]

mod support;
#[path = "support/tables.rs"]
mod tables;

use std::{sync::Arc, time::Duration};

use aws::StateTable;
use model::{MapEvent, MapName};
use ports::{
    Clock, SystemClock,
    testing::{ManualClock, map_name},
};
use runtime::MapStates;

/// A new table in each DynamoDB that there is to test with.
async fn tables() -> Vec<StateTable> {
    let mut tables = Vec::new();
    for (_, clients) in support::dynamodb_clients().await {
        let name = support::unique("state");
        tables::create(&clients.dynamodb, &name, false).await;
        let clock = Arc::new(SystemClock);
        tables.push(StateTable::new(clients.dynamodb, name, clock));
    }
    tables
}

#[tokio::test]
async fn books_are_added_up_of_maps_that_are_gone_as_well_now_and_then() {
    let clients = support::clients().await;
    let name = support::unique("state");
    tables::create(&clients.dynamodb, &name, false).await;
    let clock = Arc::new(ManualClock::default());
    let port = || Arc::clone(&clock) as Arc<dyn Clock>;
    let table = StateTable::new(clients.dynamodb, name, port());
    let states = MapStates::new(Arc::new(table.clone()), port());
    let (defined, gone) = (map_name("customers"), map_name("orders"));
    for map in [&defined, &gone] {
        states.transition(map, MapEvent::Start).await.unwrap();
    }
    let mut turns = Vec::new();
    for _ in 0..60 {
        turns.extend(table.maps_to_fold([&defined]).await);
        clock.advance(Duration::from_mins(1));
    }
    let of = |map: &MapName| turns.iter().filter(|turn| *turn == map).count();
    assert_eq!((of(&defined), of(&gone), turns.len()), (12, 1, 13));
}

mod ministack {
    use super::*;
    mod checkpoints {
        use super::*;
        ports::checkpoints_contract!(async || tables().await.remove(0));
    }
    mod links {
        use super::*;
        ports::links_contract!(async || tables().await.remove(0));
    }
}

mod moto {
    use super::*;
    mod checkpoints {
        use super::*;
        ports::checkpoints_contract!(async || tables().await.remove(1));
    }
    mod links {
        use super::*;
        ports::links_contract!(async || tables().await.remove(1));
    }
}
