//! Measures writing: rows per CPU-second, of this process and of the server together.
//!
//! ```text
//! bash tests/postgres.sh   # in another terminal; it prints the variable to set
//! cargo run --release -p syncline-connector-postgres --example write_speed -- 1000000 5000 2
//! ```
//!
//! The arguments are the number of rows, rows per batch, and writers. The server has to run on
//! this machine, because its CPU time is read from `/proc`.

use std::{
    error::Error,
    fmt::Write as _,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use connector_postgres::{Database, PostgresTarget};
use definition::Limits;
use model::{DataType, Lane, PackId, Rows, Value, Version};
use ports::{
    BulkPacks, ColumnSpec, Deletes, Ownership, RowOp, RowOutcome, TableSpec, Target, WriteBatch,
};
use test_postgres::TestDatabase;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Clock ticks per second, which Linux has told user space for ever.
const TICKS: f64 = 100.0;

fn spec(ownership: Ownership) -> TableSpec {
    let columns = [
        ("id", DataType::Uuid),
        ("account_number", DataType::Text { max: None }),
        ("name", DataType::Text { max: None }),
        ("email", DataType::Text { max: None }),
        (
            "credit_limit",
            DataType::Decimal {
                digits: Some((18, 2)),
            },
        ),
        ("country", DataType::Text { max: None }),
        ("modified_at", DataType::Timestamp),
        ("data_area_id", DataType::Text { max: None }),
    ];
    TableSpec {
        name: "customers".into(),
        columns: columns
            .into_iter()
            .map(|(name, ty)| ColumnSpec {
                name: name.into(),
                ty,
                required: name == "id",
            })
            .collect(),
        key: vec![0],
        ownership,
        deletes: Deletes::Propagate,
    }
}

/// The rows of all batches, made before anything is measured.
fn make(rows: usize, per_batch: usize) -> Vec<Rows<'static>> {
    const FIRST: [&str; 6] = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"];
    const LAST: [&str; 6] = ["Abbott", "Baker", "Castro", "Dvorak", "Evans", "Fischer"];
    const COUNTRIES: [&str; 6] = ["US", "DE", "FR", "GB", "NL", "BE"];
    let mut random = fastrand::Rng::with_seed(7);
    let mut all = Vec::new();
    let mut pick = move |from: &[&'static str]| from[random.usize(..from.len())];
    let mut random = fastrand::Rng::with_seed(8);
    for start in (0..rows).step_by(per_batch) {
        let mut batch = Rows::new(8);
        for i in start..rows.min(start + per_batch) {
            let (first, last) = (pick(&FIRST), pick(&LAST));
            let cells = batch.push_empty();
            cells[0] = Value::Uuid(random.u128(..).to_be_bytes());
            cells[1] = Value::Text(format!("CUST-{i:08}").into());
            cells[2] = Value::Text(format!("{first} {last} Trading {} Ltd", i % 997).into());
            cells[3] = Value::Text(format!("{first}.{last}{i}@example.com").into());
            let cents = random.u32(..10_000_000);
            cells[4] = Value::Decimal(format!("{}.{:02}", cents / 100, cents % 100).into());
            cells[5] = Value::Text(pick(&COUNTRIES).into());
            cells[6] = Value::Timestamp(1_735_689_600_000_000 + random.i64(0..25_920_000_000_000));
            cells[7] = Value::Text(["usmf", "demf", "frrt", "gbsi"][i & 3].into());
        }
        all.push(batch);
    }
    all
}

/// CPU seconds of a process, with those of its children that have ended or without.
fn cpu_of(pid: &str, children: bool) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let last = if children { 15 } else { 13 };
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    (11..last).filter_map(ticks).sum::<f64>() / TICKS
}

/// The processes of a server, its first one in front.
async fn processes(database: &TestDatabase) -> Vec<String> {
    let pids = database.query("SELECT pg_backend_pid()").await;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[0][0])).unwrap_or_default();
    let parent = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .nth(1);
    let parent = parent.unwrap_or_default().to_owned();
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let children = children.unwrap_or_default();
    let mut all = vec![parent];
    all.extend(children.split_whitespace().map(str::to_owned));
    all
}

async fn cpu(database: &TestDatabase) -> (f64, f64) {
    let client = cpu_of("self", false);
    let processes = processes(database).await;
    let server = processes
        .iter()
        .enumerate()
        .map(|(at, pid)| cpu_of(pid, at == 0))
        .sum();
    (client, server)
}

struct Bench {
    database: TestDatabase,
    target: Arc<PostgresTarget>,
    spec: Arc<TableSpec>,
    data: Arc<Vec<Rows<'static>>>,
    rows: usize,
    writers: usize,
}

/// How a phase writes.
#[derive(Clone, Copy)]
struct How {
    version: i64,
    bulk: bool,
    found_in: Option<u32>,
    expected: &'static str,
}

fn how(version: i64, bulk: bool, found_in: Option<u32>, expected: &'static str) -> How {
    How {
        version,
        bulk,
        found_in,
        expected,
    }
}

