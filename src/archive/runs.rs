//! Where messages lie that were written once and wait: by when they were made.

use std::collections::BTreeMap;

use crate::archive::homes::Place;
use crate::message::MessageId;

/// The packs of a day's messages that were written for the first time and have not been read since.
///
/// A campaign is written in the order in which it came, so that a pack holds the messages of a few
/// milliseconds: by these the pack of a message is found, or a few that may be it. That takes half an
/// octet a message.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<(u64, u64), Run>);

/// Some of a pack's messages. The key says when the first of them was made, in milliseconds, and the
/// number of the pack.
#[derive(Debug)]
struct Run {
    /// When the last one was made.
    last: u64,
    /// The slots of those that lie here still, by their bits.
    here: u128,
}

/// Messages that were made within so many milliseconds are a run.
const WIDEST: u64 = 128;

/// Fewer are not worth one.
const FEWEST: usize = 16;

impl Runs {
    /// Takes note of messages of one pack; whether they are a run.
    pub(super) fn put(&mut self, pack: u64, all: &[(MessageId, Place)]) -> bool {
        let made = all.iter().map(|(id, _)| made(*id));
        let (Some(first), Some(last)) = (made.clone().min(), made.max()) else { return true };
        if all.len() < FEWEST || last - first > WIDEST {
            return false;
        }
        let here = all.iter().fold(0, |here, (_, place)| here | bit(place.slot));
        self.0.insert((first, pack), Run { last, here });
        true
    }

    /// The packs that a message may lie in.
    pub(super) fn packs(&self, id: MessageId) -> impl Iterator<Item = u64> {
        let made = made(id);
        let runs = self.0.range((made.saturating_sub(WIDEST), 0)..=(made, u64::MAX));
        runs.filter(move |(_, run)| run.last >= made).map(|((_, pack), _)| *pack)
    }

    /// Takes a message out that was found at `place`; whether it was still there.
    pub(super) fn take(&mut self, id: MessageId, place: Place) -> bool {
        let made = made(id);
        let mut runs = self.0.range_mut((made.saturating_sub(WIDEST), 0)..=(made, u64::MAX));
        let Some((key, run)) = runs.find(|((_, pack), _)| *pack == place.pack) else {
            return false;
        };
        let was_here = run.here & bit(place.slot) != 0;
        run.here &= !bit(place.slot);
        if run.here == 0 {
            let key = *key;
            self.0.remove(&key);
        }
        was_here
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn made(id: MessageId) -> u64 {
    id.created_at().as_millis()
}

/// The bit of a slot; a pack has no more of them.
fn bit(slot: u8) -> u128 {
    1_u128.checked_shl(slot.into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(number: u64, made: &[u64]) -> Vec<(MessageId, Place)> {
        let places = (0..).map(|slot| Place { pack: number, slot });
        let id = |(n, made): (usize, &u64)| {
            MessageId::from_u128((u128::from(*made) << 80) | (u128::from(number) << 8) | n as u128)
        };
        made.iter().enumerate().map(id).zip(places).collect()
    }

    #[test]
    fn a_message_is_in_one_of_the_packs_of_its_time_until_it_is_taken_out() {
        let (one, other) = (pack(1, &[1_000; 20]), pack(2, &[1_100; 128]));
        let mut runs = Runs::default();
        assert!(runs.put(1, &one) && runs.put(2, &other));
        let (id, place) = one[19];
        assert_eq!(runs.packs(id).collect::<Vec<_>>(), [1]);
        assert_eq!(runs.packs(other[127].0).collect::<Vec<_>>(), [2]);
        assert!(runs.take(id, place) && !runs.take(id, place));
        for (id, place) in one.iter().take(19).chain(&other) {
            assert!(runs.take(*id, *place), "{place:?}");
        }
        assert!(runs.is_empty(), "{runs:?}");
    }

    #[test]
    fn packs_whose_times_overlap_are_both_looked_into() {
        let spread: Vec<u64> = (0..100).map(|n| 5_000 + n).collect();
        let (one, other) = (pack(7, &spread), pack(8, &spread));
        let mut runs = Runs::default();
        assert!(runs.put(7, &one) && runs.put(8, &other));
        assert_eq!(runs.packs(other[99].0).collect::<Vec<_>>(), [7, 8]);
        assert!(runs.take(other[99].0, other[99].1));
        assert!(runs.take(one[99].0, one[99].1), "the same slot of another pack");
    }

    #[test]
    fn few_messages_and_those_of_long_are_no_run() {
        let mut runs = Runs::default();
        let long: Vec<u64> = (0..20).map(|n| 1_000 + n * 7).collect();
        assert!(!runs.put(1, &pack(1, &long)) && !runs.put(2, &pack(2, &[1_000; 15])));
        assert!(runs.put(3, &[]) && runs.is_empty());
    }
}
