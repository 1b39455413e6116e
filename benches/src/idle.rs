//! What ten thousand maps cost that have nothing to do.

use std::{fmt::Write as _, io, process::Stdio, time::Duration};

use tempfile::TempDir;

use crate::{
    hooks::free_address,
    measure::{Running, process_cpu, syncline},
    table::{Target, heading, line},
};

const MAPS: usize = 10_000;
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn measure() -> io::Result<()> {
    let folder = TempDir::new()?;
    let mut definition = String::from(
        "connections:\n  crm: { kind: odata, url: http://127.0.0.1:9/odata }\n  warehouse: { kind: sqlite, url: warehouse.db }\nmaps:\n",
    );
    for map in 0..MAPS {
        // Writing to a string cannot fail.
        let _ = writeln!(
            definition,
            "  map{map}:\n    from: {{ stream: crm.Set{map}, key: Id, version: ModifiedAt }}\n    to: {{ stream: warehouse.table{map}, key: id }}\n    fields: {{ id: Id }}\n    pull: {{ every: 24h }}"
        );
    }
    std::fs::write(folder.path().join("syncline.yaml"), definition)?;
    let listen = free_address()?.to_string();
    let child = syncline(folder.path())?
        .args(["up", "--listen", &listen])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let up = Running(child);
    let mut busy = process_cpu(up.id());
    // The first pulls of all maps are due at once; what counts is the time after them.
    for _ in 0..120 {
        tokio::time::sleep(LOOK).await;
        let now = process_cpu(up.id());
        if now > 0.0 && now - busy < 0.1 {
            break;
        }
        busy = now;
    }
    let before = process_cpu(up.id());
    tokio::time::sleep(LOOK * 15).await;
    let share = (process_cpu(up.id()) - before) / 15.0 * 100.0;
    heading("idle");
    line(
        "10,000 maps with nothing to do",
        "% of a core",
        &[share],
        Target::AtMost(1.0),
    );
    Ok(())
}
