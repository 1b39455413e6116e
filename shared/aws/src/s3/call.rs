//! A call, and its answer.

use std::fmt;

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError},
};
use aws_smithy_types::{body::SdkBody, error::ErrorMetadata};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use percent_encoding::{AsciiSet, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::{PLAIN, body};

/// What stands for itself in a path.
const PATH: &AsciiSet = &PLAIN.remove(b'/');
/// The digest of an object, which S3 keeps beside it.
const DIGEST: &str = "x-amz-checksum-sha256";

fn digest(body: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(body))
}

/// A call: what is in its body is nobody's business but S3's.
pub(super) struct Call {
    method: &'static str,
    /// Path and query, encoded.
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Call {
    pub(super) fn new(method: &'static str, target: String) -> Self {
        Self {
            method,
            target,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(super) fn object(method: &'static str, key: &str) -> Self {
        Self::new(method, format!("/{}", utf8_percent_encode(key, PATH)))
    }

    pub(super) fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    /// With a body, and the digest by which S3 knows whether it is whole.
    pub(super) fn with_body(mut self, body: Bytes) -> Self {
        self.headers.push((DIGEST, digest(&body)));
        self.body = body;
        self
    }

    pub(super) fn into_request(self) -> Result<HttpRequest, BoxError> {
        let length = self.body.len();
        let mut request = HttpRequest::new(SdkBody::from(self.body));
        request.set_method(self.method)?;
        request.set_uri(self.target)?;
        let headers = request.headers_mut();
        for (name, value) in self.headers {
            headers.try_insert(name, value)?;
        }
        if length > 0 || self.method == "PUT" {
            headers.try_insert("content-length", length.to_string())?;
        }
        Ok(request)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(super) body: Bytes,
    /// The digest of the object that it is about.
    digest: Option<String>,
}

impl Answer {
    /// Reads an answer whose body has come whole.
    pub(super) fn read(response: &HttpResponse) -> Result<Self, OrchestratorError<ErrorMetadata>> {
        let body = response.body().bytes().unwrap_or_default();
        if !response.status().is_success() || is_refusal(response, body) {
            let refused = body::refused(response.status().as_u16(), body);
            return Err(OrchestratorError::operation(refused));
        }
        Ok(Self {
            body: Bytes::copy_from_slice(body),
            digest: response.headers().get(DIGEST).map(str::to_owned),
        })
    }

    /// The object that was asked for; `None` if it is not what was stored.
    pub(crate) fn object(self) -> Option<Bytes> {
        let as_stored = self
            .digest
            .is_none_or(|stored| stored == digest(&self.body));
        as_stored.then_some(self.body)
    }
}

/// Whether an answer that has begun well is a refusal all the same: S3 can find out too late. Objects
/// have no type, so it is none of them.
fn is_refusal(response: &HttpResponse, body: &[u8]) -> bool {
    let kind = response.headers().get("content-type");
    kind.is_some_and(|kind| kind.ends_with("/xml")) && body::is_refusal(body)
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.body.len())
    }
}
