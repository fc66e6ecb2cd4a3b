//! What of messages and events lies sealed, and how it is parted from the rest and joined again.
//!
//! Sealed are numbers, texts, callback URLs and what receipts say in words. The rest is written as
//! if those were empty, in the very form of the types themselves, so it is read back as them.

use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeSeq;
use serde::ser::SerializeStruct;
use serde::ser::SerializeStructVariant;

use crate::archive::Entry;
use crate::archive::Inbound;
use crate::archive::Message;
use crate::archive::Origin;
use crate::archive::Segment;
use crate::archive::Step;
use crate::archive::Unmatched;
use crate::message::Class;
use crate::message::MessageId;
use crate::message::PlanSummary;
use crate::message::Position;
use crate::message::Reason;
use crate::message::ReceiptRecord;
use crate::message::ReceiptsWanted;
use crate::message::State;
use crate::pdu::CommandStatus;
use crate::time::Time;

/// What stands for a number whose key was erased.
pub const ERASED: &str = "erased";

/// An [`Origin`] without what is sealed, and without its key.
#[derive(Serialize)]
pub(super) struct OpenOrigin<'a> {
    id: MessageId,
    position: Position,
    key: &'a str,
    to: &'a str,
    from: Option<&'a str>,
    class: Class,
    client_ref: Option<&'a str>,
    campaign: Option<&'a str>,
    tags: &'a [Box<str>],
    plan: &'a PlanSummary,
    receipts: ReceiptsWanted,
    callback_url: Option<&'a str>,
    created_at: Time,
    send_at: Option<Time>,
    expires_at: Time,
}

impl<'a> OpenOrigin<'a> {
    pub(super) fn of(origin: &'a Origin) -> Self {
        Self {
            id: origin.id,
            position: origin.position,
            key: "",
            to: "",
            from: None,
            class: origin.class,
            client_ref: origin.client_ref.as_deref(),
            campaign: origin.campaign.as_deref(),
            tags: &origin.tags,
            plan: &origin.plan,
            receipts: origin.receipts,
            callback_url: None,
            created_at: origin.created_at,
            send_at: origin.send_at,
            expires_at: origin.expires_at,
        }
    }
}

/// A [`Message`] without what is sealed, and without its key and carrier.
#[derive(Serialize)]
pub(super) struct OpenMessage<'a> {
    origin: OpenOrigin<'a>,
    updated: Position,
    text: Option<&'a str>,
    state: State,
    reason: Option<Reason>,
    carrier: &'a str,
    carrier_status: Option<CommandStatus>,
    carrier_error: &'a str,
    attempt: u16,
    submitted_at: Option<Time>,
    done_at: Option<Time>,
    corrected_at: Option<Time>,
    segments: &'a [Segment],
    timeline: OpenTimeline<'a>,
    omitted: u32,
}

impl<'a> OpenMessage<'a> {
    pub(super) fn of(message: &'a Message) -> Self {
        Self {
            origin: OpenOrigin::of(&message.origin),
            updated: message.updated,
            text: None,
            state: message.state,
            reason: message.reason,
            carrier: "",
            carrier_status: message.carrier_status,
            carrier_error: &message.carrier_error,
            attempt: message.attempt,
            submitted_at: message.submitted_at,
            done_at: message.done_at,
            corrected_at: message.corrected_at,
            segments: &message.segments,
            timeline: OpenTimeline(&message.timeline),
            omitted: message.omitted,
        }
    }
}

struct OpenTimeline<'a>(&'a [Entry]);

impl Serialize for OpenTimeline<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for entry in self.0 {
            match &entry.step {
                Step::Receipt { attempt, segment, receipt } => {
                    let step = OpenStep {
                        attempt: *attempt,
                        segment: *segment,
                        receipt: (&**receipt).into(),
                    };
                    seq.serialize_element(&OpenEntry { at: entry, step })?;
                }
                _ => seq.serialize_element(entry)?,
            }
        }
        seq.end()
    }
}

struct OpenEntry<'a> {
    at: &'a Entry,
    step: OpenStep<'a>,
}

impl Serialize for OpenEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entry = serializer.serialize_struct("Entry", 3)?;
        entry.serialize_field("position", &self.at.position)?;
        entry.serialize_field("at", &self.at.at)?;
        entry.serialize_field("step", &self.step)?;
        entry.end()
    }
}

/// A [`Step::Receipt`].
struct OpenStep<'a> {
    attempt: u16,
    segment: u8,
    receipt: OpenReceipt<'a>,
}

/// The place of [`Step::Receipt`] among the steps.
const RECEIPT: u32 = 4;

impl Serialize for OpenStep<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut step = serializer.serialize_struct_variant("Step", RECEIPT, "Receipt", 3)?;
        step.serialize_field("attempt", &self.attempt)?;
        step.serialize_field("segment", &self.segment)?;
        step.serialize_field("receipt", &self.receipt)?;
        step.end()
    }
}

/// A [`ReceiptRecord`] without its number and its words.
#[derive(Serialize)]
struct OpenReceipt<'a> {
    carrier_message_id: &'a str,
    text_id: &'a str,
    source: &'a str,
    state: &'a str,
    is_final: bool,
    error: &'a str,
    raw: &'a str,
}

impl<'a> From<&'a ReceiptRecord> for OpenReceipt<'a> {
    fn from(receipt: &'a ReceiptRecord) -> Self {
        Self {
            carrier_message_id: &receipt.carrier_message_id,
            text_id: &receipt.text_id,
            source: "",
            state: &receipt.state,
            is_final: receipt.is_final,
            error: &receipt.error,
            raw: "",
        }
    }
}

