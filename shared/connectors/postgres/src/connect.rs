//! Connections to a server.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult},
};
use definition::Limits;
use model::Lane;
use percent_encoding::percent_decode_str;
use runtime::Pace;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Statement, config::Host};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{error::Fault, tls::Tls};

/// A connection's URL makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub(crate) String);

/// User and password, where they are not in the URL.
#[derive(Clone)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// One PostgreSQL database. Connections to it are made when they are first needed, and kept.
#[derive(Clone)]
pub struct Database {
    pool: Pool<Dialler>,
    place: Arc<str>,
    timeout: Duration,
    pace: Option<Pace>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Statements kept prepared on a connection. Each costs the server some memory, and rows with
/// missing cells make new ones, so there must be an end.
const MOST_STATEMENTS: usize = 500;
/// Staging tables kept on a connection. All of them are emptied at the end of each transaction
/// that has used one.
const MOST_STAGES: usize = 32;

impl Database {
    /// The database at `url`, in the form `postgres://user:password@host:port/database?…` with
    /// the options of libpq, `sslmode` among them. Nothing is connected to yet.
    pub fn open(url: &str, login: Option<Login>, limits: Limits) -> Result<Self, SettingsError> {
        let (url, tls) = split_tls(url)?;
        let mut config: Config = url.parse().map_err(|error| settings(&error))?;
        if let Some(login) = login {
            config.user(login.user).password(login.password);
        }
        config.ssl_mode(tls.mode);
        if config.get_application_name().is_none() {
            config.application_name("syncline");
        }
        config
            .connect_timeout(limits.timeout)
            .tcp_user_timeout(limits.timeout)
            // The system counts these in whole seconds, and refuses none.
            .keepalives_idle(limits.timeout.max(Duration::from_secs(1)));
        let place: Arc<str> = place(&config).into();
        let dialler = Dialler {
            config,
            tls: tls.connector()?,
            timeout: limits.timeout,
        };
        let pool = Pool::builder(dialler)
            .max_size(limits.concurrency.max(1) as usize)
            .wait_timeout(Some(limits.timeout))
            .create_timeout(Some(limits.timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| SettingsError(error.to_string()))?;
        Ok(Self {
            pool,
            place,
            timeout: limits.timeout,
            pace: None,
        })
    }

    /// Keeps to a rate. A batch is one call, and so is a page.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        Self {
            pace: Some(pace),
            ..self
        }
    }

    /// Host and database, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// How long one statement may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection nobody else uses meanwhile, when it is the turn of `lane`.
    pub(crate) async fn lend(&self, lane: Lane) -> Result<Object<Dialler>, Fault> {
        if let Some(pace) = &self.pace {
            let turn = pace.turn(lane).await;
            turn.map_err(|error| Fault::Store(error.to_string()))?;
        }
        let mut lent = self.pool.get().await?;
        lent.clean = false;
        Ok(lent)
    }
}

fn settings(error: &tokio_postgres::Error) -> SettingsError {
    let cause =
        std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    SettingsError(format!(
        "the url of the connection cannot be read: {error}{cause}"
    ))
}

/// Takes what is about TLS out of a URL: the client library knows only half of it.
fn split_tls(url: &str) -> Result<(String, Tls), SettingsError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(SettingsError(
            "the url of a connection of kind postgres begins with postgres://".into(),
        ));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut authorities, mut rest) = (None, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8_lossy();
        match name {
            "sslmode" => mode = Some(value.into_owned()),
            "sslrootcert" => authorities = Some(value.into_owned()),
            _ => rest.push(pair),
        }
    }
    let tls = Tls::new(mode.as_deref(), authorities)?;
    if rest.is_empty() {
        return Ok((base.to_owned(), tls));
    }
    Ok((format!("{base}?{}", rest.join("&")), tls))
}

/// Host and database, never user and password.
fn place(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(at, host)| {
            let ports = config.get_ports();
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            }
        })
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("{}/{database}", hosts.join(","))
}

/// Makes connections.
pub(crate) struct Dialler {
    config: Config,
    tls: MakeRustlsConnect,
    timeout: Duration,
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) client: Client,
    task: JoinHandle<()>,
    statements: HashMap<String, Statement>,
    /// Staging tables it has.
    stages: HashSet<u64>,
    /// Whether it may be used again: nobody is in the middle of anything.
    clean: bool,
}

