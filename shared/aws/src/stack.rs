//! A deployment on AWS, wired.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc};

use definition::{Definition, Severity};
use futures_util::{StreamExt, future, stream};
use jiff::Timestamp;
use model::{MapName, QueueName};
use ports::{
    Alerts, Blobs, BoxError, Checkpoints, Clock, Failures, Ledger, Links, Secrets, SystemClock,
};
use runtime::{
    Breakers, Environment, MapStates, Metrics, Needs, Outbox, Parking, Traces, env::EnvError,
};

use crate::{
    Clients, DynamoFailures, DynamoLedger, NoHttp, Queues, S3Blobs, SecretsManager, SnsAlerts,
    StateTable, Unusable, client::connect_function, connect, said::said,
};

/// A function cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// Its environment does not tell it what it has to know.
    #[error("{0}: deploy the function with the template in infra/aws, which sets it")]
    Environment(#[from] EnvError),
    /// There is no such deployment, or it cannot be reached.
    #[error(
        "the stack `{stack}` cannot be reached in the region `{region}`: {source}: look at the name, AWS_REGION, your credentials and, behind a proxy, HTTPS_PROXY"
    )]
    Unknown {
        /// Its name.
        stack: String,
        /// Where it was looked for.
        region: String,
        /// What AWS says.
        source: BoxError,
    },
    /// There is no definition, or it cannot be read.
    #[error("cannot read {file}: {source}: package syncline.yaml with the function")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The definition has errors.
    #[error("{file}, line {line}: {first} ({count} errors in all): `syncline validate` shows them")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Where the first is.
        line: usize,
        /// What it is.
        first: String,
        /// How many there are.
        count: usize,
    },
    /// AWS cannot be called at all.
    #[error(transparent)]
    NoHttp(#[from] NoHttp),
    /// Parts of the deployment are not there, or the function may not use them.
    #[error(
        "{}: deploy the stack again with the template in infra/aws, which makes and allows it",
        listed(.0)
    )]
    Unusable(Vec<Unusable>),
    /// None of the maps that the function works for has the secrets it needs.
    #[error("no map can work without its secrets: {}", .0.join("; "))]
    NoSecrets(Vec<String>),
}

fn listed(parts: &[Unusable]) -> String {
    let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
    parts.join("; ")
}

/// A deployment and the clients to reach it.
#[derive(Debug, Clone)]
pub struct Stack {
    /// What it is called, and what its parts are.
    pub environment: Environment,
    clock: Arc<dyn Clock>,
    pub(crate) state: StateTable,
    pub(crate) queues: Arc<Queues>,
    pub(crate) blobs: Arc<S3Blobs>,
    pub(crate) failures: Arc<DynamoFailures>,
    // Concrete, so that a function is not linked with what it never asks for.
    pub(crate) secrets: Arc<SecretsManager>,
    alerts: Arc<SnsAlerts>,
    metrics: Metrics,
    traces: Traces,
}

impl Stack {
    /// The deployment that this function belongs to; logs begin with it.
    pub fn of_function(needs: &Needs) -> Result<Self, StackError> {
        runtime::log_json("info");
        let environment = needs.read()?;
        let metrics = Metrics::of_function(&environment.stack)?;
        let traces = Traces::of_function()?;
        Ok(Self {
            metrics,
            traces,
            ..Self::new(environment, connect_function()?)
        })
    }

