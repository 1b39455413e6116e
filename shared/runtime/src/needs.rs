//! What a function in the cloud finds in its environment.

use std::{collections::HashMap, path::PathBuf};

use model::QueueName;

use crate::env::{EnvError, optional, required};

/// What a function needs to be told about its deployment.
///
/// Everything is named in environment variables, so that one look at the template shows what a
/// function can reach.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Queues it sends to, or whose messages it puts off.
    pub queues: &'static [QueueName],
    /// Whether it knows of the failure store.
    pub failures: bool,
    /// Whether more of its work takes the bucket than what is too large for a queue, so that it
    /// should not begin without it.
    pub blobs: bool,
    /// Whose secrets it reads.
    pub secrets: SecretsOf,
    /// Whether it tells people of what comes about.
    pub alerts: bool,
}

/// Whose secrets a function reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsOf {
    /// None.
    Nobody,
    /// Those that webhooks are verified with.
    Webhooks,
    /// Those of connections that are read from.
    Sources,
    /// Those of all connections that maps have.
    Connections,
}

const STACK: &str = "SYNCLINE_STACK";
const STATE_TABLE: &str = "SYNCLINE_STATE_TABLE";
const FAILURES_TABLE: &str = "SYNCLINE_FAILURES_TABLE";
const BUCKET: &str = "SYNCLINE_BUCKET";
const SECRETS_PREFIX: &str = "SYNCLINE_SECRETS_PREFIX";
const ALERT_TOPIC: &str = "SYNCLINE_ALERT_TOPIC";
/// Where the code of a function is; AWS sets it.
const TASK_ROOT: &str = "LAMBDA_TASK_ROOT";

fn queue_variable(queue: QueueName) -> String {
    format!("SYNCLINE_QUEUE_{}", queue.as_str().to_uppercase())
}

/// A deployment as one of its functions is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its name.
    pub stack: String,
    /// The table of checkpoints, links and books.
    pub state_table: String,
    /// The table of failures; empty for a function that does not need it.
    pub failures_table: String,
    /// The bucket of what is large.
    pub bucket: String,
    /// What the names of its secrets begin with; empty for a function that does not need them.
    pub secrets_prefix: String,
    /// The topic that alerts go to; empty for a function that raises none.
    pub alert_topic: String,
    /// The addresses of its queues, as many as the function needs.
    pub queues: HashMap<QueueName, String>,
    /// The file that describes it.
    pub definition: PathBuf,
}

impl Needs {
    fn reads_secrets(&self) -> bool {
        self.secrets != SecretsOf::Nobody
    }

    /// The variables that have to be set.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        let mut names: Vec<String> = [STACK, STATE_TABLE, BUCKET].map(String::from).into();
        names.extend(self.failures.then(|| FAILURES_TABLE.to_owned()));
        names.extend(self.reads_secrets().then(|| SECRETS_PREFIX.to_owned()));
        names.extend(self.alerts.then(|| ALERT_TOPIC.to_owned()));
        names.extend(self.queues.iter().copied().map(queue_variable));
        names
    }

    /// Reads them. An error names the variable that is missing.
    pub fn read(&self) -> Result<Environment, EnvError> {
        let wanted = |wanted: bool, name| {
            if wanted {
                required(name)
            } else {
                Ok(String::new())
            }
        };
        let queues = self
            .queues
            .iter()
            .map(|queue| Ok((*queue, required(&queue_variable(*queue))?)))
            .collect::<Result<_, EnvError>>()?;
        let folder = optional(TASK_ROOT).unwrap_or_else(|| ".".into());
        Ok(Environment {
            stack: required(STACK)?,
            state_table: required(STATE_TABLE)?,
            failures_table: wanted(self.failures, FAILURES_TABLE)?,
            bucket: required(BUCKET)?,
            secrets_prefix: wanted(self.reads_secrets(), SECRETS_PREFIX)?,
            alert_topic: wanted(self.alerts, ALERT_TOPIC)?,
            queues,
            definition: PathBuf::from(folder).join("syncline.yaml"),
        })
    }
}
