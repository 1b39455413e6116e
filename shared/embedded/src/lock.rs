//! One host per data folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

/// Held by the process that hosts the functions on a data folder; given back when dropped,
/// by the operating system if need be.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// The folder is not free.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process hosts it.
    #[error(
        "another `syncline up` works on {folder}: stop it first, or give this one a data folder of its own with --data"
    )]
    Taken {
        /// The folder.
        folder: PathBuf,
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
    /// Takes the lock, or says who has it.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            folder: folder.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(io)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("syncline.lock"))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken {
                folder: folder.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_host_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataLock::take(folder.path()).unwrap();
        let refused = DataLock::take(folder.path()).unwrap_err();
        assert!(matches!(refused, LockError::Taken { .. }));
        assert!(refused.to_string().contains("--data"));
        drop(first);
        DataLock::take(folder.path()).unwrap();
    }
}
