//! Answers.

use aws_lambda_events::{apigw::ApiGatewayV2httpResponse, encodings::Body};
use http::{
    HeaderValue, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::{Value, json};

use crate::Refusal;

/// An answer with a JSON body.
pub(crate) fn answer(status: StatusCode, body: &Value) -> ApiGatewayV2httpResponse {
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status.as_u16().into();
    response
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.body = Some(Body::Text(body.to_string()));
    response
}

impl Refusal {
    /// The answer that says so.
    #[must_use]
    pub fn answer(&self) -> ApiGatewayV2httpResponse {
        let body = json!({ "error": { "code": self.code(), "message": self.to_string() } });
        let mut response = answer(self.status(), &body);
        let header = match self {
            Self::Unavailable => Some((RETRY_AFTER, "5")),
            Self::Method => Some((ALLOW, "POST")),
            _ => None,
        };
        if let Some((name, value)) = header {
            response
                .headers
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
