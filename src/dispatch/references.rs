//! Which concatenation reference a long message to a number gets.
//!
//! A handset joins parts by sender, reference and total. So the references to one number follow one
//! another, and keep up with a clock: 256 of them are used again only after the reassembly time,
//! also when this table, or the end of it, was lost.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::time::Duration;

use crate::message::MessageId;
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

/// Messages of which some segments may still have to leave, by number: their references are taken
/// however long ago they were last used.
#[derive(Debug, Default)]
pub(super) struct Begun {
    by_number: HashMap<Tail, Vec<(MessageId, u16)>>,
}

impl Begun {
    /// Notes with which reference a message goes on.
    pub(super) fn note(&mut self, to: Tail, id: MessageId, reference: u16) {
        let there = self.by_number.entry(to).or_default();
        match there.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = reference,
            None => there.push((id, reference)),
        }
    }

    /// Forgets a message, which has ended.
    pub(super) fn end(&mut self, to: Tail, id: MessageId) {
        if let Entry::Occupied(mut there) = self.by_number.entry(to) {
            there.get_mut().retain(|(known, _)| *known != id);
            if there.get().is_empty() {
                there.remove();
            }
        }
    }

    /// The messages to a number that were last noted with this reference.
    pub(super) fn with(&self, to: Tail, reference: u16) -> impl Iterator<Item = MessageId> {
        let there = self.by_number.get(&to).into_iter().flatten();
        there.filter(move |(_, known)| *known == reference).map(|(id, _)| *id)
    }
}

/// The reference behind this one, of which the lower `bits` count.
pub(super) fn after(reference: u16, bits: u32) -> u16 {
    cut(u64::from(reference) + 1, bits)
}

/// The lower bits of a count.
fn cut(count: u64, bits: u32) -> u16 {
    u16::try_from(count % (1 << bits)).unwrap_or_default()
}

#[derive(Debug)]
struct Used {
    reference: u16,
    /// How long before `at` the message began that has it, in milliseconds.
    age: u32,
    at: Time,
    /// When messages that began before went on, with their references; most numbers have none.
    #[expect(clippy::box_collection, reason = "8 octets a number count")]
    went_on: Option<Box<Vec<(Time, u16)>>>,
}

impl Used {
    fn begun(&self) -> Time {
        self.at - Duration::from_millis(self.age.into())
    }

    fn holds(&self, reference: u16, since: Time) -> bool {
        let mut went_on = self.went_on.iter().flat_map(|went_on| went_on.iter());
        went_on.any(|(at, other)| *other == reference && *at > since)
    }

    fn goes_on(&mut self, now: Time, reference: u16, hold: Duration) {
        let went_on = self.went_on.get_or_insert_default();
        went_on.retain(|(at, other)| *other != reference && *at + hold > now);
        went_on.push((now, reference));
    }
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
        let clock = self.by_clock(now);
        let Some(last) = last else { return cut(clock, bits) };
        // One behind the clock is not the last for certain: a later one may be forgotten.
        let mut next = clock.max(self.count(last) + 1);
        for _ in 0..=u8::MAX {
            if !last.holds(cut(next, bits), now - self.hold) {
                break;
            }
            next += 1;
        }
        cut(next, bits)
    }

    /// Notes that a message with `reference` began, or went on: then a later message to the number
    /// may have begun meanwhile, whose reference stays the last one.
    pub(super) fn note(&mut self, at: Time, to: Tail, reference: u16, begins: bool) {
        self.forget(at);
        let fresh = || Used { reference, age: 0, at: Time::ZERO, went_on: None };
        let used = self.last.entry(to).or_insert_with(fresh);
        if begins || used.at == Time::ZERO {
            (used.reference, used.age) = (reference, 0);
        } else {
            used.goes_on(at, reference, self.hold);
            let age = at.since(used.begun()).as_millis();
            used.age = u32::try_from(age).unwrap_or(u32::MAX);
        }
        if used.at != at {
            used.at = at;
            self.uses.push_back((at, to));
        }
    }

    /// The clock's number, or one ahead of it, of which a reference is the lower bits.
    fn count(&self, used: &Used) -> u64 {
        let all = if used.reference > u8::MAX.into() { 1 << 16 } else { 1 << 8 };
        let clock = self.by_clock(used.begun());
        let ahead = (u64::from(used.reference) + all - clock % all) % all;
        // A message that waited to be sent has one behind the clock.
        let is_behind = ahead >= all / 8 * 7;
        if is_behind { (clock + ahead).saturating_sub(all) } else { clock + ahead }
    }

    /// A number that rises by 192 within the hold: the lower 8 bits are the same again after a third
    /// more, for segments that leave later than their message began.
    fn by_clock(&self, now: Time) -> u64 {
        let step = (u64::try_from(self.hold.as_micros()).unwrap_or(u64::MAX) / 192).max(1);
        now.as_micros() / step
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
    fn references_of_both_widths_are_counted_together() {
        let mut references = References::new(HOLD, 1_000);
        let now = Time::from_secs(1_000_000);
        let mut used = std::collections::BTreeSet::new();
        for step in 0..150 {
            let bits = if step % 3 == 0 { 8 } else { 16 };
            let reference = references.next(now, Tail(7), bits);
            assert!(used.insert((bits, reference)), "{reference} at {step}");
            references.note(now, Tail(7), reference, true);
        }
    }

    #[test]
    fn a_burst_to_a_number_gets_as_many_references_as_there_are() {
        let mut references = References::new(HOLD, 1_000);
        let now = Time::from_secs(1_000_000);
        let mut used = std::collections::BTreeSet::new();
        for step in 0..200 {
            let now = now + HOLD / 2_000 * step;
            let reference = references.next(now, Tail(7), 8);
            assert!(used.insert(reference), "{reference} at {step}");
            references.note(now, Tail(7), reference, true);
        }
    }

    #[test]
    fn a_message_that_goes_on_keeps_its_reference_for_itself() {
        let mut references = References::new(HOLD, 1_000);
        let begun = Time::from_secs(1_000_000);
        let reference = references.next(begun, Tail(1), 8);
        references.note(begun, Tail(1), reference, true);
        let later = begun + HOLD / 2;
        references.note(later, Tail(1), references.next(later, Tail(1), 8), true);
        let again = begun + HOLD * 3 / 4;
        references.note(again, Tail(1), reference, false);
        for step in 0..1_000 {
            let now = again + HOLD / 1_000 * step;
            assert_ne!(references.next(now, Tail(1), 8), reference, "{step}");
        }
    }

    #[test]
    fn a_forgotten_use_does_not_bring_its_reference_back() {
        let mut references = References::new(HOLD, 1_000);
        let now = Time::from_secs(1_000_000);
        references.note(now, Tail(1), references.next(now, Tail(1), 8), true);
        let later = now + Duration::from_secs(60);
        let forgotten = references.next(later, Tail(1), 8);
        let next = references.next(later + Duration::from_secs(5), Tail(1), 8);
        assert_ne!(next, forgotten);
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
