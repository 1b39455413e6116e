//! Proving to a sender that its webhooks are wanted.

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use definition::{Scheme, Webhook};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::{answer::answer, request::Request};

/// CloudEvents 1.0, "HTTP 1.1 Web Hooks" §4: consent is in the headers; without them the
/// answer says nothing.
pub(crate) fn cloud_events(
    request: &Request,
    webhook: &Webhook,
) -> Option<ApiGatewayV2httpResponse> {
    let Scheme::CloudEvents { origins, .. } = &webhook.scheme else {
        return None;
    };
    let origin = request.header("webhook-request-origin")?;
    let mut headers = HeaderMap::new();
    headers.insert(http::header::ALLOW, HeaderValue::from_static("POST"));
    let known = origins
        .iter()
        .any(|known| known == "*" || known.eq_ignore_ascii_case(origin));
    if known && let Ok(value) = HeaderValue::from_str(origin) {
        headers.insert("webhook-allowed-origin", value);
        if let Some(rate) = request.headers.get("webhook-request-rate") {
            headers.insert("webhook-allowed-rate", rate.clone());
        }
    }
    let mut response = answer(StatusCode::OK, &json!({}));
    response.headers.extend(headers);
    Some(response)
}

/// Azure Event Grid, its own schema: the code that came has to be sent back, with status 200.
/// Only a request that carried the secret gets here.
pub(crate) fn event_grid(request: &Request, webhook: &Webhook) -> Option<ApiGatewayV2httpResponse> {
    if !matches!(webhook.scheme, Scheme::EventGrid { .. }) {
        return None;
    }
    let kind = request.header("aeg-event-type");
    if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("SubscriptionValidation")) {
        return None;
    }
    let events: serde_json::Value = serde_json::from_slice(&request.body).ok()?;
    let event = events.get(0)?;
    if event.get("eventType")?.as_str()? != "Microsoft.EventGrid.SubscriptionValidationEvent" {
        return None;
    }
    let code = event.get("data")?.get("validationCode")?;
    Some(answer(
        StatusCode::OK,
        &json!({ "validationResponse": code }),
    ))
}
