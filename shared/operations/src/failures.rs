//! Seeing, correcting and replaying failures.

use std::time::Duration;

use jiff::Timestamp;
use model::{
    AuditEntry, ErrorClass, Failure, FailureId, FailureStatus, Fingerprint, MapName, Outcome,
    QueueName, Resolution, RetryJob,
};
use ports::{FailureFilter, Stored};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Edit, OperationError, Operations};

/// Which failures an operation is about.
#[derive(Debug, Clone)]
pub enum Selection {
    /// One, by its identifier or the beginning of it.
    One(String),
    /// All that match.
    Matching(FailureFilter),
}

impl Selection {
    fn is_one(&self) -> bool {
        matches!(self, Self::One(_))
    }
}

/// A group of failures with one cause, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// The group.
    pub group: Fingerprint,
    /// The map.
    pub map: MapName,
    /// How many.
    pub count: u64,
    /// What kind of trouble.
    pub class: ErrorClass,
    /// Stable code.
    pub code: String,
    /// The field or column concerned.
    pub field: Option<String>,
    /// What happened, for one of them.
    pub message: String,
    /// First attempt of the first of them.
    pub first: Timestamp,
    /// Last attempt of the last of them.
    pub last: Timestamp,
}

/// A failure in a list: without the record, which may hold personal data.
#[derive(Debug, Clone, Serialize)]
pub struct FailureView {
    /// Its identifier.
    pub id: FailureId,
    /// The map.
    pub map: MapName,
    /// The record's key.
    pub key: Option<String>,
    /// Where it stands.
    pub status: FailureStatus,
    /// What kind of trouble.
    pub class: ErrorClass,
    /// Stable code.
    pub code: String,
    /// The field or column concerned.
    pub field: Option<String>,
    /// What happened.
    pub message: String,
    /// The group it belongs to.
    pub group: Fingerprint,
    /// Attempts so far.
    pub attempts: u32,
    /// Last attempt.
    pub last: Timestamp,
    /// When it is tried again by itself.
    pub due: Option<Timestamp>,
}

impl From<Failure> for FailureView {
    fn from(failure: Failure) -> Self {
        Self {
            id: failure.id,
            map: failure.map,
            key: failure.key,
            status: failure.status,
            class: failure.cause.class,
            code: failure.cause.code,
            field: failure.cause.field,
            message: failure.cause.message,
            group: failure.fingerprint,
            attempts: failure.attempts,
            last: failure.last,
            due: failure.due,
        }
    }
}

/// What became of failures that were to be changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// How many were changed.
    pub count: u64,
    /// How many were left as they are: they are being tried, have ended, or were changed by
    /// somebody else at the same time.
    pub skipped: u64,
}

impl Changed {
    /// What the audit log says of it.
    fn detail(self, mut detail: Value) -> Value {
        detail["count"] = self.count.into();
        if self.skipped > 0 {
            detail["skipped"] = self.skipped.into();
        }
        detail
    }
}

/// Chosen failures, page by page: together they may be larger than memory.
struct Pages<'s> {
    operations: &'s Operations,
    selection: &'s Selection,
    after: Option<String>,
    ended: bool,
}

impl Pages<'_> {
    async fn next(&mut self) -> Result<Option<Vec<Stored<Failure>>>, OperationError> {
        if self.ended {
            return Ok(None);
        }
        let filter = match self.selection {
            Selection::One(id) => {
                self.ended = true;
                return Ok(Some(vec![self.operations.find(id).await?]));
            }
            Selection::Matching(filter) => filter,
        };
        let failures = &self.operations.failures;
        let page = failures.query(filter, self.after.as_deref(), PAGE).await?;
        self.ended = page.next.is_none();
        self.after = page.next;
        Ok(Some(page.failures))
    }
}

/// Failures per page and per replay job.
const PAGE: usize = 500;

