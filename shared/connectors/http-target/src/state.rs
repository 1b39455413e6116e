//! What a link says must be done about a row.

use std::sync::Arc;

use jiff::Timestamp;
use mapping::RequestKind;
use model::Version;
use ports::{
    Claim, Link, Revision, RowOp, RowOutcome, Seen, Stored,
    guard::{Action, Current, decide},
};

/// What to do about a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Leave(RowOutcome),
    /// To write down something new in its link, without a call.
    Note(Link, RowOutcome),
    /// To call the endpoint.
    Call(Errand),
    /// To wait: somebody else may be writing it until then.
    Busy(Timestamp),
}

/// A call to be made for a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Errand {
    pub(crate) kind: RequestKind,
    version: Option<Version>,
    hash: Option<String>,
    attempt: u64,
    /// When the claim ends, and the batch that tells whether it came true.
    until: Timestamp,
    batch: Option<Arc<str>>,
    /// What became of the row if the call succeeds.
    pub(crate) outcome: RowOutcome,
    /// Whether the endpoint has it already, in an older version.
    pub(crate) needless: bool,
    link: Link,
    pub(crate) revision: Option<Revision>,
}

impl Errand {
    /// An upsert of a row whose link nobody has read: most rows are new, or newer than
    /// what is there.
    pub(crate) fn unread(version: Version, hash: &str) -> Self {
        Self {
            kind: RequestKind::Upsert,
            version: Some(version),
            hash: Some(hash.to_owned()),
            // Those of links that have been read are counted, and small.
            attempt: fastrand::u64(1 << 32..1 << 53),
            until: Timestamp::UNIX_EPOCH,
            batch: None,
            outcome: RowOutcome::Applied,
            needless: false,
            link: Link::default(),
            revision: None,
        }
    }

    /// Takes note of what the link said before it was claimed.
    pub(crate) fn learn(&mut self, before: Option<Link>) {
        self.link = before.unwrap_or_default();
        let Link { claim, hash, .. } = &self.link;
        self.needless = claim.is_none() && exists(&self.link) && *hash == self.hash;
    }

    /// Says how the claim is made.
    pub(crate) fn is_claimed(&mut self, until: Timestamp, batch: &Arc<str>) {
        self.until = until;
        self.batch = Some(Arc::clone(batch));
    }

    pub(crate) fn claim(&self) -> Claim {
        Claim {
            version: self.version,
            hash: self.hash.clone(),
            until: self.until,
            attempt: self.attempt,
            batch: self.batch.clone(),
        }
    }

    /// The link while the endpoint is being called.
    pub(crate) fn claimed(&self) -> Link {
        self.link.clone().claimed(self.claim())
    }

    /// The link while the request may still be under way: no batch says what became of it.
    pub(crate) fn silent(&self) -> Link {
        let claim = Claim {
            batch: None,
            ..self.claim()
        };
        self.link.clone().claimed(claim)
    }

    /// The link once the endpoint has done it.
    pub(crate) fn done(&self) -> Link {
        self.claimed().came_true(&self.claim())
    }

    /// The link when nothing was done. What was not known before is still not known.
    pub(crate) fn undone(&self) -> Link {
        let mut link = self.link.clone();
        link.writes += 2;
        link.tried = link.tried.max(self.version);
        if let Some(claim) = &mut link.claim {
            claim.attempt = link.writes;
        }
        link
    }

    /// The link when the endpoint has ended its work, and how is not known.
    pub(crate) fn doubtful(&self, now: Timestamp) -> Link {
        let writes = self.link.writes + 2;
        let claim = Claim {
            until: now,
            attempt: writes,
            batch: None,
            ..self.claim()
        };
        Link {
            claim: Some(claim),
            writes,
            ..self.link.clone()
        }
    }

    /// What tells this attempt from all others of its map: version, content and number.
    pub(crate) fn attempt_name(&self) -> String {
        let hash = self.hash.as_deref().unwrap_or("-");
        let version = self.version.map_or(String::new(), |v| v.0.to_string());
        format!("{version}/{hash}/{}", self.attempt)
    }
}

/// The name of the state a link is in; see [`Seen`].
pub(crate) fn seen(link: Option<&Link>) -> Seen {
    Seen(link.map_or(0, |link| link.writes).to_string().into())
}

/// Whether the target has the row for sure.
pub(crate) fn exists(link: &Link) -> bool {
    link.applied.is_some() && !link.deleted
}

