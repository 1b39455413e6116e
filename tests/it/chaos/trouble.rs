//! The trouble that services of AWS make, between the functions and the emulator.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use fastrand::Rng;
use http::StatusCode;
use serde_json::Value;
use test_proxy::{Answer, Between, Call, Fate};

use super::{
    answers::refusal,
    tally::{Kind, Tally},
};

/// The services that functions call.
pub(super) const SERVICES: [&str; 4] = ["dynamodb", "sqs", "s3", "secretsmanager"];

/// The share of calls that meet with trouble, and the same of a service that is in a bad way: so
/// many that the client gives up now and then.
const USUAL: f64 = 0.04;
const BAD: f64 = 0.5;
/// The share of messages that are sent twice.
const TWICE: f64 = 0.1;
/// How many calls that sent messages to a queue are kept to be made again.
const KEPT: usize = 100;

/// A call that sent messages.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) action: String,
    pub(super) call: Value,
}

/// Makes trouble at random, once it is let loose.
#[derive(Debug)]
pub(super) struct Trouble {
    loose: AtomicBool,
    random: Mutex<Rng>,
    /// The service that is in a bad way.
    bad: Mutex<Option<&'static str>>,
    /// By queue.
    sent: Mutex<BTreeMap<String, Vec<Sending>>>,
    tally: Arc<Tally>,
}

fn with<T, R>(lock: &Mutex<T>, act: impl FnOnce(&mut T) -> R) -> R {
    act(&mut lock.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Trouble {
    pub(super) fn new(random: Rng, tally: Arc<Tally>) -> Self {
        Self {
            loose: AtomicBool::new(false),
            random: Mutex::new(random),
            bad: Mutex::default(),
            sent: Mutex::default(),
            tally,
        }
    }

    /// Begins or ends.
    pub(super) fn let_loose(&self, loose: bool) {
        self.loose.store(loose, Ordering::SeqCst);
    }

    /// Says which service is in a bad way from now on.
    pub(super) fn strike(&self, service: Option<&'static str>) {
        with(&self.bad, |bad| *bad = service);
    }

    /// A call of any time since the beginning that sent messages, and the queue. Each queue is as
    /// likely as any other, however many messages it had.
    pub(super) fn any_sent(&self, random: &mut Rng) -> Option<(String, Sending)> {
        with(&self.sent, |sent| {
            let (queue, sendings) = random.choice(sent.iter())?;
            Some((queue.clone(), random.choice(sendings)?.clone()))
        })
    }

    fn random<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        with(&self.random, draw)
    }
}

fn sends(call: &Call) -> bool {
    call.service() == "sqs" && call.action().starts_with("SendMessage")
}

impl Between for Trouble {
    fn fate(&self, call: &Call) -> Fate {
        if !self.loose.load(Ordering::SeqCst) {
            return Fate::Pass;
        }
        let service = call.service();
        let bad = with(&self.bad, |bad| *bad == Some(service));
        let share = if bad { BAD } else { USUAL };
        let (draw, choice) = self.random(|random| (random.f64(), random.usize(..)));
        if draw < share / 2.0 {
            self.tally.add(Kind::Lost, service);
            return Fate::Lost;
        }
        if draw < share {
            let (kind, answer) = refusal(call, choice);
            self.tally.add(kind, service);
            return Fate::Refused(answer);
        }
        if sends(call) && draw < share + TWICE {
            self.tally.add(Kind::Twice, service);
            return Fate::Twice;
        }
        Fate::Pass
    }

    fn done(&self, call: &Call, answer: &Answer) {
        if !sends(call) || answer.status != StatusCode::OK {
            return;
        }
        let asked: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        // The address of a queue ends with the account and the name.
        let queue = asked["QueueUrl"].as_str().unwrap_or_default();
        let queue = queue.rsplit('-').next().unwrap_or_default().to_owned();
        let sending = Sending {
            action: call.action().to_owned(),
            call: asked,
        };
        let at = self.random(|random| random.usize(..KEPT));
        with(&self.sent, |sent| {
            let sent = sent.entry(queue).or_default();
            if sent.len() < KEPT {
                sent.push(sending);
            } else {
                sent[at] = sending;
            }
        });
    }
}
