//! The GSM 7-bit alphabet: characters to septets and back, and septets packed into octets
//! (3GPP 23.038 §6.1.2, §6.2.1).

use bytes::BufMut;

use super::national;
use super::national::National;

/// The septet that says "the next one is of the extension table".
pub(super) const ESCAPE: u8 = 0x1B;

const CR: u8 = 0x0D;

/// Stands for "no character here" in a table.
pub(super) const HOLE: char = '\u{FFFF}';

/// A table of 128 characters, by septet.
pub(super) type Table = [char; 128];

/// The default alphabet (3GPP 23.038 §6.2.1).
pub(super) const BASIC: Table = national::table(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{FFFF}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
     ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà",
);

/// The default extension table (3GPP 23.038 §6.2.1.1).
pub(super) const EXTENSION: Table = national::sparse(&[
    (0x0A, "\u{C}"),
    (0x14, "^"),
    (0x28, "{}"),
    (0x2F, "\\"),
    (0x3C, "[~]"),
    (0x40, "|"),
    (0x65, "€"),
]);

/// The septets of U+0000 to U+00FF in the default alphabet; `NONE` where it has none.
const LATIN: [u16; 256] = latin();

const NONE: u16 = 0xFFFF;

/// Which national tables a text is written with; the header of its segments names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shifts {
    /// The table that stands in for the default alphabet.
    pub locking: Option<National>,
    /// The table that stands in for the extension table.
    pub single: Option<National>,
}

impl Shifts {
    /// The default alphabet with the default extension table.
    pub const NONE: Self = Self { locking: None, single: None };

    /// Whether no national table is used, so that no header must name one.
    pub const fn is_none(self) -> bool {
        self.locking.is_none() && self.single.is_none()
    }

    fn basic(self) -> &'static Table {
        self.locking.and_then(National::locking).unwrap_or(&BASIC)
    }

    fn extension(self) -> &'static Table {
        self.single.map_or(&EXTENSION, National::single)
    }
}

/// One character as septets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Septets {
    One(u8),
    /// The escape, then this one.
    Escaped(u8),
}

impl Septets {
    pub(super) const fn count(self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Escaped(_) => 2,
        }
    }
}

/// The septets of `character`; `None` when the tables in use do not hold it.
#[inline]
pub(super) fn septets(character: char, shifts: Shifts) -> Option<Septets> {
    if shifts.is_none() { default_septets(character) } else { national_septets(character, shifts) }
}

#[inline]
fn default_septets(character: char) -> Option<Septets> {
    match LATIN.get(character as usize) {
        Some(&NONE) => None,
        Some(&pair) => {
            let [escape, code] = pair.to_be_bytes();
            Some(if escape == 0 { Septets::One(code) } else { Septets::Escaped(code) })
        }
        None if character == '€' => Some(Septets::Escaped(0x65)),
        // The Greek capitals are the last that it has.
        None if character > '\u{3FF}' => None,
        None => position(&BASIC, character).map(Septets::One),
    }
}

/// The septets of a text in the default tables; `None` when it has a character that is not ASCII,
/// or that they do not hold.
pub(super) fn ascii_septets(text: &str) -> Option<usize> {
    text.bytes().try_fold(0, |sum, octet| {
        let pair = LATIN.get(usize::from(octet)).copied().filter(|_| octet.is_ascii())?;
        (pair != NONE).then(|| sum + 1 + usize::from(pair > 0xFF))
    })
}

fn national_septets(character: char, shifts: Shifts) -> Option<Septets> {
    let basic = position(shifts.basic(), character).map(Septets::One);
    basic.or_else(|| position(shifts.extension(), character).map(Septets::Escaped))
}

fn position(table: &Table, character: char) -> Option<u8> {
    if character == HOLE {
        return None;
    }
    table.iter().zip(0..).find_map(|(&held, code)| (held == character).then_some(code))
}

/// The characters of `septets`, one an octet.
///
/// An escape before a septet that the extension table lacks shows the basic character, as a
/// receiver must; an escape at the end, or before another one, shows a space. What is no septet
/// becomes U+FFFD.
pub(super) fn decode(septets: &[u8], shifts: Shifts) -> String {
    let (basic, extension) = (shifts.basic(), shifts.extension());
    let mut text = String::with_capacity(septets.len());
    let mut octets = septets.iter().copied();
    while let Some(code) = octets.next() {
        let character = if code == ESCAPE {
            match octets.clone().next() {
                Some(ESCAPE) | None => ' ',
                Some(escaped) => {
                    octets.next();
                    held(extension, escaped).or_else(|| held(basic, escaped)).unwrap_or('\u{FFFD}')
                }
            }
        } else {
            held(basic, code).unwrap_or('\u{FFFD}')
        };
        text.push(character);
    }
    text
}

fn held(table: &Table, code: u8) -> Option<char> {
    table.get(usize::from(code)).copied().filter(|&character| character != HOLE)
}

/// The bits to leave empty after a header of `header` octets, so that the septets behind it begin
/// at a septet's boundary (3GPP 23.040 §9.2.3.24).
pub(super) const fn fill_bits(header: usize) -> usize {
    (7 - header * 8 % 7) % 7
}

