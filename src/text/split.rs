//! A text cut into segments: as few as its coding needs, and no character cut in two.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use bytes::BytesMut;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use thiserror::Error;
use unicode_segmentation::GraphemeCursor;

use super::coding;
use super::coding::Coding;
use super::coding::MESSAGE_OCTETS;
use super::gsm;
use super::gsm::Shifts;
use super::plain;
use super::udh;
use super::udh::Concat;
use super::udh::RefBits;

/// The most octets a `message_payload` holds.
const PAYLOAD_OCTETS: usize = 65_535;

/// How a text that is too long for one segment travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// A header with an 8-bit reference: 153 septets or 67 UCS-2 units a segment.
    #[default]
    Udh8,
    /// A header with a 16-bit reference: 152 septets or 66 UCS-2 units a segment.
    Udh16,
    /// The three SAR parameters, for an SMSC that writes a header with an 8-bit reference.
    Sar,
    /// The three SAR parameters, for an SMSC that writes a header with a 16-bit reference.
    Sar16,
    /// One `message_payload`; the SMSC cuts it.
    Payload,
}

impl Transport {
    /// The width of the references that tell long messages apart.
    pub const fn reference_bits(self) -> RefBits {
        match self {
            Self::Udh8 | Self::Sar | Self::Payload => RefBits::Eight,
            Self::Udh16 | Self::Sar16 => RefBits::Sixteen,
        }
    }

    /// What goes into the header and what into the SAR parameters.
    fn carry(self, concat: Option<Concat>) -> (Option<Concat>, Option<Sar>) {
        match self {
            Self::Sar | Self::Sar16 => (None, concat.map(Sar::from)),
            Self::Udh8 | Self::Udh16 | Self::Payload => (concat, None),
        }
    }
}

/// What a cut may go through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Nothing that a reader sees as one character, unless it is longer than a segment.
    #[default]
    Graphemes,
    /// Anything but an escape pair or a surrogate pair.
    Units,
}

/// How to cut a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitOptions {
    /// How the characters become octets.
    pub coding: Coding,
    /// The national language tables of a GSM text.
    pub shifts: Shifts,
    /// What a cut may go through.
    pub policy: Policy,
    /// How several segments say that they belong together.
    pub transport: Transport,
    /// The reference number of the message; only its low octet when the transport has no more.
    pub reference: u16,
    /// The most segments, at most 255.
    pub max_segments: u8,
    /// Whether GSM septets are packed, eight in seven octets.
    pub packed: bool,
}

impl SplitOptions {
    /// The usual options for `coding`: 8-bit references, graphemes, 255 segments.
    pub const fn new(coding: Coding) -> Self {
        Self {
            coding,
            shifts: Shifts::NONE,
            policy: Policy::Graphemes,
            transport: Transport::Udh8,
            reference: 0,
            max_segments: u8::MAX,
            packed: false,
        }
    }

    const fn shifts(&self) -> Shifts {
        match self.coding {
            Coding::Gsm7 => self.shifts,
            _ => Shifts::NONE,
        }
    }

    /// The octets of the header of a message in one piece.
    const fn single_header(&self) -> usize {
        udh::length(None, udh::shift_octets(self.shifts()))
    }

    /// The units that fit a message of one segment.
    const fn single_room(&self) -> usize {
        self.coding.room(self.single_header())
    }

    /// The octets of the header of each of several segments, whoever writes it.
    const fn segment_header(&self) -> usize {
        let bits = self.transport.reference_bits();
        udh::length(Some(bits), udh::shift_octets(self.shifts()))
    }

    /// The units that fit each of several segments.
    const fn segment_room(&self) -> usize {
        self.coding.room(self.segment_header())
    }

    /// The octets of a message of `units` units in one piece.
    const fn octets(&self, units: usize) -> usize {
        let header = self.single_header();
        header
            + match self.coding {
                Coding::Ucs2 => 2 * units,
                Coding::Gsm7 if self.packed => (gsm::fill_bits(header) + 7 * units).div_ceil(8),
                _ => units,
            }
    }

