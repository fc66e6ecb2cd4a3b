//! The codings of a text: which characters each can hold, what each costs, and its octets.

use std::fmt;

use bytes::BufMut;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::gsm;
use super::gsm::Septets;
use super::gsm::Shifts;

/// How characters become the octets of a message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// The GSM alphabet, a septet an octet unless it is packed; two for an escaped character.
    Gsm7,
    /// ISO 8859-1, an octet a character.
    Latin1,
    /// ASCII, an octet a character.
    Ascii,
    /// Windows 1252, an octet a character.
    Cp1252,
    /// UTF-16BE, two octets a unit, with surrogate pairs.
    Ucs2,
    /// Octets that are no text; it holds no character.
    Binary,
}

/// The octets of one message on the air (3GPP 23.040 §9.2.3.16).
pub(super) const MESSAGE_OCTETS: usize = 140;

impl Coding {
    /// The name that the API and the configuration use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gsm7 => "gsm7",
            Self::Latin1 => "latin1",
            Self::Ascii => "ascii",
            Self::Cp1252 => "cp1252",
            Self::Ucs2 => "ucs2",
            Self::Binary => "binary",
        }
    }

    /// The units that `character` costs: septets, octets or UTF-16 units.
    ///
    /// `None` when the coding does not hold it.
    #[inline]
    pub fn units(self, character: char, shifts: Shifts) -> Option<usize> {
        match self {
            Self::Gsm7 => gsm::septets(character, shifts).map(Septets::count),
            Self::Latin1 => (u32::from(character) <= 0xFF).then_some(1),
            Self::Ascii => character.is_ascii().then_some(1),
            Self::Cp1252 => cp1252(character).map(|_| 1),
            Self::Ucs2 => Some(character.len_utf16()),
            Self::Binary => None,
        }
    }

    /// The units that fit one message beside a header of `header` octets.
    pub(super) const fn room(self, header: usize) -> usize {
        let octets = MESSAGE_OCTETS.saturating_sub(header);
        match self {
            Self::Gsm7 => octets * 8 / 7,
            Self::Latin1 | Self::Ascii | Self::Cp1252 | Self::Binary => octets,
            Self::Ucs2 => octets / 2,
        }
    }

    /// Appends the octets of `text`, which the coding holds; GSM septets one an octet.
    pub(super) fn write(self, text: &str, shifts: Shifts, out: &mut impl BufMut) {
        let mut out = Gathered { out, octets: [0; 64], held: 0 };
        match self {
            Self::Gsm7 => {
                for septets in text.chars().filter_map(|it| gsm::septets(it, shifts)) {
                    match septets {
                        Septets::One(code) => out.put([code]),
                        Septets::Escaped(code) => out.put([gsm::ESCAPE, code]),
                    }
                }
            }
            Self::Latin1 | Self::Ascii => {
                let octets = text.chars().filter_map(|character| u8::try_from(character).ok());
                octets.for_each(|octet| out.put([octet]));
            }
            Self::Cp1252 => text.chars().filter_map(cp1252).for_each(|octet| out.put([octet])),
            Self::Ucs2 => return write_utf16(text, out.out),
            Self::Binary => {}
        }
        out.flush();
    }
}

/// Appends `text` as UTF-16BE.
fn write_utf16(mut text: &str, out: &mut impl BufMut) {
    /// Octets of the text that are written at a time.
    const STEP: usize = 255;
    let mut units = [0; STEP + 1];
    let mut octets = [[0; 2]; STEP + 1];
    while !text.is_empty() {
        let (piece, rest) = text.split_at(text.floor_char_boundary(STEP));
        let count = encoding_rs::mem::convert_str_to_utf16(piece, &mut units);
        for (octets, unit) in octets.iter_mut().zip(units.iter().take(count)) {
            *octets = unit.to_be_bytes();
        }
        out.put_slice(octets.get(..count).unwrap_or_default().as_flattened());
        text = rest;
    }
}

/// The UTF-16 units of `text`: one for each octet that begins a character, and one more where four
/// octets do, beyond the Basic Multilingual Plane.
pub(super) fn utf16_units(text: &str) -> usize {
    utf16_units_begun(text.as_bytes())
}

/// The UTF-16 units of the characters that begin in these octets of a text.
pub(super) fn utf16_units_begun(octets: &[u8]) -> usize {
    // Few enough that an octet holds their sum: so the processor takes many at a time.
    let few = octets.chunks(64).map(|chunk| {
        let units = |octet: &u8| u8::from(octet & 0xC0 != 0x80) + u8::from(*octet >= 0xF0);
        usize::from(chunk.iter().map(units).sum::<u8>())
    });
    few.sum()
}

