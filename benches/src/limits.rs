//! What the databases themselves need for the same rows.

use std::{io, path::Path, time::Instant};

use bytes::Bytes;
use futures_util::SinkExt;
use nix::sys::resource::{UsageWho, getrusage};
use tokio_postgres::Client;

use crate::{
    data::all,
    measure::{server_cpu, server_of},
    table::{Target, line},
};

const COLUMNS: &str = "id uuid, account_number text, name text, email text, credit_limit numeric(18,2), country text, modified_at timestamptz, area text";
const UPSERT: &str = "ON CONFLICT (id) DO UPDATE SET account_number = excluded.account_number, name = excluded.name, email = excluded.email,
    credit_limit = excluded.credit_limit, country = excluded.country, modified_at = excluded.modified_at, area = excluded.area";

/// Connects to a database; the connection is driven in the background.
pub(crate) async fn connect(url: &str) -> io::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(client)
}

/// The first process of the server at `url`.
pub(crate) async fn server(url: &str) -> io::Result<Option<u32>> {
    let client = connect(url).await?;
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
    Ok(server_of(row.map_err(io::Error::other)?.get(0)))
}

async fn copy(client: &Client, table: &str, rows: usize) -> Result<(), tokio_postgres::Error> {
    let sink = client
        .copy_in::<_, Bytes>(&format!("COPY {table} FROM STDIN"))
        .await?;
    futures_util::pin_mut!(sink);
    let mut text = String::new();
    for (at, customer) in all(rows).enumerate() {
        customer.write_copy(&mut text);
        if at % 1_000 == 999 {
            sink.send(Bytes::from(std::mem::take(&mut text))).await?;
        }
    }
    sink.send(Bytes::from(text)).await?;
    sink.finish().await.map(|_| ())
}

struct Limits<'l> {
    client: &'l Client,
    server: Option<u32>,
    rows: usize,
}

impl Limits<'_> {
    async fn timed<F>(&self, what: &str, work: F) -> io::Result<f64>
    where
        F: Future<Output = Result<(), tokio_postgres::Error>>,
    {
        let before = server_cpu(self.server);
        work.await.map_err(io::Error::other)?;
        let cpu = (server_cpu(self.server) - before).max(0.01);
        if !what.is_empty() {
            line(
                what,
                "rows/CPU-s",
                &[crate::rate(self.rows, cpu)],
                Target::None,
            );
        }
        Ok(cpu)
    }

    async fn run(&self) -> io::Result<()> {
        let client = self.client;
        let tables = format!(
            "SET client_min_messages = error; DROP TABLE IF EXISTS staging, keyed, plain;
             CREATE UNLOGGED TABLE staging ({COLUMNS}); CREATE TABLE keyed ({COLUMNS}, PRIMARY KEY (id)); CREATE TABLE plain ({COLUMNS})"
        );
        client
            .batch_execute(&tables)
            .await
            .map_err(io::Error::other)?;
        let copied = self.timed("", copy(client, "plain", self.rows)).await?;
        let key = client.batch_execute("ALTER TABLE plain ADD PRIMARY KEY (id)");
        let keyed = self.timed("", key).await?;
        let both = crate::rate(self.rows, copied + keyed);
        line(
            "PostgreSQL: COPY, then the key",
            "rows/CPU-s",
            &[both],
            Target::None,
        );
        copy(client, "staging", self.rows)
            .await
            .map_err(io::Error::other)?;
        let new = format!("INSERT INTO keyed SELECT * FROM staging ORDER BY id {UPSERT}");
        self.timed(
            "PostgreSQL: upsert from staging, all new, sorted",
            client.batch_execute(&new),
        )
        .await?;
        self.timed(
            "PostgreSQL: upsert from staging, all rewritten",
            client.batch_execute(&new),
        )
        .await?;
        let drop = "DROP TABLE staging, keyed, plain";
        client.batch_execute(drop).await.map_err(io::Error::other)
    }
}

/// PostgreSQL's own cost.
pub(crate) async fn postgres(url: &str, rows: usize) -> io::Result<()> {
    let client = connect(url).await?;
    let server = server(url).await?;
    Limits {
        client: &client,
        server,
        rows,
    }
    .run()
    .await
}

fn own_cpu() -> io::Result<f64> {
    use nix::sys::time::TimeValLike as _;
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64())
}

/// SQLite's own cost: inserts in transactions of 16,000 rows, synchronous, then the key.
pub(crate) fn sqlite(folder: &Path, rows: usize) -> io::Result<()> {
    let idle = own_cpu()?;
    let bytes: usize = all(rows).map(|one| one.cells()[2].len()).sum();
    let making = own_cpu()? - idle;
    let started = Instant::now();
    let before = own_cpu()?;
    insert(folder, rows).map_err(io::Error::other)?;
    let cpu = own_cpu()? - before - making;
    crate::table::say(format!(
        "(SQLite's own run: {:.1} s, {} MB of names made once more to subtract it)",
        started.elapsed().as_secs_f64(),
        bytes >> 20
    ));
    line(
        "SQLite: insert by prepared statement, then the key",
        "rows/CPU-s",
        &[crate::rate(rows, cpu)],
        Target::None,
    );
    Ok(())
}

fn insert(folder: &Path, rows: usize) -> rusqlite::Result<()> {
    let mut db = rusqlite::Connection::open(folder.join("limit.db"))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    db.execute_batch("CREATE TABLE plain (id TEXT NOT NULL, number TEXT, name TEXT, email TEXT, credit DECIMAL(18,2), country TEXT, modified TEXT, area TEXT)")?;
    let mut customers = all(rows).peekable();
    while customers.peek().is_some() {
        let transaction = db.transaction()?;
        {
            let mut insert =
                transaction.prepare("INSERT INTO plain VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
            for customer in customers.by_ref().take(16_000) {
                insert.execute(rusqlite::params_from_iter(customer.cells()))?;
            }
        }
        transaction.commit()?;
    }
    db.execute_batch("CREATE UNIQUE INDEX plain_key ON plain (id)")
}
