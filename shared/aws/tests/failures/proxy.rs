//! A proxy between a client and an emulator that makes the trouble a network and other writers
//! make.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What happens to a write, or to a read of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A transaction of somebody else is writing the same item.
    Conflict,
    /// It is done, and nobody is told.
    Lost,
    /// Nothing is read for now.
    Unread,
}

/// What happens to the next of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxy {
    endpoint: String,
    upstream: String,
    next: Arc<Mutex<VecDeque<Trouble>>>,
}

const CONFLICT: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","message":"Transaction cancelled","CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict","Message":"Transaction is ongoing for the item"}]}"#;
const CONFLICT_OF_ONE: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException","message":"Transaction is ongoing for the item"}"#;

impl Proxy {
    pub(crate) async fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            upstream: upstream.trim_start_matches("http://").to_owned(),
            ..Self::default()
        };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let proxy = serving.clone();
                tokio::spawn(async move { proxy.serve(client).await });
            }
        });
        proxy
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The next calls meet with `troubles`, one each.
    pub(crate) fn expect(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.queue(|queue| queue.extend(troubles));
    }

    /// Trouble that nobody has met yet.
    pub(crate) fn left(&self) -> usize {
        self.queue(|queue| queue.len())
    }

    fn queue<T>(&self, act: impl FnOnce(&mut VecDeque<Trouble>) -> T) -> T {
        act(&mut self.next.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn serve(&self, mut client: TcpStream) -> Option<()> {
        loop {
            let (request, body) = message(&mut client).await?;
            let head = String::from_utf8_lossy(&request[..body]).into_owned();
            let calls = |name: &str| head.contains(&format!("DynamoDB_20120810.{name}"));
            let concerned = ["TransactWriteItems", "PutItem", "BatchGetItem"];
            let met = concerned.iter().any(|name| calls(name));
            let trouble = met.then(|| self.queue(VecDeque::pop_front)).flatten();
            let answer = match trouble {
                Some(Trouble::Conflict) if calls("PutItem") => Some((400, CONFLICT_OF_ONE.into())),
                Some(Trouble::Conflict) => Some((400, CONFLICT.to_owned())),
                Some(Trouble::Unread) => Some((200, unread(&request[body..]))),
                Some(Trouble::Lost) | None => None,
            };
            if let Some((status, body)) = answer {
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} Said\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                client.write_all(answer.as_bytes()).await.ok()?;
                continue;
            }
            let mut server = TcpStream::connect(&self.upstream).await.ok()?;
            server.write_all(&request).await.ok()?;
            let (answer, _) = message(&mut server).await?;
            if trouble == Some(Trouble::Lost) {
                return None;
            }
            client.write_all(&answer).await.ok()?;
        }
    }
}

/// The answer to a read of many of which none could be read.
fn unread(request: &[u8]) -> String {
    let request: serde_json::Value = serde_json::from_slice(request).unwrap();
    let asked = &request["RequestItems"];
    serde_json::json!({"Responses": {}, "UnprocessedKeys": asked}).to_string()
}

/// Reads one message whose length is stated; says where its body begins.
async fn message(stream: &mut TcpStream) -> Option<(Vec<u8>, usize)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            let stated = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let body: usize = stated.map_or(Some(0), |length| length.trim().parse().ok())?;
            if bytes.len() >= at + 4 + body {
                return Some((bytes, at + 4));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
