use std::path::{Path, PathBuf};

use local::Paths;
use tempfile::TempDir;

/// A project in a folder of its own, which goes with it.
#[derive(Debug)]
pub(crate) struct Project {
    folder: TempDir,
}

impl Project {
    /// A project with this `syncline.yaml`.
    pub(crate) fn new(definition: &str) -> Self {
        let project = Self {
            folder: TempDir::new().expect("a temporary folder"),
        };
        project.define(definition);
        project.secret("crm-hook", super::HOOK_SECRET);
        project
    }

    /// The demo's project on a CRM at `url`.
    pub(crate) fn demo(url: &str) -> Self {
        Self::new(&super::DEMO.replace("{url}", url))
    }

    /// Writes another `syncline.yaml`.
    pub(crate) fn define(&self, definition: &str) {
        std::fs::write(self.file("syncline.yaml"), definition).expect("a writable folder");
    }

    /// Keeps a secret where the local home looks for it.
    pub(crate) fn secret(&self, name: &str, text: &str) {
        let folder = self.file("secrets");
        std::fs::create_dir_all(&folder).expect("a writable folder");
        std::fs::write(folder.join(name), text).expect("a writable folder");
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths::of_project(self.folder.path())
    }

    /// The SQLite file that tests write to.
    pub(crate) fn warehouse(&self) -> rusqlite::Connection {
        self.database("warehouse.db")
    }

    /// An SQLite file of the project.
    pub(crate) fn database(&self, name: &str) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(self.file(name)).expect("an SQLite file");
        db.busy_timeout(std::time::Duration::from_secs(10))
            .expect("a timeout");
        db
    }
}
