//! What the body of the fuzz target `smsc` draws from its script: the carrier, and what is said.

use bytes::Bytes;
use hikyaku::pdu::Address;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::RegisteredDelivery;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::Tag;
use hikyaku::smsc::Config;
use hikyaku::smsc::Fault;
use hikyaku::smsc::FaultKind;
use hikyaku::smsc::IdForm;
use hikyaku::smsc::ReceiptForm;
use hikyaku::time::Rate;
use hikyaku::time::Span;

use super::script::Script;

/// What the carrier is like, and what breaks.
pub(crate) fn config(script: &mut Script<'_>) -> Config {
    let mut span = |unit: u64| Span::millis(unit * u64::from(script.below(8)));
    let (latency, width) = (span(100), span(300));
    let (receipt_delay, receipt_width) = (span(300), span(2_000));
    let fault = |script: &mut Script<'_>| Fault {
        after: Span::secs(u64::from(script.below(32))),
        kind: match script.below(5) {
            0 => FaultKind::Cut,
            1 => FaultKind::Unbind,
            2 => FaultKind::Garbage,
            3 => FaultKind::BlackHole,
            _ => FaultKind::Refuse,
        },
        lasts: Span::secs(u64::from(script.below(16))),
    };
    let mut faults: Vec<Fault> = (0..script.below(4)).map(|_| fault(script)).collect();
    faults.sort_by_key(|fault| fault.after);
    let secret = |is_set: bool| if is_set { "fuzz".to_owned() } else { String::new() };
    Config {
        latency: [latency, Span(*latency + *width)],
        receipt_delay: [receipt_delay, Span(*receipt_delay + *receipt_width)],
        faults,
        system_id: secret(script.flag()),
        password: secret(script.flag()),
        version: [0x33, 0x34, 0x34, 0x50][usize::from(script.below(4))],
        max_binds: 1 + u16::from(script.below(3)),
        window: [1, 2, 5, 1_000][usize::from(script.below(4))],
        rate: [None, None, Some(2_000), Some(500)][usize::from(script.below(4))]
            .map(Rate::from_millis),
        receipt_loss_per_mille: [0, 0, 0, 500][usize::from(script.below(4))],
        out_of_order_per_mille: [0, 500][usize::from(script.below(2))],
        early_receipt_per_mille: [0, 500][usize::from(script.below(2))],
        ids: [
            IdForm::Decimal,
            IdForm::Hex,
            IdForm::HexThenDecimal,
            IdForm::ZeroPadded,
            IdForm::Uuid,
        ][usize::from(script.below(5))],
        receipts: [ReceiptForm::Both, ReceiptForm::Text, ReceiptForm::Tlv, ReceiptForm::Terse]
            [usize::from(script.below(4))],
        magic_numbers: script.below(4) > 0,
        inbound_every: [None, None, Some(0), Some(3)][usize::from(script.below(4))].map(Span::secs),
        max_waiting: [4_000_000, 4_000_000, 3, 0][usize::from(script.below(4))],
        max_remembered: [100_000, 100_000, 3, 0][usize::from(script.below(4))],
        inactivity: Span::secs([0, 0, 7, 100][usize::from(script.below(4))]),
        seed: script.octet().into(),
        ..Config::default()
    }
}

/// How many receipts tell of a message that was taken.
pub(crate) fn receipts(config: &Config, submit: &SubmitSm) -> usize {
    let digits = submit.destination.addr.as_bytes();
    let last = match config.magic_numbers {
        true => digits.get(digits.len().saturating_sub(4)..).unwrap_or_default(),
        false => &[],
    };
    let fails = matches!(last, b"0002" | b"0003");
    let is_wanted = match RegisteredDelivery(submit.registered_delivery.0 & 3) {
        RegisteredDelivery::ANY_OUTCOME => true,
        RegisteredDelivery::FAILURE => fails,
        RegisteredDelivery::SUCCESS => !fails,
        _ => false,
    };
    match last {
        b"0004" => 0,
        b"0007" if is_wanted => 2,
        b"0008" => usize::from(is_wanted && segment(submit) > 1),
        _ => is_wanted.into(),
    }
}

/// Which segment this is.
fn segment(submit: &SubmitSm) -> u8 {
    let header =
        hikyaku::text::Udh::split(submit.esm_class.udhi(), submit.short_message.as_bytes());
    let in_header = header.0.concat.map_or(1, |concat| concat.seq);
    submit.tlvs.get_u8(Tag::SAR_SEGMENT_SEQNUM).unwrap_or(in_header)
}

/// A submit to one of a few numbers.
pub(crate) fn submit(script: &mut Script<'_>) -> SubmitSm {
    let mut submit = SubmitSm {
        destination: Address {
            addr: COctetString::new(destination(script)).unwrap(),
            ..Address::default()
        },
        registered_delivery: registered(script),
        ..SubmitSm::default()
    };
    match script.below(8) {
        0 => submit.tlvs.push_u8(Tag::SAR_SEGMENT_SEQNUM, script.below(4)),
        1 => {
            submit.esm_class = EsmClass::UDHI;
            let text = Bytes::copy_from_slice(script.octets());
            submit.short_message = ShortMessage::new(text).unwrap_or(ShortMessage::EMPTY);
        }
        _ => {}
    }
    submit
}

/// One of a few numbers, so that some come again.
pub(crate) fn destination(script: &mut Script<'_>) -> Vec<u8> {
    match script.below(16) {
        0 => Vec::new(),
        who => format!("81{who:02}{:04}", script.below(16)).into_bytes(),
    }
}

pub(crate) fn wide(digits: &[u8]) -> COctetString<65> {
    COctetString::new(digits.to_vec()).unwrap()
}

/// Mostly a receipt whatever the outcome.
pub(crate) fn registered(script: &mut Script<'_>) -> RegisteredDelivery {
    match script.below(4) {
        0 => RegisteredDelivery(script.octet()),
        _ => RegisteredDelivery::ANY_OUTCOME,
    }
}

/// What an ESME has no reason to say.
pub(crate) fn odd_body(script: &mut Script<'_>) -> Body {
    match script.below(12) {
        0 => Body::SubmitMulti(Default::default()),
        1 => Body::ReplaceSm(Default::default()),
        2 => Body::DeliverSm(Default::default()),
        3 => Body::AlertNotification(Default::default()),
        4 => Body::Outbind(Default::default()),
        5 => Body::GenericNack(Default::default()),
        6 => Body::SubmitSmResp(Default::default()),
        7 => Body::EnquireLinkResp(Default::default()),
        8 => Body::UnbindResp(Default::default()),
        9 => Body::BindTransceiverResp(Default::default()),
        10 => Body::DataSmResp(Default::default()),
        _ => Body::DeliverSmResp(Default::default()),
    }
}