impl Bench {
    async fn new(rows: usize, per_batch: usize, writers: usize, spec: TableSpec) -> Result<Self> {
        let database = TestDatabase::create().await;
        if spec.ownership == Ownership::Existing {
            let sql = "CREATE TABLE customers (id uuid PRIMARY KEY, account_number text, name text, email text,
                credit_limit numeric(18,2), country text, modified_at timestamptz, data_area_id text)";
            database.execute(sql).await;
        }
        let target = PostgresTarget::new(Database::open(&database.url(), None, Limits::default())?);
        Ok(Self {
            database,
            target: Arc::new(target),
            spec: Arc::new(spec),
            data: Arc::new(make(rows, per_batch)),
            rows,
            writers,
        })
    }

    async fn measure(
        &self,
        what: &str,
        work: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<(f64, f64)> {
        self.database.execute("CHECKPOINT").await;
        let (began, (client, server)) = (Instant::now(), cpu(&self.database).await);
        work().await?;
        let (wall, after) = (began.elapsed().as_secs_f64(), cpu(&self.database).await);
        let (client, server) = (after.0 - client, after.1 - server);
        self.print(what, client, server, wall);
        Ok((client, server))
    }

    fn print(&self, what: &str, client: f64, server: f64, wall: f64) {
        #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
        let rate = self.rows as f64 / (client + server).max(0.001);
        let mut line = String::new();
        let _ = write!(
            line,
            "{what:44} {rate:9.0} rows/CPU-s   client {client:6.2} s   server {server:6.2} s   wall {wall:6.2} s"
        );
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    async fn write(&self, how: How) -> Result<()> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..self.writers {
            let (target, spec) = (Arc::clone(&self.target), Arc::clone(&self.spec));
            let (data, next) = (Arc::clone(&self.data), Arc::clone(&next));
            tasks.spawn(async move {
                while let Some(rows) = data.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let pack = PackId::from_uuid(uuid::Uuid::new_v4());
                    let op = RowOp::Upsert {
                        version: Version(how.version),
                    };
                    let batch = WriteBatch {
                        rows: rows.clone(),
                        ops: vec![op; rows.len()],
                        bulk: how.bulk.then(|| BulkPacks {
                            generation: 1,
                            packs: vec![(pack, rows.len())],
                        }),
                        found_in: how.found_in,
                        lane: Lane::Load,
                        traces: Vec::new(),
                    };
                    let outcomes = target.write(&spec, &batch).await?;
                    let odd = outcomes.iter().find(|outcome| {
                        let name = match outcome {
                            RowOutcome::Applied => "applied",
                            RowOutcome::Unchanged => "unchanged",
                            _ => "other",
                        };
                        name != how.expected
                    });
                    if let Some(odd) = odd {
                        return Err(format!("{odd:?} where {} was expected", how.expected).into());
                    }
                }
                Result::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }
}

async fn own(rows: usize, per_batch: usize, writers: usize) -> Result<()> {
    let bench = Bench::new(rows, per_batch, writers, spec(Ownership::Own)).await?;
    let target = &bench.target;
    target.prepare(&bench.spec).await?;
    target.begin_load(&bench.spec, 1).await?;
    let copied = bench
        .measure("own, bulk: rows", async || {
            bench.write(how(1, true, None, "applied")).await
        })
        .await?;
    let keyed = bench
        .measure("own, bulk: key", async || {
            target.end_bulk(&bench.spec, 1).await?;
            Ok(())
        })
        .await?;
    bench.print(
        "own, bulk: together",
        copied.0 + keyed.0,
        copied.1 + keyed.1,
        0.0,
    );
    bench
        .measure("own, all unchanged", async || {
            bench.write(how(1, false, None, "unchanged")).await
        })
        .await?;
    own_again(&bench).await
}

/// Into a table that has its rows.
async fn own_again(bench: &Bench) -> Result<()> {
    let target = &bench.target;
    target.begin_load(&bench.spec, 2).await?;
    bench
        .measure("own, all unchanged, remembered as found", async || {
            bench.write(how(1, false, Some(2), "unchanged")).await
        })
        .await?;
    bench
        .measure("own, what was not found", async || {
            let sweep = target.missing(&bench.spec, 2, None, 1_000).await?;
            match sweep.missing {
                0 => Ok(()),
                lost => Err(format!("{lost} rows were not found").into()),
            }
        })
        .await?;
    bench
        .measure("own, all newer", async || {
            bench.write(how(2, false, None, "applied")).await
        })
        .await?;
    bench.database.execute("TRUNCATE customers").await;
    bench
        .measure("own, all new past the guard", async || {
            bench.write(how(2, false, None, "applied")).await
        })
        .await?;
    Ok(())
}

async fn existing(rows: usize, per_batch: usize, writers: usize) -> Result<()> {
    let bench = Bench::new(rows, per_batch, writers, spec(Ownership::Existing)).await?;
    bench.target.prepare(&bench.spec).await?;
    for (what, version, expected) in [
        ("existing, all new", 1, "applied"),
        ("existing, all unchanged", 1, "unchanged"),
        ("existing, all newer", 2, "applied"),
    ] {
        bench
            .measure(what, async || {
                bench.write(how(version, false, None, expected)).await
            })
            .await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut next = |default| arguments.next().unwrap_or(Ok(default));
    let (rows, per_batch, writers) = (next(1_000_000)?, next(5_000)?, next(2)?);
    own(rows, per_batch, writers).await?;
    existing(rows, per_batch, writers).await
}