    /// A deployment, without metrics.
    #[must_use]
    pub fn new(environment: Environment, clients: Clients) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let state = StateTable::new(
            clients.dynamodb.clone(),
            &environment.state_table,
            Arc::clone(&clock),
        );
        let blobs = Arc::new(S3Blobs::new(
            &clients.s3,
            environment.bucket.clone(),
            String::new(),
            Arc::clone(&clock),
        ));
        let failures = DynamoFailures::new(
            clients.dynamodb,
            &environment.failures_table,
            Arc::clone(&blobs) as Arc<dyn Blobs>,
        );
        let queues = Queues::new(
            clients.sqs,
            environment.queues.clone(),
            Arc::new(state.clone()),
            Arc::clone(&clock),
        );
        let secrets = SecretsManager::new(
            clients.secrets,
            environment.secrets_prefix.clone(),
            Arc::clone(&clock),
        );
        let alerts = SnsAlerts::new(
            clients.sns,
            &environment.alert_topic,
            &environment.stack,
            state.clone(),
            Arc::clone(&clock),
        );
        Self {
            environment,
            clock,
            state,
            queues: Arc::new(queues),
            blobs,
            failures: Arc::new(failures),
            secrets: Arc::new(secrets),
            alerts: Arc::new(alerts),
            metrics: Metrics::silent(),
            traces: Traces::none(),
        }
    }

    /// The definition that is packaged with the function.
    pub fn definition(&self) -> Result<Arc<Definition>, StackError> {
        let file = self.environment.definition.clone();
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(source) => return Err(StackError::Unreadable { file, source }),
        };
        let reading = Definition::read(&text);
        if let Some(definition) = reading.definition {
            return Ok(Arc::new(definition));
        }
        let mut errors = reading
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error);
        let first = errors.next();
        Err(StackError::Invalid {
            line: first.map_or(0, |problem| problem.place.line),
            first: first
                .map(|problem| problem.message.clone())
                .unwrap_or_default(),
            count: 1 + errors.count(),
            file,
        })
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// The checkpoint table.
    #[must_use]
    pub fn checkpoints(&self) -> Arc<dyn Checkpoints> {
        Arc::new(self.state.clone())
    }

    /// The link table.
    #[must_use]
    pub fn links(&self) -> Arc<dyn Links> {
        Arc::new(self.state.clone())
    }

    /// The queues.
    #[must_use]
    pub fn queues(&self) -> Arc<Queues> {
        Arc::clone(&self.queues)
    }

    /// What is sent on behalf of the maps of `definition`.
    #[must_use]
    pub fn outbox(&self, definition: &Definition) -> Outbox {
        let blobs = Arc::clone(&self.blobs) as Arc<dyn Blobs>;
        Outbox::new(self.queues(), blobs).shared_by(definition.maps.len())
    }

    /// Packs of paused maps.
    #[must_use]
    pub fn parking(&self) -> Parking {
        Parking::new(Arc::clone(&self.blobs) as Arc<dyn Blobs>)
    }

    /// The failure store.
    #[must_use]
    pub fn failures(&self) -> Arc<dyn Failures> {
        Arc::clone(&self.failures) as Arc<dyn Failures>
    }

    /// The books.
    #[must_use]
    pub fn ledger(&self) -> Arc<dyn Ledger> {
        let reports = self.queues();
        let failures = Arc::clone(&self.failures);
        Arc::new(DynamoLedger::new(self.state.clone(), failures, reports))
    }

    /// The secrets.
    #[must_use]
    pub fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::clone(&self.secrets) as Arc<dyn Secrets>
    }

    /// What tells people.
    #[must_use]
    pub fn alerts(&self) -> Arc<dyn Alerts> {
        Arc::clone(&self.alerts) as Arc<dyn Alerts>
    }

    /// The states of maps.
    #[must_use]
    pub fn states(&self) -> MapStates {
        MapStates::new(self.checkpoints(), self.clock())
    }

    /// The breakers of connections.
    #[must_use]
    pub fn breakers(&self) -> Breakers {
        Breakers::new(self.checkpoints(), self.clock())
    }

    /// The metrics of this function.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// The traces that this function logs.
    #[must_use]
    pub fn traces(&self) -> Traces {
        self.traces
    }

    /// Adds up what is old in the books: of webhooks, and of those of these maps, and of those that are
    /// gone, whose turn it is, which each has now and then. To be called every minute. It takes half
    /// of the time until `deadline` at most.
    pub async fn fold<'m>(&self, maps: impl IntoIterator<Item = &'m MapName>, deadline: Timestamp) {
        let began = self.clock.now();
        let half = deadline.duration_since(began) / 2;
        let end = began.saturating_add(half).unwrap_or(began);
        future::join(self.fold_journal(end), self.fold_maps(maps, end)).await;
    }

    async fn fold_journal(&self, end: Timestamp) {
        if !self.state.is_turn_of_journal() {
            return;
        }
        while self.clock.now() < end {
            match self.state.fold_journal().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!("adding up the books of webhooks has to wait: {error}");
                    break;
                }
            }
        }
    }

    async fn fold_maps<'m>(&self, maps: impl IntoIterator<Item = &'m MapName>, end: Timestamp) {
        const AT_ONCE: usize = 8;
        let mut maps = self.state.maps_to_fold(maps).await;
        // Those that a former call had no time for come sooner in another one.
        fastrand::shuffle(&mut maps);
        let in_time = maps.into_iter().take_while(|_| self.clock.now() < end);
        let folded = stream::iter(in_time).map(|map| async move {
            if let Err(error) = self.state.fold(&map).await {
                tracing::warn!(map.name = %map, "adding up the books of map `{map}` has to wait: {error}");
            }
        });
        folded.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// The deployment that is called `name`, in the account and region that the AWS tools would
    /// use.
    pub async fn named(name: &str) -> Result<Self, StackError> {
        let clients = connect().await?;
        let mut queues = HashMap::new();
        for queue in QueueName::ALL {
            let asked = clients
                .sqs
                .get_queue_url()
                .queue_name(format!("{name}-{queue}"));
            let found = asked.send().await.map_err(|error| StackError::Unknown {
                stack: name.to_owned(),
                region: region(&clients),
                source: said(&error).into(),
            })?;
            queues.insert(queue, found.queue_url.unwrap_or_default());
        }
        // The address of a queue ends with the account and the name.
        let address = queues.get(&QueueName::Live).map(String::as_str);
        let account = address
            .and_then(|url| url.rsplit('/').nth(1))
            .unwrap_or_default();
        let environment = Environment {
            stack: name.to_owned(),
            state_table: format!("{name}-state"),
            failures_table: format!("{name}-failures"),
            bucket: format!("{name}-{account}-{}", region(&clients)),
            secrets_prefix: format!("{name}/"),
            // A person who does something has no need to be told of it.
            alert_topic: String::new(),
            queues,
            definition: PathBuf::new(),
        };
        Ok(Self::new(environment, clients))
    }
}

fn region(clients: &Clients) -> String {
    let region = clients.sqs.config().region();
    region.map(ToString::to_string).unwrap_or_default()
}
