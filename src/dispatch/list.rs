//! Lists of messages whose links are in the messages themselves.

use super::live::Live;
use super::table::Link;
use super::table::Slot;
use super::table::Table;

/// Which links of a message a list uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// [`Live::older`] and [`Live::newer`].
    Age,
    /// [`Live::before`] and [`Live::behind`].
    Line,
}

/// A list of messages; a message is in one list of each kind at most.
#[derive(Debug)]
pub(super) struct List {
    links: Links,
    head: Link,
    tail: Link,
    len: usize,
}

impl List {
    pub(super) const fn new(links: Links) -> Self {
        Self { links, head: Link::NONE, tail: Link::NONE, len: 0 }
    }

    pub(super) const fn head(&self) -> Option<Slot> {
        self.head.get()
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push_back(&mut self, table: &mut Table, slot: Slot) {
        let last = self.tail;
        self.join(table, last.get(), Some(slot));
        self.join(table, Some(slot), None);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, table: &mut Table, slot: Slot) {
        let (before, behind) = self.neighbours(&table[slot]);
        self.join(table, before, behind);
        self.len -= 1;
    }

    /// The one behind `slot`.
    pub(super) fn behind(&self, table: &Table, slot: Slot) -> Option<Slot> {
        self.neighbours(&table[slot]).1
    }

    const fn neighbours(&self, live: &Live) -> (Option<Slot>, Option<Slot>) {
        match self.links {
            Links::Age => (live.older.get(), live.newer.get()),
            Links::Line => (live.before.get(), live.behind.get()),
        }
    }

    /// Makes `behind` follow `before`; the ends of the list stand for none.
    fn join(&mut self, table: &mut Table, before: Option<Slot>, behind: Option<Slot>) {
        match before {
            Some(slot) if self.links == Links::Age => table[slot].newer = behind.into(),
            Some(slot) => table[slot].behind = behind.into(),
            None => self.head = behind.into(),
        }
        match behind {
            Some(slot) if self.links == Links::Age => table[slot].older = before.into(),
            Some(slot) => table[slot].before = before.into(),
            None => self.tail = before.into(),
        }
    }
}
