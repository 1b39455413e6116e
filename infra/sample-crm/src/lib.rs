//! A made-up CRM.
//!
//! It speaks OData v4 with server-driven paging, change tracking by delta links, `$filter`,
//! `$orderby`, `$select`, `$top` and `$count`, and tells of changes by webhooks signed after
//! Standard Webhooks. Its accounts, contacts and orders are the same for the same size. The
//! demo loads it; tests break it.

mod data;
mod faults;
mod filter;
mod hooks;
mod service;
mod store;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

pub use faults::Fault;
pub use store::{Set, Size};

use faults::Faults;
use hooks::Hooks;
use store::Store;

/// A running CRM; it stops when dropped.
#[derive(Debug)]
pub struct SampleCrm {
    address: SocketAddr,
    inner: Arc<Inner>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    store: Mutex<Store>,
    pub(crate) faults: Faults,
    hooks: Hooks,
    token: Mutex<Option<String>>,
}

impl Inner {
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request with this `Authorization` is let in.
    pub(crate) fn lets_in(&self, authorization: Option<&str>) -> bool {
        let required = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        required.as_ref().is_none_or(|token| {
            authorization.and_then(|text| text.strip_prefix("Bearer ")) == Some(token)
        })
    }
}

impl Drop for SampleCrm {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl SampleCrm {
    /// Starts a CRM of a size on a port of its own on this machine.
    pub async fn start(size: Size) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            store: Mutex::new(data::make(size)),
            faults: Faults::default(),
            hooks: Hooks::default(),
            token: Mutex::default(),
        });
        let router = service::router(Arc::clone(&inner));
        let server = tokio::spawn(async move {
            // It ends with the process or with this value.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            inner,
            server,
        })
    }

    /// The address of its OData service.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/odata", self.address)
    }

    /// Tells `url` of every change from now on, signed with `secret` (`whsec_…`). Returns an
    /// error if the secret cannot be used.
    pub fn subscribe(&self, url: &str, secret: &str) -> Result<(), String> {
        self.inner.hooks.subscribe(url, secret)
    }

    /// Writes a row, new or changed, with the fields of `changes` over those it had. Its time
    /// of change is set by the CRM.
    pub fn write(&self, set: Set, key: &str, changes: &Value) {
        self.inner.store().write(set, key, changes);
    }

    /// Deletes a row; says whether it was there.
    #[must_use]
    pub fn delete(&self, set: Set, key: &str) -> bool {
        self.inner.store().delete(set, key)
    }

    /// Sends the webhook for a row as it is now. Returns the status of the answer.
    pub async fn notify(&self, set: Set, key: &str) -> Result<u16, String> {
        let event = self.inner.store().event(set, key);
        self.inner.hooks.send(&event).await
    }

    /// What the webhook for a row says, as it is now, deleted or not; null if there never was one.
    #[must_use]
    pub fn event(&self, set: Set, key: &str) -> Value {
        self.inner.store().event(set, key)
    }

    /// A row as it is now.
    #[must_use]
    pub fn row(&self, set: Set, key: &str) -> Option<Value> {
        self.inner.store().row(set, key)
    }

    /// All rows as they are now.
    #[must_use]
    pub fn rows(&self, set: Set) -> Vec<Value> {
        self.inner.store().rows(set)
    }

    /// The keys of all rows.
    #[must_use]
    pub fn keys(&self, set: Set) -> Vec<String> {
        self.inner.store().keys(set)
    }

    /// Answers the next `times` requests for pages with `fault` instead.
    pub fn break_pages(&self, fault: Fault, times: usize) {
        self.inner.faults.arm(fault, None, 0, times);
    }

    /// Answers requests for pages of one set with `fault`, `times` times, beginning after so
    /// many good answers.
    pub fn break_set(&self, set: Set, fault: Fault, after: usize, times: usize) {
        self.inner.faults.arm(fault, Some(set), after, times);
    }

    /// Forgets all faults that are still to come.
    pub fn heal(&self) {
        self.inner.faults.heal();
    }

    /// Takes only requests with `Authorization: Bearer <token>` from now on.
    pub fn require_token(&self, token: &str) {
        let mut required = self
            .inner
            .token
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *required = Some(token.to_owned());
    }

    /// Lets all delta links given so far expire.
    pub fn expire_deltas(&self) {
        self.inner.store().expire_deltas();
    }

    /// Requests for pages answered so far, by entity set.
    #[must_use]
    pub fn pages_served(&self, set: Set) -> usize {
        self.inner.faults.served(set)
    }
}
