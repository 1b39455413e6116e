//! Blobs: objects of one S3 bucket.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    error::ProvideErrorMetadata,
    operation::{get_object::GetObjectError, list_objects_v2::ListObjectsV2Output},
    types::{Delete, ObjectIdentifier},
};
use bytes::Bytes;
use model::full_jitter;
use ports::{Blobs, Clock, StoreError};

use crate::{ready::Found, said::said};

/// Objects that one call deletes or lists.
const PAGE: usize = 1000;
/// Attempts at a write that another one of the same name gets in the way of.
const ATTEMPTS: u32 = 5;
/// Upper bound of the wait after the first of them, and of every wait.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The blob that is never stored, where all functions may write and what is forgotten is deleted.
const PROBE: &str = "message/none";
/// The MD5 of hardly anything.
const NOT_ITS_DIGEST: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

/// The blobs of a deployment, in a general purpose bucket (others do not list in order).
///
/// It needs `s3:ListBucket` on the bucket for more than lists: without it S3 answers a question for
/// an object that does not exist with "access denied".
#[derive(Debug, Clone)]
pub struct S3Blobs {
    client: Client,
    bucket: String,
    prefix: String,
    clock: Arc<dyn Clock>,
}

impl S3Blobs {
    /// The blobs of `bucket` whose keys begin with `prefix`, which may be empty.
    #[must_use]
    pub fn new(client: Client, bucket: String, prefix: String, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
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
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(PROBE))
            .if_none_match("*")
            .content_md5(NOT_ITS_DIGEST)
            .body(Bytes::new().into())
            .send()
            .await;
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
        from: Option<&ListObjectsV2Output>,
        limit: usize,
    ) -> Result<ListObjectsV2Output, StoreError> {
        self.client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.key(prefix))
            .set_start_after(after.map(|after| self.key(after)))
            .set_continuation_token(from.and_then(|page| page.next_continuation_token.clone()))
            .max_keys(i32::try_from(limit.min(PAGE)).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| self.failed("listing blobs", prefix, said(&error)))
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    /// A write that S3 did, and whose answer was lost, is tried again by the client and then finds
    /// itself: it says `false`.
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        for attempt in 1.. {
            let put = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(self.key(name))
                .if_none_match("*")
                .body(bytes.clone().into())
                .send()
                .await;
            let Err(error) = put else {
                break;
            };
            match error.code() {
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
        let got = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.key(name))
            .send()
            .await;
        let object = match got {
            Ok(object) => object,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetObjectError::is_no_such_key) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(self.failed(what, name, said(&error))),
        };
        let read = object.body.collect().await;
        let read = read.map_err(|error| self.failed(what, name, error))?;
        Ok(Some(read.into_bytes()))
    }

    async fn delete(&self, names: &[String]) -> Result<(), StoreError> {
        let what = "deleting blobs";
        for names in names.chunks(PAGE) {
            let objects: Result<Vec<_>, _> = names
                .iter()
                .map(|name| ObjectIdentifier::builder().key(self.key(name)).build())
                .collect();
            let delete = objects.and_then(|objects| {
                let delete = Delete::builder().set_objects(Some(objects));
                delete.quiet(true).build()
            });
            let answer = self
                .client
                .delete_objects()
                .bucket(&self.bucket)
                .delete(delete.map_err(StoreError::unavailable(what))?)
                .send()
                .await
                .map_err(|error| self.failed(what, "", said(&error)))?;
            // The call succeeds though some of it failed.
            if let Some(first) = answer.errors().first() {
                let code = first.code().unwrap_or("failed");
                let text = format!(
                    "{} of {} could not be deleted, `{}` among them: {code}: {}",
                    answer.errors().len(),
                    names.len(),
                    first.key().unwrap_or_default(),
                    first.message().unwrap_or_default(),
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
            let keys = page.contents().iter().filter_map(|object| object.key());
            let stripped = keys.filter_map(|key| key.strip_prefix(&self.prefix));
            names.extend(stripped.map(str::to_owned));
            if page.next_continuation_token().is_none() {
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
            for object in page.contents() {
                number += 1;
                bytes += u64::try_from(object.size().unwrap_or_default()).unwrap_or_default();
            }
            if page.next_continuation_token().is_none() {
                return Ok((number, bytes));
            }
            last = Some(page);
        }
    }
}

#[cfg(test)]
mod tests;