impl Connection {
    /// The statement `sql`, prepared at the first use.
    pub(crate) async fn prepare(&mut self, sql: &str) -> Result<Statement, Fault> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        if self.statements.len() >= MOST_STATEMENTS {
            self.statements.clear();
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Makes a staging table with `sql`, if the session does not have it yet.
    pub(crate) async fn stage(&mut self, stage: u64, sql: &str) -> Result<(), Fault> {
        if self.stages.contains(&stage) {
            return Ok(());
        }
        if self.stages.len() >= MOST_STAGES {
            self.client.batch_execute("DISCARD TEMP").await?;
            self.stages.clear();
        }
        self.client.batch_execute(sql).await?;
        self.stages.insert(stage);
        Ok(())
    }

    /// Says that what was begun on it is at its end. Without this it is not used again.
    pub(crate) fn done(&mut self) {
        self.clean = true;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Manager for Dialler {
    type Type = Connection;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Connection, tokio_postgres::Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Whoever is using it hears of it too.
                tracing::debug!("a connection to PostgreSQL broke: {error}");
            }
        });
        client.batch_execute(&session(self.timeout)).await?;
        Ok(Connection {
            client,
            task,
            statements: HashMap::new(),
            stages: HashSet::new(),
            clean: true,
        })
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &Metrics,
    ) -> RecycleResult<tokio_postgres::Error> {
        if connection.clean && !connection.client.is_closed() {
            return Ok(());
        }
        Err(RecycleError::message("it is closed, or not at an end"))
    }
}

/// What every session begins with. Values are written and compared as UTC whatever the
/// server's own zone is, no worker that was frozen in the middle keeps locks for ever, and a
/// commit is on the disk when it is confirmed. Compiling statements would cost far more than
/// it saves for the short ones that are used here.
fn session(timeout: Duration) -> String {
    let millis = timeout.as_millis().clamp(1, i32::MAX as u128);
    format!(
        "SET statement_timeout = {millis}; SET idle_in_transaction_session_timeout = {millis};
         SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET bytea_output = 'hex';
         SET jit = off; SET client_min_messages = warning;
         SELECT set_config('synchronous_commit', 'on', false)
         WHERE current_setting('synchronous_commit') = 'off'"
    )
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;
    use crate::tls::Trust;

    #[test]
    fn sslmode_means_what_libpq_means() {
        let tls = |query: &str| {
            let (url, tls) = split_tls(&format!("postgres://u:p@h/d{query}")).unwrap();
            assert!(!url.contains("ssl"), "{url}");
            (tls.mode, tls.trust)
        };
        assert_eq!(tls(""), (SslMode::Prefer, Trust::Anyone));
        assert_eq!(tls("?sslmode=disable"), (SslMode::Disable, Trust::Anyone));
        assert_eq!(tls("?sslmode=require"), (SslMode::Require, Trust::Anyone));
        assert_eq!(
            tls("?sslmode=require&sslrootcert=a%20b.pem"),
            (SslMode::Require, Trust::Authority)
        );
        assert_eq!(
            tls("?sslmode=verify-ca"),
            (SslMode::Require, Trust::Authority)
        );
        assert_eq!(tls("?sslmode=verify-full"), (SslMode::Require, Trust::Host));
        assert_eq!(tls("?sslrootcert=system"), (SslMode::Require, Trust::Host));
        let other = split_tls("postgres://h/d?a=b&sslmode=prefer&c=d").unwrap();
        assert_eq!(other.0, "postgres://h/d?a=b&c=d");
        assert!(split_tls("postgres://h/d?sslmode=sometimes").is_err());
        assert!(split_tls("host=h").is_err());
    }

    #[test]
    fn no_error_and_no_debug_text_shows_the_password() {
        let url = "postgres://anna:s3cret@db.example.com:6543/sales";
        let database = Database::open(url, None, Limits::default()).unwrap();
        assert_eq!(database.place(), "db.example.com:6543/sales");
        assert!(!format!("{database:?}").contains("s3cret"));
        for bad in [
            "postgres://anna:s3cret@h:port/d",
            "postgres://anna:s3cret@h/d?what=1",
        ] {
            let error = Database::open(bad, None, Limits::default()).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
