//! A message as the requests that hand it to one carrier.

use std::num::NonZeroU8;
use std::time::Duration;

use bytes::Bytes;

use super::carrier::Carrier;
use super::carrier::CarrierConfig;
use super::carrier::Operation;
use super::carrier::ReceiptOn;
use super::carrier::SenderError;
use super::carrier::SubmitConfig;
use super::carrier::Validity;
use super::tlv::TlvError;
use crate::message::Content;
use crate::message::PlanSummary;
use crate::message::Reason;
use crate::message::ReceiptsWanted;
use crate::message::SegmentSet;
use crate::message::Submission;
use crate::pdu::Address;
use crate::pdu::Body;
use crate::pdu::COctetString;
use crate::pdu::CancelSm;
use crate::pdu::DataSm;
use crate::pdu::EsmClass;
use crate::pdu::QuerySm;
use crate::pdu::RegisteredDelivery;
use crate::pdu::ShortMessage;
use crate::pdu::SmppTime;
use crate::pdu::SubmitSm;
use crate::pdu::Tag;
use crate::pdu::Tlvs;
use crate::text;
use crate::text::EncodingChoice;
use crate::text::Plan;
use crate::text::PlanError;
use crate::text::Segment;
use crate::text::address::AddressError;
use crate::text::address::E164;
use crate::text::address::Region;
use crate::time::Time;

/// Why a carrier cannot be sent a message; another one may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It cannot carry the text.
    #[error(transparent)]
    Text(#[from] PlanError),
    /// It does not take the sender.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The destination is no number.
    #[error("the destination cannot be read: {0}")]
    Destination(AddressError),
    /// A TLV that it wants cannot be written.
    #[error(transparent)]
    Tlv(#[from] TlvError),
}

impl Unfit {
    /// What to tell the owner should the message end here.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Text(PlanError::Unencodable { .. }) => Reason::UnencodableText,
            Self::Text(PlanError::BadHeader { .. } | PlanError::HeaderTooLong { .. }) => {
                Reason::ContentRefused
            }
            Self::Text(_) => Reason::TextTooLong,
            Self::Sender(_) => Reason::InvalidSender,
            Self::Destination(_) => Reason::InvalidDestination,
            Self::Tlv(_) => Reason::Refused,
        }
    }
}

/// Chooses the coding of `content` for `carrier` and counts its segments.
///
/// `max_segments` is what the owner will pay for; the carrier's own limit holds too.
///
/// # Errors
/// What the carrier cannot carry, or by how much the content is too long.
pub fn plan(
    content: &Content,
    encoding: EncodingChoice,
    max_segments: u8,
    carrier: &Carrier,
) -> Result<Plan, PlanError> {
    let profile = &carrier.config.text;
    let max = Some(NonZeroU8::new(max_segments).unwrap_or(NonZeroU8::MIN));
    match content {
        Content::Text(characters) => text::plan(characters, encoding, profile, max),
        Content::Binary { octets, udh } => {
            text::binary(Bytes::copy_from_slice(octets), udh, None, profile, max)
        }
    }
}

/// What a submission keeps of `plan`, made for the first carrier of `route`.
pub fn summary(route: &str, plan: &Plan) -> PlanSummary {
    PlanSummary {
        route: route.into(),
        encoding: plan.coding.name().into(),
        segments: u8::try_from(plan.segments_on_air).unwrap_or(u8::MAX),
        units: u32::try_from(plan.units).unwrap_or(u32::MAX),
    }
}

/// The requests that hand the segments in `wanted` of a message to `carrier`, each with its
/// number from 0.
///
/// `reference` marks them as parts of one message; the same one gives the same octets again, so a
/// retry may send only what is missing. All segments are alike but for their text, and but for
/// what says which of them comes last.
///
/// # Errors
/// When the carrier cannot be sent this message.
pub fn compose(
    now: Time,
    submission: &Submission,
    carrier: &Carrier,
    plan: &Plan,
    reference: u16,
    wanted: &SegmentSet,
) -> Result<Vec<(u8, Body)>, Unfit> {
    let frame = Frame::new(now, submission, carrier, plan, reference)?;
    let segments = plan.segments(reference);
    let last = segments.len().saturating_sub(1);
    let numbered = segments.into_iter().enumerate().filter_map(|(index, segment)| {
        let number = u8::try_from(index).ok().filter(|number| wanted.contains(*number))?;
        Some((number, frame.fill(segment, index == last)))
    });
    numbered.map(|(number, body)| body.map(|body| (number, body))).collect()
}

/// The `query_sm` for the segment that `carrier` calls `message_id`.
///
/// # Errors
/// When the carrier cannot be sent this message. `None` when the id is empty or longer than SMPP
/// allows: there is nothing to ask for.
pub fn query(
    submission: &Submission,
    carrier: &Carrier,
    message_id: &str,
) -> Result<Option<Body>, Unfit> {
    let source = carrier.source(submission.from.as_deref())?;
    let tlvs = Tlvs::new();
    let id = COctetString::try_from(message_id).ok().filter(|id| !COctetString::is_empty(id));
    Ok(id.map(|message_id| Body::QuerySm(QuerySm { message_id, source, tlvs })))
}

/// The `cancel_sm` for the segment that `carrier` calls `message_id`.
///
/// # Errors
/// As for [`query`].
pub fn cancel(
    submission: &Submission,
    carrier: &Carrier,
    message_id: &str,
) -> Result<Option<Body>, Unfit> {
    let (source, destination) = addresses(submission, carrier)?;
    let Ok(message_id) = COctetString::try_from(message_id) else { return Ok(None) };
    // A service type or an empty id would take back more than this one (SMPP 3.4 §4.9.1).
    if message_id.is_empty() {
        return Ok(None);
    }
    let (service_type, tlvs) = (COctetString::EMPTY, Tlvs::new());
    Ok(Some(Body::CancelSm(CancelSm { service_type, message_id, source, destination, tlvs })))
}

