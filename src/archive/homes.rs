//! Where messages lie that have left memory and may change again.
//!
//! A campaign waits by the million: looking each message up in the index of its file, when its turn
//! comes, would cost more than all else that the archive does for it.

use std::collections::BTreeMap;

use hashbrown::DefaultHashBuilder;
use hashbrown::HashMap;

use crate::archive::day;
use crate::message::MessageId;
use crate::seal::Day;

/// Where a message lies in its day's file: the number of its pack, and its slot in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pack: u64,
    pub(super) slot: u8,
}

/// The places of the messages that may change again, 13 octets each.
#[derive(Debug, Default)]
pub(super) struct Homes(BTreeMap<Day, HashMap<Name, Home, DefaultHashBuilder>>);

/// The random half of an id. Two messages that share it are told apart where they lie.
type Name = [u8; 8];

/// Four octets of the pack's number, and the slot.
type Home = [u8; 5];

impl Homes {
    /// Takes note of where the message lies from now on.
    pub(super) fn insert(&mut self, id: MessageId, place: Place) {
        // One that has no room here is found through the index.
        let Ok(pack) = u32::try_from(place.pack) else { return };
        let [a, b, c, d] = pack.to_le_bytes();
        let homes = self.0.entry(day::of_message(id)).or_default();
        homes.insert(name(id), [a, b, c, d, place.slot]);
    }

    /// Where the message lies, or another one of the same name.
    pub(super) fn of(&self, id: MessageId) -> Option<Place> {
        let [a, b, c, d, slot] = *self.0.get(&day::of_message(id))?.get(&name(id))?;
        Some(Place { pack: u32::from_le_bytes([a, b, c, d]).into(), slot })
    }

    /// Forgets a message: it is in memory again.
    pub(super) fn remove(&mut self, id: MessageId) {
        let day = day::of_message(id);
        let Some(homes) = self.0.get_mut(&day) else { return };
        homes.remove(&name(id));
        if homes.is_empty() {
            self.0.remove(&day);
        } else if homes.len() < homes.capacity() / 8 {
            homes.shrink_to(homes.len() * 2);
        }
    }

    /// Forgets all messages of a day: its file is gone.
    pub(super) fn forget(&mut self, day: Day) {
        self.0.remove(&day);
    }
}

fn name(id: MessageId) -> Name {
    let [.., a, b, c, d, e, f, g, h] = id.as_u128().to_be_bytes();
    [a, b, c, d, e, f, g, h]
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
    fn a_day_is_forgotten_alone_and_an_empty_table_is_small() {
        let mut homes = Homes::default();
        let days = [id(1_000, 7), id(1_000 + 86_400_000, 7)];
        for day in days {
            homes.insert(day, Place { pack: 1, slot: 1 });
        }
        homes.forget(day::of_message(days[0]));
        assert_eq!(days.map(|id| homes.of(id).is_some()), [false, true]);
        homes.remove(days[1]);
        assert!(homes.0.is_empty());
        for random in 0..10_000 {
            homes.insert(id(1_000, random), Place { pack: 1, slot: 1 });
        }
        for random in 0..9_990 {
            homes.remove(id(1_000, random));
        }
        let room: usize = homes.0.values().map(HashMap::capacity).sum();
        assert!(room < 200, "{room}");
        assert!((9_990..10_000).all(|random| homes.of(id(1_000, random)).is_some()));
    }
}
