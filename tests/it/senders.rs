//! Webhooks signed by the libraries of those who send them, over HTTP.

use std::{collections::HashMap, sync::Arc, time::Duration};

use local::Server;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Deployment, Project, ThirdParty, client};

const SECRETS: [(&str, &str); 3] = [
    ("standard", "whsec_c3luY2xpbmUtdGVzdC1zZWNyZXQtMDAwMg=="),
    ("stripe", "whsec_4eC39HqLyjWDarjtT1zdp7dc"),
    ("github", "It's a secret to the third party"),
];

/// A request as a sender's library has signed it.
#[derive(Debug, Clone, Deserialize)]
struct Signed {
    sender: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Signed {
    /// What it is, without all of it.
    fn shown(&self) -> String {
        format!("{} {:?} {:.80}", self.sender, self.headers, self.body)
    }
}

/// One map, and so one endpoint, for each sender.
fn definition() -> String {
    let map = |(sender, _): &(&str, &str)| {
        format!(
            "  {sender}:
    from: {{ stream: crm.Set, key: id, version: modified }}
    to: {{ stream: warehouse.{sender}, key: id }}
    fields: {{ id: id }}
    pull: {{ every: 5m }}
    webhook: {{ scheme: {sender}, secret: secret://{sender} }}
"
        )
    };
    let maps: String = SECRETS.iter().map(map).collect();
    format!(
        "\
connections:
  crm: {{ kind: odata, url: \"http://127.0.0.1:9\" }}
  warehouse: {{ kind: sqlite, url: warehouse.db }}
maps:
{maps}"
    )
}

/// A deployment that takes webhooks over HTTP, and a client.
struct Door {
    deployment: Deployment,
    server: Server,
    client: reqwest::Client,
}

impl Door {
    async fn open() -> Self {
        let project = Project::new(&definition());
        for (name, secret) in SECRETS {
            project.secret(name, secret);
        }
        let deployment = Deployment::open(project);
        let intake = Arc::clone(&deployment.home.functions.intake);
        let any = "127.0.0.1:0".parse().unwrap();
        Self {
            server: Server::start(any, intake).await.unwrap(),
            client: client(),
            deployment,
        }
    }

    /// Posts a request; returns the status, and the error code or an empty text.
    async fn post(&self, signed: &Signed) -> (u16, String, Value) {
        let url = format!("http://{}/hooks/{}", self.server.address, signed.sender);
        self.post_to(&url, signed, signed.body.clone().into_bytes())
            .await
    }

    async fn post_to(&self, url: &str, signed: &Signed, body: Vec<u8>) -> (u16, String, Value) {
        let mut request = self.client.post(url).body(body);
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "application/json");
        let status = response.status().as_u16();
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).expect("JSON");
        let code = answer["error"]["code"].as_str().unwrap_or_default();
        (status, code.to_owned(), answer)
    }

    /// Changes that are on their way in each map.
    async fn queued(&self) -> Vec<u64> {
        let mut queued = Vec::new();
        for (sender, _) in SECRETS {
            queued.push(self.deployment.books(sender).await.in_flight);
        }
        queued
    }
}

/// Many requests, signed at the deployment's time.
fn signed(deployment: &Deployment, seed: u64, count: usize) -> Vec<Signed> {
    let secrets: HashMap<&str, &str> = SECRETS.into();
    let now = deployment.home.clock.now().as_second();
    let wanted = json!({ "seed": seed, "count": count, "now": now, "secrets": secrets });
    let lines = ThirdParty::new().run(&["sign.mjs", &wanted.to_string()]);
    let requests: Vec<Signed> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(requests.len() >= 3 * count - 3, "{}", requests.len());
    requests
}

#[tokio::test]
async fn what_the_libraries_of_senders_sign_is_taken() {
    let door = Door::open().await;
    let mut expected: HashMap<String, u64> = HashMap::new();
    for signed in signed(&door.deployment, 11, 120) {
        let (status, code, answer) = door.post(&signed).await;
        if signed.body.is_empty() {
            assert_eq!((status, code.as_str()), (400, "malformed-json"));
            continue;
        }
        assert_eq!(status, 202, "{code}: {}", signed.shown());
        assert_eq!(answer["accepted"], 1);
        *expected.entry(signed.sender.clone()).or_default() += 1;
        let (status, _, answer) = door.post(&signed).await;
        // Stripe's name for an event is in its body, and one of the bodies is `{}`.
        let named = signed.sender != "stripe" || signed.body.contains("evt_");
        let copy = named || signed.body.contains(r#"{"id":1,"#);
        assert_eq!(
            (status, &answer["duplicates"]),
            (202, &json!(u8::from(copy)))
        );
        *expected.get_mut(&signed.sender).unwrap() += u64::from(!copy);
    }
    let expected: Vec<u64> = SECRETS
        .iter()
        .map(|(sender, _)| expected[*sender])
        .collect();
    assert_eq!(door.queued().await, expected);
    door.deployment.assert_balanced().await;
    door.server.stop().await;
}

#[tokio::test]
async fn what_was_changed_on_the_way_is_not() {
    let door = Door::open().await;
    let mut random = fastrand::Rng::with_seed(12);
    let requests = signed(&door.deployment, 12, 60);
    for (at, signed) in requests.iter().enumerate() {
        let url = format!("http://{}/hooks/{}", door.server.address, signed.sender);
        let mut body = signed.body.clone().into_bytes();
        match body.len() {
            0 => body.push(b' '),
            length => body[random.usize(..length)] ^= 1 << random.u8(..8),
        }
        let answer = door.post_to(&url, signed, body).await;
        assert_eq!(answer.0, 401, "one bit of the body: {}", signed.shown());

        for name in signed.headers.keys() {
            let mut changed = signed.clone();
            let value = changed.headers.get_mut(name).unwrap();
            *value = exchanged(value, &mut random);
            // What GitHub calls a delivery is not signed.
            let free = name == "x-github-delivery";
            let answer = door.post(&changed).await;
            assert_eq!(answer.0 == 401, !free, "{name}: {}", changed.shown());
            let mut missing = signed.clone();
            missing.headers.remove(name);
            let answer = door.post(&missing).await;
            assert_eq!(answer.0 == 401, !free, "{name}: {}", missing.shown());
        }

        // Another request's signature, and another sender's endpoint.
        let neighbour = &requests[(at + 3) % requests.len()];
        let mixed = Signed {
            headers: neighbour.headers.clone(),
            ..signed.clone()
        };
        if neighbour.sender == signed.sender && neighbour.body != signed.body {
            assert_eq!(door.post(&mixed).await.0, 401, "{}", mixed.shown());
        }
        for (sender, _) in SECRETS
            .iter()
            .filter(|(sender, _)| *sender != signed.sender)
        {
            let elsewhere = Signed {
                sender: (*sender).to_owned(),
                ..signed.clone()
            };
            assert_eq!(door.post(&elsewhere).await.0, 401, "{}", elsewhere.shown());
        }
    }
    door.server.stop().await;
}

/// A text with one other letter or digit.
fn exchanged(text: &str, random: &mut fastrand::Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let places: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at].is_ascii_alphanumeric())
        // The last letter before padding has bits that stand for nothing.
        .filter(|at| bytes.get(at + 1) != Some(&b'='))
        .collect();
    let at = places[random.usize(..places.len())];
    let old = bytes[at];
    while bytes[at].eq_ignore_ascii_case(&old) {
        bytes[at] = random.alphanumeric() as u8;
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn an_old_request_is_refused_and_a_rotated_secret_works_soon() {
    let door = Door::open().await;
    let requests = signed(&door.deployment, 13, 6);
    let timed = |signed: &&Signed| signed.sender != "github" && signed.body.len() > 2;
    door.deployment.clock.advance(Duration::from_mins(5));
    for signed in requests.iter().filter(timed) {
        assert_eq!(door.post(signed).await.0, 202, "{}", signed.shown());
    }
    door.deployment.clock.advance(Duration::from_secs(1));
    for signed in requests.iter().filter(timed) {
        let (status, code, _) = door.post(signed).await;
        assert_eq!((status, code.as_str()), (401, "timestamp-out-of-tolerance"));
    }
    door.deployment.project.secret("github", "another");
    door.deployment.clock.advance(Duration::from_mins(1));
    let github = requests.iter().find(|signed| signed.sender == "github");
    assert_eq!(door.post(github.unwrap()).await.0, 401);
    door.server.stop().await;
}

#[tokio::test]
async fn every_answer_of_the_door_is_typed() {
    let door = Door::open().await;
    let plain = Signed {
        sender: "standard".into(),
        headers: HashMap::new(),
        body: String::new(),
    };
    let base = format!("http://{}", door.server.address);
    let large = vec![b'x'; 7 * 1024 * 1024];
    for (path, body, status, code) in [
        ("/hooks/standard", large, 413, "body-too-large"),
        ("/hooks/standard", vec![0xff; 10], 401, "signature-missing"),
        ("/hooks/nobody", vec![], 404, "unknown-endpoint"),
        ("/hooks/", vec![], 404, "unknown-endpoint"),
        ("/hooks", vec![], 404, "unknown-endpoint"),
        ("/", vec![], 404, "unknown-endpoint"),
        ("/hooks/standard%00", vec![], 404, "unknown-endpoint"),
    ] {
        let answer = door.post_to(&format!("{base}{path}"), &plain, body).await;
        assert_eq!((answer.0, answer.1.as_str()), (status, code), "{path}");
        let message = answer.2["error"]["message"].as_str().unwrap();
        assert!(!message.is_empty());
    }
    let got = door.client.get(format!("{base}/hooks/standard"));
    let got = got.send().await.unwrap();
    assert_eq!(
        (got.status().as_u16(), &got.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
    door.server.stop().await;
}
