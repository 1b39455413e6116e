//! The project the demo works in.

use std::{fs, io, path::Path};

use sample_crm::SampleCrm;

/// The secret that the CRM signs its webhooks with. It is in the open because the CRM is
/// made up and listens on this machine only.
pub(super) const HOOK_SECRET: &str = "whsec_c3luY2xpbmUtZGVtby1zZWNyZXQtMDAwMQ==";

/// Writes a new project into `folder`. A former demo there is written over.
pub(super) fn write(folder: &Path, crm: &SampleCrm) -> io::Result<()> {
    fs::create_dir_all(folder.join("secrets"))?;
    for old in ["warehouse.db", "warehouse.db-wal", "warehouse.db-shm"] {
        remove(&folder.join(old))?;
    }
    let data = folder.join(".syncline");
    if data.join("syncline.db").exists() {
        fs::remove_dir_all(&data)?;
    }
    fs::write(folder.join("secrets/crm-hook"), HOOK_SECRET)?;
    fs::write(folder.join("syncline.yaml"), definition(&crm.url()))
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn definition(url: &str) -> String {
    include_str!("../../template/demo.yaml").replace("{url}", url)
}
