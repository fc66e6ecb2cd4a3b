//! Receipts as simulated carriers write them (SMPP 3.4 appendix B).

use bytes::Bytes;
use jiff::Timestamp;

use crate::pdu::Body;
use crate::pdu::DeliverSm;
use crate::pdu::EsmClass;
use crate::pdu::MessageState;
use crate::pdu::RegisteredDelivery;
use crate::pdu::ShortMessage;
use crate::pdu::SubmitSm;
use crate::pdu::Tag;
use crate::pdu::Tlvs;
use crate::smsc::config::ReceiptForm;
use crate::text::Udh;
use crate::time::Time;

/// What a receipt says.
pub(super) struct ReceiptText<'a> {
    /// The message id, in the form that receipts have.
    pub(super) id: &'a str,
    /// The final state.
    pub(super) state: MessageState,
    /// When the message was taken.
    pub(super) submitted: Time,
    /// When it reached its state.
    pub(super) done: Time,
}

/// Whether the submit asked for a receipt of this state (SMPP 5.0 §4.7.21).
pub(super) fn is_wanted(submit: &SubmitSm, state: MessageState) -> bool {
    match RegisteredDelivery(submit.registered_delivery.receipt()) {
        RegisteredDelivery::ANY_OUTCOME => true,
        RegisteredDelivery::FAILURE => state != MessageState::DELIVERED,
        RegisteredDelivery::SUCCESS => state == MessageState::DELIVERED,
        _ => false,
    }
}

/// Which segment of its message this is, from 1; 1 for a message of one segment.
pub(super) fn segment_number(submit: &SubmitSm) -> u8 {
    if let Some(number) = submit.tlvs.get_u8(Tag::SAR_SEGMENT_SEQNUM) {
        return number;
    }
    let (udh, _) = Udh::split(submit.esm_class.udhi(), submit.short_message.as_bytes());
    udh.concat.map_or(1, |concat| concat.seq)
}

/// The `deliver_sm` that tells of `submit`.
pub(super) fn write(form: ReceiptForm, submit: &SubmitSm, receipt: &ReceiptText<'_>) -> Body {
    let text = match form {
        ReceiptForm::Both | ReceiptForm::Text => full_text(receipt),
        ReceiptForm::Tlv => String::new(),
        ReceiptForm::Terse => {
            format!("id:{} stat:{} text:", receipt.id, word(receipt.state).to_lowercase())
        }
    };
    let tlvs = match form {
        ReceiptForm::Both | ReceiptForm::Tlv => tlvs(receipt),
        ReceiptForm::Text | ReceiptForm::Terse => Tlvs::default(),
    };
    Body::DeliverSm(DeliverSm {
        source: submit.destination.clone(),
        destination: submit.source.clone(),
        esm_class: EsmClass::MC_DELIVERY_RECEIPT,
        short_message: ShortMessage::new(Bytes::from(text)).unwrap_or(ShortMessage::EMPTY),
        tlvs,
        ..DeliverSm::default()
    })
}

fn full_text(receipt: &ReceiptText<'_>) -> String {
    let delivered = receipt.state == MessageState::DELIVERED;
    format!(
        "id:{} sub:001 dlvrd:{} submit date:{} done date:{} stat:{} err:{} text:",
        receipt.id,
        if delivered { "001" } else { "000" },
        date(receipt.submitted),
        date(receipt.done),
        word(receipt.state),
        if delivered { "000" } else { "001" },
    )
}

fn tlvs(receipt: &ReceiptText<'_>) -> Tlvs {
    let mut tlvs = Tlvs::default();
    // An id of a simulated carrier has at most 36 octets, so it always fits.
    let _fits = tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, receipt.id.as_bytes());
    tlvs.push_u8(Tag::MESSAGE_STATE, receipt.state.0);
    tlvs
}

/// `YYMMDDhhmm` in UTC.
fn date(at: Time) -> String {
    let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(micros).unwrap_or_default().strftime("%y%m%d%H%M").to_string()
}

/// The seven letters of SMPP 3.4 appendix B.
const fn word(state: MessageState) -> &'static str {
    match state {
        MessageState::DELIVERED => "DELIVRD",
        MessageState::EXPIRED => "EXPIRED",
        MessageState::DELETED => "DELETED",
        MessageState::UNDELIVERABLE => "UNDELIV",
        MessageState::ACCEPTED => "ACCEPTD",
        MessageState::REJECTED => "REJECTD",
        _ => "UNKNOWN",
    }
}
