//! Webhooks over HTTP: how many, how fast.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use sha2::Sha256;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    data::Customers,
    loads::{Into, project},
    measure::{Running, process_cpu, syncline},
    table::{Target, heading, line, say},
};

/// The secret of the bench's webhooks; they stay on this machine.
pub(crate) const SECRET: &str = "whsec_c3luY2xpbmUtYmVuY2gtc2VjcmV0LTAwMDAx";

const CONNECTIONS: usize = 64;
/// Half of the target's rate, in events per second.
const HALF: f64 = 7_500.0;
const SPAN: Duration = Duration::from_secs(6);

pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(to: SocketAddr) -> io::Result<Sender> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Asks a service for a path; its answer does not matter.
pub(crate) async fn get(service: &str, path: &str) -> io::Result<()> {
    let host = service
        .trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap_or_default();
    let to = host.parse().map_err(io::Error::other)?;
    let request = Request::get(path)
        .header("host", host)
        .body(Full::default())
        .map_err(io::Error::other)?;
    let answer = connect(to).await?.send_request(request).await;
    answer.map_err(io::Error::other).map(|_| ())
}

/// A signed request to `host` for the customer with this number, who has changed just now.
pub(crate) fn request(host: &str, number: u64) -> io::Result<Request<Full<Bytes>>> {
    let mut body = String::new();
    let first = usize::try_from(number).unwrap_or(0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    if let Some(mut customer) = Customers::new(first, number).next() {
        customer.modified = Timestamp::UNIX_EPOCH + now;
        customer.write_json(&mut body);
    }
    let id = format!("msg_{number}");
    let time = now.as_secs();
    let key = STANDARD
        .decode(SECRET.trim_start_matches("whsec_"))
        .map_err(io::Error::other)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(io::Error::other)?;
    mac.update(format!("{id}.{time}.{body}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    Request::post("/hooks/crm")
        .header("host", host)
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", time.to_string())
        .header("webhook-signature", format!("v1,{signature}"))
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)
}

async fn post(sender: &mut Sender, to: SocketAddr, number: u64) -> io::Result<()> {
    let answer = sender
        .send_request(request(&to.to_string(), number)?)
        .await
        .map_err(io::Error::other)?;
    let status = answer.status();
    answer
        .into_body()
        .collect()
        .await
        .map_err(io::Error::other)?;
    if status == StatusCode::ACCEPTED {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "a webhook was answered with {status}"
        )))
    }
}

