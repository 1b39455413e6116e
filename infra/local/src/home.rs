//! A deployment on this machine.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use apply::Apply;
use definition::{Definition, Problem, Severity};
use embedded::{LocalSecrets, OpenError, Store};
use initial_load::InitialLoad;
use mapping::Plans;
use operations::Operations;
use ports::{Alerts, Blobs, Checkpoints, Clock, Failures, Ledger, Secrets, Systems};
use recurring_pull::{RecurringPull, Schedule};
use retry::Retry;
use runtime::{Breakers, MapStates, Metrics, Outbox, Parking, Traces};
use systems::{DefinedPlans, DefinedSystems, Surroundings};
use webhook_intake::{Remember, WebhookIntake};

/// Where a deployment is.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The folder with `syncline.yaml`.
    pub project: PathBuf,
    /// The folder with the store.
    pub data: PathBuf,
}

impl Paths {
    /// A project folder with its data in the usual place.
    #[must_use]
    pub fn of_project(project: &Path) -> Self {
        Self {
            project: project.to_owned(),
            data: project.join(".syncline"),
        }
    }

    /// The definition's file.
    #[must_use]
    pub fn definition(&self) -> PathBuf {
        self.project.join("syncline.yaml")
    }
}

/// A deployment cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// There is no definition.
    #[error(
        "there is no {0}: go to the folder of your project, name it with --project, or begin one with `syncline init`"
    )]
    NoDefinition(PathBuf),
    /// The definition cannot be read.
    #[error("cannot read {file}: {source}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The definition has errors.
    #[error("{file} has {count} error(s)")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Its text.
        text: String,
        /// How many errors.
        count: usize,
        /// All of them, and warnings.
        problems: Vec<Problem>,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// All functions, wired to the stores of this machine.
#[derive(Debug, Clone)]
pub struct Functions {
    /// Webhooks.
    pub intake: Arc<WebhookIntake>,
    /// Pulls.
    pub pull: Arc<RecurringPull>,
    /// Loads.
    pub load: Arc<InitialLoad>,
    /// Packs to targets.
    pub apply: Arc<Apply>,
    /// Failures.
    pub retry: Arc<Retry>,
}

/// A deployment on this machine, opened.
#[derive(Debug, Clone)]
pub struct Home {
    /// What it consists of.
    pub definition: Arc<Definition>,
    /// Its stores.
    pub store: Store,
    /// Its compiled maps.
    pub plans: Arc<DefinedPlans>,
    /// Its functions.
    pub functions: Functions,
    /// What an operator can do with it.
    pub operations: Operations,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// How long failures that have ended are kept.
const KEEP: Duration = Duration::from_hours(30 * 24);

impl Home {
    /// Reads the definition of a project.
    pub fn read_definition(paths: &Paths) -> Result<(Definition, Vec<Problem>, String), HomeError> {
        let file = paths.definition();
        let text = std::fs::read_to_string(&file).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HomeError::NoDefinition(file.clone()),
            _ => HomeError::Unreadable {
                file: file.clone(),
                source,
            },
        })?;
        let reading = Definition::read(&text);
        if let Some(definition) = reading.definition {
            return Ok((definition, reading.problems, text));
        }
        let errors = reading
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error);
        Err(HomeError::Invalid {
            count: errors.count(),
            file,
            text,
            problems: reading.problems,
        })
    }

    /// Opens a deployment.
    pub fn open(paths: &Paths, clock: Arc<dyn Clock>) -> Result<Self, HomeError> {
        let (definition, _, _) = Self::read_definition(paths)?;
        let store = Store::open(&paths.data, Arc::clone(&clock))?;
        Ok(Self::wire(Arc::new(definition), store, paths, clock))
    }

    fn wire(
        definition: Arc<Definition>,
        store: Store,
        paths: &Paths,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let parts = Parts::new(definition, &store, paths, clock);
        Self {
            functions: parts.functions(),
            operations: parts.operations(),
            definition: parts.definition,
            store,
            plans: parts.plans,
            clock: parts.clock,
        }
    }
}

/// Who works with a deployment, for the audit log.
pub(crate) fn who() -> String {
    runtime::env::optional("USER")
        .or_else(|| runtime::env::optional("USERNAME"))
        .unwrap_or_else(|| "unknown".into())
}

/// What functions and operations are made of.
struct Parts {
    definition: Arc<Definition>,
    plans: Arc<DefinedPlans>,
    systems: Arc<dyn Systems>,
    outbox: Outbox,
    parking: Parking,
    checkpoints: Arc<dyn Checkpoints>,
    ledger: Arc<dyn Ledger>,
    failures: Arc<dyn Failures>,
    secrets: Arc<dyn Secrets>,
    states: MapStates,
    breakers: Breakers,
    clock: Arc<dyn Clock>,
}

