//! Which concatenation reference a long message to a number gets.
//!
//! A handset joins parts by sender, reference and total. So the references to one number follow one
//! another, and a number that was not sent to for a while starts where the clock stands: 256 of
//! them are used again only after the reassembly time, also when this table was lost.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

use super::live::Tail;

/// The last reference to each number that was lately sent a long message.
#[derive(Debug)]
pub(super) struct References {
    hold: Duration,
    limit: usize,
    last: HashMap<Tail, Used>,
    /// Uses, oldest first; one that is not the number's last any more is passed over.
    uses: VecDeque<(Time, Tail)>,
}

/// The reference behind this one, of which the lower `bits` count.
pub(super) const fn after(reference: u16, bits: u32) -> u16 {
    cut(reference.wrapping_add(1), bits)
}

const fn cut(reference: u16, bits: u32) -> u16 {
    if bits < 16 { reference & ((1 << bits) - 1) } else { reference }
}

#[derive(Clone, Copy, Debug)]
struct Used {
    reference: u16,
    at: Time,
}

impl References {
    /// References come back after `hold` at the earliest; at most `limit` numbers are known.
    pub(super) fn new(hold: Duration, limit: usize) -> Self {
        Self { hold, limit, last: HashMap::new(), uses: VecDeque::new() }
    }

    pub(super) const fn configure(&mut self, hold: Duration, limit: usize) {
        self.hold = hold;
        self.limit = limit;
    }

    /// The next reference for a message to `to`, of which the lower `bits` count.
    pub(super) fn next(&self, now: Time, to: Tail, bits: u32) -> u16 {
        let last = self.last.get(&to).filter(|used| used.at + self.hold > now);
        let next = last.map_or_else(|| self.by_clock(now), |used| used.reference.wrapping_add(1));
        cut(next, bits)
    }

    /// Notes that a message with `reference` began, or went on: then a later message to the number
    /// may have begun meanwhile, whose reference stays the last one.
    pub(super) fn note(&mut self, at: Time, to: Tail, reference: u16, begins: bool) {
        self.forget(at);
        let before = self.last.get(&to).copied();
        let reference = before.filter(|_| !begins).map_or(reference, |before| before.reference);
        self.last.insert(to, Used { reference, at });
        if before.is_none_or(|before| before.at != at) {
            self.uses.push_back((at, to));
        }
    }

    /// A number that rises by 256 within the hold.
    fn by_clock(&self, now: Time) -> u16 {
        let step = (u64::try_from(self.hold.as_micros()).unwrap_or(u64::MAX) / 256).max(1);
        u16::try_from((now.as_micros() / step) & 0xffff).unwrap_or_default()
    }

    fn forget(&mut self, now: Time) {
        while let Some((at, to)) = self.uses.front().copied() {
            if at + self.hold > now && self.uses.len() <= self.limit {
                return;
            }
            self.uses.pop_front();
            if self.last.get(&to).is_some_and(|used| used.at == at) {
                self.last.remove(&to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(600);

    #[test]
    fn references_to_a_number_are_not_used_again_within_the_reassembly_time() {
        let mut references = References::new(HOLD, 1_000);
        let mut used: VecDeque<(Time, u16)> = VecDeque::new();
        let mut now = Time::from_secs(1_000_000);
        for step in 0..5_000_u64 {
            let reference = references.next(now, Tail(7), 8);
            assert!(reference < 256);
            used.retain(|(at, _)| *at + HOLD > now);
            assert!(used.iter().all(|(_, other)| *other != reference), "{reference} at {now:?}");
            references.note(now, Tail(7), reference, true);
            used.push_back((now, reference));
            now += Duration::from_secs(if step % 300 < 200 { 3 } else { 7 });
        }
    }

    #[test]
    fn a_message_that_goes_on_takes_no_reference_back() {
        let mut references = References::new(HOLD, 1_000);
        let now = Time::from_secs(1_000_000);
        let long = references.next(now, Tail(7), 8);
        references.note(now, Tail(7), long, true);
        let other = references.next(now, Tail(7), 8);
        references.note(now, Tail(7), other, true);
        references.note(now + Duration::from_secs(1), Tail(7), long, false);
        let third = references.next(now + Duration::from_secs(2), Tail(7), 8);
        assert!(third != long && third != other);
    }

    #[test]
    fn a_lost_table_does_not_bring_a_reference_back_at_once() {
        let mut references = References::new(HOLD, 1_000);
        let now = Time::from_secs(1_000_000);
        let used: Vec<u16> = (0..40_u64)
            .map(|step| {
                let at = now + Duration::from_secs(step * 10);
                let reference = references.next(at, Tail(1), 8);
                references.note(at, Tail(1), reference, true);
                reference
            })
            .collect();
        let fresh = References::new(HOLD, 1_000).next(now + Duration::from_secs(400), Tail(1), 8);
        assert!(!used.contains(&fresh));
    }

    #[test]
    fn the_table_keeps_to_its_limit_and_forgets_the_oldest() {
        let mut references = References::new(HOLD, 10);
        let now = Time::from_secs(1_000_000);
        for to in 0..100 {
            references.note(now + Duration::from_millis(u64::from(to)), Tail(to), 0, true);
        }
        assert!(references.last.len() <= 11 && references.last.contains_key(&Tail(99)));
    }
}