/// An [`Inbound`] without what is sealed, and without its key.
#[derive(Serialize)]
pub(super) struct OpenInbound<'a> {
    id: MessageId,
    position: Position,
    key: &'a str,
    at: Time,
    carrier: &'a str,
    from: &'a str,
    to: &'a str,
    data_coding: u8,
    udh: &'a [u8],
    text: Option<&'a str>,
    octets: &'a [u8],
    complete: bool,
}

impl<'a> OpenInbound<'a> {
    pub(super) fn of(inbound: &'a Inbound) -> Self {
        Self {
            id: inbound.id,
            position: inbound.position,
            key: "",
            at: inbound.at,
            carrier: &inbound.carrier,
            from: "",
            to: "",
            data_coding: inbound.data_coding,
            udh: &[],
            text: None,
            octets: &[],
            complete: inbound.complete,
        }
    }
}

/// An [`Unmatched`] without what is sealed.
#[derive(Serialize)]
pub(super) struct OpenUnmatched<'a> {
    position: Position,
    at: Time,
    carrier: &'a str,
    receipt: OpenReceipt<'a>,
}

impl<'a> OpenUnmatched<'a> {
    pub(super) fn of(unmatched: &'a Unmatched) -> Self {
        Self {
            position: unmatched.position,
            at: unmatched.at,
            carrier: &unmatched.carrier,
            receipt: (&unmatched.receipt).into(),
        }
    }
}

/// What of an [`Origin`] is sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OriginSecret<T> {
    to: T,
    from: Option<T>,
    callback_url: Option<T>,
}

impl<'a> OriginSecret<&'a str> {
    pub(super) fn of(origin: &'a Origin) -> Self {
        Self {
            to: &origin.to,
            from: origin.from.as_deref(),
            callback_url: origin.callback_url.as_deref(),
        }
    }
}

/// Puts back what was sealed; without it, what stands for it.
pub(super) fn fill_origin(origin: &mut Origin, secret: Option<OriginSecret<Box<str>>>) {
    match secret {
        Some(secret) => {
            origin.to = secret.to;
            origin.from = secret.from;
            origin.callback_url = secret.callback_url;
        }
        None => origin.to = ERASED.into(),
    }
}

/// What of a [`Message`] is sealed, as it is written.
#[derive(Serialize)]
pub(super) struct MessageSecretRef<'a> {
    origin: OriginSecret<&'a str>,
    text: Option<&'a str>,
    receipts: Receipts<'a>,
}

impl<'a> MessageSecretRef<'a> {
    pub(super) fn of(message: &'a Message) -> Self {
        Self {
            origin: OriginSecret::of(&message.origin),
            text: message.text.as_deref(),
            receipts: Receipts(&message.timeline),
        }
    }
}

struct Receipts<'a>(&'a [Entry]);

impl Serialize for Receipts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let receipts = || {
            self.0.iter().filter_map(|entry| match &entry.step {
                Step::Receipt { receipt, .. } => Some(receipt),
                _ => None,
            })
        };
        let mut seq = serializer.serialize_seq(Some(receipts().count()))?;
        for receipt in receipts() {
            seq.serialize_element(&ReceiptSecret::of(receipt))?;
        }
        seq.end()
    }
}

/// What of a [`Message`] is sealed, as it is read.
#[derive(Deserialize)]
pub(super) struct MessageSecret {
    origin: OriginSecret<Box<str>>,
    text: Option<Box<str>>,
    receipts: Vec<ReceiptSecret<Box<str>>>,
}

/// Puts back what was sealed; without it, what stands for it.
pub(super) fn fill_message(message: &mut Message, secret: Option<MessageSecret>) {
    let (origin, text, receipts) = match secret {
        Some(secret) => (Some(secret.origin), secret.text, secret.receipts),
        None => (None, None, Vec::new()),
    };
    fill_origin(Arc::make_mut(&mut message.origin), origin);
    message.text = text;
    let mut receipts = receipts.into_iter();
    for entry in &mut message.timeline {
        if let Step::Receipt { receipt, .. } = &mut entry.step {
            fill_receipt(receipt, receipts.next());
        }
    }
}

/// What of a [`ReceiptRecord`] is sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ReceiptSecret<T> {
    source: T,
    raw: T,
}

impl<'a> ReceiptSecret<&'a str> {
    pub(super) fn of(receipt: &'a ReceiptRecord) -> Self {
        Self { source: &receipt.source, raw: &receipt.raw }
    }
}

/// Puts back what was sealed; without it, what stands for it.
pub(super) fn fill_receipt(receipt: &mut ReceiptRecord, secret: Option<ReceiptSecret<Box<str>>>) {
    match secret {
        Some(secret) => (receipt.source, receipt.raw) = (secret.source, secret.raw),
        None => receipt.source = ERASED.into(),
    }
}

/// What of an [`Inbound`] is sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct InboundSecret<T, B> {
    from: T,
    to: T,
    udh: B,
    text: Option<T>,
    octets: B,
}

impl<'a> InboundSecret<&'a str, &'a [u8]> {
    pub(super) fn of(inbound: &'a Inbound) -> Self {
        Self {
            from: &inbound.from,
            to: &inbound.to,
            udh: &inbound.udh,
            text: inbound.text.as_deref(),
            octets: &inbound.octets,
        }
    }
}

/// Puts back what was sealed; without it, what stands for it.
pub(super) fn fill_inbound(
    inbound: &mut Inbound,
    secret: Option<InboundSecret<Box<str>, Box<[u8]>>>,
) {
    match secret {
        Some(secret) => {
            (inbound.from, inbound.to) = (secret.from, secret.to);
            (inbound.udh, inbound.octets) = (secret.udh, secret.octets);
            inbound.text = secret.text;
        }
        None => (inbound.from, inbound.to) = (ERASED.into(), ERASED.into()),
    }
}