/// Sends for a while over many connections, as fast as they go or at a rate; returns how many
/// per second, and how long each took in milliseconds.
async fn storm(
    to: SocketAddr,
    numbers: &Arc<AtomicU64>,
    rate: Option<f64>,
) -> io::Result<(f64, Vec<f64>)> {
    let started = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let numbers = Arc::clone(numbers);
        let pause = rate.map(|rate| Duration::from_secs_f64(crate::real(CONNECTIONS) / rate));
        senders.spawn(async move {
            let mut sender = connect(to).await?;
            let mut took = Vec::new();
            let mut beat = pause.map(tokio::time::interval);
            while started.elapsed() < SPAN {
                // A beat that comes late counts from when it should have come.
                let sent = match &mut beat {
                    Some(beat) => beat.tick().await.into_std(),
                    None => Instant::now(),
                };
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                post(&mut sender, to, number).await?;
                took.push(sent.elapsed().as_secs_f64() * 1_000.0);
            }
            Ok::<_, io::Error>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = senders.join_next().await {
        all.extend(took.map_err(io::Error::other)??);
    }
    all.sort_by(f64::total_cmp);
    let per_second = crate::real(all.len()) / started.elapsed().as_secs_f64();
    Ok((per_second, all))
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

fn count(warehouse: &Path) -> io::Result<u64> {
    let db = rusqlite::Connection::open(warehouse).map_err(io::Error::other)?;
    db.busy_timeout(Duration::from_secs(30))
        .map_err(io::Error::other)?;
    db.query_row("SELECT count(*) FROM customers", [], |row| row.get(0))
        .map_err(io::Error::other)
}

/// Waits until every accepted webhook is a row.
async fn arrived(warehouse: &Path, wanted: u64) -> io::Result<f64> {
    let started = Instant::now();
    loop {
        let found = count(warehouse).unwrap_or(0);
        if found == wanted {
            return Ok(started.elapsed().as_secs_f64());
        }
        if started.elapsed() > Duration::from_mins(3) {
            return Err(io::Error::other(format!(
                "{wanted} webhooks were accepted, {found} rows came"
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a customer is a row.
fn is_there(db: &rusqlite::Connection, id: &str) -> io::Result<bool> {
    let mut look = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM customers WHERE id = ?1)")
        .map_err(io::Error::other)?;
    look.query_row([id], |row| row.get(0))
        .map_err(io::Error::other)
}

/// How long one webhook takes to be a row, on an idle system.
async fn latency(to: SocketAddr, numbers: &AtomicU64, warehouse: &Path) -> io::Result<Vec<f64>> {
    let mut sender = connect(to).await?;
    let db =
        std::sync::Mutex::new(rusqlite::Connection::open(warehouse).map_err(io::Error::other)?);
    let mut took = Vec::new();
    for _ in 0..200 {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let first = usize::try_from(number).unwrap_or(0);
        let Some(customer) = Customers::new(first, number).next() else {
            continue;
        };
        let id = customer.id.to_string();
        let sent = Instant::now();
        post(&mut sender, to, number).await?;
        loop {
            let found = db.lock().map_or(Ok(false), |db| is_there(&db, &id))?;
            if found {
                break;
            }
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        took.push(sent.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

/// A deployment at work that takes webhooks.
async fn start(folder: &Path, listen: SocketAddr) -> io::Result<Running> {
    let (_source, url) = crate::loads::source(1_000)?;
    project(folder, &url, &Into::Sqlite)?;
    // A load makes the table and lets the map run.
    let load = &mut syncline(folder)?;
    crate::measure::run(load.args(["load", "customers"]), None, &[0])?;
    let child = syncline(folder)?
        .args(["up", "--no-pulls", "--listen", &listen.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    while TcpStream::connect(listen).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(Running(child))
}

pub(crate) async fn measure() -> io::Result<()> {
    let folder = TempDir::new()?;
    let listen = free_address()?;
    let up = start(folder.path(), listen).await?;
    let warehouse = folder.path().join("warehouse.db");
    let before = count(&warehouse)?;
    let first = 10_000_000;
    let numbers = Arc::new(AtomicU64::new(first));
    heading("webhooks over HTTP into `syncline up`, signed, on disk before the answer");
    let idle = latency(listen, &numbers, &warehouse).await?;
    let show = |what: &str, sorted: &[f64], percent, bound| {
        line(what, "ms", &[percentile(sorted, percent)], bound);
    };
    show(
        "webhook to row, idle system, median",
        &idle,
        50,
        Target::AtMost(25.0),
    );
    show(
        "webhook to row, idle system, 99 %",
        &idle,
        99,
        Target::AtMost(100.0),
    );
    let cpu = process_cpu(up.id());
    let (most, took) = storm(listen, &numbers, None).await?;
    let bound = Target::AtLeast(15_000.0);
    line(
        "64 connections, as fast as they go",
        "events/s",
        &[most],
        bound,
    );
    show("  99 % answered within", &took, 99, Target::None);
    let sent = || numbers.load(Ordering::Relaxed) - first;
    let behind = arrived(&warehouse, before + sent()).await?;
    say(format!(
        "(all {} are rows {behind:.1} s later; {:.2} CPU-s in all)",
        sent(),
        process_cpu(up.id()) - cpu
    ));
    let (half, took) = storm(listen, &numbers, Some(HALF)).await?;
    line(
        "at half the target's rate",
        "events/s",
        &[half],
        Target::AtLeast(HALF * 0.99),
    );
    show("  99 % answered within", &took, 99, Target::AtMost(25.0));
    arrived(&warehouse, before + sent()).await.map(|_| ())
}
