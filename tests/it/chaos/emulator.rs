//! Calls of the emulator that no function makes.

use reqwest::header;
use serde_json::Value;

use crate::support::client;

/// The services of the emulator, as somebody else who uses them.
#[derive(Debug)]
pub(super) struct Emulator {
    endpoint: String,
    client: reqwest::Client,
}

impl Emulator {
    pub(super) fn at(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            client: client(),
        }
    }

    /// Makes a call in the JSON protocol of AWS.
    pub(super) async fn call(&self, service: &str, target: &str, body: &Value) -> Value {
        let scope = format!("test/20260101/us-east-1/{service}/aws4_request");
        let signed =
            format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let answer = self
            .client
            .post(&self.endpoint)
            .header(header::AUTHORIZATION, signed)
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .body(body.to_string())
            .send()
            .await
            .expect("the emulator");
        let answer = answer.bytes().await.expect("an answer");
        serde_json::from_slice(&answer).unwrap_or_default()
    }
}
