//! The systems and plans of a deployment, made from its definition.
//!
//! This is the one place that knows which connector serves which kind of connection.

mod check;
mod file;
mod plans;

use std::{collections::HashMap, fmt, hash::Hash, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use connector_http::HttpClient;
use connector_http_target::HttpTarget;
use connector_odata::OdataSource;
use connector_postgres::{Database, Login, PostgresSource, PostgresTarget};
use connector_rest::RestSource;
use definition::{Auth, Connection, ConnectionKind, Definition, Map, Text};
use mapping::Plan;
use model::{ConnectionName, MapName};
use ports::{
    Checkpoints, Clock, Links, Secrets, Source, SourceError, Systems, SystemsError, Target,
};
use runtime::{Pace, Rates};
use tokio::sync::Mutex;

pub use plans::DefinedPlans;

/// Why a connection to a file is of no use where there are none that last.
const NO_FILES: &str = "a target of kind sqlite is a file, and a function keeps none: its rows would be lost. Write to a connection of kind postgres";

/// What systems need from their surroundings.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where secrets are kept.
    pub secrets: Arc<dyn Secrets>,
    /// Where rates are shared.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Where versions are kept for targets that cannot.
    pub links: Arc<dyn Links>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What relative file names are relative to. `None` where no file lasts.
    pub folder: Option<PathBuf>,
}

/// The systems of a deployment. Each is made when it is first needed, and kept.
pub struct DefinedSystems {
    definition: Arc<Definition>,
    around: Surroundings,
    rates: Rates,
    clients: Mutex<HashMap<ConnectionName, Arc<HttpClient>>>,
    databases: Mutex<HashMap<ConnectionName, Database>>,
    sources: Mutex<HashMap<MapName, Arc<dyn Source>>>,
    targets: Mutex<HashMap<ConnectionName, Arc<dyn Target>>>,
    /// Targets that are of one map alone: its requests are its own.
    endpoints: Mutex<HashMap<MapName, Arc<dyn Target>>>,
}

impl fmt::Debug for DefinedSystems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefinedSystems").finish_non_exhaustive()
    }
}

fn settings(connection: &ConnectionName, what: impl Into<String>) -> SystemsError {
    SystemsError::Settings {
        connection: connection.clone(),
        what: what.into(),
    }
}

/// What is kept, or what `make` makes, which is kept then.
async fn kept<K, T, F>(cache: &Mutex<HashMap<K, T>>, key: &K, make: F) -> Result<T, SystemsError>
where
    K: Hash + Eq + Clone + Send + Sync,
    T: Clone + Send,
    F: Future<Output = Result<T, SystemsError>> + Send,
{
    // Whoever comes meanwhile waits: one system is one client, one pool, one token.
    let mut cache = cache.lock().await;
    if let Some(known) = cache.get(key) {
        return Ok(known.clone());
    }
    let new = make.await?;
    cache.insert(key.clone(), new.clone());
    Ok(new)
}

impl DefinedSystems {
    /// The systems of `definition`.
    #[must_use]
    pub fn new(definition: Arc<Definition>, around: Surroundings) -> Self {
        let rates = Rates::new(Arc::clone(&around.checkpoints), Arc::clone(&around.clock));
        Self {
            definition,
            around,
            rates,
            clients: Mutex::default(),
            databases: Mutex::default(),
            sources: Mutex::default(),
            targets: Mutex::default(),
            endpoints: Mutex::default(),
        }
    }

    fn map(&self, map: &MapName) -> Result<&Map, SystemsError> {
        self.definition
            .maps
            .get(map)
            .ok_or_else(|| SystemsError::UnknownMap(map.clone()))
    }

    fn pace(&self, name: &ConnectionName, connection: &Connection) -> Pace {
        Pace::new(name.clone(), connection.limits.rate, self.rates.clone())
    }

    fn connection(&self, name: &ConnectionName) -> Result<&Connection, SystemsError> {
        self.definition
            .connection(name)
            .ok_or_else(|| settings(name, "is not defined"))
    }

    async fn text(&self, name: &ConnectionName, text: &Text) -> Result<String, SystemsError> {
        match text {
            Text::Plain(text) => Ok(text.clone()),
            Text::Secret(secret) => {
                let secret = self.around.secrets.get(secret).await;
                let secret = secret.map_err(|source| SystemsError::Secret {
                    connection: name.clone(),
                    source,
                })?;
                Ok(secret.expose().to_owned())
            }
        }
    }

