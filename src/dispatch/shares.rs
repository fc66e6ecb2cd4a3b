//! Which class has the next turn on a carrier: fair shares by weight.

use crate::message::Class;

/// The turns that each class has had, in virtual time (start-time fair queueing).
///
/// A class that was away joins at the present virtual time: it has nothing to catch up on, and its
/// first turn comes at once. That is why an otp behind any number of marketing messages leaves
/// with the next token or the one after it.
#[derive(Debug)]
pub(super) struct Shares {
    steps: [u64; 3],
    /// When the next turn of each class begins.
    starts: [u64; 3],
    now: u64,
}

/// What a turn of a class of weight 1 costs.
const WHOLE: u64 = 1 << 20;

/// The weights of the classes and the part of every carrier's rate that otp can count on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weights {
    /// In the order of [`Class::ALL`], each at least 1.
    pub(super) by_class: [u32; 3],
    /// In percent, below 100.
    pub(super) otp_reserve: u8,
}

impl Shares {
    pub(super) fn new(weights: Weights) -> Self {
        Self { steps: steps(weights), starts: [0; 3], now: 0 }
    }

    pub(super) fn set_weights(&mut self, weights: Weights) {
        self.steps = steps(weights);
    }

    /// The classes, the one whose turn it is first.
    pub(super) fn order(&self) -> [Class; 3] {
        let mut order = Class::ALL;
        order.sort_by_key(|class| self.start(*class));
        order
    }

    /// Notes a turn of `class`.
    pub(super) fn charge(&mut self, class: Class) {
        self.now = self.start(class);
        let step = self.steps.get(class as usize).copied().unwrap_or(WHOLE);
        if let Some(start) = self.starts.get_mut(class as usize) {
            *start = self.now + step;
        }
    }

    fn start(&self, class: Class) -> u64 {
        self.starts.get(class as usize).copied().unwrap_or_default().max(self.now)
    }
}

/// The reserve is a weight: otp's turns come so often that it has at least that part of them while
/// all classes have work.
fn steps(weights: Weights) -> [u64; 3] {
    let [otp, transactional, marketing] = weights.by_class.map(|weight| u64::from(weight.max(1)));
    let reserve = u64::from(weights.otp_reserve.min(99));
    let reserved = (transactional + marketing) * WHOLE * reserve / (100 - reserve);
    let otp = (otp * WHOLE).max(reserved);
    [WHOLE * WHOLE / otp.max(1), WHOLE / transactional, WHOLE / marketing].map(|step| step.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(shares: &mut Shares, count: usize, has_work: impl Fn(Class) -> bool) -> [usize; 3] {
        let mut turns = [0; 3];
        for _ in 0..count {
            let mut order = shares.order().into_iter();
            let Some(class) = order.find(|class| has_work(*class)) else { break };
            shares.charge(class);
            turns[class as usize] += 1;
        }
        turns
    }

    const WEIGHTS: Weights = Weights { by_class: [1, 3, 1], otp_reserve: 50 };

    #[test]
    fn shares_follow_the_weights_and_otp_has_its_reserve() {
        let mut shares = Shares::new(WEIGHTS);
        assert_eq!(turns(&mut shares, 800, |_| true), [400, 300, 100]);
        assert_eq!(turns(&mut shares, 400, |class| class != Class::Otp), [0, 300, 100]);
        assert_eq!(turns(&mut shares, 100, |class| class == Class::Marketing), [0, 0, 100]);
    }

    #[test]
    fn a_class_that_was_away_has_the_next_turn_and_catches_nothing_up() {
        let mut shares = Shares::new(WEIGHTS);
        turns(&mut shares, 1_000_000, |class| class == Class::Marketing);
        assert_eq!(shares.order().first(), Some(&Class::Otp));
        let [otp, ..] = turns(&mut shares, 80, |_| true);
        assert!(otp <= 41, "{otp} of 80 turns");
    }
}
