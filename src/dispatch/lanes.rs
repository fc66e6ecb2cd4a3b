//! The queue of one class on one carrier, fair between keys.
//!
//! Keys take turns by deficit, counted in segments: a turn is worth one segment, and a message may
//! overdraw its key's account, whose next turns then pass. So a key of long messages has as many
//! segments sent as one of short ones, and each segment sent pays for one step of the search.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;

use crate::message::MessageId;
use crate::time::Time;

use super::list::Links;
use super::list::List;
use super::names::Name;
use super::table::Slot;
use super::table::Table;

/// The messages of one class that wait for one carrier.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queues: HashMap<Name, Queue>,
    /// The keys with messages; the one whose turn it is first.
    ring: VecDeque<Name>,
    len: usize,
}

/// The messages of one key.
#[derive(Debug)]
struct Queue {
    line: List,
    /// Those that were at the front before and came back, in the order of their acceptance.
    returned: BTreeMap<MessageId, Slot>,
    /// How many segments the key may send in this turn; below 0 it has sent ahead.
    deficit: i64,
    /// How many of the line are near the front: their bodies are there or asked for.
    near: usize,
    /// The first one that is not.
    far: Option<Slot>,
}

impl Queue {
    fn new() -> Self {
        let line = List::new(Links::Line);
        Self { line, returned: BTreeMap::new(), deficit: 1, near: 0, far: None }
    }

    fn head(&self) -> Option<Slot> {
        self.returned.values().next().copied().or_else(|| self.line.head())
    }

    fn is_empty(&self) -> bool {
        self.head().is_none()
    }

    /// Brings up to `depth` of the line near.
    fn approach(&mut self, table: &mut Table, depth: usize, near: &mut Vec<Slot>) {
        while let Some(slot) = self.far.filter(|_| self.near < depth) {
            table[slot].is_near = true;
            near.push(slot);
            self.near += 1;
            self.far = self.line.behind(table, slot);
        }
    }
}

impl Lane {
    /// Puts a message at the end of its key's queue. `near` gets those whose bodies will be needed
    /// soon, `depth` of each key.
    pub(super) fn push(
        &mut self,
        table: &mut Table,
        slot: Slot,
        depth: usize,
        near: &mut Vec<Slot>,
    ) {
        let queue = self.queue(table[slot].key);
        queue.line.push_back(table, slot);
        queue.far = queue.far.or(Some(slot));
        queue.approach(table, depth, near);
        self.len += 1;
    }

    /// Puts a message back to the front, among others that came back in the order in which they
    /// were accepted.
    pub(super) fn give_back(&mut self, table: &mut Table, slot: Slot) {
        let live = &mut table[slot];
        live.is_near = true;
        self.queue(live.key).returned.insert(live.id(), slot);
        self.len += 1;
    }

    /// Takes a message out, wherever it stands.
    pub(super) fn remove(
        &mut self,
        table: &mut Table,
        slot: Slot,
        depth: usize,
        near: &mut Vec<Slot>,
    ) {
        let (key, id) = (table[slot].key, table[slot].id());
        let Some(queue) = self.queues.get_mut(&key) else { return };
        self.len -= 1;
        let was_near = std::mem::take(&mut table[slot].is_near);
        if queue.returned.remove(&id).is_none() {
            if was_near {
                queue.near -= 1;
            } else if queue.far == Some(slot) {
                queue.far = queue.line.behind(table, slot);
            }
            queue.line.remove(table, slot);
            queue.approach(table, depth, near);
        }
        if queue.is_empty() {
            // Mostly the key whose turn it is.
            let place = self.ring.iter().position(|other| *other == key);
            place.map(|place| self.ring.remove(place));
        }
    }

    /// The message whose turn it is among those that are ready.
    pub(super) fn next(&mut self, is_ready: impl Fn(Slot) -> bool) -> Option<Slot> {
        let mut passed = 0;
        while passed < self.ring.len() {
            let key = *self.ring.front()?;
            let queue = self.queues.get_mut(&key)?;
            let head = queue.head()?;
            if !is_ready(head) {
                passed += 1;
            } else if queue.deficit > 0 {
                return Some(head);
            } else {
                passed = 0;
                queue.deficit += 1;
            }
            self.ring.rotate_left(1);
        }
        None
    }

    /// Charges a key for `segments` that it sends.
    pub(super) fn charge(&mut self, key: Name, segments: u8) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.deficit -= i64::from(segments);
        }
    }

    /// How many messages wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Since when the oldest one could have been sent. This looks at each key.
    pub(super) fn oldest(&self, table: &Table) -> Option<Time> {
        let keys = self.ring.iter().filter_map(|key| self.queues.get(key));
        let fronts = keys.flat_map(|queue| {
            [queue.line.head(), queue.returned.values().next().copied()].into_iter().flatten()
        });
        fronts.map(|slot| table[slot].due).min()
    }

    fn queue(&mut self, key: Name) -> &mut Queue {
        let queue = self.queues.entry(key).or_insert_with(Queue::new);
        if queue.is_empty() {
            self.ring.push_back(key);
        }
        queue
    }
}
