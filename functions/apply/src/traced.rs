//! The ends of traces: in the log, and what targets are told of them.

use jiff::Timestamp;
use model::{Counts, MapName, PackHead, PackId, Settlement, TraceId, TraceParent};
use runtime::Traces;

use crate::open::Item;

/// What a target is told of a pack's trace. Of one that is not in the sample it is told nothing,
/// and decides itself whether it records what it does.
pub(crate) fn passed_on(traces: Traces, head: &PackHead) -> Option<TraceParent> {
    let trace = traces.sampled(head.trace)?;
    Some(TraceParent {
        sampled: true,
        ..TraceParent::of_pack(trace, head.id)
    })
}

/// What became of a pack whose trace is in the sample.
#[derive(Debug)]
pub(crate) struct Traced {
    trace: TraceId,
    pack: PackId,
    created: Timestamp,
    counts: Counts,
}

/// The packs to log once they are settled: mostly none.
pub(crate) fn traced(traces: Traces, items: &[Item], settled: &[Settlement]) -> Vec<Traced> {
    let end = |(item, settled): (&Item, &Settlement)| {
        let head = &item.pack.head;
        Some(Traced {
            trace: traces.sampled(head.trace)?,
            pack: head.id,
            created: head.created,
            counts: settled.counts,
        })
    };
    items.iter().zip(settled).filter_map(end).collect()
}

impl Traced {
    pub(crate) fn log(&self, map: &MapName, now: Timestamp) {
        let span = tracing::info_span!("trace", trace.id = %self.trace.hex());
        let counts = &self.counts;
        let since_queued_ms = now.duration_since(self.created).as_millis();
        span.in_scope(|| {
            tracing::info!(
                map.name = %map,
                pack.id = %self.pack,
                applied = counts.applied,
                unchanged = counts.unchanged,
                superseded = counts.superseded,
                filtered = counts.filtered,
                failed = counts.failed,
                since_queued_ms,
                "a pack of map `{map}` is done: of its {} changes {} applied, {} failed",
                counts.total(),
                counts.applied,
                counts.failed
            );
        });
    }
}
