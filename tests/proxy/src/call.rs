//! A call of a service, and its answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};

/// A call as it came.
#[derive(Debug)]
pub struct Call {
    pub(crate) head: Parts,
    /// What it carries.
    pub body: Bytes,
}

/// The answer to a call.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What it says.
    pub body: Bytes,
}

impl Call {
    pub(crate) fn new(head: Parts, body: Bytes) -> Self {
        Self { head, body }
    }

    fn header(&self, name: &str) -> &str {
        let value = self.head.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The service, as it is called in signatures (`sqs`, `dynamodb`, `s3`, `secretsmanager`);
    /// empty if the call is not signed.
    #[must_use]
    pub fn service(&self) -> &str {
        // Credential=<key>/<date>/<region>/<service>/aws4_request
        let signature = self.header("authorization");
        let scope = signature.split(['=', ',']).nth(1).unwrap_or_default();
        scope.split('/').nth(3).unwrap_or_default()
    }

    /// What is asked for, as in `PutItem`; for S3 the method.
    #[must_use]
    pub fn action(&self) -> &str {
        match self.header("x-amz-target").rsplit_once('.') {
            Some((_, action)) => action,
            None => self.head.method.as_str(),
        }
    }

    /// The path with the query.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.head.uri.path_and_query();
        path.map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// The application that calls, as its client was told (`app/…` in the user agent).
    #[must_use]
    pub fn application(&self) -> Option<&str> {
        // Two headers tell it; which one has it depends on the client.
        let agents = ["user-agent", "x-amz-user-agent"].map(|name| self.header(name));
        let mut words = agents.into_iter().flat_map(str::split_whitespace);
        words.find_map(|word| word.strip_prefix("app/"))
    }
}

impl Answer {
    /// An error in the JSON protocols of AWS, as DynamoDB and SQS speak them.
    #[must_use]
    pub fn error(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let json = HeaderValue::from_static("application/x-amz-json-1.0");
        Self {
            status,
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, json)]),
            body: body.into(),
        }
    }
}
