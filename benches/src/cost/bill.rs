//! From counts to dollars.

use std::collections::BTreeMap;

use super::{
    counts::{Counts, Function},
    prices::{self, Price},
};
use crate::table::{number, say};

/// Milliseconds of a call of SQS, DynamoDB or Secrets Manager within a region, from a warm
/// connection. Assumed: AWS promises single-digit milliseconds for DynamoDB and nothing for SQS.
pub(crate) const CALL_MS: f64 = 5.0;
/// Milliseconds that a batch waits for a database nearby. Assumed.
pub(crate) const DATABASE_MS: f64 = 20.0;
/// Milliseconds until an endpoint has answered one call. Assumed.
pub(crate) const ENDPOINT_MS: f64 = 50.0;
/// Milliseconds until a source has answered with a page. Assumed.
pub(crate) const SOURCE_MS: f64 = 200.0;
/// MB of memory with which a function has one processor; it has a share of it with less:
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>.
const CORE_MB: f64 = 1_769.0;

/// One line of a bill.
#[derive(Debug, Clone, Copy)]
struct Line {
    count: f64,
    price: Price,
}

/// What something costs, by who causes it and what for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bill(BTreeMap<(String, &'static str), Line>);

/// How long functions wait for what is not AWS, in milliseconds for each invocation.
pub(crate) type Outside<'o> = &'o [(&'o str, f64)];

/// Milliseconds of one invocation: the processor time that was measured, with the share of a
/// processor that the memory brings; calls that wait for one another; and what is waited for
/// outside. Lambda rounds up to a whole millisecond.
pub(crate) fn duration_ms(function: &Function, outside: f64) -> f64 {
    let invocations = crate::real(function.invocations.max(1));
    let share = (function.memory / CORE_MB).min(1.0);
    let busy = function.cpu * 1_000.0 / invocations / share.max(0.01);
    (busy + rounds(function) * CALL_MS + outside)
        .ceil()
        .max(1.0)
}

/// Calls of one invocation that wait for one another; never more than all it makes.
fn rounds(function: &Function) -> f64 {
    let invocations = crate::real(function.invocations.max(1));
    let calls: usize = function.usage.calls.values().sum();
    (function.usage.rounds / invocations).min(crate::real(calls) / invocations)
}

fn outside_of(outside: Outside<'_>, function: &str) -> f64 {
    let mut all = outside.iter();
    all.find(|(name, _)| *name == function)
        .map_or(0.0, |(_, ms)| *ms)
}

impl Bill {
    /// Adds so many of what has a price.
    pub(crate) fn add(&mut self, who: &str, price: Price, count: f64) {
        let line = self
            .0
            .entry((who.to_owned(), price.of))
            .or_insert(Line { count: 0.0, price });
        line.count += count;
    }

    /// The bill of what was counted, `scale` times.
    pub(crate) fn of(counts: &Counts, scale: f64, outside: Outside<'_>) -> Self {
        let mut bill = Self::default();
        for (name, function) in &counts.functions {
            bill.add_function(name, function, scale, outside_of(outside, name));
        }
        for (queue, polled) in &counts.queues {
            let who = format!("mapping of {queue}");
            bill.add(
                &who,
                prices::SQS,
                (polled.receives + polled.deletes) * scale,
            );
        }
        bill
    }

    fn add_function(&mut self, name: &str, function: &Function, scale: f64, outside: f64) {
        let usage = &function.usage;
        let invocations = crate::real(function.invocations) * scale;
        let gb_s = duration_ms(function, outside) / 1_000.0 * function.memory / 1_024.0;
        let secrets = usage.secrets * scale;
        let counted = [
            (prices::LAMBDA_REQUESTS, invocations),
            (prices::LAMBDA_DURATION, invocations * gb_s),
            (prices::SQS, usage.sqs * scale),
            (prices::SQS_FAIR, usage.fair * scale),
            (prices::WRITES, usage.dynamodb.write * scale),
            (prices::READS, usage.dynamodb.read * scale),
            (prices::S3_PUTS, usage.s3_puts * scale),
            (prices::S3_GETS, usage.s3_gets * scale),
            (prices::SECRETS, secrets),
            // Each reading of a secret has it decrypted.
            (prices::KMS, secrets),
            (prices::LOGS, crate::real(function.log_bytes) * scale),
        ];
        for (price, count) in counted {
            if count > 0.0 {
                self.add(name, price, count);
            }
        }
    }

    pub(crate) fn total(&self) -> f64 {
        self.0
            .values()
            .map(|line| line.price.cost(line.count))
            .sum()
    }

    /// What somebody causes of it.
    pub(crate) fn of_whom(&self, who: &str) -> f64 {
        let lines = self.0.iter().filter(|((name, _), _)| name == who);
        lines.map(|(_, line)| line.price.cost(line.count)).sum()
    }

    /// Everything that costs a hundredth of a cent at least.
    pub(crate) fn show(&self) {
        const LEAST: f64 = 0.000_1;
        let mut rest = 0.0;
        for ((who, of), line) in &self.0 {
            let dollars = line.price.cost(line.count);
            if dollars < LEAST {
                rest += dollars;
                continue;
            }
            say(format!(
                "  {who:<20} {of:<28} {:>14} {dollars:>10.4}",
                number(line.count)
            ));
        }
        say(format!(
            "  {:<20} {:<28} {:>14} {rest:>10.4}",
            "all else", "", ""
        ));
        say(format!(
            "  {:<20} {:<28} {:>14} {:>10.4}",
            "in all",
            "",
            "",
            self.total()
        ));
    }
}

/// Says whether what something costs is within its bound.
pub(crate) fn verdict(what: &str, dollars: f64, most: Option<f64>) {
    let (bound, met) = match most {
        Some(most) => (
            format!("≤ {most:.2}"),
            if dollars <= most { "met" } else { "MISSED" },
        ),
        None => (String::new(), ""),
    };
    say(format!("{what:<48} {dollars:>10.4} $ {bound:>22} {met}"));
}

/// How the durations come about, and what the functions asked for.
pub(crate) fn explain(counts: &Counts, outside: Outside<'_>) {
    for (name, function) in &counts.functions {
        if function.invocations == 0 {
            continue;
        }
        let invocations = crate::real(function.invocations);
        let outside = outside_of(outside, name);
        say(format!(
            "  {name}: {} invocations of {:.0} ms at {:.0} MB ({:.2} ms of a processor, {:.1} calls in a row, {outside:.0} ms outside), {:.0} bytes of log each",
            function.invocations,
            duration_ms(function, outside),
            function.memory,
            function.cpu * 1_000.0 / invocations,
            rounds(function),
            crate::real(function.log_bytes) / invocations,
        ));
        let calls: Vec<String> = function
            .usage
            .calls
            .iter()
            .map(|(call, count)| format!("{call} {count}"))
            .collect();
        if !calls.is_empty() {
            say(format!("    {}", calls.join(", ")));
        }
        if !function.usage.unknown.is_empty() {
            say(format!(
                "    NOT PRICED: {}",
                function.usage.unknown.join(", ")
            ));
        }
    }
    for (queue, polled) in &counts.queues {
        let failed = if polled.failed > 0 {
            format!(", {} came back", polled.failed)
        } else {
            String::new()
        };
        say(format!(
            "  {queue}: {} messages in {} invocations, {} requests to receive and {} to delete{failed}",
            polled.messages, polled.invocations, polled.receives, polled.deletes
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_its_share_of_a_processor_and_waits_for_calls() {
        let mut function = Function {
            invocations: 10,
            cpu: 0.02,
            memory: CORE_MB / 2.0,
            ..Function::default()
        };
        assert_eq!(duration_ms(&function, 0.0).to_string(), "4");
        function
            .usage
            .calls
            .insert("sqs SendMessageBatch".into(), 20);
        function.usage.rounds = 10.0;
        assert_eq!(
            duration_ms(&function, 0.5).to_string(),
            "10",
            "4 + 5 + 0.5, rounded up"
        );
        function.usage.rounds = 1_000.0;
        assert_eq!(
            duration_ms(&function, 0.0).to_string(),
            "14",
            "no more rounds than calls"
        );
        function.memory = 10_240.0;
        function.usage.rounds = 0.0;
        assert_eq!(
            duration_ms(&function, 0.0).to_string(),
            "2",
            "one processor is all it can use"
        );
    }

    #[test]
    fn a_million_webhooks_with_nothing_else_cost_their_requests_and_messages() {
        let mut counts = Counts::default();
        let intake = counts.function("webhook-intake");
        intake.invocations = 1_000;
        intake.usage.sqs = 1_000.0;
        counts.polled("live").receives = 100.0;
        counts.polled("live").deletes = 100.0;
        let bill = Bill::of(&counts, 1_000.0, &[]);
        assert!((bill.total() - 0.68).abs() < 1e-9, "{}", bill.total());
        assert!((bill.of_whom("mapping of live") - 0.08).abs() < 1e-9);
    }
}
