//! The characters of what a carrier sends, by its `data_coding` as carriers use it.

use crate::pdu::DataCoding;

use super::coding;
use super::gsm;
use super::profile::DefaultAlphabet;
use super::profile::Profile;
use super::udh::Udh;

/// How octets stand for characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    Default,
    Gsm,
    Latin1,
    Utf16,
    /// One of the charsets of `encoding_rs`.
    Other(&'static encoding_rs::Encoding),
    /// None: they are no text.
    Binary,
}

/// Reads the octets behind the header of one message.
///
/// `None` when they are no text: keep the octets. Whatever is a text comes out, however broken:
/// U+FFFD stands for what is no character.
pub fn decode(
    data_coding: DataCoding,
    profile: &Profile,
    header: &Udh,
    octets: &[u8],
) -> Option<String> {
    let gsm = |octets| decode_gsm(octets, header, profile.packed);
    Some(match charset(data_coding, header) {
        Charset::Binary => return None,
        Charset::Gsm => gsm(octets),
        Charset::Default => match profile.default_alphabet {
            DefaultAlphabet::Gsm => gsm(octets),
            DefaultAlphabet::Latin1 | DefaultAlphabet::Ascii => coding::decode_latin1(octets),
            DefaultAlphabet::Cp1252 => coding::decode_cp1252(octets),
        },
        Charset::Latin1 => coding::decode_latin1(octets),
        Charset::Utf16 => coding::decode_utf16(octets),
        Charset::Other(charset) => charset.decode_without_bom_handling(octets).0.into_owned(),
    })
}

/// One part of a long message, as it is read.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its header.
    pub header: Udh,
    /// The octets behind it.
    pub octets: &'a [u8],
}

/// Reads a long message, `…` in the place of parts that are missing.
///
/// Parts that follow each other are joined before they are read, since phones cut pairs and
/// escapes between them. `None` when they are no text: keep the octets.
pub fn decode_parts(
    data_coding: DataCoding,
    profile: &Profile,
    parts: &[Option<Part<'_>>],
) -> Option<String> {
    let mut text = String::new();
    let mut missing = false;
    for run in parts.chunk_by(|before, after| joins(before.as_ref(), after.as_ref())) {
        let Some(&Some(Part { header, .. })) = run.first() else {
            missing = true;
            continue;
        };
        if std::mem::take(&mut missing) {
            text.push('…');
        }
        let packed = profile.packed && is_gsm(data_coding, profile, &header);
        let octets: Vec<u8> = run
            .iter()
            .flatten()
            .flat_map(|part| if packed { part.septets() } else { part.octets.to_vec() })
            .collect();
        let read = if packed {
            Some(gsm::decode(&octets, header.shifts))
        } else {
            decode(data_coding, profile, &header, &octets)
        };
        text.push_str(&read?);
    }
    if missing {
        text.push('…');
    }
    Some(text)
}

impl Part<'_> {
    fn septets(&self) -> Vec<u8> {
        gsm::unpack(self.octets, gsm::fill_bits(self.header.octets))
    }
}

/// Whether two parts are read as one: both are there, with the same tables.
fn joins(before: Option<&Part<'_>>, after: Option<&Part<'_>>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => before.header.shifts == after.header.shifts,
        (before, after) => before.is_none() && after.is_none(),
    }
}

fn is_gsm(data_coding: DataCoding, profile: &Profile, header: &Udh) -> bool {
    match charset(data_coding, header) {
        Charset::Gsm => true,
        Charset::Default => profile.default_alphabet == DefaultAlphabet::Gsm,
        _ => false,
    }
}

fn decode_gsm(octets: &[u8], header: &Udh, packed: bool) -> String {
    if packed {
        let octets = gsm::unpack(octets, gsm::fill_bits(header.octets));
        gsm::decode(&octets, header.shifts)
    } else {
        gsm::decode(octets, header.shifts)
    }
}

/// The charset that `data_coding` stands for in practice (SMPP 3.4 §5.2.19, 3GPP 23.038 §4).
///
/// An unknown number is the GSM alphabet, or octets when there is a header.
fn charset(DataCoding(value): DataCoding, header: &Udh) -> Charset {
    match value {
        0x00 => Charset::Default,
        0x01 | 0x03 => Charset::Latin1,
        0x02 | 0x04 => Charset::Binary,
        0x05 | 0x09 => Charset::Other(encoding_rs::SHIFT_JIS),
        0x06 => Charset::Other(encoding_rs::ISO_8859_5),
        0x07 => Charset::Other(encoding_rs::ISO_8859_8),
        0x08 => Charset::Utf16,
        0x0A => Charset::Other(encoding_rs::ISO_2022_JP),
        0x0D => Charset::Other(encoding_rs::EUC_JP),
        0x0E => Charset::Other(encoding_rs::EUC_KR),
        0xC0..=0xDF => Charset::Gsm,
        0xE0..=0xEF => Charset::Utf16,
        0xF0..=0xFF if value & 0x04 != 0 => Charset::Binary,
        0xF0..=0xFF => Charset::Gsm,
        0x10..=0x1F | 0x40..=0x5F => match value >> 2 & 0x03 {
            0b00 => Charset::Gsm,
            0b01 => Charset::Binary,
            0b10 => Charset::Utf16,
            _ => unknown(header),
        },
        _ => unknown(header),
    }
}

