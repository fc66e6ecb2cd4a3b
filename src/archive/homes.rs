//! Where messages lie that have left memory and may change again.
//!
//! A campaign waits by the million: looking each message up in the index of its file, when its turn
//! comes, would cost more than all else that the archive does for it.

use std::collections::BTreeMap;

use crate::archive::day;
use crate::archive::runs::Runs;
use crate::message::MessageId;
use crate::seal::Day;

/// Where a message lies in its day's file: the number of its pack, and its slot in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pack: u64,
    pub(super) slot: u8,
}

/// A message that was written, and may change again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put {
    pub(super) id: MessageId,
    pub(super) place: Place,
    /// Whether that is its first place.
    pub(super) is_new: bool,
}

/// The places of the messages that may change again: those that were written once are known by
/// their pack ([`Runs`]), all others in 7 octets each.
///
/// Such a message is known here by 30 of its id's random bits only, so what is found may be another
/// one's place: look there whose it is. Among a million messages one in a thousand has such a
/// namesake, and is looked up in the index then.
#[derive(Debug, Default)]
pub(super) struct Homes(BTreeMap<Day, Shelf>);

/// The messages of a day: those that were written once, and the others by 14 bits of their ids.
#[derive(Debug)]
struct Shelf {
    runs: Runs,
    boxes: Vec<Vec<Home>>,
    len: usize,
}

impl Shelf {
    fn new() -> Self {
        Self { runs: Runs::default(), boxes: vec![Vec::new(); BOXES.into()], len: 0 }
    }
}

const BOXES: u16 = 1 << 14;

/// Two octets of the id, four of the pack's number, the slot.
type Home = [u8; 7];

impl Homes {
    /// Takes note of where messages lie from now on that are in memory no longer.
    pub(super) fn put(&mut self, all: &[Put]) {
        let of = |put: &Put| (day::of_message(put.id), put.place.pack);
        for pack in all.chunk_by(|one, other| of(one) == of(other)) {
            let Some((day, number)) = pack.first().map(of) else { continue };
            let new: Vec<_> =
                pack.iter().filter(|put| put.is_new).map(|p| (p.id, p.place)).collect();
            let is_run = self.0.entry(day).or_insert_with(Shelf::new).runs.put(number, &new);
            for put in pack.iter().filter(|put| !(put.is_new && is_run)) {
                self.insert(put.id, put.place);
            }
        }
    }

    /// Takes note of where the message lies from now on.
    pub(super) fn insert(&mut self, id: MessageId, place: Place) {
        // One that has no room here is found through the index.
        let Ok(pack) = u32::try_from(place.pack) else { return };
        self.remove(id);
        let shelf = self.0.entry(day::of_message(id)).or_insert_with(Shelf::new);
        let (index, [a, b]) = name(id);
        let Some(homes) = shelf.boxes.get_mut(index) else { return };
        if homes.len() == homes.capacity() {
            homes.reserve_exact(2 + homes.len() / 8);
        }
        let [c, d, e, f] = pack.to_le_bytes();
        homes.push([a, b, c, d, e, f, place.slot]);
        shelf.len += 1;
    }

    /// Where the message lies, or a namesake of it.
    pub(super) fn of(&self, id: MessageId) -> Option<Place> {
        let (index, name) = name(id);
        let homes = self.0.get(&day::of_message(id))?.boxes.get(index)?;
        let [_, _, c, d, e, f, slot] = *homes.iter().find(|home| home.starts_with(&name))?;
        Some(Place { pack: u32::from_le_bytes([c, d, e, f]).into(), slot })
    }

    /// The packs that the message may lie in which was written once.
    pub(super) fn packs(&self, id: MessageId) -> Vec<u64> {
        let shelf = self.0.get(&day::of_message(id));
        shelf.map(|shelf| shelf.runs.packs(id).collect()).unwrap_or_default()
    }

    /// Takes out a message that was found in such a pack; false when it was taken out before, so
    /// that what is there is old. From then on it is found through the index, until it is put
    /// elsewhere.
    pub(super) fn take(&mut self, id: MessageId, place: Place) -> bool {
        let day = day::of_message(id);
        let Some(shelf) = self.0.get_mut(&day) else { return false };
        let was_here = shelf.runs.take(id, place);
        self.drop_empty(day);
        was_here
    }

    /// Forgets a message: it is in memory again.
    pub(super) fn remove(&mut self, id: MessageId) {
        let (day, (index, name)) = (day::of_message(id), name(id));
        let Some(shelf) = self.0.get_mut(&day) else { return };
        let Some(homes) = shelf.boxes.get_mut(index) else { return };
        let Some(at) = homes.iter().position(|home| home.starts_with(&name)) else { return };
        homes.swap_remove(at);
        if homes.len() < homes.capacity() / 2 {
            homes.shrink_to_fit();
        }
        shelf.len -= 1;
        self.drop_empty(day);
    }

