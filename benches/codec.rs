//! How long the codec takes a PDU: `cargo bench --bench codec`.
//!
//! Reads a stream of whole PDUs through `Frames`, as a link does, and writes PDUs into one buffer.
//! Prints the best of several rounds, since the machine is never quite idle.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the clock, prints its table, and a panic ends it"
)]

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

use bytes::BytesMut;
use hikyaku::pdu::Address;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DataCoding;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::Frame;
use hikyaku::pdu::Frames;
use hikyaku::pdu::Npi;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::RegisteredDelivery;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::SubmitSmResp;
use hikyaku::pdu::Tag;
use hikyaku::pdu::Tlvs;
use hikyaku::pdu::Ton;
use hikyaku::pdu::encode;
use tokio_util::codec::Decoder;

/// PDUs in one buffer, as one read of a busy link brings.
const BATCH: u32 = 64;
const ROUNDS: u32 = 20_000;

fn main() {
    println!("{:<28}{:>8}{:>14}{:>14}", "PDU", "octets", "decode ns", "encode ns");
    measure("submit_sm, one segment", &submit_sm(b"Your code is 123456."));
    measure("submit_sm, 140 octets", &submit_sm(&[0x30; 140]));
    measure("submit_sm_resp", &submit_sm_resp());
    measure("deliver_sm, receipt", &receipt());
}

fn measure(name: &str, pdu: &Pdu) {
    let mut octets = BytesMut::new();
    encode(pdu, &mut octets).unwrap();
    let length = octets.len();
    let batch = octets.repeat(BATCH.try_into().unwrap());
    let (decode, encode) = (best(|| decode_batch(&batch)), best(|| encode_batch(pdu)));
    println!("{name:<28}{length:>8}{decode:>14}{encode:>14}");
}

/// The least nanoseconds a PDU took on average in a batch.
fn best(mut batch: impl FnMut() -> Duration) -> u128 {
    let least = (0..ROUNDS).map(|_| batch()).min().unwrap();
    least.as_nanos() / u128::from(BATCH)
}

fn decode_batch(batch: &[u8]) -> Duration {
    let mut frames = Frames::default();
    let mut src = BytesMut::from(batch);
    let start = Instant::now();
    while let Some(frame) = frames.decode(&mut src).unwrap() {
        assert!(matches!(black_box(frame), Frame::Pdu(_)));
    }
    start.elapsed()
}

fn encode_batch(pdu: &Pdu) -> Duration {
    let mut out = BytesMut::with_capacity(64 * 1024);
    let start = Instant::now();
    for _ in 0..BATCH {
        encode(black_box(pdu), &mut out).unwrap();
    }
    let spent = start.elapsed();
    black_box(out);
    spent
}

fn submit_sm(text: &[u8]) -> Pdu {
    let mut tlvs = Tlvs::new();
    tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 7);
    let body = Body::SubmitSm(SubmitSm {
        source: Address::new(Ton::ALPHANUMERIC, Npi::UNKNOWN, "MyBrand").unwrap(),
        destination: Address::new(Ton::INTERNATIONAL, Npi::ISDN, "819012345678").unwrap(),
        validity_period: COctetString::from_static(b"000001000000000R"),
        registered_delivery: RegisteredDelivery::ANY_OUTCOME,
        data_coding: DataCoding::UCS2,
        short_message: ShortMessage::new(text.to_vec()).unwrap(),
        tlvs,
        ..SubmitSm::default()
    });
    Pdu::request(1, body)
}

fn submit_sm_resp() -> Pdu {
    let message_id = Some(COctetString::from_static(b"3f2a6c1e-5b7d"));
    let body = Body::SubmitSmResp(SubmitSmResp { message_id, tlvs: Tlvs::new() });
    Pdu::response(1, CommandStatus::ESME_ROK, body)
}

fn receipt() -> Pdu {
    let text = b"id:3f2a6c1e sub:001 dlvrd:001 submit date:2611211204 done date:2611211205 \
                 stat:DELIVRD err:000 text:Your code is";
    let mut tlvs = Tlvs::new();
    tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, b"3f2a6c1e").unwrap();
    tlvs.push_u8(Tag::MESSAGE_STATE, 2);
    let body = Body::DeliverSm(DeliverSm {
        source: Address::new(Ton::INTERNATIONAL, Npi::ISDN, "819012345678").unwrap(),
        destination: Address::new(Ton::UNKNOWN, Npi::UNKNOWN, "20011").unwrap(),
        esm_class: EsmClass::MC_DELIVERY_RECEIPT,
        short_message: ShortMessage::new(&text[..]).unwrap(),
        tlvs,
        ..DeliverSm::default()
    });
    Pdu::request(1, body)
}
