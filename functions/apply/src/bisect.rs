//! Packs that have come back too often: something in them may break the worker.
//!
//! Before a part of the pack is tried, a note says which. Who finds such a note later knows
//! that the worker did not survive that part, and tries its halves, until a single change is
//! left that goes to the failure store. Parts that were written before are written again;
//! the guard makes that harmless.

use std::ops::Range;

use model::{Cause, ErrorClass, Pack};
use ports::{CheckpointError, CheckpointsExt, Revision, StoreError};
use serde::{Deserialize, Serialize};

use crate::{
    handler::{Apply, Work},
    open::Item,
    stop::Stop,
    verdict::Verdict,
};

/// Workers that have to die on one change before it is taken for the cause.
const PROOF: u32 = 3;

/// What is noted of a pack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The part being tried right now.
    trying: Option<Range<usize>>,
    /// Parts to be tried, last one first.
    todo: Vec<Range<usize>>,
    /// Deaths of workers that tried a single change, the last one tried.
    #[serde(default)]
    deaths: Option<(usize, u32)>,
    /// Changes that break the worker.
    bad: Vec<usize>,
    /// Whether `todo` has been filled.
    begun: bool,
}

impl Note {
    /// What to do next after the worker has died, or has been started for the first time.
    fn recover(&mut self, count: usize) {
        if !self.begun {
            self.begun = true;
            self.todo.push(0..count);
        }
        let Some(fatal) = self.trying.take() else {
            return;
        };
        if fatal.len() <= 1 {
            self.accuse(fatal);
            return;
        }
        let middle = fatal.start + fatal.len() / 2;
        self.todo.push(middle..fatal.end);
        self.todo.push(fatal.start..middle);
    }

    /// A worker died on a single change. It may have died of something else, so the change is
    /// tried again before it counts as the cause.
    fn accuse(&mut self, fatal: Range<usize>) {
        let before = match self.deaths {
            Some((change, deaths)) if fatal.contains(&change) => deaths,
            _ => 0,
        };
        if before + 1 < PROOF {
            self.deaths = Some((fatal.start, before + 1));
            self.todo.push(fatal);
        } else {
            self.deaths = None;
            self.bad.extend(fatal);
        }
    }
}

pub(crate) struct Bisect<'a> {
    apply: &'a Apply,
    work: &'a Work<'a>,
    item: &'a Item,
    key: String,
}

impl<'a> Bisect<'a> {
    pub(crate) fn new(apply: &'a Apply, work: &'a Work<'a>, item: &'a Item) -> Self {
        Self {
            apply,
            work,
            item,
            key: format!("bisect/{}", item.pack.head.id),
        }
    }

    /// Tries the pack part by part; one verdict per change.
    pub(crate) async fn run(self) -> Result<Vec<Verdict>, Stop> {
        let count = self.item.pack.changes.len();
        let stored = self.apply.checkpoints.load::<Note>(&self.key).await?;
        let (mut revision, mut note) = match stored {
            Some(stored) => (Some(stored.revision), stored.value),
            None => (None, Note::default()),
        };
        note.recover(count);
        let mut verdicts: Vec<Option<Verdict>> = vec![None; count];
        while let Some(part) = note.todo.pop() {
            note.trying = Some(part.clone());
            revision = Some(self.save(revision, &note).await?);
            let done = self.try_part(part.clone()).await;
            note.trying = None;
            match done {
                Ok(part_verdicts) => {
                    for (at, verdict) in part.zip(part_verdicts) {
                        verdicts[at] = Some(verdict);
                    }
                }
                Err(stop) => {
                    // The worker lives: the part is innocent and has to be tried again.
                    note.todo.push(part);
                    self.save(revision, &note).await?;
                    return Err(stop);
                }
            }
        }
        if let Some(revision) = revision {
            match self.apply.checkpoints.delete(&self.key, revision).await {
                Ok(()) | Err(CheckpointError::Conflict { .. }) => {}
                Err(CheckpointError::Store(error)) => return Err(error.into()),
            }
        }
        // Parts written by a worker that died later were not decided here: they come again
        // through the guard, which says what they are.
        let undecided: Vec<usize> = (0..count)
            .filter(|at| verdicts[*at].is_none() && !note.bad.contains(at))
            .collect();
        for at in undecided {
            verdicts[at] = self.try_part(at..at + 1).await?.pop();
        }
        Ok(verdicts
            .into_iter()
            .map(|verdict| verdict.unwrap_or_else(poison))
            .collect())
    }

    async fn save(&self, revision: Option<Revision>, note: &Note) -> Result<Revision, Stop> {
        match self
            .apply
            .checkpoints
            .store(&self.key, revision, note)
            .await
        {
            Ok(revision) => Ok(revision),
            Err(CheckpointError::Store(error)) => Err(error.into()),
            Err(conflict @ CheckpointError::Conflict { .. }) => {
                Err(StoreError::unavailable("trying a pack part by part")(conflict).into())
            }
        }
    }

    async fn try_part(&self, part: Range<usize>) -> Result<Vec<Verdict>, Stop> {
        let pack = &self.item.pack;
        let mut head = pack.head.clone();
        // A bulk load writes each pack once, by its name: a part must not pass for the whole.
        if part != (0..pack.changes.len()) {
            head.id = head.id.part(&part);
        }
        let changes = pack.changes.get(part).unwrap_or_default().to_vec();
        let part = Item::part(self.item, Pack { head, changes });
        self.apply.write(self.work, &[part]).await
    }
}

fn poison() -> Verdict {
    let message = "the worker did not survive this record each time it was tried: look at its data, and report it as a mistake in syncline";
    Verdict::Failed(Box::new(Cause::new(ErrorClass::Invalid, "poison", message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers that die whenever a fatal change is in the part they try.
    fn find(count: usize, fatal: &[usize]) -> (Vec<usize>, usize) {
        let mut note = Note::default();
        let mut deaths = 0;
        loop {
            note.recover(count);
            let mut died = false;
            while let Some(part) = note.todo.pop() {
                note.trying = Some(part.clone());
                if fatal.iter().any(|at| part.contains(at)) {
                    died = true;
                    break;
                }
                note.trying = None;
            }
            if !died {
                note.bad.sort_unstable();
                return (note.bad, deaths);
            }
            deaths += 1;
        }
    }

    #[test]
    fn exactly_the_fatal_changes_are_found_in_a_few_deaths() {
        assert_eq!(find(1, &[]), (vec![], 0));
        assert_eq!(find(1, &[0]).0, [0]);
        let (bad, deaths) = find(800, &[333]);
        assert_eq!(bad, [333]);
        assert!(deaths <= 13, "{deaths} deaths");
        assert_eq!(find(64, &[0, 31, 32, 63]).0, [0, 31, 32, 63]);
        assert_eq!(find(3, &[0, 1, 2]).0, [0, 1, 2]);
    }

    #[test]
    fn a_worker_that_dies_of_something_else_accuses_nobody() {
        let mut note = Note::default();
        note.recover(1);
        for _ in 1..PROOF {
            note.trying = note.todo.pop();
            note.recover(1);
            assert_eq!((note.todo.len(), note.bad.len()), (1, 0));
        }
        note.trying = note.todo.pop();
        note.recover(1);
        assert_eq!(note.bad, [0]);
    }
}
