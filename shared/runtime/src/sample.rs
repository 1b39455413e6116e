//! A few of many values.

/// As many values as a metric takes at once, one of them kept for the largest.
const MOST: usize = 99;

/// Keeps of any number of values the largest and an even sample: every value while there are
/// few, then every second, every fourth, and so on. So the values of a large batch stand for it
/// by their share, and the worst of it is always among them.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    kept: Vec<u64>,
    /// One of so many values is kept, as a power of two.
    thinned: u32,
    count: u64,
    largest: u64,
}

impl Sample {
    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        self.largest = self.largest.max(value);
        if self.count.is_multiple_of(1 << self.thinned) {
            if self.kept.len() == MOST {
                self.thin();
            }
            // After thinning out, this one may no longer be among those to keep.
            if self.count.is_multiple_of(1 << self.thinned) {
                self.kept.push(value);
            }
        }
        self.count += 1;
    }

    fn thin(&mut self) {
        let mut at = 0..;
        self.kept
            .retain(|_| at.next().is_some_and(|at: usize| at.is_multiple_of(2)));
        self.thinned += 1;
    }

    /// Adds the values of another sample, each standing for as many as before.
    pub fn merge(&mut self, mut other: Self) {
        while self.thinned < other.thinned {
            self.thin();
        }
        while other.thinned < self.thinned {
            other.thin();
        }
        self.kept.append(&mut other.kept);
        while self.kept.len() > MOST {
            self.thin();
        }
        self.count += other.count;
        self.largest = self.largest.max(other.largest);
    }

    /// The sample, the largest value included: at most a hundred values, none if none was added.
    #[must_use]
    pub fn values(&self) -> Vec<u64> {
        let mut values = self.kept.clone();
        if self.count > 0 && !values.contains(&self.largest) {
            values.push(self.largest);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut sample = Sample::default();
        for value in values {
            sample.add(value);
        }
        sample.values()
    }

    #[test]
    fn few_values_are_kept_as_they_are() {
        assert!(of([]).is_empty());
        assert_eq!(of([7, 3, 7]), [7, 3, 7]);
        assert_eq!(of(0..99), (0..99).collect::<Vec<_>>());
    }

    #[test]
    fn many_values_are_thinned_out_evenly_and_the_largest_stays() {
        for count in [100, 101, 198, 199, 1_000, 12_345, 1_000_000] {
            let kept = of(0..count);
            assert!((50..=100).contains(&kept.len()), "{count}: {}", kept.len());
            assert_eq!(kept.last(), Some(&(count - 1)), "{count}");
            let gap = kept[1] - kept[0];
            let even = kept[..kept.len() - 1].windows(2);
            assert!(
                even.into_iter().all(|two| two[1] - two[0] == gap),
                "{count}: {kept:?}"
            );
            // The middle of the sample is the middle of what it stands for.
            let middle = kept[kept.len() / 2].abs_diff(count / 2);
            assert!(middle <= 2 * gap, "{count}: {middle}");
        }
        let mut worst = vec![1; 5_000];
        worst[4_321] = 900;
        assert_eq!(of(worst).iter().max(), Some(&900));
    }

    #[test]
    fn of_two_samples_each_has_its_share() {
        for (ones, twos) in [(0, 5), (5, 0), (40, 40), (4_000, 1_000), (100, 10_000)] {
            let mut sample = Sample::default();
            (0..ones).for_each(|_| sample.add(1));
            let mut other = Sample::default();
            (0..twos).for_each(|_| other.add(2));
            other.add(9);
            sample.merge(other);
            let values = sample.values();
            assert!(values.len() <= 100, "{ones} {twos}: {}", values.len());
            assert_eq!(values.iter().max(), Some(&9), "{ones} {twos}");
            let share = |count: usize, all: usize| count * 100 / all.max(1);
            let seen = values.iter().filter(|value| **value == 1).count();
            let real = share(ones, ones + twos);
            let kept = share(seen, values.iter().filter(|value| **value < 9).count());
            assert!(
                kept.abs_diff(real) <= 10,
                "{ones} {twos}: {kept} for {real}"
            );
            sample.add(3);
            assert!(sample.values().len() <= 100);
        }
    }
}
