//! Metrics, as lines that CloudWatch makes metrics of.
//!
//! A line of JSON on standard output is cheaper than a call: it costs what a line of a log costs,
//! and no time. Its form is the [embedded metric format][emf]; what is said here of limits is
//! from there.
//!
//! [emf]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use model::{Counts, MapName};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    Sample,
    env::{self, EnvError},
};

/// Whether each map has metrics of its own.
pub const METRICS_PER_MAP: &str = "SYNCLINE_METRICS_PER_MAP";

/// How long what comes again and again is gathered before it is written.
const GATHER: Duration = Duration::from_secs(10);
/// So many outcomes of a map do not wait for it.
const MUCH: u64 = 1_000;

const NAMESPACE: &str = "Syncline";
const STACK: &str = "Stack";
const MAP: &str = "Map";

/// What there is to say of a map after one invocation. Zeros are not said.
#[derive(Debug, Default)]
pub struct Tally {
    /// Changes that a queue has taken.
    pub received: u64,
    /// What became of changes.
    pub outcomes: Counts,
    /// Of these, changes that had no outcome before. Those that are tried again had one.
    pub settled: u64,
    /// Milliseconds from a change at the source to its write into the target.
    pub lag: Sample,
    /// Whether the target of the map is left alone, where that was asked.
    pub breaker_open: Option<bool>,
}

impl Tally {
    fn merge(&mut self, later: Self) {
        self.received += later.received;
        self.outcomes.merge(&later.outcomes);
        self.settled += later.settled;
        self.lag.merge(later.lag);
        self.breaker_open = later.breaker_open.or(self.breaker_open);
    }

    /// What it adds to the changes that have been received and have no outcome: all that is said of
    /// a map comes to nothing when each change has one.
    fn balance(&self) -> i64 {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        count(self.received) - count(self.settled)
    }
}

/// Where metrics go. The silent one, which is the default, writes nothing.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Option<Arc<Sink>>);

struct Sink {
    stack: String,
    per_map: bool,
    gathered: Mutex<Gathered>,
    out: Mutex<Box<dyn io::Write + Send>>,
}

/// What there is to say and is not written yet.
#[derive(Default)]
struct Gathered {
    written: Option<Timestamp>,
    tallies: BTreeMap<MapName, Tally>,
    /// The maps whose target was last said to be left alone.
    alone: BTreeSet<MapName>,
}

impl Gathered {
    /// Takes out what there is, if it is time.
    fn take(&mut self, at: Timestamp) -> BTreeMap<MapName, Tally> {
        let early = self.written.is_some_and(|written| at < written + GATHER);
        if early || self.tallies.is_empty() {
            return BTreeMap::new();
        }
        self.written = Some(at);
        std::mem::take(&mut self.tallies)
    }

