//! What the tests share.

mod deployment;
mod hooks;
mod hub;
mod process;
mod project;
mod queues;
mod reality;
mod server;
mod service;
mod stack;
mod targets;
mod third_party;

pub(crate) use deployment::{Deployment, all, at_rest, name, park_one};
pub(crate) use hooks::{notify, now, send, signed};
pub(crate) use hub::{Hub, assert_equal_at_hub, to_hub};
pub(crate) use process::{Running, Up, repaired, run, run_with, settled};
pub(crate) use project::Project;
pub(crate) use queues::{Gate, Slow, message};
pub(crate) use reality::{assert_equal, compare, differences, differences_of, query_of};
pub(crate) use server::{assert_equal_on_server, on_server, server_differences};
pub(crate) use service::Service;
pub(crate) use stack::{Setting, Stack, ready};
pub(crate) use targets::Switch;
pub(crate) use third_party::{Served, ThirdParty, client};

use std::path::PathBuf;

use sample_crm::{SampleCrm, Size};

/// A definition of the demo, which maps all of the sample CRM.
pub(crate) const DEMO: &str = include_str!("../../../infra/local/template/demo.yaml");

/// The secret of webhooks in the tests.
pub(crate) const HOOK_SECRET: &str = "whsec_c3luY2xpbmUtZGVtby1zZWNyZXQtMDAwMQ==";

/// The folder of this package. Asked for when the tests run: they may be in another folder
/// than the one they were built in.
pub(crate) fn package() -> PathBuf {
    let folder = runtime::env::optional("CARGO_MANIFEST_DIR");
    PathBuf::from(folder.expect("cargo says where the package is"))
}

/// A CRM with a few rows of each kind and no bad ones.
pub(crate) async fn small_crm() -> SampleCrm {
    crm(60, 0).await
}

/// A CRM with so many rows in all, some of them bad.
pub(crate) async fn crm(rows: usize, bad: usize) -> SampleCrm {
    let size = Size {
        accounts: rows / 3,
        contacts: rows / 3,
        orders: rows - 2 * (rows / 3),
        bad,
    };
    SampleCrm::start(size)
        .await
        .expect("a port on this machine")
}

/// Orders alone, with one part of the map exchanged.
pub(crate) fn orders(url: &str, from: &str, to: &str) -> String {
    const ORDERS: &str = "\
connections:
  crm: { kind: odata, url: {url} }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
  orders:
    from: { stream: crm.Orders, key: OrderNo, version: ModifiedAt }
    to: { stream: warehouse.orders, key: order_no }
    fields: { order_no: OrderNo, status: Status, total: Total }
    pull: { every: 5m }
    webhook: { endpoint: crm, scheme: standard, secret: secret://crm-hook, record: data }
";
    assert!(ORDERS.contains(from), "the map has no `{from}`");
    ORDERS.replace(from, to).replace("{url}", url)
}
