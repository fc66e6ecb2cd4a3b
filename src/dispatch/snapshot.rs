//! What metrics and people are shown of the dispatcher.

use std::sync::Arc;
use std::time::Duration;

use crate::message::Class;
use crate::time::Rate;
use crate::time::Time;

use super::Dispatch;
use super::station::Station;

/// How things stand at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Live messages.
    pub live: usize,
    /// Finished messages that a late receipt may still correct.
    pub late: usize,
    /// Receipts that fit no message yet.
    pub orphans: usize,
    /// Idempotency keys that are remembered.
    pub idempotency_keys: usize,
    /// Inbound messages that wait for parts.
    pub inbound_open: usize,
    /// Octets of message bodies in memory.
    pub body_bytes: usize,
    /// Whether the journal cannot write.
    pub is_store_down: bool,
    /// Each carrier of the config, and each that was and still has messages.
    pub carriers: Vec<CarrierSnapshot>,
}

/// One carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarrierSnapshot {
    /// Its name.
    pub carrier: Arc<str>,
    /// Whether it is in the config.
    pub is_configured: bool,
    /// How many of its binds take submits.
    pub binds: usize,
    /// How many requests may be unanswered, over all binds that take submits.
    pub window: u32,
    /// How many are, or are about to leave, also on binds that take no more.
    pub window_used: u32,
    /// The rate in force, in segments.
    pub rate: Rate,
    /// For how long nothing is sent, since the carrier throttled.
    pub silent_for: Option<Duration>,
    /// Ids that wait for receipts.
    pub ledger: usize,
    /// The lanes, the most urgent class first.
    pub lanes: [LaneSnapshot; 3],
}

/// The lane of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSnapshot {
    /// The class.
    pub class: Class,
    /// How many messages wait.
    pub messages: usize,
    /// How long the first of them has waited.
    pub oldest: Option<Duration>,
}

impl Dispatch {
    /// How things stand. This looks at each carrier, bind and key, at no message.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let carriers = self.stations.iter().zip(0..);
        let carriers = carriers.map(|(station, number)| {
            let ledger = self.book.ledger.len(crate::route::CarrierId(number));
            self.carrier_snapshot(now, station, ledger)
        });
        let shown = |it: &CarrierSnapshot| {
            it.is_configured || it.ledger > 0 || it.lanes.iter().any(|lane| lane.messages > 0)
        };
        Snapshot {
            live: self.book.live(),
            late: self.book.late.len(),
            orphans: self.book.orphans.len(),
            idempotency_keys: self.book.requests.len(),
            inbound_open: self.book.parts.len(),
            body_bytes: self.bodies.octets(),
            is_store_down: self.is_store_down,
            carriers: carriers.filter(shown).collect(),
        }
    }

    fn carrier_snapshot(&self, now: Time, station: &Station, ledger: usize) -> CarrierSnapshot {
        let open = || station.binds.values().filter(|bind| bind.is_open());
        let silent_until = station.pace.silent_until();
        CarrierSnapshot {
            carrier: station.name.clone(),
            is_configured: station.carrier.is_some(),
            binds: open().count(),
            window: open().map(|bind| u32::from(bind.window)).sum(),
            window_used: station.binds.values().map(|bind| u32::from(bind.used)).sum(),
            rate: station.pace.rate(),
            silent_for: (silent_until > now).then(|| silent_until.since(now)),
            ledger,
            lanes: Class::ALL.map(|class| {
                let lane = station.lane(class);
                let oldest = lane.oldest(&self.book.table).map(|since| now.since(since));
                LaneSnapshot { class, messages: lane.len(), oldest }
            }),
        }
    }
}
