//! Programs that nobody here wrote.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A folder in which Node finds the scripts and modules of `tests/third-party`.
#[derive(Debug)]
pub(crate) struct ThirdParty {
    folder: TempDir,
}

/// A program that serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    child: Child,
    /// It loads modules even later.
    _folder: TempDir,
    /// Its address, as it has printed it.
    pub(crate) url: String,
}

impl ThirdParty {
    /// Makes the folder. The modules are where `tests/run` has said, or beside the scripts.
    pub(crate) fn new() -> Self {
        let scripts = super::package().join("third-party");
        let modules = match runtime::env::optional("SYNCLINE_TEST_NODE_MODULES") {
            Some(modules) => PathBuf::from(modules),
            None => scripts.join("node_modules"),
        };
        assert!(
            modules.join("standardwebhooks").is_dir(),
            "run tests/run: there are no Node modules in {}",
            modules.display()
        );
        let folder = TempDir::new().expect("a temporary folder");
        std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).expect("a link");
        for file in ["sign.mjs", "cap"] {
            std::os::unix::fs::symlink(scripts.join(file), folder.path().join(file))
                .expect("a link");
        }
        Self { folder }
    }

    fn node(&self, arguments: &[&str]) -> Command {
        let mut node = Command::new("node");
        // A link is not followed: what a script imports is looked for beside the link.
        node.arg("--preserve-symlinks-main")
            .arg("--preserve-symlinks")
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        node
    }

    /// Runs a script to its end; returns the lines it prints.
    pub(crate) fn run(&self, arguments: &[&str]) -> Vec<String> {
        let output = self
            .node(arguments)
            .output()
            .expect("Node: run tests/run, which says what it needs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    /// Starts a script that prints its address once it serves.
    pub(crate) fn serve(self, arguments: &[&str]) -> Served {
        let mut child = self
            .node(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node: run tests/run, which says what it needs");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut lines = output.lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("serving ").map(str::to_owned));
        // Whatever else it says is read too, or it would have to wait one day.
        std::thread::spawn(move || lines.for_each(drop));
        Served {
            child,
            _folder: self.folder,
            url: url.expect("a server that starts"),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client for HTTP on this machine.
pub(crate) fn client() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}
