//! The request, without its wrapping.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::Refusal;

/// Largest body that is taken. Lambda takes six million bytes, base64 included.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// A request as it was sent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) endpoint: String,
    pub(crate) headers: HeaderMap,
    query: String,
    pub(crate) body: Bytes,
}

impl Request {
    /// Unwraps an event. A body that was no text comes in base64; its own bytes are what was
    /// signed.
    pub(crate) fn new(event: ApiGatewayV2httpRequest) -> Result<Self, Refusal> {
        let path = event.raw_path.unwrap_or_default();
        let after = path
            .rsplit_once("/hooks/")
            .map_or("", |(_, endpoint)| endpoint);
        let endpoint = percent_decode_str(after.trim_end_matches('/'))
            .decode_utf8_lossy()
            .into_owned();
        let body =
            match event.body {
                Some(text) if event.is_base64_encoded => {
                    let decoded = STANDARD.decode(text);
                    Bytes::from(decoded.map_err(|_| {
                        Refusal::Malformed("its transport encoding is broken".into())
                    })?)
                }
                Some(text) => Bytes::from(text),
                None => Bytes::new(),
            };
        if body.len() > MAX_BODY {
            return Err(Refusal::TooLarge);
        }
        Ok(Self {
            method: event.request_context.http.method,
            endpoint,
            headers: event.headers,
            query: event.raw_query_string.unwrap_or_default(),
            body,
        })
    }

    /// A header's text; one that is no text counts as missing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A query parameter, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let pair = self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode_str(key).decode_utf8_lossy() == name).then_some(value)
        })?;
        Some(
            percent_decode_str(&pair.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned(),
        )
    }

    /// A header, or a query parameter where the name begins with `?`.
    pub(crate) fn carried(&self, carrier: &str) -> Option<String> {
        match carrier.strip_prefix('?') {
            Some(parameter) => self.parameter(parameter),
            None => self.header(carrier).map(str::to_owned),
        }
    }
}
