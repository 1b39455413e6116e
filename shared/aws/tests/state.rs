//! The suites of the ports that one DynamoDB table serves.

#![cfg(test)]

mod support;
#[path = "support/tables.rs"]
mod tables;

use std::sync::Arc;

use aws::StateTable;
use ports::SystemClock;

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
