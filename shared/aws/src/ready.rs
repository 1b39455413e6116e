//! Looking at what a function uses before it takes an event: what it may not use, or what is not
//! there, ends it with its name; and the connections that its first event would wait for are made
//! while AWS still gives it a whole processor.

mod secrets;

use std::{fmt, future::Future, time::Duration};

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use definition::Definition;
use model::QueueName;
use runtime::Needs;

use crate::{Stack, StackError, said::said};

/// How long a service has for its answers. One that needs longer may be well again when it is
/// used; AWS ends a function that has not begun after ten seconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the services say of what is not there or not allowed. That which passes by itself is not
/// among it: it is not worth a start that fails.
const FINAL: [&str; 18] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationHeaderMalformed",
    "InvalidAddress",
    "InvalidBucketName",
    "InvalidSecurity",
    "KmsAccessDenied",
    "KmsDisabled",
    "KmsInvalidKeyUsage",
    "KmsInvalidState",
    "KmsNotFound",
    "KmsOptInRequired",
    "NoSuchBucket",
    "NonExistentQueue",
    "PermanentRedirect",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
    "ValidationException",
];

/// What has come of a call that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It may be used.
    Ready,
    /// It may not, and will not be by itself; this is why.
    Unusable(String),
    /// Nobody knows; this is what happened.
    Unanswered(String),
}

impl Found {
    /// Of an answer. `fine` are the errors by which the service refuses nothing but the call's lack
    /// of sense, for which it has to be allowed first.
    pub(crate) fn of<T, E, R>(answer: &Result<T, SdkError<E, R>>, fine: &[&str]) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: fmt::Debug,
    {
        let Err(error) = answer else {
            return Self::Ready;
        };
        let service = error.as_service_error();
        let code = service.and_then(|error| error.meta().code());
        // Some put the name of the service or of an older protocol's space of names before it.
        let code = code.and_then(|code| code.rsplit(['.', '#']).next());
        match code {
            Some(code) if fine.contains(&code) => Self::Ready,
            Some(code) if FINAL.contains(&code) => Self::Unusable(in_one_line(&said(error))),
            // It was not even sent: what it was made of is no address or no name.
            None if matches!(error, SdkError::ConstructionFailure(_)) => {
                Self::Unusable(in_one_line(&said(error)))
            }
            _ => Self::Unanswered(in_one_line(&said(error))),
        }
    }
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a function cannot work without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// What it is.
    pub part: String,
    /// What its role has to allow.
    pub permission: &'static str,
    /// What AWS says.
    pub said: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            part,
            permission,
            said,
        } = self;
        write!(
            f,
            "{part} cannot be used: {said} (it has to be there, and the role of this function has to \
             allow {permission} on it)"
        )
    }
}

/// Something that was looked at.
struct Looked {
    part: String,
    permission: &'static str,
    found: Found,
}

impl Stack {
    /// Looks at what a function with these needs uses, all services side by side, by calls that
    /// change nothing and take no permission that it does not have anyway. What may not be used
    /// or is not there is an error; of a service that does not answer the log tells, for it may
    /// answer when it is used. So it does of secrets that cannot be had, as long as there is a
    /// map that can do without them.
    pub async fn ready(&self, needs: &Needs, definition: &Definition) -> Result<(), StackError> {
        let mut unusable = Vec::new();
        // The calls of four services at once are larger than what a stack should hold.
        let (looked_at, secrets) = Box::pin(self.look_at_all(needs, definition)).await;
        for looked in looked_at {
            let Looked {
                part,
                permission,
                found,
            } = looked;
            match found {
                Found::Ready => {}
                Found::Unanswered(why) => {
                    tracing::warn!(
                        "{part} does not answer yet; it is asked again when it is used: {why}"
                    );
                }
                Found::Unusable(said) => unusable.push(Unusable {
                    part,
                    permission,
                    said,
                }),
            }
        }
        if unusable.is_empty() {
            secrets
        } else {
            Err(StackError::Unusable(unusable))
        }
    }

    async fn look_at_all(
        &self,
        needs: &Needs,
        definition: &Definition,
    ) -> (Vec<Looked>, Result<(), StackError>) {
        let (queues, tables, bucket, secrets) = tokio::join!(
            in_time("SQS", self.look_at_queues(needs)),
            in_time("DynamoDB", self.look_at_tables(needs)),
            in_time("S3", self.look_at_bucket(needs)),
            self.look_at_secrets(needs.secrets, definition),
        );
        let looked = [queues, tables, bucket].into_iter().flatten().collect();
        (looked, secrets)
    }

    /// One after the other: side by side each would have a connection of its own.
    async fn look_at_queues(&self, needs: &Needs) -> Vec<Looked> {
        let mut all = Vec::with_capacity(needs.queues.len());
        for &queue in needs.queues {
            let url = self.environment.queues.get(&queue);
            let part = format!("the queue `{queue}` ({})", url.map_or("", String::as_str));
            let (permission, found) = if queue == QueueName::Dead {
                (
                    "sqs:ChangeMessageVisibility",
                    self.queues.may_put_off(queue).await,
                )
            } else {
                ("sqs:SendMessage", self.queues.may_send(queue).await)
            };
            all.push(Looked {
                part,
                permission,
                found,
            });
        }
        all
    }

    async fn look_at_tables(&self, needs: &Needs) -> Vec<Looked> {
        let looked = |name: &str, found| Looked {
            part: format!("the table `{name}`"),
            permission: "dynamodb:GetItem",
            found,
        };
        let mut all = vec![looked(
            &self.environment.state_table,
            self.state.may_read().await,
        )];
        if needs.failures {
            let found = self.failures.may_read().await;
            all.push(looked(&self.environment.failures_table, found));
        }
        all
    }

    async fn look_at_bucket(&self, needs: &Needs) -> Vec<Looked> {
        if !needs.blobs {
            return Vec::new();
        }
        vec![Looked {
            part: format!("the bucket `{}`", self.environment.bucket),
            permission: "s3:PutObject",
            found: self.blobs.may_write().await,
        }]
    }
}

/// Nothing, when a service takes too long.
async fn in_time(service: &str, looking: impl Future<Output = Vec<Looked>>) -> Vec<Looked> {
    if let Ok(looked) = tokio::time::timeout(PATIENCE, looking).await {
        return looked;
    }
    tracing::warn!("{service} does not answer yet; it is asked again when it is used");
    Vec::new()
}
