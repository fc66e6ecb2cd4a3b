//! The body of the fuzz target `text`.

use std::num::NonZeroU8;

use hikyaku::pdu::DataCoding;
use hikyaku::text::EncodingChoice;
use hikyaku::text::Profile;
use hikyaku::text::Transport;
use hikyaku::text::Udh;
use hikyaku::text::plan;

/// Whatever is planned is counted as it is cut, and every segment fits its PDU.
pub(crate) fn run(octets: &[u8]) {
    let Some((head, text)) = octets.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let long = match head & 3 {
        0 => Transport::Udh8,
        1 => Transport::Udh16,
        2 => Transport::Sar,
        _ => Transport::Payload,
    };
    let choice = match (head >> 2) & 3 {
        0 => EncodingChoice::Gsm7,
        1 => EncodingChoice::Ucs2,
        _ => EncodingChoice::Auto,
    };
    let profile = Profile {
        long,
        nfc: head & 16 == 0,
        max_segments: NonZeroU8::MAX,
        packed: head & 32 != 0,
        ..Profile::default()
    };
    let Ok(plan) = plan(&text, choice, &profile, None) else { return };
    let segments = plan.segments(7);
    assert_eq!(segments.len(), usize::from(plan.segments), "counted otherwise than cut");
    for segment in &segments {
        let length = segment.udh().len() + segment.payload().len();
        let most = if plan.needs_payload() { 65_535 } else { 160 };
        assert!(length <= most, "a segment of {length} octets");
    }
    let (header, rest) = Udh::split(true, octets);
    assert!(rest.len() <= octets.len());
    let _text = hikyaku::text::decode(DataCoding(*head), &profile, &header, rest);
}
