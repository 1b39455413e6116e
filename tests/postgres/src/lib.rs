//! A database of its own for each test that needs PostgreSQL.
//!
//! The server is started by `tests/run`, or by `bash tests/postgres.sh` while developing.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "this is for tests: without a server they have to fail"
)]

use std::{future::Future, thread};

use tokio_postgres::{Client, NoTls};

/// A database that is dropped at the end of its test.
#[derive(Debug)]
pub struct TestDatabase {
    server: String,
    name: String,
}

impl TestDatabase {
    /// Makes an empty database.
    pub async fn create() -> Self {
        let Some(server) = runtime::env::optional("SYNCLINE_TEST_POSTGRES") else {
            panic!("this test needs a PostgreSQL server: run tests/run");
        };
        let name = format!("syncline_{}", uuid::Uuid::new_v4().simple());
        let database = Self { server, name };
        let admin = connect(&database.server).await;
        let sql = format!("CREATE DATABASE {}", database.name);
        admin.batch_execute(&sql).await.expect("a database");
        database
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        let (base, _) = self.server.rsplit_once('/').expect("a URL with a database");
        format!("{base}/{}", self.name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection to it that has nothing to do with Syncline.
    pub async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// Runs statements in it.
    pub async fn execute(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.expect(sql);
    }

    /// Lets nobody into it any more, as if it were down, or everybody again.
    pub async fn refuse(&self, refuse: bool) {
        let name = &self.name;
        let server = connect(&self.server).await;
        let sql = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {}", !refuse);
        server.batch_execute(&sql).await.expect(&sql);
        if refuse {
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            );
            server.batch_execute(&sql).await.expect(&sql);
        }
    }

    /// All rows a query finds, as the server writes them; `null` for null.
    pub async fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let found = self.client().await.simple_query(sql).await.expect(sql);
        found
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|at| row.get(at).unwrap_or("null").to_owned())
                        .collect(),
                ),
                _ => None,
            })
            .collect()
    }
}

/// The authority that signed the certificate of the server, which is for `localhost`, in PEM.
pub const AUTHORITY: &str = include_str!("../certificates/authority.pem");

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("a PostgreSQL server where SYNCLINE_TEST_POSTGRES says");
    tokio::spawn(connection);
    client
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let server = self.server.clone();
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The runtime of the test may be at its end.
        let dropped = thread::spawn(move || {
            block_on(async {
                // What cannot be dropped goes with the server.
                let _ = connect(&server).await.batch_execute(&sql).await;
            });
        });
        let _ = dropped.join();
    }
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work);
}