    fn drop_empty(&mut self, day: Day) {
        let is_empty = |shelf: &Shelf| shelf.len == 0 && shelf.runs.is_empty();
        // That of the latest day will be wanted again.
        if self.0.get(&day).is_some_and(is_empty)
            && self.0.last_key_value().is_some_and(|(last, _)| *last != day)
        {
            self.0.remove(&day);
        }
    }

    /// Forgets all messages of a day: its file is gone.
    pub(super) fn forget(&mut self, day: Day) {
        self.0.remove(&day);
    }
}

/// The box of a message, and its name in it.
fn name(id: MessageId) -> (usize, [u8; 2]) {
    let [.., a, b, c, d] = id.as_u128().to_be_bytes();
    (usize::from(u16::from_le_bytes([a, b]) % BOXES), [c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(time: u64, random: u64) -> MessageId {
        MessageId::from_u128((u128::from(time) << 80) | u128::from(random))
    }

    #[test]
    fn a_message_is_at_home_where_it_was_last_put() {
        let (first, second) = (id(1_000, 7), id(1_000, 8));
        let mut homes = Homes::default();
        homes.insert(first, Place { pack: 3, slot: 255 });
        homes.insert(second, Place { pack: u32::MAX.into(), slot: 0 });
        homes.insert(first, Place { pack: 70_000, slot: 4 });
        assert_eq!(homes.of(first), Some(Place { pack: 70_000, slot: 4 }));
        assert_eq!(homes.of(second), Some(Place { pack: u32::MAX.into(), slot: 0 }));
        homes.remove(first);
        assert_eq!((homes.of(first), homes.of(second).is_some()), (None, true));
        homes.insert(first, Place { pack: 1 << 32, slot: 0 });
        assert_eq!(homes.of(first), None, "no room for so high a number");
    }

    #[test]
    fn a_day_is_forgotten_alone_and_nothing_is_kept_for_messages_that_are_gone() {
        let mut homes = Homes::default();
        let days = [id(1_000, 7), id(1_000 + 86_400_000, 7)];
        for day in days {
            homes.insert(day, Place { pack: 1, slot: 1 });
        }
        homes.forget(day::of_message(days[1]));
        assert_eq!(days.map(|id| homes.of(id).is_some()), [true, false]);
        homes.insert(days[1], Place { pack: 1, slot: 1 });
        homes.remove(days[0]);
        assert_eq!(homes.0.keys().collect::<Vec<_>>(), [&day::of_message(days[1])]);
        homes.remove(days[1]);
        assert!(homes.0.values().all(|shelf| shelf.len == 0));
    }

    #[test]
    fn messages_that_were_written_once_are_known_by_their_pack_until_they_are_taken() {
        let place = |slot| Place { pack: 3, slot };
        let put = |n: u8| Put { id: id(1_000, n.into()), place: place(n), is_new: n > 0 };
        let all: Vec<Put> = (0..100).map(put).collect();
        let mut homes = Homes::default();
        homes.put(&all);
        let (old, new) = (all[0].id, all[99].id);
        assert_eq!((homes.of(old), homes.take(old, place(0))), (Some(place(0)), false));
        assert_eq!((homes.of(new), homes.packs(new)), (None, vec![3]));
        assert!(homes.take(new, place(99)), "it is read, and written elsewhere");
        homes.put(&[Put { place: Place { pack: 9, slot: 0 }, is_new: false, ..all[99] }]);
        assert_eq!(homes.of(new), Some(Place { pack: 9, slot: 0 }));
        assert!(!homes.take(new, place(99)), "what is there is old");
        homes.put(&all[1..9]);
        assert_eq!(homes.of(all[1].id), Some(place(1)), "too few for a run");
    }

    #[test]
    fn a_place_takes_eight_octets_and_a_namesake_is_all_that_can_be_mistaken() {
        let mut homes = Homes::default();
        let mut random = (0..600_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let ids: Vec<MessageId> = random.by_ref().map(|random| id(1_000, random)).collect();
        let place = |n: usize| Place { pack: n as u64 / 128, slot: u8::try_from(n % 128).unwrap() };
        ids.iter().enumerate().for_each(|(n, id)| homes.insert(*id, place(n)));
        let found = ids.iter().enumerate().filter(|(n, id)| homes.of(**id) == Some(place(*n)));
        assert!(found.count() > 599_000);
        let shelf = homes.0.values().next().unwrap();
        let room: usize = shelf.boxes.iter().map(Vec::capacity).sum();
        assert!(room * size_of::<Home>() < 600_000 * 9, "{room}");
        ids.iter().for_each(|id| homes.remove(*id));
        assert!(homes.0.values().all(|shelf| shelf.len < 1_000));
    }
}