const fn unknown(header: &Udh) -> Charset {
    if header.octets > 0 { Charset::Binary } else { Charset::Gsm }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data_coding: u8, octets: &[u8]) -> Option<String> {
        decode(DataCoding(data_coding), &Profile::default(), &Udh::default(), octets)
    }

    #[test]
    fn data_coding_is_read_as_carriers_mean_it() {
        let japanese = &[0x65, 0xE5, 0x67, 0x2C];
        for ucs2 in [0x08, 0x18, 0x19, 0x48, 0xE0] {
            assert_eq!(read(ucs2, japanese).as_deref(), Some("日本"), "{ucs2:#x}");
        }
        for gsm in [0x00, 0x10, 0x11, 0xC0, 0xF0, 0xF1, 0x0B, 0x80] {
            assert_eq!(read(gsm, b"\x00\x1B\x65").as_deref(), Some("@€"), "{gsm:#x}");
        }
        for binary in [0x02, 0x04, 0x14, 0x15, 0xF4, 0xF5, 0xF6] {
            assert_eq!(read(binary, b"\x00\x01"), None, "{binary:#x}");
        }
        assert_eq!(read(0x03, b"\xE9").as_deref(), Some("é"));
        assert_eq!(read(0x01, b"@\xE9").as_deref(), Some("@é"));
        assert_eq!(read(0x09, b"\x93\xFA\x96\x7B").as_deref(), Some("日本"));
        assert_eq!(read(0x05, b"\x93\xFA").as_deref(), Some("日"));
        assert_eq!(read(0x0A, b"\x1B$BF|\x1B(B").as_deref(), Some("日"));
        assert_eq!(read(0x0D, b"\xC6\xFC").as_deref(), Some("日"));
        assert_eq!(read(0x0E, b"\xC7\xD1").as_deref(), Some("한"));
        assert_eq!(read(0x06, b"\xD0").as_deref(), Some("а"));
        assert_eq!(read(0x07, b"\xE0").as_deref(), Some("א"));
    }

    #[test]
    fn flash_gsm_is_gsm_even_where_the_default_is_not() {
        let latin = Profile { default_alphabet: DefaultAlphabet::Latin1, ..Profile::default() };
        let read = |value| decode(DataCoding(value), &latin, &Udh::default(), b"\x00\xE9");
        assert_eq!(read(0x00).as_deref(), Some("\0é"));
        assert_eq!(read(0xF0).as_deref(), Some("@\u{FFFD}"));
    }

    #[test]
    fn parts_are_read_as_one_text() {
        let parts = |data_coding, packed, octets: &[Option<&[u8]>]| {
            let header = Udh { octets: 6, ..Udh::default() };
            let parts: Vec<_> =
                octets.iter().map(|it| it.map(|octets| Part { header, octets })).collect();
            let profile = Profile { packed, ..Profile::default() };
            decode_parts(DataCoding(data_coding), &profile, &parts)
        };
        let (high, low) = (&[0x30, 0x42, 0xD8, 0x3D][..], &[0xDE, 0x00][..]);
        assert_eq!(parts(8, false, &[Some(high), Some(low)]).as_deref(), Some("あ😀"));
        assert_eq!(parts(0, false, &[Some(b"a\x1B"), Some(b"e")]).as_deref(), Some("a€"));
        let packed: [&[u8]; 2] = [&[0xC2, 0x1B], &[0xCA]];
        let packed = parts(0, true, &packed.map(Some));
        assert_eq!(packed.as_deref(), Some("a€"));
        let holes = [None, Some(&b"b"[..]), None, None, Some(b"e"), None];
        assert_eq!(parts(0, false, &holes).as_deref(), Some("…b…e…"));
        assert_eq!(parts(4, false, &[Some(b"b"), None]), None);
    }

    #[test]
    fn an_unknown_coding_behind_a_header_is_octets() {
        let header = Udh { octets: 6, ..Udh::default() };
        assert_eq!(decode(DataCoding(0x80), &Profile::default(), &header, b"x"), None);
    }
}