impl Parts {
    fn new(
        definition: Arc<Definition>,
        store: &Store,
        paths: &Paths,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let blobs: Arc<dyn Blobs> = Arc::new(store.clone());
        let checkpoints: Arc<dyn Checkpoints> = Arc::new(store.clone());
        let alerts: Arc<dyn Alerts> = Arc::new(store.clone());
        let secrets: Arc<dyn Secrets> =
            Arc::new(LocalSecrets::new(&paths.project, Arc::clone(&clock)));
        let around = Surroundings {
            secrets: Arc::clone(&secrets),
            checkpoints: Arc::clone(&checkpoints),
            links: Arc::new(store.clone()),
            clock: Arc::clone(&clock),
            folder: Some(paths.project.clone()),
        };
        let systems: Arc<dyn Systems> =
            Arc::new(DefinedSystems::new(Arc::clone(&definition), around));
        Self {
            plans: Arc::new(DefinedPlans::new(
                Arc::clone(&definition),
                Arc::clone(&systems),
                Arc::clone(&checkpoints),
            )),
            outbox: Outbox::new(Arc::new(store.clone()), Arc::clone(&blobs)),
            parking: Parking::new(blobs),
            ledger: Arc::new(store.clone()),
            failures: Arc::new(store.clone()),
            states: MapStates::new(Arc::clone(&checkpoints), Arc::clone(&clock))
                .telling(Arc::clone(&alerts)),
            breakers: Breakers::new(Arc::clone(&checkpoints), Arc::clone(&clock)).telling(alerts),
            definition,
            systems,
            checkpoints,
            secrets,
            clock,
        }
    }

    fn plans(&self) -> Arc<dyn Plans> {
        Arc::clone(&self.plans) as Arc<dyn Plans>
    }

    fn functions(&self) -> Functions {
        Functions {
            intake: Arc::new(WebhookIntake {
                definition: Arc::clone(&self.definition),
                outbox: self.outbox.clone(),
                secrets: Arc::clone(&self.secrets),
                clock: Arc::clone(&self.clock),
                remember: Remember::Always,
                metrics: Metrics::silent(),
            }),
            pull: Arc::new(RecurringPull {
                definition: Arc::clone(&self.definition),
                systems: Arc::clone(&self.systems),
                outbox: self.outbox.clone(),
                checkpoints: Arc::clone(&self.checkpoints),
                states: self.states.clone(),
                clock: Arc::clone(&self.clock),
                metrics: Metrics::silent(),
                schedule: Schedule::default(),
            }),
            load: Arc::new(InitialLoad {
                definition: Arc::clone(&self.definition),
                plans: self.plans(),
                systems: Arc::clone(&self.systems),
                outbox: self.outbox.clone(),
                checkpoints: Arc::clone(&self.checkpoints),
                ledger: Arc::clone(&self.ledger),
                states: self.states.clone(),
                clock: Arc::clone(&self.clock),
                metrics: Metrics::silent(),
            }),
            apply: Arc::new(self.apply()),
            retry: Arc::new(Retry {
                definition: Arc::clone(&self.definition),
                failures: Arc::clone(&self.failures),
                outbox: self.outbox.clone(),
                parking: self.parking.clone(),
                states: self.states.clone(),
                breakers: self.breakers.clone(),
                checkpoints: Arc::clone(&self.checkpoints),
                ledger: Arc::clone(&self.ledger),
                clock: Arc::clone(&self.clock),
                keep: KEEP,
            }),
        }
    }

    fn apply(&self) -> Apply {
        Apply {
            definition: Arc::clone(&self.definition),
            plans: self.plans(),
            systems: Arc::clone(&self.systems),
            outbox: self.outbox.clone(),
            parking: self.parking.clone(),
            states: self.states.clone(),
            breakers: self.breakers.clone(),
            ledger: Arc::clone(&self.ledger),
            checkpoints: Arc::clone(&self.checkpoints),
            clock: Arc::clone(&self.clock),
            metrics: Metrics::silent(),
            traces: Traces::none(),
            grace: None,
        }
    }

    fn operations(&self) -> Operations {
        Operations {
            definition: Arc::clone(&self.definition),
            plans: self.plans(),
            systems: Arc::clone(&self.systems),
            outbox: self.outbox.clone(),
            parking: self.parking.clone(),
            checkpoints: Arc::clone(&self.checkpoints),
            ledger: Arc::clone(&self.ledger),
            failures: Arc::clone(&self.failures),
            states: self.states.clone(),
            breakers: self.breakers.clone(),
            clock: Arc::clone(&self.clock),
            who: who(),
        }
    }
}
