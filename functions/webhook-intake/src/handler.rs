//! From a request to the queue.

use std::{sync::Arc, time::Duration};

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use definition::{ConnectionKind, Definition, Map, Webhook};
use http::{Method, StatusCode};
use jiff::Timestamp;
use mapping::json;
use model::{Change, Lane, Op, Origin, PackHead, PackId, RunId, TraceId, TraceParent, encode_pack};
use ports::{Clock, Dedupe, Secret, SecretError, Secrets, Sent};
use runtime::{Metrics, Outbox};

use crate::{
    Refusal,
    answer::answer,
    handshake,
    recognise::{News, news},
    request::Request,
    verify::{Check, Genuine, unusable, verify},
};

/// Which deliveries are remembered, so that none is taken twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remember {
    /// Every delivery.
    Always,
    /// Only those that could do harm when they come once more: deletions, which may have no
    /// version, and changes of a source that cannot be asked how a record without a version is
    /// now. In all others nothing new is found.
    WhereNeeded,
}

/// How old a secret may be that a request is verified with. A new one is found by the first request
/// that is signed with it; this is how long the former one may go on being good.
const KEPT: Duration = Duration::from_mins(5);

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
    /// Which deliveries it remembers.
    pub remember: Remember,
    /// Where it says what it has taken.
    pub metrics: Metrics,
}

impl WebhookIntake {
    /// Takes a webhook in. A status of 2xx means that the queue has it.
    pub async fn handle(&self, event: ApiGatewayV2httpRequest) -> ApiGatewayV2httpResponse {
        match self.take(event).await {
            Ok(response) => response,
            Err(refusal) => refusal.answer(),
        }
    }

    async fn take(
        &self,
        event: ApiGatewayV2httpRequest,
    ) -> Result<ApiGatewayV2httpResponse, Refusal> {
        let request = Request::new(event)?;
        let maps: Vec<(&Map, &Webhook)> = self.maps(&request.endpoint).collect();
        if maps.is_empty() {
            return Err(Refusal::UnknownEndpoint(request.endpoint));
        }
        let taken = self.take_known(&request, &maps).await;
        if let Err(refusal) = &taken {
            // Its code says why; its text may quote the body.
            let (endpoint, code) = (&request.endpoint, refusal.code());
            tracing::info!(
                webhook.endpoint = endpoint,
                refusal.code = code,
                "a webhook to `{endpoint}` is refused: {code}"
            );
        }
        taken
    }

    /// Takes a request to an endpoint that `maps` share.
    async fn take_known(
        &self,
        request: &Request,
        maps: &[(&Map, &Webhook)],
    ) -> Result<ApiGatewayV2httpResponse, Refusal> {
        let Some((_, webhook)) = maps.first() else {
            return Err(Refusal::UnknownEndpoint(request.endpoint.clone()));
        };
        if request.method == Method::OPTIONS {
            return handshake::cloud_events(request, webhook).ok_or(Refusal::Method);
        }
        if request.method != Method::POST {
            return Err(Refusal::Method);
        }
        let now = self.clock.now();
        let genuine = self.verify(request, webhook, now).await?;
        // Only now: nothing of a body is looked at before it is known to be genuine.
        json::check(&request.body).map_err(|error| Refusal::Malformed(error.to_string()))?;
        if let Some(response) = handshake::event_grid(request, webhook) {
            return Ok(response);
        }
        let trace = self.trace(request);
        let (mut accepted, mut duplicates) = (0, 0);
        for &(map, webhook) in maps {
            let before = accepted;
            for (name, news) in by_name(news(request, map, webhook)) {
                let name = name.as_ref().or(genuine.delivery.as_ref());
                let name = name.map(|name| format!("{}/{}/{name}", webhook.endpoint, map.name));
                let count = news.len();
                match self.queue(map, webhook, news, name, now, trace).await? {
                    Sent::Queued => accepted += count,
                    Sent::Duplicate => duplicates += count,
                }
            }
            let received = u64::try_from(accepted - before).unwrap_or(u64::MAX);
            self.metrics.gather_received(&map.name, received);
        }
        self.metrics.write_gathered(now);
        ports::crash_point("intake.queued");
        let body =
            serde_json::json!({ "accepted": accepted, "duplicates": duplicates, "trace": trace });
        Ok(answer(StatusCode::ACCEPTED, &body))
    }

