//! An index that never pauses for long: it grows a small part at a time.

use hashbrown::HashTable;

/// Finds values by a hash that the caller makes, among millions.
///
/// A hash table that grows moves all it holds at once. This one is cut into parts by the hash, so
/// that no single insertion pays for more than a part.
#[derive(Debug)]
pub(super) struct Index<T> {
    parts: Vec<HashTable<T>>,
    len: usize,
}

const PARTS: usize = 1 << 8;

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { parts: std::iter::repeat_with(HashTable::new).take(PARTS).collect(), len: 0 }
    }
}

impl<T> Index<T> {
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts.get(part(hash))?.find(hash, is_it)
    }

    pub(super) fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.parts.get_mut(part(hash))?.find_mut(hash, is_it)
    }

    /// Puts a value in that is not there yet; `rehash` makes the hash of any value.
    pub(super) fn insert(&mut self, hash: u64, value: T, rehash: impl Fn(&T) -> u64) {
        if let Some(part) = self.parts.get_mut(part(hash)) {
            part.insert_unique(hash, value, rehash);
            self.len += 1;
        }
    }

    /// Takes a value out; whether it was there.
    pub(super) fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> bool {
        let part = self.parts.get_mut(part(hash));
        let entry = part.and_then(|part| part.find_entry(hash, is_it).ok());
        let was_there = entry.map(|entry| entry.remove()).is_some();
        self.len -= usize::from(was_there);
        was_there
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

/// The parts are told apart by bits that a part's own table uses last.
const fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}

/// Spreads the bits of a number that is random enough, so that each bit depends on all.
pub(super) const fn spread(bits: u64) -> u64 {
    let mixed = (bits ^ (bits >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ (mixed >> 29)
}