    /// How segment `seq` of `total` says so; nothing in a message of one segment.
    fn concat(&self, total: u8, seq: u8) -> Option<Concat> {
        let bits = self.transport.reference_bits();
        let reference = match bits {
            RefBits::Eight => self.reference & 0xFF,
            RefBits::Sixteen => self.reference,
        };
        (total > 1).then_some(Concat { reference, bits, total, seq })
    }
}

/// One message on the air: the octets of one `submit_sm`.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment {
    /// The octets of `short_message` or `message_payload`: the header, if any, then the text's.
    pub user_data: Bytes,
    /// The octets of the header in front; with any, `esm_class` must have UDHI.
    pub udh_octets: usize,
    /// What the text's octets cost: septets, octets or UTF-16 units.
    pub units: usize,
    /// What to say in the SAR parameters.
    pub sar: Option<Sar>,
}

impl Segment {
    /// Whether a header stands in front, so that `esm_class` must have UDHI.
    pub const fn udhi(&self) -> bool {
        self.udh_octets > 0
    }

    /// The header's octets, the one for its length included.
    pub fn udh(&self) -> &[u8] {
        self.user_data.get(..self.udh_octets).unwrap_or_default()
    }

    /// The octets behind the header.
    pub fn payload(&self) -> &[u8] {
        self.user_data.get(self.udh_octets..).unwrap_or_default()
    }
}

impl fmt::Debug for Segment {
    /// Sizes only: message text is in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("octets", &self.user_data.len())
            .field("udh", &self.udh())
            .field("units", &self.units)
            .field("sar", &self.sar)
            .finish()
    }
}

/// The values of `sar_msg_ref_num`, `sar_total_segments` and `sar_segment_seqnum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sar {
    /// The number that all segments of the message share.
    pub reference: u16,
    /// How many segments there are.
    pub total: u8,
    /// Which one this is, from 1.
    pub seq: u8,
}

impl From<Concat> for Sar {
    fn from(Concat { reference, total, seq, .. }: Concat) -> Self {
        Self { reference, total, seq }
    }
}

/// What a text costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// How many segments it needs; one when a `message_payload` carries all.
    pub segments: usize,
    /// Septets, octets or UTF-16 units in all, without headers.
    pub units: usize,
}

/// Why a text cannot be cut as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SplitError {
    /// The coding does not hold a character.
    #[error("character {index} is not in the alphabet")]
    Unencodable {
        /// Which one, counted in characters from 0.
        index: usize,
        /// The character.
        character: char,
    },
    /// More segments than allowed.
    #[error("the text needs {needed} segments, at most {allowed} are allowed")]
    TooLong {
        /// How many segments it needs.
        needed: usize,
        /// How many there may be.
        allowed: usize,
    },
    /// More octets than a `message_payload` holds.
    #[error("the text is {octets} octets, a message_payload holds {allowed}")]
    TooLarge {
        /// How many octets it has.
        octets: usize,
        /// How many there may be.
        allowed: usize,
    },
}

/// What `text` costs, without making its octets.
///
/// # Errors
/// [`SplitError::Unencodable`] for the first character that the coding does not hold. There is no
/// limit on segments here.
pub fn measure(text: &str, options: &SplitOptions) -> Result<Measure, SplitError> {
    let units = units(text, options)?;
    Ok(Measure { segments: count(text, units, options), units })
}

/// The segments of a text of `units` units.
pub(super) fn count(text: &str, units: usize, options: &SplitOptions) -> usize {
    if units <= options.single_room() || options.transport == Transport::Payload {
        1
    } else {
        cuts(text, options).count()
    }
}