/// Packs septets behind `fill` empty bits, the first septet in the lowest bits.
pub(super) fn pack(septets: impl Iterator<Item = u8>, fill: usize, out: &mut impl BufMut) {
    let (mut bits, mut held) = (0u16, fill);
    for septet in septets {
        bits |= u16::from(septet & 0x7F) << held;
        held += 7;
        if held >= 8 {
            let [low, high] = bits.to_le_bytes();
            out.put_u8(low);
            (bits, held) = (u16::from(high), held - 8);
        }
    }
    if held > 0 {
        let [low, _] = bits.to_le_bytes();
        out.put_u8(low);
    }
}

/// The septets in `octets` behind `fill` empty bits.
///
/// There is no count of septets in SMPP, so the last seven bits may be a septet or nothing. They
/// are taken for nothing when they are zero or a CR.
pub(super) fn unpack(octets: &[u8], fill: usize) -> Vec<u8> {
    let bits_in_all = (octets.len() * 8).saturating_sub(fill);
    let mut septets = Vec::with_capacity(bits_in_all / 7);
    let (mut bits, mut held, mut skip) = (0u32, 0, fill);
    for &octet in octets {
        bits |= u32::from(octet) << held;
        held += 8;
        if skip > 0 {
            bits >>= skip;
            held -= skip;
            skip = 0;
        }
        while held >= 7 {
            let [low, ..] = bits.to_le_bytes();
            septets.push(low & 0x7F);
            bits >>= 7;
            held -= 7;
        }
    }
    if bits_in_all.is_multiple_of(7) && matches!(septets.last(), Some(&(0 | CR))) {
        septets.pop();
    }
    septets
}

const fn latin() -> [u16; 256] {
    let mut septets = [NONE; 256];
    let mut code: u8 = 0;
    while code < 128 {
        set(&mut septets, EXTENSION, code, 0x1B00);
        set(&mut septets, BASIC, code, 0);
        code += 1;
    }
    septets
}

/// Notes that `table` has its character of U+0000 to U+00FF at `code`.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler: a fault is not built")]
const fn set(septets: &mut [u16; 256], table: Table, code: u8, escape: u16) {
    let character = table[code as usize] as usize;
    if character < 256 {
        septets[character] = escape | code as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_basic_alphabet_has_127_characters_and_the_extension_ten() {
        assert_eq!(BASIC.iter().filter(|&&c| c != HOLE).count(), 127);
        assert_eq!(EXTENSION.iter().filter(|&&c| c != HOLE).count(), 10);
        for (septet, &character) in BASIC.iter().enumerate().filter(|(_, c)| **c != HOLE) {
            assert_eq!(
                septets(character, Shifts::NONE),
                Some(Septets::One(u8::try_from(septet).unwrap()))
            );
        }
        for (septet, &character) in EXTENSION.iter().enumerate().filter(|(_, c)| **c != HOLE) {
            let code = u8::try_from(septet).unwrap();
            assert_eq!(septets(character, Shifts::NONE), Some(Septets::Escaped(code)));
        }
    }

    #[test]
    fn ascii_costs_together_what_its_characters_cost() {
        for character in '\0'..='\u{FF}' {
            let text = format!("a{character}");
            let one = septets(character, Shifts::NONE).filter(|_| character.is_ascii());
            assert_eq!(ascii_septets(&text), one.map(|it| 1 + it.count()), "{character:?}");
        }
    }

    #[test]
    fn characters_stand_where_the_specification_puts_them() {
        for (character, code) in
            [('@', 0), ('£', 1), ('_', 0x11), ('Ç', 9), ('§', 0x5F), ('¡', 0x40), ('¿', 0x60)]
        {
            assert_eq!(septets(character, Shifts::NONE), Some(Septets::One(code)));
        }
        for missing in ['`', 'ç', '\t', '’', '–', '\u{A0}', '、', '￥', '〜', 'ｱ', HOLE, '\u{1B}']
        {
            assert_eq!(septets(missing, Shifts::NONE), None, "{missing:?}");
        }
    }

    #[test]
    fn a_broken_escape_shows_what_a_handset_shows() {
        assert_eq!(decode(&[0x1B, 0x65, 0x1B, 0x41], Shifts::NONE), "€A");
        assert_eq!(decode(&[0x41, 0x1B], Shifts::NONE), "A ");
        assert_eq!(decode(&[0x1B, 0x1B, 0x65], Shifts::NONE), " €");
        assert_eq!(decode(&[0x80], Shifts::NONE), "\u{FFFD}");
    }

    #[test]
    fn packing_returns_what_was_packed() {
        for fill in 0..7 {
            for count in 0..40u8 {
                let septets: Vec<u8> = (20..20 + count).collect();
                let mut octets = Vec::new();
                pack(septets.iter().copied(), fill, &mut octets);
                assert_eq!(unpack(&octets, fill), septets, "fill {fill}, {count} septets");
            }
        }
    }
}
