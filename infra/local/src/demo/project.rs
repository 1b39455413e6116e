//! The project the demo works in.

use std::{fs, io, path::Path};

use embedded::DataLock;
use sample_crm::SampleCrm;

/// The secret that the CRM signs its webhooks with. It is in the open because the CRM is
/// made up and listens on this machine only.
pub(super) const HOOK_SECRET: &str = "whsec_c3luY2xpbmUtZGVtby1zZWNyZXQtMDAwMQ==";

const TEMPLATE: &str = include_str!("../../template/demo.yaml");

/// Whether the demo may write in `folder`: nothing is there, or a former demo.
pub(super) fn may_be_written(folder: &Path) -> io::Result<bool> {
    match fs::read_to_string(folder.join("syncline.yaml")) {
        Ok(text) => return Ok(text.lines().next() == TEMPLATE.lines().next()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Writes a new project into `folder`, whose data folder is held. A former demo there is
/// written over.
pub(super) fn write(folder: &Path, data: &Path, crm: &SampleCrm) -> io::Result<()> {
    fs::write(
        folder.join("syncline.yaml"),
        TEMPLATE.replace("{url}", &crm.url()),
    )?;
    for old in ["warehouse.db", "warehouse.db-wal", "warehouse.db-shm"] {
        remove(&folder.join(old))?;
    }
    for old in fs::read_dir(data)? {
        let old = old?;
        // Whoever comes meanwhile has to find the lock.
        if old.file_name() == DataLock::FILE {
            continue;
        }
        if old.file_type()?.is_dir() {
            fs::remove_dir_all(old.path())?;
        } else {
            remove(&old.path())?;
        }
    }
    fs::create_dir_all(folder.join("secrets"))?;
    fs::write(folder.join("secrets/crm-hook"), HOOK_SECRET)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
