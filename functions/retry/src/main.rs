//! Owns failures, as a Lambda function: queues have reports, jobs and dead letters, and a timer
//! sends round what is due.

use std::{process::ExitCode, time::Duration};

use aws::{
    Delivered, Stack,
    function::{Answer, Error, IgnoredAny, Trigger, run, serve},
};
use model::QueueName;
use retry::{NEEDS, Retry};

/// How long failures that have ended are kept.
const KEEP: Duration = Duration::from_hours(30 * 24);

#[tokio::main(flavor = "local")]
async fn main() -> ExitCode {
    run(Box::pin(function())).await
}

async fn function() -> Result<(), Error> {
    let stack = &Stack::of_function(&NEEDS)?;
    let definition = stack.definition()?;
    stack.ready(&NEEDS, &definition).await?;
    let retry = &Retry {
        failures: stack.failures(),
        outbox: stack.outbox(&definition),
        parking: stack.parking(),
        states: stack.states(),
        breakers: stack.breakers(),
        checkpoints: stack.checkpoints(),
        ledger: stack.ledger(),
        clock: stack.clock(),
        keep: KEEP,
        definition,
    };
    let (queues, clock) = (&stack.queues(), stack.clock());
    serve(clock.as_ref(), |trigger, deadline| async move {
        Ok(match trigger {
            Trigger::Messages(event) => {
                let delivered = Delivered::of(&event);
                let response = match aws::Queues::source(&event) {
                    Some(QueueName::Failures) => retry.handle_reports(event, deadline).await,
                    Some(QueueName::Retries) => retry.handle_jobs(event, deadline).await,
                    Some(QueueName::Dead) => retry.handle_dead(event, deadline).await,
                    // Of no queue of this function: whoever has connected it sees it come back.
                    _ => runtime::fail_all(&event),
                };
                queues.give_back(delivered, &response).await;
                Answer::Messages(response)
            }
            Trigger::Timer(IgnoredAny) => {
                // Each has its turn, whatever becomes of the others.
                stack.fold(retry.definition.maps.keys(), deadline).await;
                let (ticked, tidied) = (retry.tick(deadline).await, retry.tidy(deadline).await);
                ticked.and(tidied)?;
                Answer::Timer(())
            }
        })
    })
    .await
}