/// Decides about a row whose content has the digest `hash`. `found` is the load that has
/// brought it.
pub(crate) fn step(
    stored: Option<&Stored<Link>>,
    op: &RowOp,
    hash: &str,
    found: Option<u32>,
    now: Timestamp,
) -> Step {
    let before = stored.map(|stored| &stored.value);
    let mut link = before.cloned().unwrap_or_default();
    link.found = link.found.max(found);
    let as_seen = match op {
        RowOp::SettleUpsert { seen: then, .. } | RowOp::SettleDelete { seen: then } => {
            *then == seen(before)
        }
        RowOp::Upsert { .. } | RowOp::Delete { .. } => false,
    };
    let case = Case {
        op,
        hash,
        as_seen,
        revision: stored.map(|stored| stored.revision),
        link,
    };
    let step = case.step(now);
    match step {
        Step::Leave(outcome) if before.is_some_and(|before| before.found < case.link.found) => {
            Step::Note(case.link, outcome)
        }
        step => step,
    }
}

struct Case<'c> {
    op: &'c RowOp,
    hash: &'c str,
    as_seen: bool,
    revision: Option<Revision>,
    link: Link,
}

impl Case<'_> {
    fn step(&self, now: Timestamp) -> Step {
        let Some(claim) = &self.link.claim else {
            return self.settled();
        };
        let version = version(self.op);
        if version.is_some() && version < self.link.applied {
            return Step::Leave(RowOutcome::Superseded);
        }
        if now < claim.until {
            return Step::Busy(claim.until);
        }
        self.unsettled(claim)
    }

    /// What the target has is known.
    fn settled(&self) -> Step {
        let Link { hash, deleted, .. } = &self.link;
        let same = !deleted && hash.as_deref() == Some(self.hash);
        let known = self.link.applied.is_some() || *deleted;
        let current = known.then_some(Current {
            version: self.link.applied,
            deleted: *deleted,
            equal: same,
            as_seen: self.as_seen,
        });
        let (action, outcome) = decide(current, self.op);
        match action {
            Action::Leave => Step::Leave(outcome),
            // It is so already, in an older version.
            Action::Write(version) if same => Step::Note(self.noted(Some(version)), outcome),
            Action::Write(version) => self.upsert(version, outcome),
            Action::Bury(version) if exists(&self.link) => self.delete(version, outcome),
            // What was never written needs no call.
            Action::Bury(version) => {
                let tombstone = Link {
                    hash: None,
                    deleted: true,
                    ..self.noted(version)
                };
                Step::Note(tombstone, outcome)
            }
        }
    }

    /// The target has what a claim says that has ended, or what it had before. The same again
    /// settles that, and so does whatever is newer; anything else of the same version has
    /// to be settled by the source.
    fn unsettled(&self, claim: &Claim) -> Step {
        let same_version = match (version(self.op), claim.version) {
            (Some(version), Some(claimed)) => version == claimed,
            _ => true,
        };
        let same = match (self.op, &claim.hash) {
            (RowOp::Upsert { .. } | RowOp::SettleUpsert { .. }, Some(hash)) => hash == self.hash,
            (RowOp::Delete { .. } | RowOp::SettleDelete { .. }, None) => true,
            _ => false,
        };
        if same && same_version {
            let kind = match claim.hash {
                Some(_) => RequestKind::Upsert,
                None => RequestKind::Delete,
            };
            let again = self.errand(kind, claim.version, RowOutcome::Applied);
            return Step::Call(Errand {
                attempt: claim.attempt,
                ..again
            });
        }
        let current = Current {
            version: claim.version,
            // A delete that may not have happened has to be made again. One without a version
            // is overcome by the source only.
            deleted: claim.version.is_none(),
            equal: false,
            as_seen: self.as_seen,
        };
        let (action, outcome) = decide(Some(current), self.op);
        match action {
            Action::Leave => Step::Leave(outcome),
            Action::Write(version) => self.upsert(version, outcome),
            Action::Bury(version) => self.delete(version, outcome),
        }
    }

    fn upsert(&self, version: Version, outcome: RowOutcome) -> Step {
        Step::Call(self.errand(RequestKind::Upsert, Some(version), outcome))
    }

    fn delete(&self, version: Option<Version>, outcome: RowOutcome) -> Step {
        Step::Call(self.errand(RequestKind::Delete, version, outcome))
    }

    fn errand(&self, kind: RequestKind, version: Option<Version>, outcome: RowOutcome) -> Errand {
        Errand {
            kind,
            version,
            hash: (kind == RequestKind::Upsert).then(|| self.hash.to_owned()),
            attempt: self.link.writes + 1,
            until: Timestamp::UNIX_EPOCH,
            batch: None,
            outcome,
            needless: false,
            link: self.link.clone(),
            revision: self.revision,
        }
    }

    fn noted(&self, version: Option<Version>) -> Link {
        Link {
            applied: version,
            writes: self.link.writes + 1,
            ..self.link.clone()
        }
    }
}

fn version(op: &RowOp) -> Option<Version> {
    match op {
        RowOp::Upsert { version }
        | RowOp::Delete { version }
        | RowOp::SettleUpsert { version, .. } => Some(*version),
        RowOp::SettleDelete { .. } => None,
    }
}
