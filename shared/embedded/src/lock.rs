//! One host per data folder.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Held by the process that hosts the functions on a data folder; given back when dropped,
/// by the operating system if need be.
#[derive(Debug)]
pub struct DataLock {
    file: File,
}

/// The process that holds a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub process: u32,
    /// The command it is running: `up`, `load`.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`syncline {}` (process {})", self.command, self.process)
    }
}

/// The folder is not free.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process hosts it.
    #[error(
        "another {} works on {folder}: stop it or wait for its end, or give this one a data folder of its own with --data",
        holder.as_ref().map_or_else(|| "process".to_owned(), ToString::to_string)
    )]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// Which process, where it can be told.
        holder: Option<Holder>,
    },
    /// It cannot be written.
    #[error("cannot lock {folder}: {source}")]
    Io {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl DataLock {
    /// The name of the file that is locked.
    pub const FILE: &str = "syncline.lock";

    /// Takes the lock for the command `command`, or says who has it.
    pub fn take(folder: &Path, command: &str) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            folder: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(io)?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(folder.join(Self::FILE))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {
                // Whoever is refused meanwhile is told less, and that is all.
                let _ = sign(&mut file, command);
                Ok(Self { file })
            }
            Err(TryLockError::WouldBlock) => Err(LockError::Taken {
                folder: folder.to_owned(),
                holder: signature(&mut file),
            }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // The next holder must not be taken for this one before it has signed.
        let _ = self.file.set_len(0);
    }
}

fn sign(file: &mut File, command: &str) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{} {command}", std::process::id())
}

fn signature(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let (process, command) = text.split_once(' ')?;
    Some(Holder {
        process: process.parse().ok()?,
        command: command.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_host_is_told_who_the_first_is_until_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataLock::take(folder.path(), "failures retry").unwrap();
        let refused = DataLock::take(folder.path(), "up").unwrap_err();
        let text = refused.to_string();
        let process = std::process::id();
        assert!(
            text.starts_with(&format!(
                "another `syncline failures retry` (process {process}) works on"
            )),
            "{text}"
        );
        assert!(text.contains("--data"), "{text}");
        drop(first);
        let second = DataLock::take(folder.path(), "up").unwrap();
        let LockError::Taken { holder, .. } = DataLock::take(folder.path(), "load").unwrap_err()
        else {
            panic!("it is taken");
        };
        assert_eq!(holder.unwrap().command, "up");
        drop(second);
    }
}
