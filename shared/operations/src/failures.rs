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

use crate::{OperationError, Operations};

/// Which failures an operation is about.
#[derive(Debug, Clone)]
pub enum Selection {
    /// One, by its identifier or the beginning of it.
    One(String),
    /// All that match.
    Matching(FailureFilter),
}

/// A correction of a record.
#[derive(Debug, Clone)]
pub enum Edit {
    /// JSON Patch (RFC 6902).
    Patch(json_patch::Patch),
    /// JSON Merge Patch (RFC 7396).
    Merge(Value),
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
        let mut found = None;
        let mut after: Option<String> = None;
        loop {
            let page = self
                .failures
                .query(&FailureFilter::default(), after.as_deref(), PAGE)
                .await?;
            for stored in page.failures {
                if stored.value.id.to_string().starts_with(id) && found.replace(stored).is_some() {
                    return Err(OperationError::Ambiguous(id.to_owned()));
                }
            }
            after = page.next;
            if after.is_none() {
                return found.ok_or_else(unknown);
            }
        }
    }

    async fn select(&self, selection: &Selection) -> Result<Vec<Stored<Failure>>, OperationError> {
        match selection {
            Selection::One(id) => Ok(vec![self.find(id).await?]),
            Selection::Matching(filter) => {
                let mut all = Vec::new();
                let mut after: Option<String> = None;
                loop {
                    let page = self.failures.query(filter, after.as_deref(), PAGE).await?;
                    all.extend(page.failures);
                    after = page.next;
                    if after.is_none() {
                        return Ok(all);
                    }
                }
            }
        }
    }

    /// Sends failures round again; returns which. Only what waits can be sent.
    pub async fn retry_failures(
        &self,
        selection: &Selection,
    ) -> Result<Vec<FailureId>, OperationError> {
        let chosen = self.select(selection).await?;
        if let (Selection::One(_), [only]) = (selection, &chosen[..]) {
            waiting(&only.value)?;
        }
        let ids: Vec<FailureId> = chosen
            .iter()
            .filter(|stored| waiting(&stored.value).is_ok())
            .map(|stored| stored.value.id)
            .collect();
        for some in ids.chunks(PAGE) {
            let job = RetryJob::Replay {
                failures: some.to_vec(),
            };
            let name = some.first().map_or_else(String::new, ToString::to_string);
            self.outbox
                .send(QueueName::Retries, None, &name, &job, Duration::ZERO)
                .await?;
        }
        self.audit(
            "failures.retry",
            subject(selection),
            json!({ "count": ids.len() }),
        )
        .await?;
        Ok(ids)
    }

    /// Corrects the records of failures; returns how many. They wait for a retry afterwards.
    pub async fn edit_failures(
        &self,
        selection: &Selection,
        edit: &Edit,
    ) -> Result<u64, OperationError> {
        let chosen = self.select(selection).await?;
        let mut corrected = Vec::with_capacity(chosen.len());
        // All or none: a correction that does not fit one of a group may be meant for another.
        for stored in chosen {
            waiting(&stored.value)?;
            let raw = apply_edit(&stored.value, edit)?;
            corrected.push((stored, raw));
        }
        let count = corrected.len() as u64;
        for (stored, raw) in corrected {
            let failure = stored.value;
            let original = failure
                .original
                .clone()
                .or_else(|| Some(failure.raw.clone()));
            let edited = Failure {
                raw,
                original,
                status: FailureStatus::Open,
                due: None,
                ..failure
            };
            self.failures.put(Some(stored.revision), &edited).await?;
        }
        let detail = match edit {
            Edit::Patch(patch) => json!({ "patch": patch, "count": count }),
            Edit::Merge(merge) => json!({ "merge": merge, "count": count }),
        };
        self.audit("failures.edit", subject(selection), detail)
            .await?;
        Ok(count)
    }

    /// Gives failures up, for a reason; returns how many.
    pub async fn discard_failures(
        &self,
        selection: &Selection,
        reason: &str,
    ) -> Result<u64, OperationError> {
        if reason.trim().is_empty() {
            return Err(OperationError::NoReason);
        }
        let chosen = self.select(selection).await?;
        let mut count = 0;
        for stored in chosen {
            if waiting(&stored.value).is_err() {
                if matches!(selection, Selection::One(_)) {
                    waiting(&stored.value)?;
                }
                continue;
            }
            let resolution = Resolution {
                outcome: Outcome::Failed,
                at: self.clock.now(),
                reason: Some(reason.to_owned()),
            };
            let discarded = Failure {
                status: FailureStatus::Discarded,
                due: None,
                resolution: Some(resolution),
                ..stored.value
            };
            self.failures.put(Some(stored.revision), &discarded).await?;
            count += 1;
        }
        let detail = json!({ "reason": reason, "count": count });
        self.audit("failures.discard", subject(selection), detail)
            .await?;
        Ok(count)
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

fn apply_edit(failure: &Failure, edit: &Edit) -> Result<String, OperationError> {
    let bad = |error: &dyn std::fmt::Display| OperationError::Patch {
        id: failure.id,
        why: error.to_string(),
    };
    let mut record: Value = serde_json::from_str(&failure.raw).map_err(|error| bad(&error))?;
    match edit {
        Edit::Patch(patch) => json_patch::patch(&mut record, patch).map_err(|error| bad(&error))?,
        Edit::Merge(merge) => json_patch::merge(&mut record, merge),
    }
    Ok(record.to_string())
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
