//! The services of the emulator, as far as this bench calls them itself.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header::HOST};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

/// A client of the emulator.
#[derive(Debug, Clone)]
pub(crate) struct Emulator {
    endpoint: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Bytes and number of what a function has written into its log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Logged {
    pub(crate) lines: usize,
    pub(crate) bytes: usize,
}

/// What AWS adds to each line of a log.
const LINE: usize = 26;

impl Emulator {
    pub(crate) fn new(endpoint: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> io::Result<(Response<()>, Bytes)> {
        let answer: Response<Incoming> = self
            .client
            .request(request)
            .await
            .map_err(io::Error::other)?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok((Response::from_parts(head, ()), body))
    }

    fn signed(service: &str) -> String {
        // The emulator looks at the name of the service, and at nothing else.
        format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        )
    }

    /// Makes a call in the JSON protocol.
    pub(crate) async fn call(
        &self,
        service: &str,
        target: &str,
        body: &Value,
    ) -> io::Result<Value> {
        let request = Request::post(format!("{}/", self.endpoint))
            .header("authorization", Self::signed(service))
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .body(Full::from(body.to_string()))
            .map_err(io::Error::other)?;
        read(self.ask(request).await?, target)
    }

    /// Asks Lambda for what is at a path.
    pub(crate) async fn lambda(&self, path: &str) -> io::Result<Value> {
        let request = Request::get(format!("{}/2015-03-31/{path}", self.endpoint))
            .header("authorization", Self::signed("lambda"))
            .body(Full::default())
            .map_err(io::Error::other)?;
        read(self.ask(request).await?, path)
    }

    /// Invokes a function and waits for what it answers.
    pub(crate) async fn invoke(&self, function: &str, event: &Value) -> io::Result<Value> {
        let request = Request::post(format!(
            "{}/2015-03-31/functions/{function}/invocations",
            self.endpoint
        ))
        .header("authorization", Self::signed("lambda"))
        .body(Full::from(event.to_string()))
        .map_err(io::Error::other)?;
        let (head, body) = self.ask(request).await?;
        if head.headers().contains_key("x-amz-function-error") {
            let said = String::from_utf8_lossy(&body);
            return Err(io::Error::other(format!("{function} failed: {said}")));
        }
        read((head, body), function)
    }

    /// Sends a request to a function URL; returns the status of the answer.
    pub(crate) async fn post(
        &self,
        host: &str,
        mut request: Request<Full<Bytes>>,
    ) -> io::Result<StatusCode> {
        let path = request.uri().path().to_owned();
        *request.uri_mut() = format!("{}{path}", self.endpoint)
            .parse()
            .map_err(io::Error::other)?;
        request
            .headers_mut()
            .insert(HOST, host.parse().map_err(io::Error::other)?);
        let (head, _) = self.ask(request).await?;
        Ok(head.status())
    }

    pub(crate) async fn sqs(&self, action: &str, body: &Value) -> io::Result<Value> {
        self.call("sqs", &format!("AmazonSQS.{action}"), body).await
    }

    /// What a function has logged since its start, without the emulator's own lines.
    pub(crate) async fn logged(&self, function: &str) -> io::Result<Logged> {
        let mut logged = Logged::default();
        let mut next = Value::Null;
        loop {
            let mut request =
                json!({ "logGroupName": format!("/aws/lambda/{function}"), "limit": 10_000 });
            if next.is_string() {
                request["nextToken"] = next;
            }
            let page = self
                .call("logs", "Logs_20140328.FilterLogEvents", &request)
                .await?;
            let events = page["events"].as_array().into_iter().flatten();
            for text in events.filter_map(|event| event["message"].as_str()) {
                let platform = ["START ", "END ", "REPORT "];
                if !platform.iter().any(|word| text.starts_with(word)) {
                    logged.lines += 1;
                    logged.bytes += text.len() + LINE;
                }
            }
            next = page["nextToken"].clone();
            if !next.is_string() {
                return Ok(logged);
            }
        }
    }
}

fn read((head, body): (Response<()>, Bytes), what: &str) -> io::Result<Value> {
    if !head.status().is_success() {
        let said = String::from_utf8_lossy(&body);
        return Err(io::Error::other(format!(
            "{what}: {}: {said}",
            head.status()
        )));
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(io::Error::other)
}
