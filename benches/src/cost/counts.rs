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

impl Function {
    fn calls(&self) -> f64 {
        crate::real(self.usage.calls.values().sum())
    }

    /// Counts the calls that wait for one another as of invocations that were `alone`: those of
    /// several at once cannot be told apart. What these call more, because of one another, waits.
    pub(crate) fn wait_as(&mut self, alone: &Self) {
        let of_each =
            |count: f64, function: &Self| count / crate::real(function.invocations.max(1));
        let more = of_each(self.calls(), self) - of_each(alone.calls(), alone);
        let rounds = of_each(alone.usage.rounds, alone) + more.max(0.0);
        self.usage.rounds = rounds * crate::real(self.invocations);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn function(invocations: usize, calls: usize, rounds: f64) -> Function {
        let mut function = Function {
            invocations,
            ..Function::default()
        };
        function
            .usage
            .calls
            .insert("dynamodb PutItem".into(), calls);
        function.usage.rounds = rounds;
        function
    }

    #[test]
    fn what_several_call_more_waits() {
        let mut several = function(10, 60, 500.0);
        several.wait_as(&function(2, 8, 6.0));
        assert!((several.usage.rounds - 10.0 * (3.0 + 2.0)).abs() < 1e-9);
        several.wait_as(&function(1, 9, 3.0));
        assert!((several.usage.rounds - 10.0 * 3.0).abs() < 1e-9);
    }
}
