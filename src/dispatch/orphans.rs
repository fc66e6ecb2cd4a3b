//! Receipts that fit no answer yet, and those that were seen before.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

use crate::message::ReceiptRecord;
use crate::receipt::EarlyIndex;
use crate::receipt::IdMode;
use crate::receipt::ReceiptIds;
use crate::route::CarrierId;
use crate::time::Time;

/// Receipts that wait for a `submit_sm_resp` that is still to come.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// In the order in which they came.
    entries: BTreeMap<OrphanId, Orphan>,
    by_id: HashMap<(CarrierId, Box<str>), Vec<OrphanId>>,
    next: u64,
}

/// The number of an orphan; later ones are higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct OrphanId(u64);

/// A receipt that fits nothing yet.
#[derive(Clone, Debug)]
pub(super) struct Orphan {
    pub(super) at: Time,
    pub(super) carrier: CarrierId,
    pub(super) receipt: ReceiptRecord,
}

impl Orphans {
    pub(super) fn push(&mut self, orphan: Orphan) -> OrphanId {
        let id = OrphanId(self.next);
        self.next += 1;
        let key = (orphan.carrier, orphan.receipt.carrier_message_id.clone());
        self.by_id.entry(key).or_default().push(id);
        self.entries.insert(id, orphan);
        id
    }

    pub(super) fn get(&self, id: OrphanId) -> Option<&Orphan> {
        self.entries.get(&id)
    }

    /// The first one from `carrier` with this id of a message, and of this content if one is given.
    pub(super) fn find(
        &self,
        carrier: CarrierId,
        message: &str,
        content: Option<&ReceiptRecord>,
    ) -> Option<OrphanId> {
        let ids = self.by_id.get(&(carrier, message.into()))?;
        let fits = |id: &&OrphanId| {
            content.is_none_or(|content| self.get(**id).is_some_and(|it| it.receipt == *content))
        };
        ids.iter().find(fits).copied()
    }

    pub(super) fn remove(&mut self, id: OrphanId) {
        let Some(orphan) = self.entries.remove(&id) else { return };
        let key = (orphan.carrier, orphan.receipt.carrier_message_id);
        if let Some(ids) = self.by_id.get_mut(&key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_id.remove(&key);
            }
        }
    }

    /// The one that has waited longest.
    pub(super) fn oldest(&self) -> Option<(OrphanId, &Orphan)> {
        self.entries.first_key_value().map(|(id, orphan)| (*id, orphan))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (OrphanId, &Orphan)> {
        self.entries.iter().map(|(id, orphan)| (*id, orphan))
    }
}

/// The ids that a receipt is looked up by.
pub(super) fn ids(receipt: &ReceiptRecord) -> ReceiptIds<'_> {
    let some = |id: &'_ str| !id.is_empty();
    ReceiptIds {
        first: Some(&*receipt.carrier_message_id).filter(|id| some(id)),
        second: Some(&*receipt.text_id).filter(|id| some(id)),
    }
}

/// Which orphans an answer may bring home, by carrier. It depends on the carriers' config, so it
/// is made anew when that changes.
#[derive(Debug, Default)]
pub(super) struct Homes {
    by_carrier: HashMap<CarrierId, EarlyIndex<OrphanId>>,
}

impl Homes {
    /// The index of `orphans`; `mode` tells how a carrier writes ids.
    pub(super) fn of(orphans: &Orphans, mode: impl Fn(CarrierId) -> IdMode) -> Self {
        let mut homes = Self::default();
        for (id, orphan) in orphans.iter() {
            homes.insert(mode(orphan.carrier), id, orphan);
        }
        homes
    }

    pub(super) fn insert(&mut self, mode: IdMode, id: OrphanId, orphan: &Orphan) {
        let index = self.by_carrier.entry(orphan.carrier).or_default();
        index.insert(mode, ids(&orphan.receipt), id);
    }

    pub(super) fn remove(&mut self, mode: IdMode, id: OrphanId, orphan: &Orphan) {
        if let Some(index) = self.by_carrier.get_mut(&orphan.carrier) {
            index.remove(mode, ids(&orphan.receipt), id);
        }
    }

    /// The orphans that may be about the answer with this id.
    pub(super) fn candidates(&self, carrier: CarrierId, message: &str) -> Vec<OrphanId> {
        let index = self.by_carrier.get(&carrier);
        index.map_or_else(Vec::new, |index| index.candidates(message))
    }
}

/// The ids of receipts whose message is forgotten, so that a repeated one is known as such.
#[derive(Debug)]
pub(super) struct Repeats {
    limit: usize,
    seen: HashSet<u64>,
    ages: VecDeque<u64>,
}

impl Repeats {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, seen: HashSet::new(), ages: VecDeque::new() }
    }

    pub(super) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn note(&mut self, carrier: &str, receipt: &ReceiptRecord) {
        if receipt.carrier_message_id.is_empty() {
            return;
        }
        let hash = Self::hash(carrier, receipt);
        if self.seen.insert(hash) {
            self.ages.push_back(hash);
        }
        while self.ages.len() > self.limit {
            let oldest = self.ages.pop_front();
            oldest.map(|oldest| self.seen.remove(&oldest));
        }
    }

    pub(super) fn knows(&self, carrier: &str, receipt: &ReceiptRecord) -> bool {
        self.seen.contains(&Self::hash(carrier, receipt))
    }

    fn hash(carrier: &str, receipt: &ReceiptRecord) -> u64 {
        let mut hasher = DefaultHasher::new();
        (carrier, &receipt.carrier_message_id, &receipt.source).hash(&mut hasher);
        hasher.finish()
    }
}
