//! Where live messages are held: in slots that never move, found by id.

use std::hash::BuildHasherDefault;
use std::hash::Hasher;
use std::ops::Index;
use std::ops::IndexMut;

use crate::message::MessageId;

use super::index::Index as HashIndex;
use super::index::spread;
use super::live::Live;
use super::timers::Place;
use super::timers::Places;

/// A place in the table, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A slot, or none, in four octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(u32);

impl Link {
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) const fn get(self) -> Option<Slot> {
        if self.0 == u32::MAX { None } else { Some(Slot(self.0)) }
    }
}

impl From<Option<Slot>> for Link {
    fn from(slot: Option<Slot>) -> Self {
        slot.map_or(Self::NONE, |slot| Self(slot.0))
    }
}

/// All messages that are held, live and finished.
///
/// Slots come in chunks and the index in parts, so that no single call pays for growing by
/// millions.
#[derive(Debug, Default)]
pub(super) struct Table {
    chunks: Vec<Vec<Live>>,
    vacant: Vec<Slot>,
    index: HashIndex<Slot>,
    len: usize,
}

const CHUNK: usize = 1 << 12;

impl Table {
    /// The slot of a message.
    pub(super) fn find(&self, id: MessageId) -> Option<Slot> {
        self.index.find(hash(id), |slot| self[*slot].id() == id).copied()
    }

    /// Puts a message in, whose id is not there yet.
    pub(super) fn insert(&mut self, mut live: Live) -> Slot {
        let id = live.id();
        let slot = match self.vacant.pop() {
            Some(slot) => {
                // Its timer may still be in the heap.
                live.timer = self[slot].timer;
                self[slot] = live;
                slot
            }
            None => self.grow(live),
        };
        let chunks = &self.chunks;
        self.index.insert(hash(id), slot, |slot| hash(at(chunks, *slot).id()));
        self.len += 1;
        slot
    }

    /// Takes a message out. Its slot may be another message's at once.
    pub(super) fn remove(&mut self, slot: Slot) {
        let hash = hash(self[slot].id());
        if self.index.remove(hash, |other| *other == slot) {
            self.vacant.push(slot);
            self.len -= 1;
            self[slot].clear();
        }
    }

    /// How many messages it holds.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The slots that were ever used, some of them empty now.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.used()).map(Slot)
    }

    /// The slots from `first` on, at most `count`; empty ones too.
    pub(super) fn slots_from(&self, first: Slot, count: u32) -> impl Iterator<Item = Slot> + use<> {
        (first.0..self.used().min(first.0.saturating_add(count))).map(Slot)
    }

    /// How many slots were ever used.
    fn used(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        let used = full + self.chunks.last().map_or(0, Vec::len);
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    fn grow(&mut self, live: Live) -> Slot {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let Some(chunk) = self.chunks.last_mut() else { return Slot(0) };
        chunk.push(live);
        Slot(u32::try_from(before + chunk.len() - 1).unwrap_or(u32::MAX))
    }
}

impl Index<Slot> for Table {
    type Output = Live;

    fn index(&self, slot: Slot) -> &Live {
        at(&self.chunks, slot)
    }
}

impl IndexMut<Slot> for Table {
    #[expect(clippy::indexing_slicing, reason = "slots come from this table, which never shrinks")]
    fn index_mut(&mut self, slot: Slot) -> &mut Live {
        &mut self.chunks[slot.index() / CHUNK][slot.index() % CHUNK]
    }
}

impl Places for Table {
    fn place(&self, slot: Slot) -> Place {
        self[slot].timer
    }

    fn note(&mut self, slot: Slot, place: Place) {
        self[slot].timer = place;
    }
}

#[expect(clippy::indexing_slicing, reason = "slots come from this table, which never shrinks")]
fn at(chunks: &[Vec<Live>], slot: Slot) -> &Live {
    &chunks[slot.index() / CHUNK][slot.index() % CHUNK]
}

/// Hashes ids as the table does: they are ours, so nobody can choose them to collide.
pub(super) type ById = BuildHasherDefault<IdHasher>;

/// See [`ById`].
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, octets: &[u8]) {
        self.0 = octets.iter().fold(self.0, |sum, octet| spread(sum ^ u64::from(*octet)));
    }

    fn write_u128(&mut self, bits: u128) {
        self.0 = folded(bits);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Ids are ours, so nobody can choose them to collide.
fn hash(id: MessageId) -> u64 {
    folded(id.as_u128())
}

const fn folded(bits: u128) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "the halves of 128 bits")]
    let folded = (bits as u64) ^ ((bits >> 64) as u64).rotate_left(32);
    spread(folded)
}
