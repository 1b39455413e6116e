//! The books: what was read and what became of it.

use std::{collections::HashSet, fmt::Debug};

use async_trait::async_trait;
use model::{Books, Counts, MapName, PackId, PackRef, RunId, Settlement};

use crate::StoreError;

/// Keeps the books. They are opened by [`crate::Queue::send`].
#[async_trait]
pub trait Ledger: Debug + Send + Sync {
    /// Enters what became of packs. MUST count each pack at most once, however often it is
    /// settled: a pack that is delivered again settles again, and one that is sent again within
    /// an hour of being settled does not open its books again. A pack that was never opened is
    /// ignored, or opened now by a ledger that remembers settled packs for longer than any queue
    /// keeps messages.
    ///
    /// Returns the packs that another attempt has settled: what that one said stands, and
    /// failures that this one found in them are not to be stored. While a pack is remembered
    /// this MUST be known to an attempt that had failures.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<HashSet<PackId>, StoreError>;

    /// Which of `packs` are known to be settled. One that was settled more than an hour ago may
    /// be forgotten.
    async fn settled(&self, packs: &[PackRef]) -> Result<HashSet<PackId>, StoreError>;

    /// Moves outcomes of a run that turned out otherwise later, once per `reason`.
    async fn amend(
        &self,
        map: &MapName,
        run: RunId,
        reason: &str,
        from: Counts,
        to: Counts,
    ) -> Result<(), StoreError>;

    /// Changes of a run in packs that are not settled.
    async fn in_flight(&self, map: &MapName, run: RunId) -> Result<u64, StoreError>;

    /// The books of every run of a map that are kept singly, newest first, failures included
    /// as they stand in the failure store.
    async fn runs(&self, map: &MapName, limit: usize) -> Result<Vec<(RunId, Books)>, StoreError>;

    /// The books of a map over all its runs.
    async fn books(&self, map: &MapName) -> Result<Books, StoreError>;

    /// The books of several maps, in order.
    async fn books_of(&self, maps: &[&MapName]) -> Result<Vec<Books>, StoreError> {
        let mut all = Vec::with_capacity(maps.len());
        for map in maps {
            all.push(self.books(map).await?);
        }
        Ok(all)
    }
}
