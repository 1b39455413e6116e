use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::process::{Child, Command};

/// `syncline up` as a process of its own, armed to die.
#[derive(Debug)]
pub(crate) struct Up {
    child: Child,
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

impl Up {
    /// Starts `syncline up` on a project. With `crash_at` (`step:n`) it kills itself when it
    /// passes that step for the n-th time.
    pub(crate) fn start(project: &Path, listen: SocketAddr, crash_at: Option<&str>) -> Self {
        let log = File::options()
            .append(true)
            .create(true)
            .open(project.join("up.log"))
            .expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncline-under-test"));
        command
            .args(["up", "--listen", &listen.to_string()])
            .arg("--project")
            .arg(project)
            .env("SYNCLINE_LOG", "error")
            .env_remove("SYNCLINE_CRASH_AT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(crash_at) = crash_at {
            command.env("SYNCLINE_CRASH_AT", crash_at);
        }
        let child = command.spawn().expect("the program");
        Self { child }
    }

    /// Waits for the process to die, at most for `time`; says whether it did.
    ///
    /// # Panics
    /// If it ended otherwise than by SIGKILL.
    pub(crate) async fn died_within(&mut self, time: Duration) -> bool {
        match tokio::time::timeout(time, self.child.wait()).await {
            Ok(status) => {
                let status = status.expect("a status");
                assert_eq!(status.signal(), Some(9), "`up` ended by itself: {status}");
                true
            }
            Err(_) => false,
        }
    }

    /// Kills it with SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("killed");
    }
}
