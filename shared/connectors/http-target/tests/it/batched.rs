//! A link table that confirms claims as the one in the cloud does: not link by link, but by
//! forgetting their batch.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use model::MapName;
use ports::{Claim, ClaimBatch, Claimed, Link, Links, Revision, StoreError, Stored};

#[derive(Debug)]
pub(crate) struct Batched {
    links: Arc<dyn Links>,
    open: Mutex<HashSet<Arc<str>>>,
}

impl Batched {
    pub(crate) fn over(links: Arc<dyn Links>) -> Arc<dyn Links> {
        Arc::new(Self {
            links,
            open: Mutex::default(),
        })
    }

    fn open(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, link: Link) -> Link {
        let claim = link.claim.clone();
        let over = |claim: &Claim| {
            let batch = claim.batch.as_ref();
            batch.is_some_and(|batch| !self.open().contains(batch))
        };
        match claim.filter(over) {
            Some(claim) => link.came_true(&claim),
            None => link,
        }
    }
}

#[async_trait]
impl Links for Batched {
    async fn get(
        &self,
        map: &MapName,
        keys: &[String],
    ) -> Result<Vec<Option<Stored<Link>>>, StoreError> {
        let found = self.links.get(map, keys).await?.into_iter();
        let told = found.map(|stored| {
            stored.map(|stored| Stored {
                value: self.told(stored.value),
                revision: stored.revision,
            })
        });
        Ok(told.collect())
    }

    async fn begin(&self, _map: &MapName, batch: &ClaimBatch) -> Result<(), StoreError> {
        assert!(self.open().insert(Arc::clone(&batch.name)));
        Ok(())
    }

    async fn claim(
        &self,
        map: &MapName,
        claims: Vec<(String, Claim)>,
    ) -> Result<Vec<Claimed>, StoreError> {
        for (_, claim) in &claims {
            let batch = claim.batch.as_ref();
            assert!(batch.is_some_and(|batch| self.open().contains(batch)));
        }
        let claimed = self.links.claim(map, claims).await?.into_iter();
        let told = claimed.map(|claimed| match claimed {
            Claimed::Ours { before, revision } => Claimed::Ours {
                before: before.map(|before| self.told(before)),
                revision,
            },
            Claimed::Look => Claimed::Look,
        });
        Ok(told.collect())
    }

    async fn confirm(
        &self,
        _map: &MapName,
        batch: &ClaimBatch,
        links: Vec<(String, Revision, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError> {
        assert!(self.open().remove(&batch.name));
        Ok(links
            .iter()
            .map(|(_, revision, _)| Some(*revision))
            .collect())
    }

    async fn put(
        &self,
        map: &MapName,
        links: Vec<(String, Option<Revision>, Link)>,
    ) -> Result<Vec<Option<Revision>>, StoreError> {
        self.links.put(map, links).await
    }

    async fn list(
        &self,
        map: &MapName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Stored<Link>)>, StoreError> {
        let found = self.links.list(map, after, limit).await?.into_iter();
        let told = found.map(|(key, stored)| {
            let value = self.told(stored.value);
            (key, Stored { value, ..stored })
        });
        Ok(told.collect())
    }
}
