//! Packs that have come back too often: something in them may break the worker.
//!
//! Before a part of the pack is tried, a note says which. Who finds such a note later knows
//! that the worker did not survive that part, and tries its halves, until a single change is
//! left that goes to the failure store. What could not be done in time is tried in halves as well,
//! and accused of nothing. The note has what became of the parts that are done.

use std::ops::Range;

use model::{Cause, ErrorClass, Outcome, Pack};
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

/// Causes that a note keeps. A change whose cause is not kept is tried once more.
const CAUSES: usize = 100;

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
    /// What became of changes, those that lie side by side and ended alike together.
    #[serde(default)]
    done: Vec<(Range<usize>, Outcome)>,
    /// Some of those that failed, and why.
    #[serde(default)]
    failed: Vec<(usize, Box<Cause>)>,
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

    /// What is to be done with a part for which there was too little time: all of it is tried after
    /// what is left, and in halves, unless it has to stay `whole`.
    fn halve(&mut self, slow: Range<usize>, whole: bool) {
        let middle = slow.start + slow.len() / 2;
        let parts = if whole || slow.len() <= 1 {
            vec![slow]
        } else {
            vec![middle..slow.end, slow.start..middle]
        };
        self.todo.splice(0..0, parts);
    }

    /// The part to try next. When all are done, changes of which nobody knows the end, here or in
    /// the note: they come again through the guard, which says what they are.
    fn next(&mut self, here: &[Option<Verdict>]) -> Option<Range<usize>> {
        if self.todo.is_empty() {
            let unknown = |at: &usize| {
                here[*at].is_none() && !self.bad.contains(at) && self.verdict(*at).is_none()
            };
            let unknown: Vec<usize> = (0..here.len()).rev().filter(unknown).collect();
            self.todo.extend(unknown.into_iter().map(|at| at..at + 1));
        }
        self.todo.pop()
    }

    /// Keeps how a change has ended.
    fn keep(&mut self, at: usize, verdict: &Verdict) {
        match (verdict, self.done.last_mut()) {
            (Verdict::Ended(outcome), Some((changes, before)))
                if changes.end == at && before == outcome =>
            {
                changes.end = at + 1;
            }
            (Verdict::Ended(outcome), _) => self.done.push((at..at + 1, *outcome)),
            (Verdict::Failed(cause), _) if self.failed.len() < CAUSES => {
                self.failed.push((at, cause.clone()));
            }
            (Verdict::Failed(_), _) => {}
        }
    }

    fn verdict(&self, at: usize) -> Option<Verdict> {
        let mut done = self.done.iter();
        let done = done.find(|(changes, _)| changes.contains(&at));
        let mut failed = self.failed.iter();
        let failed = failed.find(|(failed, _)| *failed == at);
        done.map(|(_, outcome)| Verdict::Ended(*outcome))
            .or_else(|| failed.map(|(_, cause)| Verdict::Failed(cause.clone())))
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
        let mut tried = 0;
        while let Some(part) = note.next(&verdicts) {
            if tried > 0 && self.is_late() {
                note.todo.push(part);
                self.save(revision, &note).await?;
                return Err(Stop::Late);
            }
            tried += 1;
            note.trying = Some(part.clone());
            revision = Some(self.save(revision, &note).await?);
            let done = self.try_part(part.clone()).await;
            note.trying = None;
            match done {
                Ok(part_verdicts) => {
                    for (at, verdict) in part.zip(part_verdicts) {
                        note.keep(at, &verdict);
                        verdicts[at] = Some(verdict);
                    }
                }
                // The worker lives: the part is innocent and has to be tried again.
                Err(stop) => {
                    match stop {
                        Stop::Slow => note.halve(part, self.work.bulk),
                        _ => note.todo.push(part),
                    }
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
        let verdicts = verdicts.into_iter().enumerate();
        let verdict = |(at, here): (usize, Option<Verdict>)| here.or_else(|| note.verdict(at));
        Ok(verdicts
            .map(|verdict_of| verdict(verdict_of).unwrap_or_else(poison))
            .collect())
    }

    fn is_late(&self) -> bool {
        let clock = self.apply.clock.as_ref();
        self.work.invocation.is_late(clock)
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
    fn what_is_slow_is_halved_and_what_is_done_stays_done() {
        let mut note = Note::default();
        note.recover(8);
        let nothing = vec![None; 8];
        let (mut tried, mut slow) = (Vec::new(), 0);
        // A part of three takes too long, and so does the first change alone, at first.
        while let Some(part) = note.next(&nothing) {
            if part.len() > 2 || (part.contains(&0) && slow < 9) {
                slow += 1;
                note.halve(part, false);
                note.recover(8);
                continue;
            }
            for at in part.clone() {
                let verdict = if at == 3 {
                    Verdict::Failed(Box::new(Cause::new(
                        ErrorClass::Invalid,
                        "bad",
                        "it is bad",
                    )))
                } else {
                    Verdict::Ended(Outcome::Applied)
                };
                note.keep(at, &verdict);
            }
            tried.extend(part);
        }
        assert_eq!(tried.len(), 8, "each once: {tried:?}");
        assert_eq!(tried.last(), Some(&0), "it keeps no other waiting");
        assert!(note.bad.is_empty() && note.deaths.is_none());
        assert!(matches!(note.verdict(3), Some(Verdict::Failed(_))));
        assert_eq!((0..8).filter(|at| note.verdict(*at).is_some()).count(), 8);
        note.halve(0..8, true);
        assert_eq!(note.next(&nothing), Some(0..8));
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
