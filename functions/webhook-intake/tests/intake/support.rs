//! An intake whose queue and secrets are the test's own, and requests as AWS delivers them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_lambda_events::{apigw::ApiGatewayV2httpRequest, encodings::Body};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use definition::Definition;
use jiff::Timestamp;
use model::{Change, Lane, Op, Origin, Pack, QueueName, decode_pack};
use ports::{
    Blobs, Clock, Outgoing, Queue, QueueError, Secret, SecretError, Secrets, Sent, StoreError,
    testing::ManualClock,
};
use runtime::{Metrics, Outbox};
use serde_json::{Value, json};
use webhook_intake::{Remember, WebhookIntake};

/// When the vectors were signed that have no time of their own.
pub(crate) const NOW: i64 = 1_767_225_600;

/// Secrets by name. A missing one is not set; `None` cannot be read right now.
#[derive(Debug, Default)]
struct Known {
    now: HashMap<String, Option<String>>,
    /// What some were when they were read last, by one who keeps them.
    kept: Mutex<HashMap<String, String>>,
}

#[async_trait]
impl Secrets for Known {
    async fn get(&self, name: &str) -> Result<Secret, SecretError> {
        let name = name.to_owned();
        self.kept.lock().unwrap().remove(&name);
        match self.now.get(&name) {
            Some(Some(text)) => Ok(Secret::new(text.clone())),
            Some(None) => Err(SecretError::Unavailable {
                name,
                source: "the store is down".into(),
            }),
            None => Err(SecretError::NotFound {
                name,
                remedy: "set it".into(),
            }),
        }
    }

    async fn within(&self, name: &str, age: Duration) -> Result<Secret, SecretError> {
        assert!(age <= Duration::from_mins(5), "{age:?}");
        let kept = self.kept.lock().unwrap().get(name).cloned();
        match kept {
            Some(text) => Ok(Secret::new(text)),
            None => self.get(name).await,
        }
    }
}

/// Keeps what it takes.
#[derive(Debug)]
pub(crate) struct Recorder {
    clock: Arc<ManualClock>,
    sent: Mutex<Vec<Outgoing>>,
    names: Mutex<HashMap<String, Timestamp>>,
    refuse_after: AtomicUsize,
    blobs: Mutex<HashMap<String, Bytes>>,
}

impl Recorder {
    /// Takes so many messages more and then none.
    pub(crate) fn break_after(&self, messages: usize) {
        self.refuse_after.store(messages, Ordering::SeqCst);
    }

    pub(crate) fn sent(&self) -> Vec<Outgoing> {
        self.sent.lock().unwrap().clone()
    }

    /// Every pack it took.
    pub(crate) fn packs(&self) -> Vec<Pack> {
        let open = |message: &Outgoing| {
            let claim: Value = serde_json::from_str(&message.body).unwrap();
            match claim["name"].as_str() {
                Some(name) => {
                    let blobs = self.blobs.lock().unwrap();
                    decode_pack(std::str::from_utf8(&blobs[name]).unwrap()).unwrap()
                }
                None => decode_pack(&message.body).unwrap(),
            }
        };
        self.sent().iter().map(open).collect()
    }

    /// Every change it took: map, operation and record.
    pub(crate) fn changes(&self) -> Vec<(String, Op, String)> {
        let packs = self.packs();
        let of_pack = |pack: &Pack| {
            let map = pack.head.map.to_string();
            let change = |change: &Change| (map.clone(), change.op, change.raw_text().into_owned());
            pack.changes.iter().map(change).collect::<Vec<_>>()
        };
        packs.iter().flat_map(of_pack).collect()
    }

    pub(crate) fn blobs(&self) -> usize {
        self.blobs.lock().unwrap().len()
    }
}

