//! What shows only when systems are asked.

use std::collections::BTreeMap;

use definition::Map;
use mapping::{Mapped, Plan, PlanProblem, Plans, Scratch};
use model::{Cause, Change, ErrorClass, Op, Rows};
use ports::{
    CheckpointsExt, Page, ReadFrom, SourceError, StreamSchema, SystemsError, TableSchema,
    TargetError,
};

use crate::plans::{DefinedPlans, Snapshot, compile, key};

/// A system that cannot be asked.
fn unavailable(at: &str, class: ErrorClass, error: &dyn std::fmt::Display) -> PlanProblem {
    let code = match class {
        ErrorClass::Transient | ErrorClass::Throttled => "system-unavailable",
        ErrorClass::Auth => "system-refuses",
        _ => "bad-request",
    };
    PlanProblem::error(code, at, error.to_string())
}

fn unusable(at: &str, error: &SystemsError) -> PlanProblem {
    PlanProblem::error("bad-connection", at, error.to_string())
}

impl DefinedPlans {
    /// Asks the systems of a map what they look like, holds it against that, and tries it on
    /// the first records: everything wrong or doubtful.
    pub async fn check(&self, map: &Map) -> Vec<PlanProblem> {
        let source = self.look_at_source(map).await;
        let target = self.look_at_target(map).await;
        let (source, target) = match (source, target) {
            (Ok(source), Ok(target)) => (source, target),
            (source, target) => return source.err().into_iter().chain(target.err()).collect(),
        };
        let snapshot = Snapshot {
            digest: map.digest(),
            source,
            target,
        };
        let (plan, mut problems) = compile(map, &snapshot);
        problems.extend(self.stale(map, &snapshot).await);
        if let Some(plan) = plan {
            problems.extend(self.first_records(map, &plan).await);
        }
        problems
    }

    async fn look_at_source(&self, map: &Map) -> Result<StreamSchema, PlanProblem> {
        let at = "from.stream";
        let source = self.systems.source(&map.name).await;
        let source = source.map_err(|error| unusable(at, &error))?;
        let described = source.describe().await;
        described.map_err(|error: SourceError| unavailable(at, error.class(), &error))
    }

    async fn look_at_target(&self, map: &Map) -> Result<Option<TableSchema>, PlanProblem> {
        let at = "to.stream";
        let target = self.systems.target(&map.name).await;
        let target = target.map_err(|error| unusable(at, &error))?;
        let described = target.describe(&map.to.table).await;
        described.map_err(|error: TargetError| unavailable(at, error.class(), &error))
    }

    /// What is kept of how the systems looked when the map was first used is forgotten if it is
    /// not so any more. A table of Syncline's own changes with the map.
    async fn stale(&self, map: &Map, now: &Snapshot) -> Option<PlanProblem> {
        let kept = self.checkpoints.load::<Snapshot>(&key(&map.name)).await;
        let kept = kept.ok()??.value;
        let same_table = !map.to.existing || kept.target == now.target;
        if kept.digest != now.digest || kept.source == now.source && same_table {
            return None;
        }
        self.forget(&map.name).await;
        let what = if same_table { "stream" } else { "table" };
        let at = if same_table {
            "from.stream"
        } else {
            "to.stream"
        };
        let message = format!("the {what} does not look as it did when the map was first used");
        let help =
            "a running `syncline up` has to be started again to go by what it looks like now";
        Some(PlanProblem::warning("stale-schema", at, message).help(help))
    }

    /// Reads one page as a load would, and maps what is on it.
    async fn first_records(&self, map: &Map, plan: &Plan) -> Vec<PlanProblem> {
        let source = match self.systems.source(&map.name).await {
            Ok(source) => source,
            Err(error) => return vec![unusable("from.stream", &error)],
        };
        match source.read(ReadFrom::Rows(None), None).await {
            Ok(page) => try_records(plan, &page),
            Err(error) => vec![unavailable("from", error.class(), &error)],
        }
    }
}

/// What would become of the records of a page.
fn try_records(plan: &Plan, page: &Page) -> Vec<PlanProblem> {
    let changes: Vec<Change> = page
        .records
        .iter()
        .map(|record| Change {
            op: record.op,
            observed: page.observed,
            raw: record.raw.clone(),
            failure: None,
        })
        .collect();
    let mut failures: BTreeMap<(String, Option<String>), (usize, Box<Cause>)> = BTreeMap::new();
    let mut filtered = 0;
    let mut rows = Rows::new(plan.table().columns.len());
    let mut scratch = Scratch::default();
    for change in &changes {
        match plan.map_change(change, &mut rows, &mut scratch) {
            Mapped::Failed(cause) => {
                let group = (cause.code.clone(), cause.field.clone());
                failures.entry(group).or_insert((0, cause)).0 += 1;
            }
            Mapped::Delete { filtered: true, .. } => filtered += 1,
            Mapped::Upsert { .. } | Mapped::Delete { .. } | Mapped::Touch => {}
        }
    }
    let all = changes.len();
    let fails = |((_, field), (count, cause)): ((String, Option<String>), (usize, Box<Cause>))| {
        let at = field.map_or("fields".to_owned(), |field| format!("fields.{field}"));
        let message = format!("{count} of the first {all} records fail: {}", cause.message);
        PlanProblem::warning("records-fail", &at, message)
    };
    let mut problems: Vec<PlanProblem> = failures.into_iter().map(fails).collect();
    let upserts = changes
        .iter()
        .filter(|change| change.op == Op::Upsert)
        .count();
    if filtered > 0 && filtered == upserts {
        let message = format!("none of the first {all} records passes the filter");
        let help = "compare the filter with a record of the source";
        problems.push(PlanProblem::warning("filter-keeps-nothing", "filter", message).help(help));
    }
    problems
}
