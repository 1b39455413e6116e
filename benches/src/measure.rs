//! What a process costs.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};

/// What a command has cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of processor time of the command.
    pub(crate) client: f64,
    /// Seconds of processor time of the database server meanwhile.
    pub(crate) server: f64,
    /// Largest resident set, in MiB.
    pub(crate) peak: f64,
}

impl Cost {
    /// Processor time of both.
    pub(crate) fn cpu(&self) -> f64 {
        self.client + self.server
    }
}

fn seconds(time: nix::sys::time::TimeVal) -> f64 {
    use nix::sys::time::TimeValLike as _;
    Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0)).as_secs_f64()
}

fn children() -> io::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Clock ticks per second, in which Linux counts processor time.
const TICKS: f64 = 100.0;

/// Processor time of a process and of its children that have ended, in seconds.
pub(crate) fn process_cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, after)) = stat.rsplit_once(')') else {
        return 0.0;
    };
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: u32 = fields
        .get(11..15)
        .unwrap_or_default()
        .iter()
        .filter_map(|field| field.parse::<u32>().ok())
        .sum();
    f64::from(ticks) / TICKS
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

/// Processor time of the processes that run a Lambda function, by their numbers.
pub(crate) fn cpu_of_functions(name: &str) -> BTreeMap<u32, f64> {
    let variable = format!("AWS_LAMBDA_FUNCTION_NAME={name}");
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let runs = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|one| one == variable.as_bytes())
    };
    pids.filter(runs)
        .map(|pid| (pid, process_cpu(pid)))
        .collect()
}

/// Processor time of a server: its first process, and all that it has started.
pub(crate) fn server_cpu(first: Option<u32>) -> f64 {
    let Some(first) = first else { return 0.0 };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let running = pids
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent(*pid) == Some(first));
    process_cpu(first) + running.map(process_cpu).sum::<f64>()
}

/// The first process of the server to which `backend` belongs.
pub(crate) fn server_of(backend: i32) -> Option<u32> {
    parent(u32::try_from(backend).ok()?)
}

fn resident(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// The largest resident set so far, in MiB.
pub(crate) fn peak(pid: u32) -> f64 {
    resident(pid, "VmHWM")
}

/// Runs a command to its end and says what it cost. Exit codes in `good` are no error.
pub(crate) fn run(command: &mut Command, server: Option<u32>, good: &[i32]) -> io::Result<Cost> {
    let (client, database) = (children()?, server_cpu(server));
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let highest = watch(&mut child)?;
    let wall = started.elapsed().as_secs_f64();
    let output = child.wait_with_output()?;
    if !output
        .status
        .code()
        .is_some_and(|code| good.contains(&code))
    {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!(
            "{command:?}: {}: {said}",
            output.status
        )));
    }
    Ok(Cost {
        wall,
        client: children()? - client,
        server: server_cpu(server) - database,
        peak: highest,
    })
}

/// Looks at a process until it ends; returns its largest resident set in MiB.
fn watch(child: &mut Child) -> io::Result<f64> {
    let mut highest: f64 = 0.0;
    let (tick, never) = std::sync::mpsc::channel::<()>();
    while child.try_wait()?.is_none() {
        highest = highest.max(peak(child.id()));
        // Nobody sends: this is a pause that no executor waits for.
        let _ = never.recv_timeout(Duration::from_millis(4));
    }
    drop(tick);
    Ok(highest)
}

/// A process that is killed when this goes.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program to measure, beside this one.
pub(crate) fn syncline(project: &Path) -> io::Result<Command> {
    let program = std::env::current_exe()?.with_file_name("syncline");
    if !program.exists() {
        return Err(io::Error::other(format!(
            "{} is not there: build it with `cargo build --release`",
            program.display()
        )));
    }
    let mut command = Command::new(program);
    command.arg("--project").arg(project);
    Ok(command)
}
