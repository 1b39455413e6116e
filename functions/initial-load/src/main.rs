//! Loads maps, as a Lambda function: a queue has the steps of loads, and a timer looks after
//! loads that nobody works on.

use std::{process::ExitCode, sync::Arc};

use aws::{
    Delivered,
    function::{Answer, Error, IgnoredAny, Trigger, run, serve},
};
use initial_load::{InitialLoad, NEEDS};
use systems::{DefinedPlans, DefinedSystems, Surroundings};

#[tokio::main(flavor = "local")]
async fn main() -> ExitCode {
    run(Box::pin(function())).await
}

async fn function() -> Result<(), Error> {
    let stack = aws::Stack::of_function(&NEEDS)?;
    let definition = stack.definition()?;
    stack.ready(&NEEDS, &definition).await?;
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
    let load = &InitialLoad {
        definition,
        plans: Arc::new(plans),
        systems,
        outbox,
        checkpoints: stack.checkpoints(),
        ledger: stack.ledger(),
        states: stack.states().telling(stack.alerts()),
        clock: stack.clock(),
        metrics: stack.metrics(),
    };
    let (queues, clock) = (&stack.queues(), stack.clock());
    serve(clock.as_ref(), |trigger, deadline| async move {
        Ok(match trigger {
            Trigger::Messages(event) => {
                let delivered = Delivered::of(&event);
                let response = load.handle(event, deadline).await;
                queues.give_back(delivered, &response).await;
                Answer::Messages(response)
            }
            Trigger::Timer(IgnoredAny) => Answer::Timer(load.watch().await?),
        })
    })
    .await
}
