//! Who called what, and what AWS would count of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use test_proxy::{Answer, Between, Call, Fate};

use super::units::{Sizes, Units};

/// Bytes of a message or a batch for which one request is paid.
const CHUNK: usize = 64 * 1024;

/// Requests that are paid for so many bytes.
pub(crate) fn requests(bytes: usize) -> f64 {
    crate::real(bytes.div_ceil(CHUNK).max(1))
}

/// What one function has asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// Calls by service and action, to read.
    pub(crate) calls: BTreeMap<String, usize>,
    pub(crate) sqs: f64,
    /// Those of them with a group.
    pub(crate) fair: f64,
    pub(crate) dynamodb: Units,
    pub(crate) s3_puts: f64,
    pub(crate) s3_gets: f64,
    pub(crate) secrets: f64,
    /// Calls that this bench cannot price.
    pub(crate) unknown: Vec<String>,
    /// Calls of an invocation that had to wait for one before, summed up.
    pub(crate) rounds: f64,
}

/// How far an invocation has come, in calls that wait for one another.
#[derive(Debug, Default)]
struct Progress {
    ended: u64,
    /// Calls under way, and after how many each was made.
    open: HashMap<usize, u64>,
}

#[derive(Debug, Default)]
struct Seen {
    usage: BTreeMap<String, Usage>,
    progress: HashMap<String, Progress>,
    sizes: Sizes,
}

/// Stands between the functions of a stack and the services.
#[derive(Debug)]
pub(crate) struct Watch {
    prefix: String,
    seen: Mutex<Seen>,
}

impl Watch {
    /// Watches the functions whose names begin with `prefix`.
    pub(crate) fn new(prefix: String) -> Self {
        Self {
            prefix,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is so far by function; counting begins anew.
    pub(crate) fn take(&self) -> BTreeMap<String, Usage> {
        std::mem::take(&mut self.seen().usage)
    }

    /// An invocation of a function begins, or several at once.
    pub(crate) fn begin(&self, function: &str) {
        self.seen()
            .progress
            .insert(function.to_owned(), Progress::default());
    }

    /// It has ended. Of several at once each counts with the calls of all that waited for one
    /// another: more than its own (see `Function::wait_as`).
    pub(crate) fn end(&self, function: &str, invocations: usize) {
        let mut seen = self.seen();
        let rounds = seen
            .progress
            .remove(function)
            .map_or(0, |progress| progress.ended);
        let usage = seen.usage.entry(function.to_owned()).or_default();
        usage.rounds += crate::real(usize::try_from(rounds).unwrap_or(0) * invocations);
    }

    fn function<'c>(&self, call: &'c Call) -> &'c str {
        let name = call.application().unwrap_or("nobody");
        name.strip_prefix(self.prefix.as_str()).unwrap_or(name)
    }
}

fn id(call: &Call) -> usize {
    std::ptr::from_ref(call).addr()
}

impl Between for Watch {
    fn fate(&self, call: &Call) -> Fate {
        let mut seen = self.seen();
        let progress = seen
            .progress
            .entry(self.function(call).to_owned())
            .or_default();
        let ended = progress.ended;
        progress.open.insert(id(call), ended);
        Fate::Pass
    }

    fn done(&self, call: &Call, answer: &Answer) {
        let function = self.function(call).to_owned();
        let mut guard = self.seen();
        let seen = &mut *guard;
        let progress = seen.progress.entry(function.clone()).or_default();
        if let Some(after) = progress.open.remove(&id(call)) {
            progress.ended = progress.ended.max(after + 1);
        }
        let usage = seen.usage.entry(function).or_default();
        usage.count(call, answer, &mut seen.sizes);
    }
}

impl Usage {
    fn count(&mut self, call: &Call, answer: &Answer, sizes: &mut Sizes) {
        let (service, action) = (call.service(), call.action());
        *self.calls.entry(format!("{service} {action}")).or_default() += 1;
        let request = || serde_json::from_slice::<Value>(&call.body).unwrap_or_default();
        match service {
            "sqs" => self.count_sqs(&request()),
            "dynamodb" => {
                let said = serde_json::from_slice(&answer.body).unwrap_or_default();
                match sizes.of(action, &request(), &said, answer.status.is_success()) {
                    Some(units) => {
                        self.dynamodb.read += units.read;
                        self.dynamodb.write += units.write;
                    }
                    None => self.unknown.push(format!("dynamodb {action}")),
                }
            }
            // To list is a read that costs as much as a write.
            "s3" if action == "GET" && !call.path().contains("list-type=") => self.s3_gets += 1.0,
            // Deleting costs nothing.
            "s3" if action == "DELETE" => {}
            "s3" => self.s3_puts += 1.0,
            "secretsmanager" => self.secrets += 1.0,
            _ => self.unknown.push(format!("{service} {action}")),
        }
    }

    fn count_sqs(&mut self, request: &Value) {
        let entries = request["Entries"].as_array().into_iter().flatten();
        let requests = requests(entries.clone().map(message).sum());
        self.sqs += requests;
        if entries
            .clone()
            .any(|entry| entry["MessageGroupId"].is_string())
        {
            self.fair += requests;
        }
    }
}

/// Bytes of a message: its body, and names, types and values of its attributes.
pub(crate) fn message(message: &Value) -> usize {
    let text = |value: &Value| value.as_str().map_or(0, str::len);
    let attributes = message["MessageAttributes"]
        .as_object()
        .into_iter()
        .flatten();
    let attribute = |(name, value): (&String, &Value)| {
        name.len() + text(&value["DataType"]) + text(&value["StringValue"])
    };
    let body = text(&message["MessageBody"]) + text(&message["Body"]);
    body + attributes.map(attribute).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_batch_is_paid_for_in_chunks_of_64_kib() {
        assert_eq!(
            format!("{:?}", [requests(0), requests(65_536), requests(65_537)]),
            "[1.0, 1.0, 2.0]"
        );
        let entry =
            |bytes: usize| json!({ "MessageBody": "x".repeat(bytes), "MessageGroupId": "g" });
        let mut usage = Usage::default();
        usage.count_sqs(&json!({ "Entries": [entry(40_000), entry(40_000)] }));
        assert_eq!(format!("{} {}", usage.sqs, usage.fair), "2 2");
        let traced = json!({ "Body": "abc", "MessageAttributes": { "t": { "DataType": "String", "StringValue": "12" } } });
        assert_eq!(message(&traced), 3 + 1 + 6 + 2);
    }
}