    async fn client(&self, name: &ConnectionName) -> Result<Arc<HttpClient>, SystemsError> {
        kept(&self.clients, name, async {
            let connection = self.connection(name)?;
            let around = &self.around;
            let client = HttpClient::new(
                name.clone(),
                connection,
                Arc::clone(&around.secrets),
                self.rates.clone(),
                Arc::clone(&around.clock),
            );
            let client = client
                .await
                .map_err(|error: SourceError| settings(name, error.to_string()))?;
            Ok(Arc::new(client))
        })
        .await
    }

    /// One pool for all that is done in a database, whether it is read or written.
    async fn database(&self, name: &ConnectionName) -> Result<Database, SystemsError> {
        kept(&self.databases, name, async {
            let connection = self.connection(name)?;
            let url = self.text(name, &connection.url).await?;
            let login = match &connection.auth {
                Auth::None => None,
                Auth::Basic { user, password } => Some(Login {
                    user: self.text(name, user).await?,
                    password: self.text(name, &Text::Secret(password.clone())).await?,
                }),
                _ => {
                    let what = "a connection of kind postgres takes `auth: basic`, or user and password in its url";
                    return Err(settings(name, what));
                }
            };
            let database = Database::open(&url, login, connection.limits)
                .map_err(|error| settings(name, error.to_string()))?;
            Ok(database.paced(self.pace(name, connection)))
        })
        .await
    }

    async fn make_source(&self, map: &Map) -> Result<Arc<dyn Source>, SystemsError> {
        let name = &map.from.connection;
        let connection = self.connection(name)?;
        // The fields a map reads follow from the map alone.
        let plan = Plan::compile(map, mapping::Schemas::default()).0;
        let reads = plan.as_ref().and_then(Plan::reads);
        Ok(match connection.kind {
            ConnectionKind::Odata => {
                Arc::new(OdataSource::new(self.client(name).await?, map, reads))
            }
            ConnectionKind::Rest => {
                let source = RestSource::new(self.client(name).await?, map);
                Arc::new(source.map_err(|what| settings(name, what))?)
            }
            ConnectionKind::Postgres => {
                let clock = Arc::clone(&self.around.clock);
                Arc::new(PostgresSource::new(
                    self.database(name).await?,
                    clock,
                    map,
                    reads,
                ))
            }
            kind => {
                return Err(settings(
                    name,
                    format!("a connection of kind {} cannot be read", kind.as_str()),
                ));
            }
        })
    }

    async fn make_target(&self, name: &ConnectionName) -> Result<Arc<dyn Target>, SystemsError> {
        let connection = self.connection(name)?;
        Ok(match connection.kind {
            ConnectionKind::Sqlite => {
                let Some(folder) = &self.around.folder else {
                    return Err(settings(name, NO_FILES));
                };
                let path = folder.join(self.text(name, &connection.url).await?);
                let target = file::target(&path, connection, self.pace(name, connection));
                target.ok_or_else(|| settings(name, NO_FILES))?
            }
            ConnectionKind::Postgres => Arc::new(PostgresTarget::new(self.database(name).await?)),
            kind => {
                return Err(settings(
                    name,
                    format!("a connection of kind {} cannot be written", kind.as_str()),
                ));
            }
        })
    }

    async fn make_endpoint(&self, map: &Map) -> Result<Arc<dyn Target>, SystemsError> {
        let name = &map.to.connection;
        let client = self.client(name).await?;
        let links = Arc::clone(&self.around.links);
        let target = HttpTarget::new(map, self.connection(name)?, client, links);
        Ok(Arc::new(target.map_err(|what| settings(name, what))?))
    }
}

#[async_trait]
impl Systems for DefinedSystems {
    async fn source(&self, map: &MapName) -> Result<Arc<dyn Source>, SystemsError> {
        let defined = self.map(map)?;
        kept(&self.sources, map, self.make_source(defined)).await
    }

    async fn target(&self, map: &MapName) -> Result<Arc<dyn Target>, SystemsError> {
        let defined = self.map(map)?;
        if defined.to.http.is_some() {
            return kept(&self.endpoints, map, self.make_endpoint(defined)).await;
        }
        let name = &defined.to.connection;
        kept(&self.targets, name, self.make_target(name)).await
    }
}
