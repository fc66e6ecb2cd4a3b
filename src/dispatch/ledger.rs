//! Which segment a receipt is about: by carrier and id, in whatever form the carrier repeats it.

use crate::receipt::IdIndex;
use crate::receipt::IdMode;
use crate::receipt::Match;
use crate::receipt::ReceiptIds;
use crate::route::CarrierId;

use super::table::Slot;

/// One segment of one attempt of one message, in eight octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Target {
    pub(super) slot: Slot,
    pub(super) attempt: u16,
    pub(super) segment: u8,
}

/// The ids of all segments that carriers took and that are still held.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    by_carrier: Vec<IdIndex<Target>>,
}

impl Ledger {
    pub(super) fn insert(&mut self, carrier: CarrierId, id: &str, target: Target) {
        let place = usize::from(carrier.0);
        if self.by_carrier.len() <= place {
            self.by_carrier.resize_with(place + 1, IdIndex::new);
        }
        if let Some(index) = self.by_carrier.get_mut(place) {
            index.insert(id, target);
        }
    }

    pub(super) fn remove(&mut self, carrier: CarrierId, id: &str, target: Target) {
        if let Some(index) = self.by_carrier.get_mut(usize::from(carrier.0)) {
            index.remove(id, target);
        }
    }

    /// The segments that the ids of a receipt fit, in no order.
    pub(super) fn find(
        &self,
        carrier: CarrierId,
        mode: IdMode,
        ids: ReceiptIds<'_>,
    ) -> Vec<Target> {
        let index = self.by_carrier.get(usize::from(carrier.0));
        match index.map(|index| index.lookup(mode, ids)) {
            None | Some(Match::None) => Vec::new(),
            Some(Match::One(target, _)) => vec![target],
            Some(Match::Ambiguous(targets)) => targets,
        }
    }

    /// How many ids of `carrier` it holds.
    pub(super) fn len(&self, carrier: CarrierId) -> usize {
        self.by_carrier.get(usize::from(carrier.0)).map_or(0, IdIndex::len)
    }
}
