//! From a request to the queue.

use std::sync::Arc;

use aws_lambda_events::{
    apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse},
    encodings::Body,
};
use definition::{Definition, Map, Webhook};
use http::{HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use jiff::Timestamp;
use model::{Change, Lane, Origin, PackHead, PackId, RunId, TraceId, encode_pack};
use ports::{Clock, Dedupe, Secret, Secrets, Sent};
use runtime::Outbox;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::{
    Refusal, handshake,
    recognise::{News, news},
    request::Request,
    verify::{Check, Genuine, verify},
};

/// The function.
#[derive(Debug)]
pub struct WebhookIntake {
    /// The deployment.
    pub definition: Arc<Definition>,
    /// Where it sends packs.
    pub outbox: Outbox,
    /// What it verifies with.
    pub secrets: Arc<dyn Secrets>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// An answer with a JSON body.
pub(crate) fn answer(status: StatusCode, body: &serde_json::Value) -> ApiGatewayV2httpResponse {
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = status.as_u16().into();
    response
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.body = Some(Body::Text(body.to_string()));
    response
}

fn refuse(refusal: &Refusal) -> ApiGatewayV2httpResponse {
    let body = json!({ "error": { "code": refusal.code(), "message": refusal.to_string() } });
    let mut response = answer(refusal.status(), &body);
    match refusal {
        Refusal::Unavailable => {
            response
                .headers
                .insert(http::header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        Refusal::Method => {
            response
                .headers
                .insert(http::header::ALLOW, HeaderValue::from_static("POST"));
        }
        _ => {}
    }
    response
}

impl WebhookIntake {
    /// Takes a webhook in. A status of 2xx means that the queue has it.
    pub async fn handle(&self, event: ApiGatewayV2httpRequest) -> ApiGatewayV2httpResponse {
        match self.take(event).await {
            Ok(response) => response,
            Err(refusal) => {
                tracing::debug!("a webhook is refused: {}", refusal.code());
                refuse(&refusal)
            }
        }
    }

    async fn take(
        &self,
        event: ApiGatewayV2httpRequest,
    ) -> Result<ApiGatewayV2httpResponse, Refusal> {
        let request = Request::new(event)?;
        let maps: Vec<(&Map, &Webhook)> = self.maps(&request.endpoint).collect();
        let Some((_, webhook)) = maps.first() else {
            return Err(Refusal::UnknownEndpoint(request.endpoint));
        };
        if request.method == Method::OPTIONS {
            return handshake::cloud_events(&request, webhook).ok_or(Refusal::Method);
        }
        if request.method != Method::POST {
            return Err(Refusal::Method);
        }
        let now = self.clock.now();
        let genuine = self.verify(&request, webhook, now).await?;
        if let Some(response) = handshake::event_grid(&request, webhook) {
            return Ok(response);
        }
        // Only now: nothing of a body is looked at before it is known to be genuine.
        serde_json::from_slice::<IgnoredAny>(&request.body)
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let trace = TraceId::from_uuid(self.clock.new_id());
        let (mut accepted, mut duplicates) = (0, 0);
        for (map, webhook) in maps {
            for (event, news) in by_event(news(&request, map, webhook)) {
                let name = delivery_name(map, webhook, &genuine, event.as_deref());
                let count = news.len();
                match self.queue(map, webhook, news, name, now, trace).await? {
                    Sent::Queued => accepted += count,
                    Sent::Duplicate => duplicates += count,
                }
            }
        }
        ports::crash_point("intake.queued");
        let body = json!({ "accepted": accepted, "duplicates": duplicates, "trace": trace });
        Ok(answer(StatusCode::ACCEPTED, &body))
    }

    fn maps<'s>(&'s self, endpoint: &str) -> impl Iterator<Item = (&'s Map, &'s Webhook)> {
        self.definition
            .maps
            .values()
            .filter_map(|map| Some((map, map.webhook.as_ref()?)))
            .filter(move |(_, webhook)| webhook.endpoint == endpoint)
    }

    async fn verify(
        &self,
        request: &Request,
        webhook: &Webhook,
        now: Timestamp,
    ) -> Result<Genuine, Refusal> {
        let mut secrets: Vec<Secret> = Vec::with_capacity(webhook.secrets.len());
        for name in &webhook.secrets {
            match self.secrets.get(name).await {
                Ok(secret) => secrets.push(secret),
                // One secret of two may be missing in the middle of a rotation.
                Err(error) => tracing::error!("a webhook secret cannot be had: {error}"),
            }
        }
        if secrets.is_empty() && !webhook.secrets.is_empty() {
            return Err(Refusal::Unavailable);
        }
        verify(
            &webhook.scheme,
            &Check {
                request,
                secrets: &secrets,
                now,
                tolerance: webhook.tolerance,
            },
        )
    }

    async fn queue(
        &self,
        map: &Map,
        webhook: &Webhook,
        news: Vec<News>,
        name: Option<String>,
        now: Timestamp,
        trace: TraceId,
    ) -> Result<Sent, Refusal> {
        let observed = now.as_microsecond();
        let changes: Vec<Change> = news
            .into_iter()
            .map(|news| Change {
                op: news.op,
                observed,
                raw: news.raw,
                failure: None,
            })
            .collect();
        let head = PackHead {
            id: PackId::from_uuid(self.clock.new_id()),
            map: map.name.clone(),
            run: RunId::live(&map.name),
            origin: Origin::Webhook,
            generation: 0,
            created: now,
            trace: Some(trace),
        };
        let dedupe = name.map(|name| Dedupe {
            name,
            until: now + webhook.remember,
        });
        self.outbox.send_once(Lane::Live, encode_pack(head, &changes), dedupe).await.map_err(|error| {
            tracing::error!(map.name = %map.name, "a webhook for map `{}` cannot be queued: {error}", map.name);
            Refusal::Unavailable
        })
    }
}

/// The news of each event by itself: an event may have come before without its neighbours.
fn by_event(all: Vec<News>) -> Vec<(Option<String>, Vec<News>)> {
    let mut groups: Vec<(Option<String>, Vec<News>)> = Vec::new();
    for news in all {
        match groups.last_mut().filter(|(event, _)| *event == news.event) {
            Some((_, group)) => group.push(news),
            None => groups.push((news.event.clone(), vec![news])),
        }
    }
    groups
}

/// Under which name a delivery is remembered; `None` when the sender gives it none.
fn delivery_name(
    map: &Map,
    webhook: &Webhook,
    genuine: &Genuine,
    event: Option<&str>,
) -> Option<String> {
    let batched = matches!(
        webhook.scheme,
        definition::Scheme::EventGrid { .. }
            | definition::Scheme::CloudEvents { .. }
            | definition::Scheme::Dataverse { .. }
    );
    let id = match (&genuine.delivery, event) {
        (Some(delivery), _) => delivery,
        (None, Some(event)) if batched => event,
        _ => return None,
    };
    Some(format!("{}/{}/{id}", webhook.endpoint, map.name))
}
