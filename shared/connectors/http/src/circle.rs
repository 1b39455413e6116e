//! Links that lead in a circle.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

/// Brent's algorithm for finding a cycle: remembers one link, and a later one at every power
/// of two. A chain of links that comes back to itself is noticed after at most three times
/// round, however many links it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Circle {
    remembered: u64,
    steps: u64,
    power: u64,
}

impl Circle {
    /// Goes one link on; `None` when the link has been here before.
    #[must_use]
    pub fn step(&self, link: &str) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        link.hash(&mut hasher);
        let hash = hasher.finish();
        if self.power > 0 && hash == self.remembered {
            return None;
        }
        if self.steps >= self.power {
            return Some(Self {
                remembered: hash,
                steps: 1,
                power: (self.power * 2).max(1),
            });
        }
        Some(Self {
            steps: self.steps + 1,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps until a circle is noticed.
    fn walk(links: impl Iterator<Item = usize>) -> Option<usize> {
        let mut circle = Circle::default();
        for (steps, link) in links.enumerate() {
            circle = match circle.step(&link.to_string()) {
                Some(next) => next,
                None => return Some(steps),
            };
        }
        None
    }

    #[test]
    fn every_circle_is_found_soon_and_no_chain_is_taken_for_one() {
        for (tail, round) in [(0, 1), (0, 2), (1, 1), (5, 3), (100, 7), (3, 200)] {
            let links = (0..).map(|i| {
                if i < tail {
                    i
                } else {
                    tail + (i - tail) % round
                }
            });
            let found = walk(links.take(10_000)).unwrap();
            assert!(found <= 3 * (tail + round) + 2, "{tail} {round}: {found}");
        }
        assert_eq!(walk(0..100_000), None);
    }
}
