//! Takes webhooks in, as a Lambda function behind a function URL or an HTTP API.

use std::{process::ExitCode, sync::Arc};

use aws::function::{Error, run, serve};
use webhook_intake::{NEEDS, Remember, WebhookIntake};

#[tokio::main(flavor = "local")]
async fn main() -> ExitCode {
    run(Box::pin(function())).await
}

async fn function() -> Result<(), Error> {
    let stack = aws::Stack::of_function(&NEEDS)?;
    let definition = stack.definition()?;
    stack.ready(&NEEDS, &definition).await?;
    let intake = WebhookIntake {
        outbox: stack.outbox(&definition),
        secrets: stack.secrets(),
        clock: stack.clock(),
        remember: Remember::WhereNeeded,
        metrics: stack.metrics(),
        definition,
    };
    let clock = stack.clock();
    let intake = &Arc::new(intake);
    serve(clock.as_ref(), |event, _| async move {
        Ok(intake.handle(event).await)
    })
    .await
}