    /// The trace that the sender names, or a new one.
    fn trace(&self, request: &Request) -> TraceId {
        let named = request.header("traceparent");
        let named = named.and_then(|text| text.parse::<TraceParent>().ok());
        named.map_or_else(
            || TraceId::from_uuid(self.clock.new_id()),
            |named| named.trace,
        )
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
        match self.verify_with(request, webhook, now, Some(KEPT)).await {
            // The secret may have been changed since.
            Err(Refusal::Signature) => self.verify_with(request, webhook, now, None).await,
            verified => verified,
        }
    }

    /// Verifies with secrets of an age, or as they are now.
    async fn verify_with(
        &self,
        request: &Request,
        webhook: &Webhook,
        now: Timestamp,
        age: Option<Duration>,
    ) -> Result<Genuine, Refusal> {
        let (secrets, all) = self.secrets(webhook, age).await;
        if secrets.is_empty() && !webhook.secrets.is_empty() {
            return Err(Refusal::Unavailable);
        }
        let check = Check {
            request,
            secrets: &secrets,
            now,
            tolerance: webhook.tolerance,
        };
        match verify(&webhook.scheme, &check) {
            // The secret that could not be read may be the one it is signed with.
            Err(Refusal::Signature) if !all => Err(Refusal::Unavailable),
            verified => verified,
        }
    }

    /// The secrets that can be verified with, and whether the store of secrets has answered
    /// for all. One of two may be missing or useless in the middle of a rotation.
    async fn secrets(&self, webhook: &Webhook, age: Option<Duration>) -> (Vec<Secret>, bool) {
        let mut secrets = Vec::with_capacity(webhook.secrets.len());
        let mut all = true;
        for name in &webhook.secrets {
            let kept = match age {
                Some(age) => self.secrets.within(name, age).await,
                None => self.secrets.get(name).await,
            };
            let secret = match kept {
                // It may have been mended since.
                Ok(kept) if unusable(&webhook.scheme, &kept).is_some() => {
                    self.secrets.get(name).await
                }
                kept => kept,
            };
            match secret {
                Ok(secret) => match unusable(&webhook.scheme, &secret) {
                    None => secrets.push(secret),
                    Some(why) => {
                        tracing::error!(secret.name = name, "the webhook secret `{name}` {why}");
                    }
                },
                Err(error) => {
                    tracing::error!(
                        secret.name = name,
                        "a webhook secret cannot be had: {error}"
                    );
                    all &= matches!(error, SecretError::NotFound { .. });
                }
            }
        }
        (secrets, all)
    }

    fn remembers(&self, map: &Map, changes: &[Change]) -> bool {
        let kind = |name| self.definition.connections.get(name).map(|one| one.kind);
        self.remember == Remember::Always
            || !kind(&map.from.connection).is_some_and(ConnectionKind::fetches)
            || changes.iter().any(|change| change.op == Op::Delete)
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
        let remembers = self.remembers(map, &changes);
        let dedupe = name.filter(|_| remembers).map(|name| Dedupe {
            name,
            until: now
                .saturating_add(webhook.remember)
                .unwrap_or(Timestamp::MAX),
        });
        self.outbox.send_once(Lane::Live, encode_pack(head, &changes), dedupe).await.map_err(|error| {
            tracing::error!(map.name = %map.name, "a webhook for map `{}` cannot be queued: {error}", map.name);
            Refusal::Unavailable
        })
    }
}

/// The news of each event by itself: an event may have come before without its neighbours.
fn by_name(all: Vec<News>) -> Vec<(Option<String>, Vec<News>)> {
    let mut groups: Vec<(Option<String>, Vec<News>)> = Vec::new();
    for news in all {
        match groups.last_mut().filter(|(name, _)| *name == news.name) {
            Some((_, group)) => group.push(news),
            None => groups.push((news.name.clone(), vec![news])),
        }
    }
    groups
}
