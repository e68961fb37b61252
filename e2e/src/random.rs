//! A small seeded random generator (SplitMix64), so that every run can be repeated from its printed seed.

/// Seeded random numbers; not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator whose numbers are a function of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for the part `index` of a work that `seed` describes, independent of the other parts.
    #[must_use]
    pub fn part(seed: u64, index: u64) -> Self {
        Self::new(Self::new(seed ^ index.wrapping_mul(0xd1b5_4a32_d192_ed03)).next())
    }

    /// The next 64 random bits.
    #[expect(clippy::should_implement_trait, reason = "an endless source, not an iterator with an end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // the high half of the product: without a division, and even enough for test data
        u64::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).expect("the high half of 128 bits fits 64")
    }

    /// True `share` times in a thousand, on average.
    pub fn per_mille(&mut self, share: u64) -> bool {
        self.below(1_000) < share
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("an index")]
    }

    /// An index, each as likely as its weight.
    pub fn weighted(&mut self, weights: impl Iterator<Item = u64> + Clone) -> usize {
        let mut left = self.below(weights.clone().sum());
        for (index, weight) in weights.enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        0
    }

    /// True once in `n`, on average.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_gives_the_same_numbers_and_parts_differ() {
        let run = |mut r: Random| (0..8).map(|_| r.below(1_000)).collect::<Vec<_>>();
        assert_eq!(run(Random::new(7)), run(Random::new(7)));
        assert_ne!(run(Random::part(7, 0)), run(Random::part(7, 1)));
        let mut random = Random::new(1);
        assert!((0..10_000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
        let mut seen = [0; 3];
        (0..1_000).for_each(|_| seen[random.weighted([1, 0, 3].into_iter())] += 1);
        assert!(seen[0] > 100 && seen[1] == 0 && seen[2] > 600, "{seen:?}");
    }
}