impl Operations {
    /// Failures that match, at most `limit`.
    pub async fn failures(
        &self,
        filter: &FailureFilter,
        limit: usize,
    ) -> Result<Vec<FailureView>, OperationError> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < limit {
            let page = self
                .failures
                .query(filter, after.as_deref(), PAGE.min(limit - found.len()))
                .await?;
            found.extend(page.failures.into_iter().map(|stored| stored.value.into()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// How many failures match.
    pub async fn count_failures(&self, filter: &FailureFilter) -> Result<u64, OperationError> {
        Ok(self.failures.count(filter).await?)
    }

    /// Failures that match, by cause.
    pub async fn failure_groups(
        &self,
        filter: &FailureFilter,
        limit: usize,
    ) -> Result<Vec<Group>, OperationError> {
        let groups = self.failures.groups(filter, limit).await?;
        let view = |group: ports::FailureGroup| Group {
            group: group.fingerprint,
            map: group.sample.map,
            count: group.count,
            class: group.sample.cause.class,
            code: group.sample.cause.code,
            field: group.sample.cause.field,
            message: group.sample.cause.message,
            first: group.first,
            last: group.last,
        };
        Ok(groups.into_iter().map(view).collect())
    }

    /// One failure, whole.
    pub async fn failure(&self, id: &str) -> Result<Failure, OperationError> {
        Ok(self.find(id).await?.value)
    }

    async fn find(&self, id: &str) -> Result<Stored<Failure>, OperationError> {
        let unknown = || OperationError::UnknownFailure(id.to_owned());
        if let Ok(whole) = id.parse::<FailureId>() {
            return self.failures.get(whole).await?.ok_or_else(unknown);
        }
        let mut found = self.failures.find(id, 2).await?;
        if found.len() > 1 {
            return Err(OperationError::Ambiguous(id.to_owned()));
        }
        found.pop().ok_or_else(unknown)
    }

    fn pages<'s>(&'s self, selection: &'s Selection) -> Pages<'s> {
        Pages {
            operations: self,
            selection,
            after: None,
            ended: false,
        }
    }

    /// Sends failures round again; returns which. Only what waits can be sent.
    pub async fn retry_failures(
        &self,
        selection: &Selection,
    ) -> Result<Vec<FailureId>, OperationError> {
        let mut sent = Vec::new();
        let done = self.send_round(selection, &mut sent).await;
        self.audit_all(
            &done,
            !sent.is_empty(),
            "failures.retry",
            selection,
            || json!({ "count": sent.len() }),
        )
        .await?;
        done.map(|()| sent)
    }

    async fn send_round(
        &self,
        selection: &Selection,
        sent: &mut Vec<FailureId>,
    ) -> Result<(), OperationError> {
        let mut pages = self.pages(selection);
        while let Some(page) = pages.next().await? {
            let mut failures = Vec::with_capacity(page.len());
            for stored in page {
                match waiting(&stored.value) {
                    Ok(()) => failures.push(stored.value.id),
                    Err(error) if selection.is_one() => return Err(error),
                    Err(_) => {}
                }
            }
            let Some(first) = failures.first() else {
                continue;
            };
            let name = first.to_string();
            let job = RetryJob::Replay {
                failures: failures.clone(),
            };
            self.outbox
                .send(QueueName::Retries, None, &name, &job, Duration::ZERO)
                .await?;
            sent.extend(failures);
        }
        Ok(())
    }

    /// Corrects the records of failures. They wait for a retry afterwards. A correction that
    /// does not fit one of them may be meant for others, so it is refused before any is
    /// changed.
    pub async fn edit_failures(
        &self,
        selection: &Selection,
        edit: &Edit,
    ) -> Result<Changed, OperationError> {
        let mut pages = self.pages(selection);
        while let Some(page) = pages.next().await? {
            for stored in page {
                match waiting(&stored.value) {
                    Ok(()) => drop(corrected(stored.value, edit)?),
                    Err(error) if selection.is_one() => return Err(error),
                    Err(_) => {}
                }
            }
        }
        let (kind, said) = edit.said();
        let detail = json!({ kind: said });
        self.change_all("failures.edit", selection, detail, |failure| {
            corrected(failure, edit)
        })
        .await
    }

    /// Gives failures up, for a reason.
    pub async fn discard_failures(
        &self,
        selection: &Selection,
        reason: &str,
    ) -> Result<Changed, OperationError> {
        if reason.trim().is_empty() {
            return Err(OperationError::NoReason);
        }
        let detail = json!({ "reason": reason });
        self.change_all("failures.discard", selection, detail, |failure| {
            let resolution = Resolution {
                outcome: Outcome::Failed,
                at: self.clock.now(),
                reason: Some(reason.to_owned()),
            };
            Ok(Failure {
                status: FailureStatus::Discarded,
                due: None,
                resolution: Some(resolution),
                ..failure
            })
        })
        .await
    }

    /// Changes failures and says so in the audit log, also where an error ends it early.
    async fn change_all(
        &self,
        action: &str,
        selection: &Selection,
        detail: Value,
        change: impl Fn(Failure) -> Result<Failure, OperationError> + Send + Sync,
    ) -> Result<Changed, OperationError> {
        let mut changed = Changed::default();
        let done = self.change_each(selection, &mut changed, change).await;
        self.audit_all(&done, changed.count > 0, action, selection, || {
            changed.detail(detail)
        })
        .await?;
        done.map(|()| changed)
    }

    async fn change_each(
        &self,
        selection: &Selection,
        changed: &mut Changed,
        change: impl Fn(Failure) -> Result<Failure, OperationError> + Send + Sync,
    ) -> Result<(), OperationError> {
        let mut pages = self.pages(selection);
        while let Some(page) = pages.next().await? {
            for Stored { value, revision } in page {
                let next = waiting(&value).and_then(|()| change(value));
                let put = match next {
                    Ok(next) => {
                        let put = self.failures.put(Some(revision), &next).await;
                        put.map(|_| ()).map_err(OperationError::from)
                    }
                    Err(error) => Err(error),
                };
                match put {
                    Ok(()) => changed.count += 1,
                    Err(error) if selection.is_one() || !error.is_of_one() => return Err(error),
                    Err(_) => changed.skipped += 1,
                }
            }
        }
        Ok(())
    }

    /// Writes the audit log of what was done to failures: when it was done to the end, or at
    /// least something was.
    async fn audit_all(
        &self,
        done: &Result<(), OperationError>,
        some: bool,
        action: &str,
        selection: &Selection,
        detail: impl FnOnce() -> Value + Send,
    ) -> Result<(), OperationError> {
        if done.is_ok() || some {
            self.audit(action, subject(selection), detail()).await?;
        }
        Ok(())
    }

    /// The newest entries of the audit log.
    pub async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>, OperationError> {
        Ok(self.failures.audit_log(limit).await?)
    }
}

fn waiting(failure: &Failure) -> Result<(), OperationError> {
    let help = match failure.status {
        FailureStatus::Open | FailureStatus::Waiting => return Ok(()),
        FailureStatus::Retrying => "it is being tried right now; look again in a moment",
        FailureStatus::Resolved => "nothing is left to do",
        FailureStatus::Discarded => "it was given up; load or touch the record to bring it back",
    };
    Err(OperationError::Status {
        id: failure.id,
        status: failure.status.to_string(),
        help: help.to_owned(),
    })
}

fn corrected(failure: Failure, edit: &Edit) -> Result<Failure, OperationError> {
    let raw = edit
        .apply(&failure.raw)
        .map_err(|why| OperationError::Patch {
            id: failure.id,
            why,
        })?;
    Ok(Failure {
        original: failure.original.or(Some(failure.raw)),
        raw,
        status: FailureStatus::Open,
        due: None,
        ..failure
    })
}

fn subject(selection: &Selection) -> String {
    match selection {
        Selection::One(id) => id.clone(),
        Selection::Matching(filter) => {
            let mut parts = Vec::new();
            let mut say = |name: &str, value: Option<String>| {
                parts.extend(value.map(|value| format!("{name}={value}")));
            };
            say("map", filter.map.as_ref().map(ToString::to_string));
            say("class", filter.class.map(|class| class.to_string()));
            say(
                "group",
                filter.fingerprint.as_ref().map(ToString::to_string),
            );
            say("key", filter.key.clone());
            say("run", filter.run.map(|run| run.to_string()));
            if parts.is_empty() {
                "all".to_owned()
            } else {
                parts.join(" ")
            }
        }
    }
}
