//! How many messages each key has handed in on the present day, for the doors' daily quotas.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::message::Position;
use crate::time::Time;

use super::live::UNPLACED;
use super::names::Name;

/// The counts of the newest UTC day that a record was of.
#[derive(Debug, Default)]
pub(super) struct Usage {
    day: u32,
    keys: BTreeMap<Name, Used>,
    /// The keys by position: the oldest is asked for at every turn.
    places: BTreeSet<(Position, Name)>,
}

/// What one key has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) count: u64,
    /// Where the record is that the count begins with.
    pub(super) position: Position,
}

impl Usage {
    /// Begins a new day when `at` is in one.
    pub(super) fn turn(&mut self, at: Time) {
        let day = day(at);
        if day > self.day {
            self.begin(day);
        }
    }

    fn begin(&mut self, day: u32) {
        self.day = day;
        self.keys.clear();
        self.places.clear();
    }

    /// Counts a message of `at`.
    pub(super) fn accept(&mut self, at: Time, key: Name) {
        self.turn(at);
        if day(at) == self.day {
            let used = self.keys.get(&key).copied();
            let used = used.unwrap_or(Used { count: 0, position: UNPLACED });
            self.set(key, Used { count: used.count + 1, ..used });
        }
    }

    fn set(&mut self, key: Name, used: Used) {
        let before = self.keys.insert(key, used);
        if before.map(|before| before.position) != Some(used.position) {
            if let Some(before) = before {
                self.places.remove(&(before.position, key));
            }
            self.places.insert((used.position, key));
        }
    }

    /// Takes a count as it was written again.
    pub(super) fn carry(&mut self, on: u32, key: Name, count: u64) {
        if on > self.day {
            self.begin(on);
        }
        if on == self.day {
            self.set(key, Used { count, position: UNPLACED });
        }
    }

    /// Notes where the record of a message of `at` is.
    pub(super) fn place(&mut self, at: Time, key: Name, position: Position) {
        if day(at) == self.day
            && let Some(used) = self.keys.get(&key).copied()
            && used.position == UNPLACED
        {
            self.set(key, Used { position, ..used });
        }
    }

    /// Notes where a count was written again.
    pub(super) fn place_carried(&mut self, on: u32, key: Name, position: Position) {
        if on == self.day
            && let Some(used) = self.keys.get(&key).copied()
        {
            self.set(key, Used { position, ..used });
        }
    }

    /// The day, the key and the count whose record is the oldest.
    pub(super) fn oldest(&self) -> Option<(u32, Name, Used)> {
        let (_, key) = self.places.first()?;
        self.keys.get(key).map(|used| (self.day, *key, *used))
    }

    /// Every key with its count, when `now` is still of that day.
    pub(super) fn today(&self, now: Time) -> impl Iterator<Item = (Name, u64)> {
        let is_today = day(now) == self.day;
        self.keys.iter().filter(move |_| is_today).map(|(key, used)| (*key, used.count))
    }

    /// Every key with its day and what it used.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Name, Used)> {
        self.keys.iter().map(|(key, used)| (self.day, *key, *used))
    }
}

/// The UTC day of `at`: days since 1970-01-01.
fn day(at: Time) -> u32 {
    const DAY: u64 = 86_400;
    u32::try_from(at.as_secs() / DAY).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::names::Names;

    #[test]
    fn a_count_that_was_written_again_stands_for_all_before_it() {
        let mut names = Names::default();
        let key = names.intern("shop");
        let noon = Time::from_secs(100 * 86_400 + 43_200);
        let mut usage = Usage::default();
        usage.accept(noon, key);
        usage.place(noon, key, Position(5));
        usage.accept(noon, key);
        usage.place(noon, key, Position(6));
        assert_eq!(usage.oldest(), Some((100, key, Used { count: 2, position: Position(5) })));
        usage.carry(100, key, 7);
        usage.place(noon, key, Position(7));
        usage.place_carried(100, key, Position(8));
        usage.accept(noon, key);
        assert_eq!(usage.today(noon).collect::<Vec<_>>(), [(key, 8)]);
        assert_eq!(usage.oldest().map(|(_, _, used)| used.position), Some(Position(8)));
    }

    #[test]
    fn a_new_day_begins_at_nothing_and_no_old_one_comes_back() {
        let mut names = Names::default();
        let key = names.intern("shop");
        let (today, tomorrow) = (Time::from_secs(99), Time::from_secs(86_400));
        let mut usage = Usage::default();
        usage.accept(today, key);
        assert_eq!(usage.today(tomorrow).count(), 0);
        usage.accept(tomorrow, key);
        usage.accept(today, key);
        usage.carry(0, key, 9);
        assert_eq!(usage.today(tomorrow).collect::<Vec<_>>(), [(key, 1)]);
    }

    #[test]
    fn the_oldest_of_many_keys_is_the_one_whose_count_begins_first() {
        let mut names = Names::default();
        let keys: Vec<Name> = (0..50).map(|n| names.intern(&format!("key-{n}"))).collect();
        let at = Time::from_secs(99);
        let mut usage = Usage::default();
        for (n, key) in keys.iter().enumerate() {
            usage.accept(at, *key);
            usage.place(at, *key, Position(100 - n as u64));
        }
        for (n, key) in keys.iter().enumerate().rev() {
            assert_eq!(usage.oldest().map(|(_, oldest, _)| oldest), Some(*key));
            usage.carry(0, *key, 1);
            usage.place_carried(0, *key, Position(200 + n as u64));
            let least = usage.iter().map(|(_, _, used)| used.position).min();
            assert_eq!(usage.oldest().map(|(_, _, used)| used.position), least);
        }
    }
}
