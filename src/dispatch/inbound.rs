//! Messages from handsets: one PDU each, and whole once all parts of a long one are there.

use std::collections::VecDeque;

use crate::message::InboundRecord;
use crate::text::reassembly::Limits;
use crate::text::reassembly::Message;
use crate::text::reassembly::Reassembly;
use crate::text::udh::Concat;
use crate::text::udh::RefBits;
use crate::time::Time;

/// Inbound messages that wait for parts, and those that wait for their record.
#[derive(Debug)]
pub(super) struct Parts {
    open: Reassembly<Between, Part>,
    ready: VecDeque<Message<Between, Part>>,
}

/// Carrier, handset and our number, as the carrier wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Between {
    pub(super) carrier: Box<str>,
    pub(super) from: Box<str>,
    pub(super) to: Box<str>,
}

/// A part; two are the same when they say the same.
#[derive(Clone, Debug)]
pub(super) struct Part(pub(super) InboundRecord);

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.0.octets == other.0.octets && self.0.data_coding == other.0.data_coding
    }
}

impl Parts {
    pub(super) fn new(limits: Limits) -> Self {
        Self { open: Reassembly::new(limits), ready: VecDeque::new() }
    }

    /// Takes an inbound PDU; returns when it came.
    pub(super) fn push(&mut self, inbound: &InboundRecord) -> Time {
        if let Some(concat) = concat(inbound).filter(|concat| concat.is_plausible()) {
            let (part, octets) = (Part(inbound.clone()), inbound.octets.len());
            self.open.push(inbound.at, between(inbound), concat, part, octets);
            self.drain();
        }
        inbound.at
    }

    /// Takes that the record of a whole message was made; returns when.
    pub(super) fn done(&mut self, whole: &InboundRecord) -> Time {
        self.expire(whole.at);
        let reference = concat(whole).map(|concat| (concat.bits, concat.reference));
        let is_it = |message: &Message<Between, Part>| {
            message.reference == reference && message.key == between(whole)
        };
        if let Some(place) = self.ready.iter().position(is_it) {
            self.ready.remove(place);
        }
        whole.at
    }

    /// Gives up on what has waited too long; see [`Parts::ready`].
    pub(super) fn expire(&mut self, now: Time) {
        self.open.expire(now);
        self.drain();
    }

    /// When [`Parts::expire`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.open.deadline()
    }

    /// The next message that wants its record; it stays until [`Parts::done`].
    pub(super) fn ready(&self) -> Option<&Message<Between, Part>> {
        self.ready.front()
    }

    /// How many messages wait for parts.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn drain(&mut self) {
        self.ready.extend(std::iter::from_fn(|| self.open.poll()));
    }
}

fn between(inbound: &InboundRecord) -> Between {
    Between { carrier: inbound.carrier.clone(), from: inbound.from.clone(), to: inbound.to.clone() }
}

fn concat(inbound: &InboundRecord) -> Option<Concat> {
    let (reference, bits, total, seq) = inbound.part?;
    let bits = if bits == 16 { RefBits::Sixteen } else { RefBits::Eight };
    Some(Concat { reference, bits, total, seq })
}
