//! Chance: splitmix64, so that a seed draws the same plan everywhere.

use std::time::Duration;

/// Draws from one seed.
#[derive(Clone, Debug)]
pub(super) struct Draws(u64);

impl Draws {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws of their own, so that what is drawn there changes nothing here.
    pub(super) const fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// Evenly in `least..=most`.
    pub(super) const fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// True so many times of a hundred.
    pub(super) const fn per_cent(&mut self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }

    /// One of a list.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.next() % list.len() as u64).unwrap()]
    }

    /// Milliseconds, evenly between the two.
    pub(super) const fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }
}
