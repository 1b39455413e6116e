//! Blobs: objects of one S3 bucket.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use model::full_jitter;
use ports::{Blobs, Clock, StoreError};

use crate::{
    S3,
    ready::Found,
    s3::{Bucket, Listed, Refused},
    said::said,
};

/// Objects that one call deletes or lists.
const PAGE: usize = 1000;
/// Attempts at a write that another one of the same name gets in the way of.
const ATTEMPTS: u32 = 5;
/// Upper bound of the wait after the first of them, and of every wait.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The blob that is never stored, where all functions may write and what is forgotten is deleted.
const PROBE: &str = "message/none";

/// The blobs of a deployment, in a general purpose bucket (others do not list in order).
///
/// It needs `s3:ListBucket` on the bucket for more than lists: without it S3 answers a question for
/// an object that does not exist with "access denied".
#[derive(Debug, Clone)]
pub struct S3Blobs {
    client: Bucket,
    bucket: String,
    prefix: String,
    clock: Arc<dyn Clock>,
}

impl S3Blobs {
    /// The blobs of `bucket` whose keys begin with `prefix`, which may be empty.
    #[must_use]
    pub fn new(s3: &S3, bucket: String, prefix: String, clock: Arc<dyn Clock>) -> Self {
        Self {
            client: Bucket::new(s3, &bucket),
            bucket,
            prefix,
            clock,
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn failed(&self, what: &'static str, name: &str, why: impl std::fmt::Display) -> StoreError {
        let text = format!("`s3://{}/{}{name}`: {why}", self.bucket, self.prefix);
        StoreError::unavailable(what)(text)
    }

    /// Whether the bucket is there and may be written to: what is sent is not what its digest
    /// says, which S3 refuses, to one who may write. Nothing is stored; where digests are not
    /// looked at, it is empty and stored once.
    pub(crate) async fn may_write(&self) -> Found {
        let put = self.client.put_object_in_vain(&self.key(PROBE)).await;
        let fine = [
            "BadDigest",
            "ConditionalRequestConflict",
            "PreconditionFailed",
        ];
        Found::of(&put, &fine)
    }

    /// The next of `limit` objects below `prefix`; `from` is the page before.
    async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        from: Option<&Listed>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        let after = after.map(|after| self.key(after));
        let token = from.and_then(|page| page.next_continuation_token.as_deref());
        self.client
            .list_objects_v2(&self.key(prefix), after.as_deref(), token, limit.min(PAGE))
            .await
            .map_err(|why| self.failed("listing blobs", prefix, why))
    }
}

fn code(refused: &Refused) -> Option<&str> {
    refused.as_service_error()?.code()
}

#[async_trait]
impl Blobs for S3Blobs {
    /// A write that S3 did, and whose answer was lost, is tried again by the client and then finds
    /// itself: it says `false`.
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        for attempt in 1.. {
            let put = self.client.put_object(&self.key(name), bytes.clone()).await;
            let Err(error) = put else {
                break;
            };
            match code(&error) {
                Some("PreconditionFailed") => return Ok(false),
                // Another write or a deletion of the name is under way, and may fail.
                Some("ConditionalRequestConflict") if attempt < ATTEMPTS => {
                    let random = self.clock.random();
                    let wait = full_jitter(FIRST_WAIT, LONGEST_WAIT, attempt - 1, random);
                    self.clock.sleep(wait).await;
                }
                _ => return Err(self.failed("storing a blob", name, said(&error))),
            }
        }
        Ok(true)
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let what = "reading a blob";
        let answer = match self.client.get_object(&self.key(name)).await {
            Ok(answer) => answer,
            Err(error) if code(&error) == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(self.failed(what, name, said(&error))),
        };
        let Some(bytes) = answer.object() else {
            let why = "what came is not what was stored, as the digest beside it says";
            return Err(self.failed(what, name, why));
        };
        Ok(Some(bytes))
    }

    async fn delete(&self, names: &[String]) -> Result<(), StoreError> {
        let what = "deleting blobs";
        for names in names.chunks(PAGE) {
            let keys: Vec<_> = names.iter().map(|name| self.key(name)).collect();
            let deleted = self.client.delete_objects(&keys).await;
            let errors = deleted.map_err(|why| self.failed(what, "", why))?.errors;
            // The call succeeds though some of it failed.
            if let Some(first) = errors.first() {
                let text = format!(
                    "{} of {} could not be deleted, `{}` among them: {}: {}",
                    errors.len(),
                    names.len(),
                    first.key,
                    first.code,
                    first.message,
                );
                return Err(self.failed(what, "", text));
            }
        }
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let mut last = None;
        while names.len() < limit {
            let left = limit - names.len();
            let page = self.page(prefix, after, last.as_ref(), left).await?;
            let keys = page.contents.iter().map(|object| object.key.as_str());
            let stripped = keys.filter_map(|key| key.strip_prefix(&self.prefix));
            names.extend(stripped.map(str::to_owned));
            if page.next_continuation_token.is_none() {
                break;
            }
            last = Some(page);
        }
        Ok(names)
    }

    async fn measure(&self, prefix: &str) -> Result<(u64, u64), StoreError> {
        let (mut number, mut bytes) = (0, 0);
        let mut last = None;
        loop {
            let page = self.page(prefix, None, last.as_ref(), PAGE).await?;
            for object in &page.contents {
                number += 1;
                bytes += object.size;
            }
            if page.next_continuation_token.is_none() {
                return Ok((number, bytes));
            }
            last = Some(page);
        }
    }
}

#[cfg(test)]
mod tests;
