//! What the functions have in common as Lambda functions.

use std::{future::Future, process::ExitCode, time::Duration};

use aws_lambda_events::sqs::SqsBatchResponse;
use jiff::Timestamp;
use lambda_runtime::{Context, LambdaEvent, Runtime, service_fn};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::{Instrument, Span};

/// Messages of a queue.
pub use aws_lambda_events::sqs::SqsEvent;
pub use lambda_runtime::Error;
/// An event whose content does not matter.
pub use serde::de::IgnoredAny;

/// What sets a function off: messages of a queue, or a timer or person with an event of any
/// other shape.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Trigger<T> {
    /// Messages of a queue.
    Messages(SqsEvent),
    /// Anything else.
    Timer(T),
}

/// What a function answers to its trigger.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer<T> {
    /// The messages that have to come back.
    Messages(SqsBatchResponse),
    /// What a timer's work came to.
    Timer(T),
}

/// The part of the time given to a function that it leaves for bringing its work to an end.
const MARGIN: f64 = 0.25;
/// It need not be more than this.
const LONGEST_MARGIN: Duration = Duration::from_secs(30);

/// When a function should take on nothing more.
fn deadline(context: &Context, now: Timestamp) -> Timestamp {
    let end = i64::try_from(context.deadline).unwrap_or(i64::MAX);
    let end = Timestamp::from_millisecond(end).unwrap_or(Timestamp::MAX);
    let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
    let margin = left.mul_f64(MARGIN).min(LONGEST_MARGIN);
    end.saturating_sub(margin).unwrap_or(now)
}

/// Lets every line of an invocation say which it is of. Its level is the highest, so that it does
/// so whatever is logged.
fn invocation(context: &Context) -> Span {
    tracing::error_span!("invocation", request.id = context.request_id)
}

/// Runs a function as a program. What keeps it from beginning is one line in its log, and AWS
/// tries again with the next event.
///
/// It is a task of a runtime of the flavor `local`: to wake `main` itself takes a call of the
/// system each time.
pub async fn run(function: impl Future<Output = Result<(), Error>> + 'static) -> ExitCode {
    match tokio::task::spawn_local(function).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            tracing::error!("the function cannot begin: {error}");
            ExitCode::FAILURE
        }
        // The log has where.
        Err(_panicked) => ExitCode::FAILURE,
    }
}

/// Answers invocations until AWS ends the process. `handle` gets the event and the time by which
/// it should come to its end.
pub async fn serve<E, A, F, Fut>(clock: &dyn ports::Clock, handle: F) -> Result<(), Error>
where
    E: DeserializeOwned + Send,
    A: Serialize + Send,
    F: Fn(E, Timestamp) -> Fut + Send + Sync,
    Fut: Future<Output = Result<A, Error>> + Send,
{
    let service = service_fn(|event: LambdaEvent<E>| {
        let deadline = deadline(&event.context, clock.now());
        let invocation = invocation(&event.context);
        handle(event.payload, deadline).instrument(invocation)
    });
    // `lambda_runtime::run` would add a span of its own with the same.
    Runtime::new(service).run().await
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use ports::testing::Captured;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    struct Named {
        #[serde(default)]
        map: Option<String>,
    }

    #[test]
    fn messages_and_timers_are_told_apart() {
        let read = |text: &str| serde_json::from_str::<Trigger<Named>>(text).unwrap();
        let messages =
            r#"{"Records":[{"messageId":"1","body":"x","attributes":{},"messageAttributes":{}}]}"#;
        assert!(matches!(read(messages), Trigger::Messages(event) if event.records.len() == 1));
        assert!(matches!(
            read(r#"{"map":"a"}"#),
            Trigger::Timer(Named { map: Some(_) })
        ));
        let rule = r#"{"source":"aws.events","detail-type":"Scheduled Event","detail":{}}"#;
        assert!(matches!(read(rule), Trigger::Timer(Named { map: None })));
    }

    #[test]
    fn every_line_says_which_invocation_it_is_of() {
        let logged = Captured::default();
        let writer = logged.clone();
        let lines = runtime::json_lines("error", move || writer.clone());
        let mut context = Context::default();
        context.request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd".into();
        tracing::subscriber::with_default(lines, || {
            let work = async {
                tracing::info_span!("a detail").in_scope(|| tracing::error!("it does not work"));
            };
            assert!(
                work.instrument(invocation(&context))
                    .now_or_never()
                    .is_some()
            );
        });
        let line: serde_json::Value = serde_json::from_str(&logged.text()).unwrap();
        assert_eq!(line["request.id"], context.request_id);
    }

    #[test]
    fn a_part_of_the_time_is_left() {
        let now = Timestamp::from_second(1_000).unwrap();
        let mut context = Context::default();
        context.deadline = 1_010_000;
        assert_eq!(deadline(&context, now), now + Duration::from_millis(7_500));
        context.deadline = 1_300_000;
        assert_eq!(deadline(&context, now), now + Duration::from_secs(270));
        context.deadline = 0;
        assert!(deadline(&context, now) <= now);
    }
}