/// Cuts `text` into segments, each filled as far as it goes.
///
/// # Errors
/// [`SplitError::Unencodable`] for the first character that the coding does not hold;
/// [`SplitError::TooLong`] and [`SplitError::TooLarge`] for a text over the limit.
pub fn split(text: &str, options: &SplitOptions) -> Result<Vec<Segment>, SplitError> {
    let Measure { segments: needed, units } = measure(text, options)?;
    let total = match u8::try_from(needed) {
        Ok(total) if total <= options.max_segments => total,
        _ => return Err(SplitError::TooLong { needed, allowed: options.max_segments.into() }),
    };
    let octets = options.octets(units);
    if needed == 1 && octets > PAYLOAD_OCTETS {
        return Err(SplitError::TooLarge { octets, allowed: PAYLOAD_OCTETS });
    }
    Ok(write(text, options, total))
}

/// The segments of a text that its coding holds and that needs `total` of them.
///
/// Their octets lie in one piece of memory.
pub(super) fn write(text: &str, options: &SplitOptions, total: u8) -> Vec<Segment> {
    let mut octets = BytesMut::with_capacity(capacity(text, options, total));
    if total <= 1 {
        return vec![write_text(text, options, None, &mut octets)];
    }
    let pieces = cuts(text, options).zip(1..=total);
    pieces
        .map(|(piece, seq)| {
            let concat = options.concat(total, seq);
            write_text(text.get(piece).unwrap_or_default(), options, concat, &mut octets)
        })
        .collect()
}

/// Octets enough for all segments.
fn capacity(text: &str, options: &SplitOptions, total: u8) -> usize {
    let headers = options.segment_header() * usize::from(total);
    let octets = match options.coding {
        Coding::Ucs2 | Coding::Gsm7 => 2 * text.len(),
        _ => text.len(),
    };
    headers + octets
}

fn write_text(
    text: &str,
    options: &SplitOptions,
    concat: Option<Concat>,
    octets: &mut BytesMut,
) -> Segment {
    let shifts = options.shifts();
    let (concat, sar) = options.transport.carry(concat);
    udh::write(concat, udh::shift_octets(shifts), octets);
    udh::write_shifts(shifts, octets);
    let udh_octets = octets.len();
    if options.packed && options.coding == Coding::Gsm7 {
        let septets = coding::septets(text, shifts);
        gsm::pack(septets, gsm::fill_bits(udh_octets), octets);
    } else {
        options.coding.write(text, shifts, octets);
    }
    let units = match octets.len() - udh_octets {
        _ if options.packed && options.coding == Coding::Gsm7 => {
            units(text, options).unwrap_or_default()
        }
        written if options.coding == Coding::Ucs2 => written / 2,
        written => written,
    };
    Segment { user_data: octets.split().freeze(), udh_octets, units, sar }
}

/// How many messages `octets` octets need behind `elements` octets of header elements.
pub(super) fn count_octets(octets: usize, elements: usize, options: &SplitOptions) -> usize {
    let header = udh::length(None, elements);
    if header + octets <= MESSAGE_OCTETS || options.transport == Transport::Payload {
        return 1;
    }
    octets.div_ceil(octets_room(elements, options))
}

/// The octets that fit each of several messages behind `elements` octets of header elements.
fn octets_room(elements: usize, options: &SplitOptions) -> usize {
    let bits = options.transport.reference_bits();
    Coding::Binary.room(udh::length(Some(bits), elements)).max(1)
}

/// The segments of octets that need `total` of them.
pub(super) fn write_octets(
    octets: &[u8],
    elements: &[u8],
    options: &SplitOptions,
    total: u8,
) -> Vec<Segment> {
    if total <= 1 {
        return vec![write_piece(octets, elements, options, None)];
    }
    let pieces = octets.chunks(octets_room(elements.len(), options)).zip(1..=total);
    pieces
        .map(|(piece, seq)| write_piece(piece, elements, options, options.concat(total, seq)))
        .collect()
}

fn write_piece(
    piece: &[u8],
    elements: &[u8],
    options: &SplitOptions,
    concat: Option<Concat>,
) -> Segment {
    let (concat, sar) = options.transport.carry(concat);
    let mut user_data = BytesMut::with_capacity(MESSAGE_OCTETS);
    udh::write(concat, elements.len(), &mut user_data);
    user_data.extend_from_slice(elements);
    let udh_octets = user_data.len();
    user_data.extend_from_slice(piece);
    Segment { user_data: user_data.freeze(), udh_octets, units: piece.len(), sar }
}

