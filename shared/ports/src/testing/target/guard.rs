//! The guard against a model of it.

use std::collections::BTreeMap;

use super::{Key, TargetFixture, content, key, look, prepare, upsert, write};
use crate::{RowOutcome, Seen};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Row(i64, String),
    /// Without a version where nobody knows that of the deletion.
    Tombstone(Option<i64>),
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Upsert(i64, String),
    Delete(i64),
    SettleUpsert(i64, String, Seen, bool),
    SettleDelete(Seen, bool),
}

/// The guard, written down once more and as simply as possible.
fn model_guard(state: Option<&State>, op: &Op) -> (Option<State>, RowOutcome) {
    use RowOutcome::{Applied, Superseded, Tie, Unchanged};
    let row = |version: &i64, content: &String| Some(State::Row(*version, content.clone()));
    let undated = Some(State::Tombstone(None));
    match (op, state) {
        (Op::Upsert(v, c) | Op::SettleUpsert(v, c, ..), None)
        | (Op::SettleUpsert(v, c, _, true), Some(State::Tombstone(None))) => (row(v, c), Applied),
        (Op::Upsert(v, c) | Op::SettleUpsert(v, c, ..), Some(State::Row(v0, c0))) => {
            let settles = matches!(op, Op::SettleUpsert(_, _, _, true));
            match v.cmp(v0) {
                std::cmp::Ordering::Greater => (row(v, c), Applied),
                std::cmp::Ordering::Equal if c == c0 => (row(v0, c0), Unchanged),
                std::cmp::Ordering::Equal if settles => (row(v, c), Applied),
                std::cmp::Ordering::Equal => (row(v0, c0), Tie),
                std::cmp::Ordering::Less => (row(v0, c0), Superseded),
            }
        }
        (Op::Upsert(..) | Op::SettleUpsert(_, _, _, false), Some(State::Tombstone(None))) => {
            (undated, Tie)
        }
        (Op::Upsert(v, c) | Op::SettleUpsert(v, c, ..), Some(State::Tombstone(Some(t)))) => {
            let settles = matches!(op, Op::SettleUpsert(_, _, _, true));
            match v.cmp(t) {
                std::cmp::Ordering::Greater => (row(v, c), Applied),
                std::cmp::Ordering::Equal if settles => (row(v, c), Applied),
                std::cmp::Ordering::Equal => (Some(State::Tombstone(Some(*t))), Tie),
                std::cmp::Ordering::Less => (Some(State::Tombstone(Some(*t))), Superseded),
            }
        }
        (Op::Delete(v), None) => (Some(State::Tombstone(Some(*v))), Unchanged),
        (Op::Delete(v), Some(State::Row(v0, c0))) => match v.cmp(v0) {
            std::cmp::Ordering::Greater => (Some(State::Tombstone(Some(*v))), Applied),
            std::cmp::Ordering::Equal => (row(v0, c0), Tie),
            std::cmp::Ordering::Less => (row(v0, c0), Superseded),
        },
        (Op::Delete(v), Some(State::Tombstone(Some(t)))) => {
            let outcome = if v < t { Superseded } else { Unchanged };
            (Some(State::Tombstone(Some(*v.max(t)))), outcome)
        }
        (Op::SettleDelete(_, true), Some(State::Row(..))) => (undated, Applied),
        (Op::SettleDelete(_, false), Some(State::Row(v0, c0))) => (row(v0, c0), Tie),
        (Op::Delete(_), Some(State::Tombstone(None))) | (Op::SettleDelete(..), _) => {
            (undated, Unchanged)
        }
    }
}

/// Random writes: every outcome and every final row is as the model of the guard says.
pub async fn guard_follows_the_model(fixture: &dyn TargetFixture) {
    prepare(fixture).await;
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let company = format!("C{seed}");
        let mut states: BTreeMap<Key, State> = BTreeMap::new();
        let keys: Vec<Key> = (0..4).map(|no| key(&company, no)).collect();
        for step in 0..25 {
            let chosen: Vec<Key> = keys.iter().filter(|_| random.bool()).cloned().collect();
            let seen = look(fixture, &chosen).await;
            let mut writes = Vec::new();
            for (key, row) in chosen.into_iter().zip(seen) {
                if random.u8(..5) == 0 {
                    // Somebody else writes between the look and the write.
                    let (_, newer) = upsert("", 0, random.i64(1..8), "between");
                    let outcome = write(fixture, &[(key.clone(), newer.clone())])
                        .await
                        .remove(0);
                    let (next, expected) = model_guard(states.get(&key), &newer);
                    assert_eq!(
                        outcome, expected,
                        "seed {seed}, step {step}, between, {key:?}"
                    );
                    let touched = outcome == RowOutcome::Applied;
                    if let Some(next) = next {
                        states.insert(key.clone(), next);
                    }
                    writes.push((key, settle(&mut random, row.seen, !touched)));
                } else {
                    writes.push((key, any_op(&mut random, row.seen)));
                }
            }
            let outcomes = write(fixture, &writes).await;
            assert_eq!(outcomes.len(), writes.len());
            for ((key, op), outcome) in writes.iter().zip(outcomes) {
                let (next, expected) = model_guard(states.get(key), op);
                assert_eq!(
                    outcome,
                    expected,
                    "seed {seed}, step {step}, {key:?}, {op:?}, {:?}",
                    states.get(key)
                );
                if let Some(next) = next {
                    states.insert(key.clone(), next);
                }
            }
        }
        for key in &keys {
            let expected = match states.get(key) {
                Some(State::Row(_, content)) => Some(content.clone()),
                _ => None,
            };
            assert_eq!(
                content(fixture, key).await,
                expected,
                "seed {seed}, {key:?}"
            );
        }
    }
}

fn any_op(random: &mut fastrand::Rng, seen: Seen) -> Op {
    match random.u8(..4) {
        0 | 1 => Op::Upsert(random.i64(1..8), any_content(random)),
        2 => Op::Delete(random.i64(1..8)),
        _ => settle(random, seen, true),
    }
}

fn settle(random: &mut fastrand::Rng, seen: Seen, holds: bool) -> Op {
    if random.bool() {
        Op::SettleUpsert(random.i64(1..8), any_content(random), seen, holds)
    } else {
        Op::SettleDelete(seen, holds)
    }
}

fn any_content(random: &mut fastrand::Rng) -> String {
    random
        .choice(["a", "b", "it's \"quoted\"\t\\N\n\u{1F980}"])
        .unwrap_or_default()
        .to_owned()
}
