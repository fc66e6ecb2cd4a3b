//! What holds for the codec whatever octets come; the body of the fuzz target `pdu`.

use bytes::Bytes;
use bytes::BytesMut;
use hikyaku::pdu::Frame;
use hikyaku::pdu::Frames;
use hikyaku::pdu::Leniency;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::decode_with;
use hikyaku::pdu::encode;
use tokio_util::codec::Decoder;

/// Reads `data` as a stream and as one frame, and checks the codec's laws on what comes out.
pub(crate) fn run(data: &[u8]) {
    for leniency in [Leniency::Lenient, Leniency::Strict] {
        stream(data, leniency);
        frame(data, leniency);
    }
}

/// Each step takes octets or ends the stream, and what cannot be read tells where.
fn stream(data: &[u8], leniency: Leniency) {
    let mut frames = Frames { leniency, ..Frames::default() };
    let mut src = BytesMut::from(data);
    loop {
        let before = src.len();
        match frames.decode(&mut src) {
            Ok(Some(Frame::Pdu(pdu))) => show(&pdu),
            Ok(Some(Frame::Unreadable(unreadable))) => {
                assert!(unreadable.error.offset <= before - src.len());
                assert!(!unreadable.error.to_string().is_empty());
                let reply = unreadable.reply();
                assert!(!(reply.is_some() && unreadable.command_id.is_response()));
            }
            Ok(None) => return assert_eq!(src.len(), before),
            Err(error) => return assert!(error.reply().is_some()),
        }
        assert!(src.len() + 16 <= before);
    }
}

/// A frame that is read can be written. Read strictly, it is written to the same octets; read
/// leniently, to octets that are read as the same PDU.
fn frame(data: &[u8], leniency: Leniency) {
    let Some(rest) = data.get(4..) else { return };
    let mut octets = u32::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    octets.extend_from_slice(rest);
    let Ok(pdu) = decode_with(&Bytes::from(octets.clone()), leniency) else { return };
    let written = written(&pdu);
    match leniency {
        Leniency::Strict => assert_eq!(written, octets),
        Leniency::Lenient => assert_eq!(decode_with(&written, leniency), Ok(pdu)),
    }
}

fn written(pdu: &Pdu) -> Bytes {
    let mut out = BytesMut::new();
    encode(pdu, &mut out).unwrap();
    out.freeze()
}

/// Looks at all of a PDU.
fn show(pdu: &Pdu) {
    assert!(!format!("{pdu:?}").is_empty());
    if let Some(tlvs) = pdu.body.tlvs() {
        for tlv in tlvs.iter() {
            let value = tlvs.get(tlv.tag);
            assert!(tlvs.get_c_octets(tlv.tag).is_none_or(|text| !text.contains(&0)));
            assert_eq!(tlvs.get_bytes(tlv.tag).as_deref(), value);
        }
    }
}