/// The units of all of `text`.
fn units(text: &str, options: &SplitOptions) -> Result<usize, SplitError> {
    if options.coding == Coding::Ucs2 {
        return Ok(coding::utf16_units(text));
    }
    let shifts = options.shifts();
    if options.coding == Coding::Gsm7
        && shifts.is_none()
        && let Some(septets) = gsm::ascii_septets(text)
    {
        return Ok(septets);
    }
    let mut units = 0;
    for (index, character) in text.chars().enumerate() {
        units += options
            .coding
            .units(character, shifts)
            .ok_or(SplitError::Unencodable { index, character })?;
    }
    Ok(units)
}

/// The pieces of a text that is longer than one segment, as ranges of its octets.
fn cuts(text: &str, options: &SplitOptions) -> impl Iterator<Item = Range<usize>> {
    let room = options.segment_room();
    let mut from = 0;
    std::iter::from_fn(move || {
        if from == text.len() {
            return None;
        }
        let piece = from..piece_end(text, from, room, options);
        from = piece.end;
        Some(piece)
    })
}

/// Where the piece that begins at `from` ends: as far as `room` allows, and then back to where
/// the policy lets it be cut.
fn piece_end(text: &str, from: usize, room: usize, options: &SplitOptions) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let full = match options.coding {
        Coding::Ucs2 => first_beyond_utf16(rest, room),
        _ => first_beyond(rest, room, options),
    };
    match (full.map(|at| from + at), options.policy) {
        (None, _) => text.len(),
        (Some(cut), Policy::Units) => cut,
        (Some(cut), Policy::Graphemes) => cluster_end(text, cut, from).unwrap_or(cut),
    }
}

/// Where the first character of `text` is that `room` units have no place for.
fn first_beyond(text: &str, room: usize, options: &SplitOptions) -> Option<usize> {
    let shifts = options.shifts();
    let mut units = 0;
    text.char_indices().find_map(|(at, character)| {
        units += options.coding.units(character, shifts).unwrap_or_default();
        (units > room).then_some(at)
    })
}

/// The same for UTF-16, by the first octet of each character.
fn first_beyond_utf16(text: &str, room: usize) -> Option<usize> {
    /// So few units are taken one by one.
    const FEW: usize = 8;
    let octets = text.as_bytes();
    let (mut at, mut left) = (0, room);
    // A unit is an octet at least, so as many octets begin no more than the units that are left.
    while left > FEW
        && let Some(next) = octets.get(at..at + left - 1)
    {
        at += next.len();
        left -= coding::utf16_units_begun(next);
    }
    at = text.ceil_char_boundary(at);
    while let Some(&first) = octets.get(at) {
        let (length, units) = match first {
            0xF0.. => (4, 2),
            0xE0.. => (3, 1),
            0x80.. => (2, 1),
            _ => (1, 1),
        };
        if units > left {
            return Some(at);
        }
        left -= units;
        at += length;
    }
    None
}

/// The last end of a grapheme cluster at `cut` or before it; `None` when there is none behind
/// `from`, since one cluster fills the whole segment.
fn cluster_end(text: &str, cut: usize, from: usize) -> Option<usize> {
    if plain::stands_apart(text, cut) {
        return Some(cut);
    }
    let mut cursor = GraphemeCursor::new(cut, text.len(), true);
    if cursor.is_boundary(text, 0) == Ok(true) {
        return Some(cut);
    }
    cursor.prev_boundary(text, 0).ok().flatten().filter(|&boundary| boundary > from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn utf16_is_cut_where_its_characters_say(
            text in "(?:[a-z]|[é-ü]|[あ-ん]|[飛-齢]|[\u{1F600}-\u{1F64F}]){0,90}",
            room in 0_usize..80,
        ) {
            let slow = first_beyond(&text, room, &SplitOptions::new(Coding::Ucs2));
            prop_assert_eq!(first_beyond_utf16(&text, room), slow);
        }
    }
}
