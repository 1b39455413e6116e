//! Secrets: Secrets Manager.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_secretsmanager::{
    Client, error::ProvideErrorMetadata, operation::get_secret_value::GetSecretValueError,
};
use jiff::Timestamp;
use ports::{Clock, Secret, SecretError, Secrets};

use crate::{ready::Found, said::said};

/// How long a secret is kept: a rotated one works within this time. Half of what the port allows,
/// for a caller may hold on to it for a while.
const FRESH: Duration = Duration::from_secs(30);

/// What is said of a secret that is there and cannot be read before somebody does something: one
/// that is being deleted, whose key is disabled, or that has no value yet.
const USELESS: [&str; 3] = [
    "DecryptionFailure",
    "DecryptionFailureException",
    "InvalidRequestException",
];

/// Reads `secret://crm-hook` from the secret whose name is a prefix of the deployment's and
/// `crm-hook`, as text.
#[derive(Debug, Clone)]
pub struct SecretsManager {
    client: Client,
    prefix: String,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<HashMap<String, Arc<Slot>>>>,
}

/// The newest answer about one secret. It is locked while the secret is read, so that all who want
/// it at the same time share one call.
type Slot = tokio::sync::Mutex<Option<Known>>;

#[derive(Debug, Clone)]
struct Known {
    /// When it was asked for.
    asked: Timestamp,
    answer: Result<Secret, Trouble>,
}

/// A [`SecretError`] that can be given to several callers.
#[derive(Debug, Clone)]
enum Trouble {
    NotFound,
    /// It is not given to this reader, or is of no use.
    Refused(String),
    Unavailable(String),
}

impl SecretsManager {
    /// The secrets whose names begin with `prefix`.
    #[must_use]
    pub fn new(client: Client, prefix: String, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            prefix,
            clock,
            known: Arc::default(),
        }
    }

    async fn read(&self, id: &str) -> Result<Secret, Trouble> {
        let read = self.client.get_secret_value().secret_id(id).send().await;
        let value = read.map_err(|error| {
            let said = said(&error);
            let service = error.as_service_error();
            if service.is_some_and(GetSecretValueError::is_resource_not_found_exception) {
                Trouble::NotFound
            } else if error.code().is_some_and(|code| USELESS.contains(&code)) {
                Trouble::Refused(format!("`{id}` is there and cannot be read: {said}"))
            } else if error.code() == Some("AccessDeniedException") {
                Trouble::Refused(format!(
                    "this needs the permission secretsmanager:GetSecretValue on `{id}`, and \
                     kms:Decrypt on its key if that is not the account's own: {said}"
                ))
            } else {
                Trouble::Unavailable(format!("Secrets Manager on `{id}`: {said}"))
            }
        })?;
        match value.secret_string {
            // A file given to the command line usually ends with a line break.
            Some(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
            None => Err(Trouble::Refused(format!(
                "the value of `{id}` is binary and has to be text: set it with --secret-string"
            ))),
        }
    }

    /// A secret that was read within `life`, or is read now.
    async fn known(&self, name: &str, life: Duration) -> Result<Secret, Trouble> {
        let slot = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(name.to_owned()).or_default())
        };
        let wanted = self.clock.now();
        let mut slot = slot.lock().await;
        if let Some(known) = slot.as_ref() {
            // A failure is shared only by those who were waiting when its call began.
            let fresh = match &known.answer {
                Ok(_) => self.clock.now() < known.asked + life,
                Err(_) => wanted <= known.asked,
            };
            if fresh {
                return known.answer.clone();
            }
        }
        let asked = self.clock.now();
        let answer = self.read(&format!("{}{name}", self.prefix)).await;
        *slot = Some(Known {
            asked,
            answer: answer.clone(),
        });
        answer
    }

    /// Reads a secret ahead of its use, and tells one that nobody will get until a person does
    /// something from one that may come.
    pub(crate) async fn look(&self, name: &str) -> Found {
        let trouble = match self.known(name, FRESH).await {
            Ok(secret) if secret.expose().trim().is_empty() => {
                return Found::Unusable(format!("secret `{name}` is empty"));
            }
            Ok(_) => return Found::Ready,
            Err(trouble) => trouble,
        };
        let passes = matches!(trouble, Trouble::Unavailable(_));
        let why = self.error(name, trouble).to_string();
        if passes {
            Found::Unanswered(why)
        } else {
            Found::Unusable(why)
        }
    }

    fn error(&self, name: &str, trouble: Trouble) -> SecretError {
        let name = name.to_owned();
        match trouble {
            Trouble::NotFound => SecretError::NotFound {
                remedy: format!(
                    "write it to a file and run `aws secretsmanager create-secret --name \
                     '{}{name}' --secret-string file://secret.txt`",
                    self.prefix
                ),
                name,
            },
            Trouble::Refused(text) | Trouble::Unavailable(text) => SecretError::Unavailable {
                name,
                source: text.into(),
            },
        }
    }
}

#[async_trait]
impl Secrets for SecretsManager {
    async fn get(&self, name: &str) -> Result<Secret, SecretError> {
        let known = self.known(name, FRESH).await;
        known.map_err(|trouble| self.error(name, trouble))
    }

    async fn within(&self, name: &str, age: Duration) -> Result<Secret, SecretError> {
        let known = self.known(name, age).await;
        known.map_err(|trouble| self.error(name, trouble))
    }
}

#[cfg(test)]
mod tests;