#[async_trait]
impl Queue for Recorder {
    async fn send(
        &self,
        queue: QueueName,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Sent>, QueueError> {
        assert_eq!(queue, Lane::Live.queue());
        let mut answers = Vec::new();
        for message in messages {
            let left = self.refuse_after.load(Ordering::SeqCst);
            if left == 0 {
                let source = "the disk is full".into();
                return Err(QueueError::Unavailable { queue, source });
            }
            self.refuse_after.store(left - 1, Ordering::SeqCst);
            let mut names = self.names.lock().unwrap();
            if let Some(dedupe) = &message.dedupe {
                let now = self.clock.now();
                if names.get(&dedupe.name).is_some_and(|until| now < *until) {
                    answers.push(Sent::Duplicate);
                    continue;
                }
                names.insert(dedupe.name.clone(), dedupe.until);
            }
            self.sent.lock().unwrap().push(message);
            answers.push(Sent::Queued);
        }
        Ok(answers)
    }

    async fn defer(&self, _: QueueName, _: &str, _: Duration) -> Result<(), QueueError> {
        unreachable!("intake receives nothing")
    }
}

#[async_trait]
impl Blobs for Recorder {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let mut blobs = self.blobs.lock().unwrap();
        Ok(blobs.insert(name.to_owned(), bytes).is_none())
    }

    async fn get(&self, _: &str) -> Result<Option<Bytes>, StoreError> {
        unreachable!("intake reads no blob")
    }

    async fn delete(&self, names: &[String]) -> Result<(), StoreError> {
        let mut blobs = self.blobs.lock().unwrap();
        for name in names {
            blobs.remove(name);
        }
        Ok(())
    }

    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<String>, StoreError> {
        unreachable!("intake lists no blobs")
    }

    async fn measure(&self, _: &str) -> Result<(u64, u64), StoreError> {
        unreachable!("intake measures no blobs")
    }
}

/// An intake under test.
pub(crate) struct Intake {
    pub(crate) function: WebhookIntake,
    pub(crate) queue: Arc<Recorder>,
    secrets: Arc<Known>,
    pub(crate) clock: Arc<ManualClock>,
}

/// A definition with one map for each webhook; each has the key `id`.
pub(crate) fn definition(webhooks: &[&str]) -> Definition {
    let mut text = "\
connections:
  crm: { kind: odata, url: \"https://crm.example.com\" }
  warehouse: { kind: sqlite, url: warehouse.db }
maps:
"
    .to_owned();
    for (at, webhook) in webhooks.iter().enumerate() {
        let map = format!(
            "  map{at}:
    from: {{ stream: crm.Set{at}, key: id, version: modified }}
    to: {{ stream: warehouse.table{at}, key: id }}
    fields: {{ id: id, name: name }}
    pull: {{ every: 5m }}
    webhook: {webhook}
"
        );
        text.push_str(&map);
    }
    read(&text)
}

pub(crate) fn read(text: &str) -> Definition {
    let reading = Definition::read(text);
    reading
        .definition
        .unwrap_or_else(|| panic!("{text}\n{:#?}", reading.problems))
}

impl Intake {
    /// An intake of maps with these webhooks; a secret without text cannot be read.
    pub(crate) fn new(webhooks: &[&str], secrets: &[(&str, Option<&str>)]) -> Self {
        Self::of(definition(webhooks), secrets)
    }

    pub(crate) fn of(definition: Definition, secrets: &[(&str, Option<&str>)]) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(NOW).unwrap()));
        let queue = Arc::new(Recorder {
            clock: Arc::clone(&clock),
            sent: Mutex::default(),
            names: Mutex::default(),
            refuse_after: AtomicUsize::new(usize::MAX),
            blobs: Mutex::default(),
        });
        let known = secrets
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.map(str::to_owned)))
            .collect();
        let secrets = Arc::new(Known {
            now: known,
            kept: Mutex::default(),
        });
        Self {
            function: WebhookIntake {
                definition: Arc::new(definition),
                outbox: Outbox::new(Arc::clone(&queue) as _, Arc::clone(&queue) as _),
                secrets: Arc::clone(&secrets) as _,
                clock: Arc::clone(&clock) as _,
                remember: Remember::Always,
                metrics: Metrics::silent(),
            },
            queue,
            secrets,
            clock,
        }
    }

    /// Lets a secret have been `former` when it was read last.
    pub(crate) fn changed(&self, name: &str, former: &str) {
        let mut kept = self.secrets.kept.lock().unwrap();
        kept.insert(name.to_owned(), former.to_owned());
    }

    /// An intake with one webhook and one secret, `s`.
    pub(crate) fn with_secret(webhook: &str, secret: &str) -> Self {
        Self::new(&[webhook], &[("s", Some(secret))])
    }

    /// The answer to a request: its status, its error code, its body.
    pub(crate) async fn answer(&self, request: &Request) -> Answer {
        let response = self.function.handle(request.event()).await;
        let Some(Body::Text(text)) = response.body else {
            panic!("no body in {response:?}")
        };
        assert_eq!(response.headers["content-type"], "application/json");
        let headers = response.headers.iter().map(|(name, value)| {
            let value = value.to_str().unwrap().to_owned();
            (name.as_str().to_owned(), value)
        });
        let body: Value = serde_json::from_str(&text).unwrap();
        let code = body["error"]["code"].as_str().unwrap_or_default();
        Answer {
            status: response.status_code,
            code: code.to_owned(),
            headers: headers.collect(),
            body,
        }
    }

    /// Status and error code of the answer to a request.
    pub(crate) async fn says(&self, request: &Request) -> (i64, String) {
        let answer = self.answer(request).await;
        (answer.status, answer.code)
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: i64,
    pub(crate) code: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Value,
}

