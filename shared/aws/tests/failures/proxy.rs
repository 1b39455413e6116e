//! The trouble that a network and other writers make.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use http::StatusCode;
use test_proxy::{Answer, Between, Call, Fate};

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
#[derive(Debug, Default)]
struct Next(Mutex<VecDeque<Trouble>>);

/// Makes trouble on request.
#[derive(Debug)]
pub(crate) struct Proxy {
    proxy: test_proxy::Proxy,
    next: Arc<Next>,
}

const CONFLICT: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","message":"Transaction cancelled","CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict","Message":"Transaction is ongoing for the item"}]}"#;
const CONFLICT_OF_ONE: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionConflictException","message":"Transaction is ongoing for the item"}"#;

impl Proxy {
    pub(crate) async fn to(upstream: &str) -> Self {
        let next = Arc::new(Next::default());
        let between = Arc::clone(&next) as Arc<dyn Between>;
        let proxy = test_proxy::Proxy::to(upstream, between).await;
        let proxy = proxy.expect("a proxy");
        Self { proxy, next }
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.proxy.endpoint()
    }

    /// The next calls meet with `troubles`, one each.
    pub(crate) fn expect(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.next.with(|queue| queue.extend(troubles));
    }

    /// Trouble that nobody has met yet.
    pub(crate) fn left(&self) -> usize {
        self.next.with(|queue| queue.len())
    }
}

impl Next {
    fn with<T>(&self, act: impl FnOnce(&mut VecDeque<Trouble>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Between for Next {
    fn fate(&self, call: &Call) -> Fate {
        let concerned = ["TransactWriteItems", "PutItem", "BatchGetItem"];
        if !concerned.contains(&call.action()) {
            return Fate::Pass;
        }
        let refused =
            |text: &str| Fate::Refused(Answer::error(StatusCode::BAD_REQUEST, text.to_owned()));
        match self.with(VecDeque::pop_front) {
            None => Fate::Pass,
            Some(Trouble::Lost) => Fate::Lost,
            Some(Trouble::Conflict) if call.action() == "PutItem" => refused(CONFLICT_OF_ONE),
            Some(Trouble::Conflict) => refused(CONFLICT),
            Some(Trouble::Unread) => {
                Fate::Refused(Answer::error(StatusCode::OK, unread(&call.body)))
            }
        }
    }
}

/// The answer to a read of many of which none could be read.
fn unread(request: &[u8]) -> String {
    let request: serde_json::Value = serde_json::from_slice(request).unwrap();
    let asked = &request["RequestItems"];
    serde_json::json!({"Responses": {}, "UnprocessedKeys": asked}).to_string()
}