/// Octets on their way into a buffer, many at a time: each step there has its price.
struct Gathered<'a, B> {
    out: &'a mut B,
    octets: [u8; 64],
    held: usize,
}

impl<B: BufMut> Gathered<'_, B> {
    #[inline]
    fn put<const N: usize>(&mut self, octets: [u8; N]) {
        if self.held + N > self.octets.len() {
            self.flush();
        }
        if let Some(place) = self.octets.get_mut(self.held..self.held + N) {
            place.copy_from_slice(&octets);
            self.held += N;
        }
    }

    fn flush(&mut self) {
        self.out.put_slice(self.octets.get(..self.held).unwrap_or_default());
        self.held = 0;
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The septets of `text`, one an octet, escapes and all.
pub(super) fn septets(text: &str, shifts: Shifts) -> impl Iterator<Item = u8> {
    text.chars().filter_map(move |character| gsm::septets(character, shifts)).flat_map(|septets| {
        let (escape, code) = match septets {
            Septets::One(code) => (None, code),
            Septets::Escaped(code) => (Some(gsm::ESCAPE), code),
        };
        escape.into_iter().chain([code])
    })
}

/// The characters of ISO 8859-1 octets; none is malformed.
pub(super) fn decode_latin1(octets: &[u8]) -> String {
    octets.iter().copied().map(char::from).collect()
}

/// The characters of Windows 1252 octets; the five unused ones stay controls.
pub(super) fn decode_cp1252(octets: &[u8]) -> String {
    encoding_rs::WINDOWS_1252.decode_without_bom_handling(octets).0.into_owned()
}

/// The characters of UTF-16BE octets, or of UTF-16LE ones behind their byte order mark.
///
/// A mark in front is left out. What is no character becomes U+FFFD, and so does half a unit at
/// the end.
pub(super) fn decode_utf16(octets: &[u8]) -> String {
    let (encoding, octets) = match octets {
        [0xFE, 0xFF, rest @ ..] => (encoding_rs::UTF_16BE, rest),
        [0xFF, 0xFE, rest @ ..] => (encoding_rs::UTF_16LE, rest),
        _ => (encoding_rs::UTF_16BE, octets),
    };
    encoding.decode_without_bom_handling(octets).0.into_owned()
}

/// The octet of `character` in Windows 1252.
fn cp1252(character: char) -> Option<u8> {
    let code = u32::from(character);
    if let Ok(octet @ (0..=0x7F | 0xA0..=0xFF)) = u8::try_from(code) {
        return Some(octet);
    }
    if character == '\u{FFFF}' {
        return None;
    }
    CP1252_HIGH.iter().zip(0x80..).find_map(|(&held, octet)| (held == character).then_some(octet))
}

/// What Windows 1252 has at 0x80 to 0x9F; U+FFFF where it has nothing.
const CP1252_HIGH: [char; 32] = [
    '€', '\u{FFFF}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{FFFF}', 'Ž',
    '\u{FFFF}', '\u{FFFF}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{FFFF}',
    'ž', 'Ÿ',
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cp1252_agrees_with_the_standard() {
        for octet in 0..=255u8 {
            let character = decode_cp1252(&[octet]).chars().next().unwrap();
            let expected = (!matches!(octet, 0x81 | 0x8D | 0x8F | 0x90 | 0x9D)).then_some(octet);
            assert_eq!(cp1252(character), expected, "{octet:#x}");
        }
        assert_eq!(cp1252('\u{FFFF}'), None);
        assert_eq!(cp1252('日'), None);
    }

    proptest! {
        #[test]
        fn utf16_is_written_and_counted_as_the_standard_library_does(text in ".{0,400}") {
            let mut octets = Vec::new();
            Coding::Ucs2.write(&text, Shifts::NONE, &mut octets);
            let units: Vec<u16> = text.encode_utf16().collect();
            let expected: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            prop_assert_eq!(octets, expected);
            prop_assert_eq!(utf16_units(&text), units.len());
        }
    }

    #[test]
    fn utf16_is_read_with_any_mark_and_any_damage() {
        assert_eq!(decode_utf16(&[0x65, 0xE5]), "日");
        assert_eq!(decode_utf16(&[0xFE, 0xFF, 0x65, 0xE5]), "日");
        assert_eq!(decode_utf16(&[0xFF, 0xFE, 0xE5, 0x65]), "日");
        assert_eq!(decode_utf16(&[0xD8, 0x3D, 0x65, 0xE5, 0x00]), "\u{FFFD}日\u{FFFD}");
    }
}
