//! The codec against the vectors of valid and of broken PDUs.

use bytes::Bytes;
use bytes::BytesMut;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::decode;
use hikyaku::pdu::encode;

use crate::vectors;

#[test]
fn decode_then_encode_gives_the_same_octets() {
    for vector in vectors::load("pdus.jsonl") {
        let hex = vector["hex"].as_str().unwrap();
        let pdu = decode(Bytes::from(vectors::octets(hex))).unwrap();
        assert_eq!(vectors::hex(&encoded(&pdu)), hex, "{}", vector["id"]);
    }
}

fn encoded(pdu: &Pdu) -> BytesMut {
    let mut out = BytesMut::new();
    encode(pdu, &mut out).unwrap();
    out
}
