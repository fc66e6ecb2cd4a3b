//! Chance: splitmix64, so that a seed is the same world everywhere.

use std::time::Duration;

use hikyaku::time::Time;

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

    /// Evenly in `0..bound`.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// Evenly in `least..=most`.
    pub(super) const fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True so many times of a thousand.
    pub(super) const fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1_000) < chance
    }

    /// A place in a list of this length.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.index(list.len())]
    }

    /// Milliseconds, evenly between the two.
    pub(super) const fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(self.between(least * 1_000, most * 1_000))
    }
}

/// How far the gateway's clock is from the world's, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skew(i64);

impl Skew {
    /// That of a clock which says `local`.
    pub(super) fn of(world: Time, local: Time) -> Self {
        Self(local.as_micros().cast_signed() - world.as_micros().cast_signed())
    }

    /// What the gateway's clock says.
    pub(super) fn local(self, world: Time) -> Time {
        Time::from_micros(world.as_micros().saturating_add_signed(self.0))
    }

    /// What the time is when the gateway's clock says this.
    pub(super) fn world(self, local: Time) -> Time {
        Time::from_micros(local.as_micros().saturating_add_signed(-self.0))
    }
}
