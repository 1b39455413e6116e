//! Calls of S3, over the SDK's own runtime.
//!
//! Connections, credentials, signatures, time limits and attempts are the SDK's, as for all other
//! services. What of S3 itself blobs need is four calls, as in the
//! [API reference](https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html),
//! and they are here. The SDK's client of S3 can do hundreds, and has the tables of a dozen kinds of
//! checksum linked into every function, a sixth of the smallest.

mod body;
mod call;
mod endpoint;
mod operation;

use std::fmt::Write as _;

use aws_config::SdkConfig;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::ErrorMetadata;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use self::{
    body::Deleted,
    call::{Answer, Call},
    operation::{Calls, operation},
};
use crate::said::said;

pub(crate) use body::Listed;

/// A call that was refused, with code and message of S3.
pub(crate) type Refused = SdkError<ErrorMetadata, HttpResponse>;

/// What stands for itself in an address.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// S3 of an account and region.
#[derive(Debug, Clone)]
pub struct S3 {
    config: SdkConfig,
}

impl S3 {
    /// S3 as this configuration reaches it: with an endpoint, a bucket is the first part of the path,
    /// and without, a part of the host's name.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        let mut with_endpoint = config.to_builder();
        with_endpoint.set_endpoint_url(endpoint::chosen(config));
        Self {
            config: with_endpoint.build(),
        }
    }
}

/// A bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    calls: Calls,
}

impl Bucket {
    /// The bucket of this name. Whether it is there, its calls tell.
    pub(crate) fn new(s3: &S3, name: &str) -> Self {
        Self {
            calls: operation(&s3.config, name),
        }
    }

    async fn call(&self, call: Call) -> Result<Answer, Refused> {
        self.calls.invoke(call).await
    }

    /// Stores an object if there is none of its name.
    pub(crate) async fn put_object(&self, key: &str, body: Bytes) -> Result<(), Refused> {
        let put = Call::object("PUT", key).with("if-none-match", "*");
        self.call(put.with_body(body)).await.map(drop)
    }

    /// Sends an empty object of this name, if there is none, with the MD5 of something else: S3
    /// refuses it to everybody who might store it.
    pub(crate) async fn put_object_in_vain(&self, key: &str) -> Result<(), Refused> {
        let put = Call::object("PUT", key).with("if-none-match", "*");
        let put = put.with("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
        self.call(put).await.map(drop)
    }

    /// The object, with the digest that S3 has of it.
    pub(crate) async fn get_object(&self, key: &str) -> Result<Answer, Refused> {
        let get = Call::object("GET", key).with("x-amz-checksum-mode", "ENABLED");
        self.call(get).await
    }

    /// Deletes objects, at most 1000; those that are not there too. The answer tells of those that
    /// were not deleted.
    pub(crate) async fn delete_objects(&self, keys: &[String]) -> Result<Deleted, String> {
        let delete = Call::new("POST", "/?delete=".to_owned());
        let delete = delete.with("content-type", "application/xml");
        let answer = self.call(delete.with_body(body::delete(keys))).await;
        body::read("DeleteResult", &answer.map_err(|error| said(&error))?.body)
    }

    /// The objects whose keys begin with `prefix`, in order, those after `after` or from `token` on,
    /// at most 1000.
    pub(crate) async fn list_objects_v2(
        &self,
        prefix: &str,
        after: Option<&str>,
        token: Option<&str>,
        limit: usize,
    ) -> Result<Listed, String> {
        let mut target = format!("/?list-type=2&max-keys={limit}");
        let parts = [
            ("prefix", Some(prefix)),
            ("start-after", after),
            ("continuation-token", token),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                let _ = write!(target, "&{name}={}", utf8_percent_encode(value, PLAIN));
            }
        }
        let answer = self.call(Call::new("GET", target)).await;
        body::read(
            "ListBucketResult",
            &answer.map_err(|error| said(&error))?.body,
        )
    }
}