/// What [`Intake::says`] gives for a webhook that is taken.
pub(crate) fn taken() -> (i64, String) {
    (202, String::new())
}

pub(crate) fn refused(status: i64, code: &str) -> (i64, String) {
    (status, code.to_owned())
}

/// A request to make.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) endpoint: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) base64: bool,
}

pub(crate) fn post(endpoint: &str, body: impl AsRef<[u8]>) -> Request {
    let (endpoint, query) = endpoint.split_once('?').unwrap_or((endpoint, ""));
    Request {
        method: "POST",
        endpoint: endpoint.to_owned(),
        query: query.to_owned(),
        headers: Vec::new(),
        body: body.as_ref().to_vec(),
        base64: std::str::from_utf8(body.as_ref()).is_err(),
    }
}

impl Request {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn headers(mut self, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().copied();
        self.headers
            .extend(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| header != name);
        self
    }

    pub(crate) fn with_body(&self, body: &[u8]) -> Self {
        Self {
            body: body.to_vec(),
            base64: self.base64 || std::str::from_utf8(body).is_err(),
            ..self.clone()
        }
    }

    /// The event that AWS makes of it.
    fn event(&self) -> ApiGatewayV2httpRequest {
        let path = format!("/hooks/{}", self.endpoint);
        let body = if self.base64 {
            STANDARD.encode(&self.body)
        } else {
            String::from_utf8(self.body.clone()).unwrap()
        };
        let headers: HashMap<_, _> = self.headers.iter().cloned().collect();
        let event = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": self.query,
            "headers": headers,
            "requestContext": { "http": { "method": self.method, "path": path, "protocol": "HTTP/1.1" } },
            "body": body,
            "isBase64Encoded": self.base64,
        });
        serde_json::from_value(event).unwrap()
    }
}

/// That nothing was queued but packs of webhooks in the books of their map.
pub(crate) fn assert_in_order(packs: &[Pack]) {
    for pack in packs {
        assert_eq!(pack.head.origin, Origin::Webhook);
        assert_eq!(pack.head.run, model::RunId::live(&pack.head.map));
        assert!(pack.head.trace.is_some());
    }
}
