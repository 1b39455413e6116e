//! Applies packs to targets, as a Lambda function on the queues of the three lanes.

use std::{process::ExitCode, sync::Arc};

use apply::{Apply, GRACE, LONGEST_CALL, NEEDS};
use aws::{
    Delivered,
    function::{Error, SqsEvent, run, serve},
};
use systems::{DefinedPlans, DefinedSystems, Surroundings};

#[tokio::main(flavor = "local")]
async fn main() -> ExitCode {
    run(Box::pin(function())).await
}

async fn function() -> Result<(), Error> {
    let stack = aws::Stack::of_function(&NEEDS)?;
    let definition = stack.definition()?;
    stack.ready(&NEEDS, &definition).await?;
    let definition = Arc::new(Arc::unwrap_or_clone(definition).limit_calls(LONGEST_CALL));
    let around = Surroundings {
        secrets: stack.secrets(),
        checkpoints: stack.checkpoints(),
        links: stack.links(),
        clock: stack.clock(),
        folder: None,
    };
    let outbox = stack.outbox(&definition);
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
        outbox,
        parking: stack.parking(),
        states: stack.states().telling(stack.alerts()),
        breakers: stack.breakers().telling(stack.alerts()),
        ledger: stack.ledger(),
        checkpoints: stack.checkpoints(),
        clock: stack.clock(),
        metrics: stack.metrics(),
        traces: stack.traces(),
        grace: Some(GRACE),
    };
    let (queues, clock) = (&stack.queues(), stack.clock());
    serve(clock.as_ref(), |event: SqsEvent, deadline| async move {
        let delivered = Delivered::of(&event);
        let response = apply.handle(event, deadline).await;
        queues.give_back(delivered, &response).await;
        Ok(response)
    })
    .await
}