fn addresses(submission: &Submission, carrier: &Carrier) -> Result<(Address, Address), Unfit> {
    let source = carrier.source(submission.from.as_deref())?;
    let number = E164::parse(&submission.to, Region::None).map_err(Unfit::Destination)?;
    Ok((source, carrier.config.addresses.destination(number)))
}

/// What all segments of a message share.
struct Frame<'a> {
    carrier: &'a Carrier,
    operation: Operation,
    last_only: bool,
    submit: SubmitSm,
}

impl<'a> Frame<'a> {
    fn new(
        now: Time,
        submission: &Submission,
        carrier: &'a Carrier,
        plan: &Plan,
        reference: u16,
    ) -> Result<Self, Unfit> {
        let CarrierConfig { submit, receipts, .. } = &*carrier.config;
        let (source, destination) = addresses(submission, carrier)?;
        let left = submission.expires_at.since(now).min(submit.max_validity.0);
        let mut tlvs = Tlvs::new();
        if carrier.has_tlvs {
            for tlv in &carrier.tlvs {
                tlv.push(submission, &mut tlvs)?;
            }
            if submit.user_message_reference {
                tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, reference);
            }
            if submit.operation == Operation::DataSm && submit.validity != Validity::None {
                let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
                tlvs.push_u32(Tag::QOS_TIME_TO_LIVE, seconds.max(1));
            }
        }
        let submit = SubmitSm {
            service_type: COctetString::try_from(&*submit.service_type).unwrap_or_default(),
            source,
            destination,
            esm_class: EsmClass(submit.esm_class_mode & 0x03),
            protocol_id: submit.protocol_id,
            priority_flag: submit.priority_flag,
            schedule_delivery_time: COctetString::EMPTY,
            validity_period: validity(now, left, submit.validity),
            registered_delivery: registered_delivery(submission.receipts, submit),
            replace_if_present_flag: submit.replace_if_present_flag,
            data_coding: plan.data_coding,
            sm_default_msg_id: submit.sm_default_msg_id,
            short_message: ShortMessage::EMPTY,
            tlvs,
        };
        let last_only = receipts.on == ReceiptOn::Last;
        Ok(Self { carrier, operation: carrier.config.submit.operation, last_only, submit })
    }

    /// The request that carries `segment`.
    fn fill(&self, segment: Segment, is_last: bool) -> Result<Body, Unfit> {
        let mut submit = self.submit.clone();
        if segment.udhi() {
            submit.esm_class = submit.esm_class | EsmClass::UDHI;
        }
        if self.last_only && !is_last {
            submit.registered_delivery = RegisteredDelivery::NONE;
        }
        if let Some(sar) = segment.sar {
            submit.tlvs.push_u16(Tag::SAR_MSG_REF_NUM, sar.reference);
            submit.tlvs.push_u8(Tag::SAR_TOTAL_SEGMENTS, sar.total);
            submit.tlvs.push_u8(Tag::SAR_SEGMENT_SEQNUM, sar.seq);
        }
        if self.carrier.config.submit.more_messages_to_send && !is_last {
            submit.tlvs.push_u8(Tag::MORE_MESSAGES_TO_SEND, 1);
        }
        let fits = segment.user_data.len() <= ShortMessage::MAX_V3;
        if fits && self.operation == Operation::SubmitSm {
            submit.short_message = ShortMessage::new(segment.user_data).unwrap_or_default();
            return Ok(Body::SubmitSm(submit));
        }
        let (tag, len) = (Tag::MESSAGE_PAYLOAD, segment.user_data.len());
        let max = usize::from(u16::MAX);
        submit.tlvs.push(tag, &segment.user_data).map_err(|_| TlvError::TooLong {
            tag,
            len,
            max,
        })?;
        Ok(match self.operation {
            Operation::SubmitSm => Body::SubmitSm(submit),
            Operation::DataSm => Body::DataSm(data_sm(submit)),
        })
    }
}

/// The same request as a `data_sm`, which has fewer fields.
fn data_sm(submit: SubmitSm) -> DataSm {
    let widen = |address: Address| Address {
        ton: address.ton,
        npi: address.npi,
        addr: COctetString::new(address.addr.to_bytes()).unwrap_or_default(),
    };
    DataSm {
        service_type: submit.service_type,
        source: widen(submit.source),
        destination: widen(submit.destination),
        esm_class: submit.esm_class,
        registered_delivery: submit.registered_delivery,
        data_coding: submit.data_coding,
        tlvs: submit.tlvs,
    }
}

/// `validity_period` for a message that may live for `left` more; at least a second.
fn validity(now: Time, left: Duration, form: Validity) -> COctetString<17> {
    let left = left.max(Duration::from_secs(1));
    let time = match form {
        Validity::Relative => SmppTime::Relative(left),
        Validity::Absolute => SmppTime::Absolute(now + left),
        Validity::None => return COctetString::EMPTY,
    };
    // Beyond the century the SMSC's own validity has to do.
    time.format().unwrap_or_default()
}

fn registered_delivery(wanted: ReceiptsWanted, submit: &SubmitConfig) -> RegisteredDelivery {
    match wanted {
        ReceiptsWanted::None => RegisteredDelivery::NONE,
        _ if !submit.receipts => RegisteredDelivery::NONE,
        ReceiptsWanted::All if submit.intermediate => {
            RegisteredDelivery::ANY_OUTCOME | RegisteredDelivery::INTERMEDIATE
        }
        ReceiptsWanted::All | ReceiptsWanted::Final => RegisteredDelivery::ANY_OUTCOME,
    }
}
