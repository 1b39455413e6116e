//! Applies packs to targets, as a Lambda function on the queues of the three lanes.

use std::{path::PathBuf, sync::Arc};

use apply::{Apply, NEEDS};
use aws::function::{Error, serve};
use systems::{DefinedPlans, DefinedSystems, Surroundings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let stack = aws::Stack::of_function(&NEEDS).await?;
    let definition = stack.definition()?;
    let around = Surroundings {
        secrets: stack.secrets(),
        checkpoints: stack.checkpoints(),
        links: stack.links(),
        clock: stack.clock(),
        folder: PathBuf::from("/tmp"),
    };
    let systems = Arc::new(DefinedSystems::new(Arc::clone(&definition), around));
    let plans = DefinedPlans::new(
        Arc::clone(&definition),
        Arc::clone(&systems) as _,
        stack.checkpoints(),
    );
    let apply = &Apply {
        definition,
        plans: Arc::new(plans),
        systems,
        outbox: stack.outbox(),
        parking: stack.parking(),
        states: stack.states(),
        breakers: stack.breakers(),
        ledger: stack.ledger(),
        checkpoints: stack.checkpoints(),
        clock: stack.clock(),
        metrics: stack.metrics(),
        traces: stack.traces(),
    };
    let clock = stack.clock();
    serve(clock.as_ref(), |event, deadline| async move {
        Ok(apply.handle(event, deadline).await)
    })
    .await
}
