//! One timer a message, the next one always at hand.
//!
//! A heap of four children a node over (time, slot), which knows where each slot is, so that a
//! timer can be moved and taken out. It costs 16 octets a message.

use crate::time::Time;

use super::table::Slot;

/// The timers of all messages.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<Due>,
    /// By slot, where its timer is in the heap.
    places: Vec<u32>,
}

/// A timer: when, in two halves so that it needs 12 octets, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    high: u32,
    low: u32,
    slot: Slot,
}

const NOWHERE: u32 = u32::MAX;
const CHILDREN: usize = 4;

impl Due {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of 64 bits")]
    const fn new(at: Time, slot: Slot) -> Self {
        let micros = at.as_micros();
        Self { high: (micros >> 32) as u32, low: micros as u32, slot }
    }

    const fn at(self) -> Time {
        Time::from_micros(((self.high as u64) << 32) | self.low as u64)
    }
}

impl Timers {
    /// Sets the timer of a slot, in place of the one it may have.
    pub(super) fn set(&mut self, slot: Slot, at: Time) {
        let due = Due::new(at, slot);
        match self.place(slot) {
            Some(place) => {
                let before = self.heap.get(place).copied();
                self.put(place, due);
                if before.is_some_and(|before| before < due) {
                    self.sink(place);
                } else {
                    self.rise(place);
                }
            }
            None => {
                let place = self.heap.len();
                self.heap.push(due);
                self.put(place, due);
                self.rise(place);
            }
        }
    }

    /// Takes the timer of a slot away.
    pub(super) fn clear(&mut self, slot: Slot) {
        let Some(place) = self.place(slot) else { return };
        self.note(slot, NOWHERE);
        let Some(last) = self.heap.pop() else { return };
        if place < self.heap.len() {
            self.put(place, last);
            self.sink(place);
            self.rise(place);
        }
    }

    /// When the timer of a slot goes off.
    #[cfg(test)]
    fn at(&self, slot: Slot) -> Option<Time> {
        self.heap.get(self.place(slot)?).map(|due| due.at())
    }

    /// When the next timer goes off.
    pub(super) fn next(&self) -> Option<Time> {
        self.heap.first().map(|due| due.at())
    }

    /// Takes a timer that is due by `now`: the oldest first.
    pub(super) fn pop(&mut self, now: Time) -> Option<Slot> {
        let due = self.heap.first().filter(|due| due.at() <= now)?;
        let slot = due.slot;
        self.clear(slot);
        Some(slot)
    }

    fn place(&self, slot: Slot) -> Option<usize> {
        let place = *self.places.get(slot.index())?;
        (place != NOWHERE).then_some(place as usize)
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            if !self.is_before(place, parent) {
                return;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let first = place * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap.get(*child).copied()) else {
                return;
            };
            if !self.is_before(least, place) {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn is_before(&self, one: usize, other: usize) -> bool {
        self.heap.get(one) < self.heap.get(other)
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (Some(a), Some(b)) = (self.heap.get(one).copied(), self.heap.get(other).copied())
        else {
            return;
        };
        self.put(one, b);
        self.put(other, a);
    }

    fn put(&mut self, place: usize, due: Due) {
        if let Some(there) = self.heap.get_mut(place) {
            *there = due;
        }
        self.note(due.slot, u32::try_from(place).unwrap_or(NOWHERE));
    }

    fn note(&mut self, slot: Slot, place: u32) {
        if self.places.len() <= slot.index() {
            self.places.resize(slot.index() + 1, NOWHERE);
        }
        if let Some(noted) = self.places.get_mut(slot.index()) {
            *noted = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_first_timer_may_belong_to_slot_zero_at_time_zero() {
        let mut timers = Timers::default();
        timers.set(Slot(0), Time::ZERO);
        assert_eq!(timers.next(), Some(Time::ZERO));
        assert_eq!(timers.pop(Time::ZERO), Some(Slot(0)));
        assert_eq!(timers.next(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn timers_go_off_in_their_order_however_they_are_moved(
            moves in prop::collection::vec((0..40_u32, prop::option::of(1..1_000_u64)), 1..300)
        ) {
            let mut timers = Timers::default();
            let mut model = BTreeMap::new();
            for (slot, at) in moves {
                let slot = Slot(slot);
                match at {
                    Some(at) => {
                        timers.set(slot, Time::from_micros(at << 30));
                        model.insert(slot, Time::from_micros(at << 30));
                    }
                    None => {
                        timers.clear(slot);
                        model.remove(&slot);
                    }
                }
                prop_assert_eq!(timers.at(slot), model.get(&slot).copied());
                prop_assert_eq!(timers.next(), model.values().min().copied());
            }
            let mut expected: Vec<_> = model.into_iter().map(|(slot, at)| (at, slot)).collect();
            expected.sort_unstable();
            for (at, slot) in expected {
                prop_assert_eq!(timers.pop(at - std::time::Duration::from_micros(1)), None);
                prop_assert_eq!(timers.pop(at), Some(slot));
            }
            prop_assert_eq!(timers.next(), None);
        }
    }
}
