//! What a piece of work came to.

use std::collections::BTreeMap;

use super::watch::Usage;

/// What one function did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Function {
    pub(crate) invocations: usize,
    pub(crate) usage: Usage,
    /// Seconds of processor time.
    pub(crate) cpu: f64,
    pub(crate) log_lines: usize,
    pub(crate) log_bytes: usize,
    /// In MB, as the template has it.
    pub(crate) memory: f64,
}

/// What was received from one queue on behalf of a function.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Polled {
    pub(crate) invocations: usize,
    pub(crate) messages: usize,
    /// Messages that came back.
    pub(crate) failed: usize,
    /// Requests that are paid for.
    pub(crate) receives: f64,
    pub(crate) deletes: f64,
}

/// What a piece of work came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) functions: BTreeMap<String, Function>,
    pub(crate) queues: BTreeMap<String, Polled>,
}

impl Counts {
    pub(crate) fn function(&mut self, name: &str) -> &mut Function {
        self.functions.entry(name.to_owned()).or_default()
    }

    pub(crate) fn polled(&mut self, queue: &str) -> &mut Polled {
        self.queues.entry(queue.to_owned()).or_default()
    }
}

impl Polled {
    pub(crate) fn add(&mut self, other: &Self) {
        self.invocations += other.invocations;
        self.messages += other.messages;
        self.failed += other.failed;
        self.receives += other.receives;
        self.deletes += other.deletes;
    }
}
