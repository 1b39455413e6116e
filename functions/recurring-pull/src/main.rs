//! Pulls what changed, as a Lambda function: a timer or a person asks for pulls, and a queue has
//! the jobs.

use std::{process::ExitCode, sync::Arc};

use aws::{
    Delivered,
    function::{Answer, Error, Trigger, run, serve},
};
use recurring_pull::{NEEDS, RecurringPull, Schedule};
use systems::{DefinedSystems, Surroundings};

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
    let pull = &RecurringPull {
        systems: Arc::new(DefinedSystems::new(Arc::clone(&definition), around)),
        definition,
        outbox,
        checkpoints: stack.checkpoints(),
        states: stack.states().telling(stack.alerts()),
        clock: stack.clock(),
        metrics: stack.metrics(),
        schedule: Schedule::default(),
    };
    let (queues, clock) = (&stack.queues(), stack.clock());
    serve(clock.as_ref(), |trigger, deadline| async move {
        Ok(match trigger {
            Trigger::Messages(event) => {
                let delivered = Delivered::of(&event);
                let response = pull.handle(event, deadline).await;
                queues.give_back(delivered, &response).await;
                Answer::Messages(response)
            }
            Trigger::Timer(tick) => Answer::Timer(pull.tick(tick).await?),
        })
    })
    .await
}
