//! The command as a process of its own.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
};

use super::Project;

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// What it said as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

fn command(project: &Project, args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncline-under-test"));
    command
        .arg("--project")
        .arg(project.folder())
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub(crate) async fn run(project: &Project, args: &[&str]) -> Said {
    run_with(project, args, &[]).await
}

/// Runs a command to its end with something in its environment.
pub(crate) async fn run_with(project: &Project, args: &[&str], env: &[(&str, &str)]) -> Said {
    let done = command(project, args, env)
        .output()
        .await
        .expect("a process");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said {
        code: done.status.code(),
        out: text(done.stdout),
        err: text(done.stderr),
    }
}

/// A command under way, which dies with this value.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

/// Reads lines until one contains `text`.
async fn until<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, text: &str) {
    loop {
        let line = lines.next_line().await.expect("text");
        let line = line.unwrap_or_else(|| panic!("it has ended before it said `{text}`"));
        if line.contains(text) {
            return;
        }
    }
}

/// All lines that are left.
async fn rest<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>) -> String {
    let mut text = String::new();
    while let Some(line) = lines.next_line().await.expect("text") {
        text += &line;
        text.push('\n');
    }
    text
}

impl Running {
    /// Starts one without waiting for anything.
    pub(crate) fn spawn(project: &Project, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut process = command(project, args, env)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let out = process.stdout.take().expect("its output");
        let err = process.stderr.take().expect("its log");
        Self {
            process,
            out: BufReader::new(out).lines(),
            err: BufReader::new(err).lines(),
        }
    }

    /// Waits until it has said `text` on standard output.
    pub(crate) async fn says(&mut self, text: &str) {
        until(&mut self.out, text).await;
    }

    /// Waits until it has said `text` on standard error.
    pub(crate) async fn notes(&mut self, text: &str) {
        until(&mut self.err, text).await;
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self
            .process
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(id.expect("a process"), signal).expect("a process to signal");
    }

    /// Waits for its end; returns what it said that nobody has waited for.
    pub(crate) async fn ended(&mut self) -> Said {
        let (out, err) = tokio::join!(rest(&mut self.out), rest(&mut self.err));
        let code = self.process.wait().await.expect("a process").code();
        Said { code, out, err }
    }
}

/// A `syncline up` of its own, which dies with this value.
#[derive(Debug)]
pub(crate) struct Up {
    running: Running,
    address: String,
}

impl Up {
    /// Starts one and waits until it takes webhooks.
    pub(crate) async fn start(project: &Project, env: &[(&str, &str)]) -> Self {
        let mut up = Self::spawn(project, env);
        loop {
            let line = up.running.err.next_line().await.expect("text");
            let line = line.expect("`up` has ended before it took webhooks");
            if let Some((_, url)) = line.split_once("webhooks are taken at http://") {
                up.address = url.split('/').next().unwrap_or_default().to_owned();
                return up;
            }
        }
    }

    /// Starts one without waiting for anything.
    pub(crate) fn spawn(project: &Project, env: &[(&str, &str)]) -> Self {
        Self {
            running: Running::spawn(project, &["up", "--listen", "127.0.0.1:0"], env),
            address: String::new(),
        }
    }

    /// Where it takes webhooks.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Kills it, as a loss of power would.
    pub(crate) async fn kill(mut self) {
        self.running
            .process
            .kill()
            .await
            .expect("a process to kill");
    }

    /// Asks it to stop; returns its exit code.
    pub(crate) async fn stop(mut self) -> Option<i32> {
        self.running.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits for its end; returns its exit code, or nothing if it was killed.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        self.running.ended().await.code
    }
}

/// Looks, by the command a person would type, until nothing is on its way.
pub(crate) async fn settled(project: &Project) {
    loop {
        let balances = run(project, &["balance", "--json"]).await.json();
        let mut books = balances
            .as_array()
            .unwrap()
            .iter()
            .map(|balance| &balance["books"]);
        if books.all(|books| books["in_flight"] == 0 && books["failing"] == 0) {
            return;
        }
    }
}

/// Looks, by the command a person would type, until no failure asks for anything.
pub(crate) async fn repaired(project: &Project) {
    let mut left = Value::Null;
    for _ in 0..1_000 {
        left = run(project, &["failures", "groups", "--json"]).await.json();
        if left == Value::Array(Vec::new()) {
            return;
        }
    }
    panic!("these failures stay: {left:#}");
}