    /// Takes out what there is to say of a map, if it is something that people wait for, or if
    /// there is much of it.
    fn take_urgent(&mut self, map: &MapName) -> Option<Tally> {
        let tally = self.tallies.get(map)?;
        let news = tally.breaker_open.is_some_and(|open| {
            // A breaker that stays open is said again and again: its alarm looks for that.
            open || self.alone.contains(map)
        });
        let urgent = news || tally.outcomes.failed > 0 || tally.outcomes.total() >= MUCH;
        if !urgent {
            return None;
        }
        match tally.breaker_open {
            Some(true) => self.alone.insert(map.clone()),
            Some(false) => self.alone.remove(map),
            None => false,
        };
        self.tallies.remove(map)
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink")
            .field("stack", &self.stack)
            .field("per_map", &self.per_map)
            .finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics that nobody hears of.
    #[must_use]
    pub fn silent() -> Self {
        Self::default()
    }

    /// Metrics of a function of `stack`, on its standard output. [`METRICS_PER_MAP`] says
    /// whether each map has its own.
    pub fn of_function(stack: &str) -> Result<Self, EnvError> {
        let per_map = env::parsed(METRICS_PER_MAP, false)?;
        Ok(Self::to(stack, per_map, io::stdout()))
    }

    /// Metrics that are written to `out`, a line at a time. The name of a map is in each line
    /// that is about one; only with `per_map` it is a dimension too, and then every metric is
    /// paid for once for the stack and once for each map.
    pub fn to(stack: &str, per_map: bool, out: impl io::Write + Send + 'static) -> Self {
        Self(Some(Arc::new(Sink {
            stack: stack.to_owned(),
            per_map,
            gathered: Mutex::default(),
            out: Mutex::new(Box::new(out)),
        })))
    }

    /// Writes what there is to say of a map, in one line; none if there is nothing.
    pub fn record(&self, at: Timestamp, map: &MapName, tally: &Tally) {
        let Some(sink) = &self.0 else { return };
        let lag = tally.lag.values();
        let counts = [
            ("received", tally.received),
            ("applied", tally.outcomes.applied),
            ("unchanged", tally.outcomes.unchanged),
            ("superseded", tally.outcomes.superseded),
            ("filtered", tally.outcomes.filtered),
            ("failed", tally.outcomes.failed),
        ];
        let said = counts.into_iter().filter(|(_, count)| *count > 0);
        let mut readings: Vec<Reading<'_>> = said
            .map(|(name, count)| Reading::Count(name, count))
            .collect();
        match tally.balance() {
            0 => {}
            balance => readings.push(Reading::Change("balance", balance)),
        }
        if !lag.is_empty() {
            readings.push(Reading::Millis("lag_ms", &lag));
        }
        if let Some(open) = tally.breaker_open {
            readings.push(Reading::Count("breaker_open", open.into()));
        }
        sink.write(at, Some(map), &readings);
    }

    /// Writes how many changes of a map a queue has taken.
    pub fn received(&self, at: Timestamp, map: &MapName, count: u64) {
        let received = Tally {
            received: count,
            ..Tally::default()
        };
        self.record(at, map, &received);
    }

    /// Counts changes of a map that a queue has taken, where they come one by one: a line for each
    /// would cost a quarter of what sending it costs. [`Metrics::write_gathered`] writes them.
    pub fn gather_received(&self, map: &MapName, count: u64) {
        let Some(sink) = &self.0 else { return };
        if count > 0 {
            let mut gathered = sink.gathered();
            gathered.tallies.entry(map.clone()).or_default().received += count;
        }
    }

    /// Writes what there is to say of a map, now or with what follows, as by
    /// [`Metrics::write_gathered`]: at once what failed, whether a target is left alone and again
    /// in use, and outcomes by the thousand.
    pub fn gather(&self, at: Timestamp, map: &MapName, tally: Tally) {
        let Some(sink) = &self.0 else { return };
        let urgent = {
            let mut gathered = sink.gathered();
            gathered
                .tallies
                .entry(map.clone())
                .or_default()
                .merge(tally);
            gathered.take_urgent(map)
        };
        if let Some(tally) = urgent {
            self.record(at, map, &tally);
        }
        self.write_gathered(at);
    }

    /// Writes what was gathered: at once what comes after a pause, and what follows within ten
    /// seconds with the first that comes after them. A process that ends takes with it what it
    /// has not written, the counts of its last ten seconds of work at most.
    pub fn write_gathered(&self, at: Timestamp) {
        let Some(sink) = &self.0 else { return };
        let due = sink.gathered().take(at);
        for (map, tally) in due {
            self.record(at, &map, &tally);
        }
    }

    /// Writes that recurring-pull lives, whether anything was due or not.
    pub fn pull_heartbeat(&self, at: Timestamp) {
        if let Some(sink) = &self.0 {
            sink.write(at, None, &[Reading::Count("pull_heartbeat", 1)]);
        }
    }
}

impl Sink {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, at: Timestamp, map: Option<&MapName>, readings: &[Reading<'_>]) {
        if readings.is_empty() {
            return;
        }
        let line = Line {
            at,
            stack: &self.stack,
            map,
            per_map: self.per_map,
            readings,
        };
        // Plain data has no way not to become JSON.
        let Ok(mut text) = serde_json::to_vec(&line) else {
            return;
        };
        text.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A metric that is lost is no reason to do the work again. One write for the whole line
        // keeps it in one piece.
        let _ = out.write_all(&text).and_then(|()| out.flush());
    }
}

/// A metric and its value: a number, or at most a hundred of them.
enum Reading<'r> {
    Count(&'static str, u64),
    /// By how much a count grows or shrinks.
    Change(&'static str, i64),
    Millis(&'static str, &'r [u64]),
}

impl Reading<'_> {
    fn definition(&self) -> Definition {
        match self {
            Self::Count(name, _) | Self::Change(name, _) => Definition {
                name,
                unit: "Count",
            },
            Self::Millis(name, _) => Definition {
                name,
                unit: "Milliseconds",
            },
        }
    }
}

/// One line: what the metrics are, and their values and dimensions beside it.
struct Line<'l> {
    at: Timestamp,
    stack: &'l str,
    map: Option<&'l MapName>,
    per_map: bool,
    readings: &'l [Reading<'l>],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata<'m> {
    /// In milliseconds of Unix time.
    timestamp: i64,
    cloud_watch_metrics: [Directive<'m>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive<'d> {
    namespace: &'static str,
    dimensions: &'d [&'d [&'d str]],
    metrics: Vec<Definition>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: &'static str,
    unit: &'static str,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let dimensions: &[&[&str]] = if self.per_map && self.map.is_some() {
            &[&[STACK], &[STACK, MAP]]
        } else {
            &[&[STACK]]
        };
        let metadata = Metadata {
            timestamp: self.at.as_millisecond(),
            cloud_watch_metrics: [Directive {
                namespace: NAMESPACE,
                dimensions,
                metrics: self.readings.iter().map(Reading::definition).collect(),
            }],
        };
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("_aws", &metadata)?;
        line.serialize_entry(STACK, self.stack)?;
        if let Some(map) = self.map {
            line.serialize_entry(MAP, map.as_str())?;
        }
        for reading in self.readings {
            match reading {
                Reading::Count(name, count) => line.serialize_entry(name, count)?,
                Reading::Change(name, change) => line.serialize_entry(name, change)?,
                Reading::Millis(name, values) => line.serialize_entry(name, values)?,
            }
        }
        line.end()
    }
}
