//! One request: claimed, made, written down.

use connector_http::Call;
use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};
use mapping::{Rendered, RequestKind, RequestShape};
use model::{Cause, ErrorClass, TraceParent};
use ports::{Link, Revision, RowOutcome};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    HttpTarget,
    claims::{ClaimedRows, Claims, Ours},
    verdict::{Asked, Verdict, Verdicts, of_answer, of_delay, of_silence, target_error},
    write::{Fate, Job, Writing},
};

/// Rows that are sent together.
#[derive(Debug)]
pub(crate) struct Group<'b> {
    pub(crate) kind: RequestKind,
    pub(crate) jobs: Vec<Job<'b>>,
}

type Fates = Vec<(usize, Fate)>;

fn later(jobs: &[Job<'_>]) -> Fates {
    jobs.iter().map(|job| (job.at, Fate::Later)).collect()
}

impl HttpTarget {
    /// Sends a group; one fate per row, but for those that `claims` confirms.
    pub(crate) async fn send(
        &self,
        writing: &Writing<'_>,
        claims: &Claims,
        group: Group<'_>,
    ) -> Fates {
        if claims.is_over() || writing.health().stopped() {
            return later(&group.jobs);
        }
        let began = Instant::now();
        // The turn comes first: a claim does not last while calls are rationed.
        let what = format!("writing rows of map `{}`", self.map);
        let turn = match self.client.turn(writing.batch.lane, &what).await {
            Ok(turn) => turn,
            Err(error) => {
                writing.health().stop(target_error(error));
                return later(&group.jobs);
            }
        };
        let unsent = later(&group.jobs);
        match self.claim(claims, group.jobs).await {
            Ok(rows) => {
                let errands = (writing, claims, group.kind);
                let fates = self.send_claimed(errands, rows, turn).await;
                self.pace.note(began.elapsed());
                fates
            }
            Err(error) => {
                // Some of them may be claimed.
                claims.spoil();
                writing.health().stop(self.store_error(&error));
                unsent
            }
        }
    }

    async fn send_claimed(
        &self,
        (writing, claims, kind): (&Writing<'_>, &Claims, RequestKind),
        rows: ClaimedRows<'_>,
        turn: connector_http::Turn<'_>,
    ) -> Fates {
        let others = rows.others.into_iter();
        let mut fates: Fates = others.map(|at| (at, Fate::Open)).collect();
        let (needless, ours): (Vec<_>, Vec<_>) = rows
            .ours
            .into_iter()
            .partition(|(job, _)| job.errand.needless);
        for row in needless {
            claims.note(row);
        }
        if !ours.is_empty() {
            let verdicts = self.ask(writing, kind, &ours, turn).await;
            ports::crash_point("http.called");
            fates.extend(self.write_down(writing, claims, ours, verdicts).await);
        }
        fates
    }

    /// Makes the request.
    async fn ask(
        &self,
        writing: &Writing<'_>,
        kind: RequestKind,
        jobs: &[(Job<'_>, Revision)],
        turn: connector_http::Turn<'_>,
    ) -> Verdicts {
        let unfit = |cause| Verdicts::All(Verdict::Unfit(cause));
        let rows: Vec<_> = jobs.iter().map(|(job, _)| job.row).collect();
        let Some(shape) = self.requests.shape(kind) else {
            return Verdicts::Each(Vec::new());
        };
        let rendered = match self.requests.render(kind, &rows) {
            Ok(rendered) => rendered,
            Err(cause) => return unfit(cause),
        };
        let call = match self.call(shape, rendered, jobs, writing) {
            Ok(call) => call,
            Err(cause) => return unfit(cause),
        };
        let asked = Asked {
            kind,
            fixed: shape.fixed,
            records: jobs.len(),
        };
        match tokio::time::timeout(self.limit, self.client.exchange(&call, turn)).await {
            Ok(Ok(answer)) => of_answer(&answer, asked, self.client.now()),
            Ok(Err(error)) => Verdicts::All(of_silence(error)),
            Err(_) => Verdicts::All(of_delay(&self.client.describe(&call), self.limit)),
        }
    }

    fn call(
        &self,
        shape: &RequestShape,
        rendered: Rendered,
        jobs: &[(Job<'_>, Revision)],
        writing: &Writing<'_>,
    ) -> Result<Call<'static>, Box<Cause>> {
        let refused = |message: String| {
            let cause = Cause::new(ErrorClass::Mapping, "bad-address", message);
            Box::new(cause)
        };
        let url = self.client.at(&rendered.path);
        let url = url.map_err(|error| refused(error.to_string()))?;
        let method = Method::from_bytes(shape.method.as_bytes());
        let method = method.map_err(|_| refused(format!("`{}` is no method", shape.method)))?;
        let mut headers = HeaderMap::new();
        if rendered.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Ok(name) = HeaderValue::from_str(&self.attempt(jobs)) {
            headers.insert("idempotency-key", name);
        }
        let trace = trace(writing, jobs).map(|trace| HeaderValue::from_str(&trace.to_string()));
        if let Some(Ok(trace)) = trace {
            headers.insert("traceparent", trace);
        }
        Ok(Call {
            method,
            headers,
            body: rendered.body.map(Into::into),
            // It is repeated from outside, past the guard.
            repeatable: false,
            ..Call::get(url, writing.batch.lane)
        })
    }

    /// The name of a request: the same for the same attempt to write the same, and no other.
    fn attempt(&self, jobs: &[(Job<'_>, Revision)]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.map.as_str());
        for (job, _) in jobs {
            for part in [&job.key, &job.errand.attempt_name()] {
                hash.update([0]);
                hash.update(part.as_bytes());
            }
        }
        hex::encode(&hash.finalize()[..16])
    }

    /// Writes down in the links what became of the rows; what was done is left to `claims`.
    async fn write_down(
        &self,
        writing: &Writing<'_>,
        claims: &Claims,
        jobs: Vec<Ours<'_>>,
        verdicts: Verdicts,
    ) -> Fates {
        let count = jobs.len();
        // A request for many is decided when it is for one, or says what became of each.
        let (verdicts, decided) = match verdicts {
            Verdicts::All(verdict) => (vec![verdict; count], count == 1),
            Verdicts::Each(each) => (each, true),
        };
        note(writing, &verdicts);
        let among = Fate::Among((count / 2).max(1));
        let refused = |cause| {
            if decided {
                failed(cause)
            } else {
                among.clone()
            }
        };
        let now = self.client.now();
        let mut fates = Vec::with_capacity(count);
        let mut links: Vec<(String, Option<Revision>, Link)> = Vec::new();
        for ((job, revision), verdict) in jobs.into_iter().zip(verdicts) {
            let errand = &job.errand;
            let (link, fate) = match verdict {
                Verdict::Done => {
                    claims.note((job, revision));
                    continue;
                }
                Verdict::Stop(_) => (errand.undone(), Fate::Open),
                Verdict::Down(_) => (errand.doubtful(now), Fate::Open),
                Verdict::Unfit(cause) | Verdict::Refused(cause) => {
                    (errand.undone(), refused(cause))
                }
                Verdict::Doubtful(cause) => (errand.doubtful(now), refused(cause)),
                // The claim stays until it ends: the request may still be under way.
                Verdict::Silent { mut cause, .. } => {
                    cause.retry_after = cause.retry_after.max(Some(self.lease));
                    (errand.silent(), failed(cause))
                }
            };
            links.push((job.key, Some(revision), link));
            fates.push((job.at, fate));
        }
        if !links.is_empty()
            && let Err(error) = self.links.put(&self.map, links).await
        {
            claims.spoil();
            writing.health().stop(self.store_error(&error));
        }
        fates
    }
}

/// The trace that all rows of a request belong to. One for rows of several would be wrong for most.
fn trace(writing: &Writing<'_>, jobs: &[(Job<'_>, Revision)]) -> Option<TraceParent> {
    let known = &writing.batch.traces;
    let of = |(job, _): &(Job<'_>, Revision)| {
        let place = known.binary_search_by_key(&job.at, |(row, _)| *row);
        place.ok().map(|place| known[place].1)
    };
    let first = of(jobs.first()?)?;
    jobs.iter()
        .all(|job| of(job) == Some(first))
        .then_some(first)
}

fn failed(cause: Box<Cause>) -> Fate {
    Fate::Done(RowOutcome::Failed(cause))
}

/// Notes what the answer to a request says of the endpoint.
fn note(writing: &Writing<'_>, verdicts: &[Verdict]) {
    let mut health = writing.health();
    for verdict in verdicts {
        match verdict {
            Verdict::Done | Verdict::Refused(_) => return health.works(),
            Verdict::Stop(error) | Verdict::Down(error) => return health.stop(error.clone()),
            Verdict::Unfit(_) | Verdict::Doubtful(_) | Verdict::Silent { .. } => {}
        }
    }
    match verdicts.first() {
        Some(Verdict::Doubtful(cause)) => health.fails(cause, false),
        Some(Verdict::Silent { cause, gone }) => health.fails(cause, *gone),
        _ => {}
    }
}
