//! One timer a message, the next one always at hand.
//!
//! A heap of four children a node over (time, slot), of which each slot knows where it is in it, so
//! that a timer can be moved and taken out. It costs 12 octets a message, and four in its slot.

use crate::time::Time;

use super::table::Slot;

/// Where each slot's timer is in the heap. A new message in a slot finds what the last one left.
pub(super) trait Places {
    fn place(&self, slot: Slot) -> Place;
    fn note(&mut self, slot: Slot, place: Place);
}

/// A place in the heap, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

/// The timers of all messages.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<Due>,
}

/// A timer: when, in two halves so that it needs 12 octets, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    high: u32,
    low: u32,
    slot: Slot,
}

const CHILDREN: usize = 4;

impl Place {
    /// Without a timer.
    pub(super) const NONE: Self = Self(u32::MAX);

    const fn get(self) -> Option<usize> {
        if self.0 == u32::MAX { None } else { Some(self.0 as usize) }
    }
}

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
    pub(super) fn set(&mut self, places: &mut impl Places, slot: Slot, at: Time) {
        let due = Due::new(at, slot);
        match places.place(slot).get() {
            Some(place) => {
                let before = self.heap.get(place).copied();
                self.put(places, place, due);
                if before.is_some_and(|before| before < due) {
                    self.sink(places, place);
                } else {
                    self.rise(places, place);
                }
            }
            None => {
                let place = self.heap.len();
                self.heap.push(due);
                self.put(places, place, due);
                self.rise(places, place);
            }
        }
    }

    /// Takes the timer of a slot away.
    pub(super) fn clear(&mut self, places: &mut impl Places, slot: Slot) {
        let Some(place) = places.place(slot).get() else { return };
        places.note(slot, Place::NONE);
        let Some(last) = self.heap.pop() else { return };
        if place < self.heap.len() {
            self.put(places, place, last);
            self.sink(places, place);
            self.rise(places, place);
        }
    }

    /// When the next timer goes off.
    pub(super) fn next(&self) -> Option<Time> {
        self.heap.first().map(|due| due.at())
    }

    /// Takes a timer that is due by `now`: the oldest first.
    pub(super) fn pop(&mut self, places: &mut impl Places, now: Time) -> Option<Slot> {
        let due = self.heap.first().filter(|due| due.at() <= now)?;
        let slot = due.slot;
        self.clear(places, slot);
        Some(slot)
    }

    fn rise(&mut self, places: &mut impl Places, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / CHILDREN;
            if !self.is_before(place, parent) {
                return;
            }
            self.swap(places, place, parent);
            place = parent;
        }
    }

    fn sink(&mut self, places: &mut impl Places, mut place: usize) {
        loop {
            let first = place * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap.get(*child).copied()) else {
                return;
            };
            if !self.is_before(least, place) {
                return;
            }
            self.swap(places, place, least);
            place = least;
        }
    }

    fn is_before(&self, one: usize, other: usize) -> bool {
        self.heap.get(one) < self.heap.get(other)
    }

    fn swap(&mut self, places: &mut impl Places, one: usize, other: usize) {
        let (Some(a), Some(b)) = (self.heap.get(one).copied(), self.heap.get(other).copied())
        else {
            return;
        };
        self.put(places, one, b);
        self.put(places, other, a);
    }

    fn put(&mut self, places: &mut impl Places, place: usize, due: Due) {
        if let Some(there) = self.heap.get_mut(place) {
            *there = due;
        }
        places.note(due.slot, Place(u32::try_from(place).unwrap_or(u32::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Places for Vec<Place> {
        fn place(&self, slot: Slot) -> Place {
            self[slot.index()]
        }

        fn note(&mut self, slot: Slot, place: Place) {
            self[slot.index()] = place;
        }
    }

    #[test]
    fn the_first_timer_may_belong_to_slot_zero_at_time_zero() {
        let (mut timers, mut places) = (Timers::default(), vec![Place::NONE]);
        timers.set(&mut places, Slot(0), Time::ZERO);
        assert_eq!(timers.next(), Some(Time::ZERO));
        assert_eq!(timers.pop(&mut places, Time::ZERO), Some(Slot(0)));
        assert_eq!(timers.next(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn timers_go_off_in_their_order_however_they_are_moved(
            moves in prop::collection::vec((0..40_u32, prop::option::of(1..1_000_u64)), 1..300)
        ) {
            let (mut timers, mut places) = (Timers::default(), vec![Place::NONE; 40]);
            let mut model = BTreeMap::new();
            for (slot, at) in moves {
                let slot = Slot(slot);
                match at {
                    Some(at) => {
                        timers.set(&mut places, slot, Time::from_micros(at << 30));
                        model.insert(slot, Time::from_micros(at << 30));
                    }
                    None => {
                        timers.clear(&mut places, slot);
                        model.remove(&slot);
                    }
                }
                let due = places.place(slot).get().map(|place| timers.heap[place].at());
                prop_assert_eq!(due, model.get(&slot).copied());
                prop_assert_eq!(timers.next(), model.values().min().copied());
            }
            let mut expected: Vec<_> = model.into_iter().map(|(slot, at)| (at, slot)).collect();
            expected.sort_unstable();
            for (at, slot) in expected {
                prop_assert_eq!(timers.pop(&mut places, at - std::time::Duration::from_micros(1)), None);
                prop_assert_eq!(timers.pop(&mut places, at), Some(slot));
            }
            prop_assert_eq!(timers.next(), None);
        }
    }
}
