//! Loads, re-loads and pulls.

use std::{
    fs, io,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    data::Content,
    limits,
    measure::{Cost, Running, run, syncline},
    rate,
    table::{Target, heading, line, say},
};

/// Where rows go.
#[derive(Debug, Clone)]
pub(crate) enum Into {
    /// A table of a PostgreSQL database.
    Postgres(String),
    /// An SQLite file.
    Sqlite,
}

impl Into {
    fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "PostgreSQL",
            Self::Sqlite => "SQLite",
        }
    }

    fn connection(&self) -> String {
        match self {
            Self::Postgres(url) => {
                format!("kind: postgres, url: \"{url}\", limits: {{ timeout: 5m }}")
            }
            Self::Sqlite => "kind: sqlite, url: warehouse.db".to_owned(),
        }
    }
}

/// Starts the source of `rows` customers; returns it and its address.
pub(crate) fn source(rows: usize) -> io::Result<(Running, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", &rows.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("no output"))?;
    let mut url = String::new();
    BufReader::new(out).read_line(&mut url)?;
    Ok((Running(child), url.trim().to_owned()))
}

/// Writes a project with one map of customers.
pub(crate) fn project(folder: &Path, source: &str, into: &Into) -> io::Result<()> {
    let definition = format!(
        "connections:
  crm: {{ kind: odata, url: {source} }}
  warehouse: {{ {} }}
maps:
  customers:
    from: {{ stream: crm.Customers, key: id, version: modifiedAt }}
    to: {{ stream: warehouse.customers, key: id }}
    fields:
      id: id
      account_number: accountNumber
      name: name
      email: email
      credit_limit: {{ from: creditLimit, type: \"decimal(18,2)\" }}
      country: country
      modified_at: modifiedAt
      area: dataAreaId
    webhook: {{ endpoint: crm, scheme: standard, secret: secret://hook }}
    pull: {{ every: 1h }}
",
        into.connection()
    );
    fs::create_dir_all(folder.join("secrets"))?;
    fs::write(folder.join("secrets/hook"), crate::hooks::SECRET)?;
    fs::write(folder.join("syncline.yaml"), definition)
}

async fn content(into: &Into, folder: &Path) -> io::Result<Content> {
    match into {
        Into::Postgres(url) => {
            let client = limits::connect(url).await?;
            let sql =
                "SELECT count(*), coalesce((sum(credit_limit) * 100)::bigint, 0) FROM customers";
            let row = client.query_one(sql, &[]).await.map_err(io::Error::other)?;
            Ok(Content {
                rows: row.get(0),
                cents: row.get(1),
            })
        }
        Into::Sqlite => {
            let db = rusqlite::Connection::open(folder.join("warehouse.db"))
                .map_err(io::Error::other)?;
            let sql = "SELECT count(*), coalesce(sum(CAST(round(credit_limit * 100) AS INTEGER)), 0) FROM customers";
            let read = db.query_row(sql, [], |row| {
                Ok(Content {
                    rows: row.get(0)?,
                    cents: row.get(1)?,
                })
            });
            read.map_err(io::Error::other)
        }
    }
}

async fn expect(into: &Into, folder: &Path, wanted: Content) -> io::Result<()> {
    let found = content(into, folder).await?;
    if found == wanted {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the target holds {found:?}, and it should be {wanted:?}"
    )))
}

async fn clear(into: &Into) -> io::Result<()> {
    let Into::Postgres(url) = into else {
        return Ok(());
    };
    let client = limits::connect(url).await?;
    let drop = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    client.batch_execute(drop).await.map_err(io::Error::other)
}

/// What one run of load, re-load and pull has cost.
#[derive(Debug, Default)]
struct Costs {
    load: Vec<Cost>,
    reload: Vec<Cost>,
    pull: Vec<Cost>,
}

/// Loads `rows` customers `times` over, each time into an empty target, then loads again, then
/// pulls the one row in a hundred that has changed.
pub(crate) async fn measure(into: Into, rows: usize, times: usize) -> io::Result<f64> {
    let (_source, url) = source(rows)?;
    let server = match &into {
        Into::Postgres(url) => limits::server(url).await?,
        Into::Sqlite => None,
    };
    let mut costs = Costs::default();
    for _ in 0..times {
        clear(&into).await?;
        let folder = TempDir::new()?;
        project(folder.path(), &url, &into)?;
        let command = |name: &str| -> io::Result<Command> {
            let mut command = syncline(folder.path())?;
            command.args([name, "customers"]);
            Ok(command)
        };
        crate::hooks::get(&url, "/changed/false").await?;
        costs.load.push(run(&mut command("load")?, server, &[0])?);
        expect(&into, folder.path(), Content::first(rows)).await?;
        costs.reload.push(run(&mut command("load")?, server, &[0])?);
        expect(&into, folder.path(), Content::first(rows)).await?;
        crate::hooks::get(&url, "/changed/true").await?;
        costs.pull.push(run(&mut command("pull")?, server, &[0])?);
        expect(&into, folder.path(), Content::changed(rows)).await?;
    }
    report(&into, rows, &costs);
    Ok(costs
        .load
        .iter()
        .map(|cost| cost.wall)
        .fold(f64::INFINITY, f64::min))
}

/// What a load and a re-load should do, in rows per second of processor time. A small load is
/// mostly its beginning and its end.
fn targets(into: &Into, rows: usize) -> (Target, Target) {
    match into {
        _ if rows < 1_000_000 => (Target::None, Target::None),
        Into::Postgres(_) => (Target::AtLeast(100_000.0), Target::AtLeast(80_000.0)),
        Into::Sqlite => (Target::AtLeast(200_000.0), Target::None),
    }
}

fn report(into: &Into, rows: usize, costs: &Costs) {
    heading(&format!(
        "{} customers, OData → {}",
        crate::table::number(crate::real(rows)),
        into.name()
    ));
    let rates = |costs: &[Cost], rows| -> Vec<f64> {
        costs.iter().map(|cost| rate(rows, cost.cpu())).collect()
    };
    let walls = |costs: &[Cost]| -> Vec<f64> { costs.iter().map(|cost| cost.wall).collect() };
    let (load, reload) = targets(into, rows);
    line(
        "first load, client and server",
        "rows/CPU-s",
        &rates(&costs.load, rows),
        load,
    );
    let million = rows == 1_000_000 && matches!(into, Into::Postgres(_));
    let wall = if million {
        Target::AtMost(8.0)
    } else {
        Target::None
    };
    line("first load, wall", "s", &walls(&costs.load), wall);
    let peaks: Vec<f64> = costs.load.iter().map(|cost| cost.peak).collect();
    line(
        "first load, peak memory",
        "MiB",
        &peaks,
        Target::AtMost(100.0),
    );
    line(
        "re-load, all unchanged",
        "rows/CPU-s",
        &rates(&costs.reload, rows),
        reload,
    );
    line("re-load, wall", "s", &walls(&costs.reload), Target::None);
    let (pull_wall, pull_cpu) = if rows == 1_000_000 {
        (Target::AtMost(1.0), Target::AtMost(0.6))
    } else {
        (Target::None, Target::None)
    };
    line(
        "pull of the 1 % that changed, wall",
        "s",
        &walls(&costs.pull),
        pull_wall,
    );
    let cpu: Vec<f64> = costs.pull.iter().map(Cost::cpu).collect();
    line("pull of the 1 % that changed", "CPU-s", &cpu, pull_cpu);
    if let (Some(load), Some(reload)) = (costs.load.first(), costs.reload.first()) {
        say(format!(
            "(first run: load {:.2} s client + {:.2} s server, re-load {:.2} + {:.2})",
            load.client, load.server, reload.client, reload.server
        ));
    }
}
