//! How records lie in a file: the header of a file, the frame around a record, runs of frames.
//!
//! # A segment file, version 1
//!
//! All numbers are little-endian. A file begins with 40 octets:
//!
//! | octets | field | |
//! |---|---|---|
//! | 8 | magic | `hikyaku` and a zero |
//! | 4 | version | 1 |
//! | 4 | check | CRC-32C of the magic, the version and the fields below |
//! | 8 | base | the position of the first frame, as in the file's name |
//! | 8 | salt | random, part of every check sum in the file |
//! | 8 | complete | all frames below this position were durable before the file got its name |
//!
//! Frames follow without a gap. The frame at position `p` lies `p - base` octets behind the header:
//!
//! | octets | field | |
//! |---|---|---|
//! | 4 | length | of the record, 1 to 16 MiB |
//! | 4 | back | from this frame back to the first frame of its group |
//! | 4 | record check | CRC-32C of the record |
//! | 4 | frame check | CRC-32C of salt, position, length, back and record check |
//! | length | record | |
//!
//! Since the salt and the position are in the frame check, no octets that an older file left on a
//! sector, and none that lie at another place, pass for a frame. Since an empty record is not
//! allowed, no run of zeros does. A *group* is what was written and synced in one go.

use crate::journal::Position;
use crate::journal::beyond;

/// Octets before the first frame of a file.
pub(super) const FILE_HEADER: usize = 40;

/// Octets of a frame before its record.
pub(super) const FRAME_HEADER: usize = 16;

/// The longest record that any configuration may allow.
pub const LONGEST_RECORD: usize = 16 << 20;

/// The version that this code writes; it reads this one and those before.
const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"hikyaku\0";

/// The first octets of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// The position of the first frame.
    pub(super) base: Position,
    /// What makes the check sums of this file its own.
    pub(super) salt: u64,
    /// Everything below was durable before the file got its name.
    pub(super) complete: Position,
}

impl FileHeader {
    /// Reads a header, or says what is wrong with it.
    pub(super) fn read(octets: &[u8]) -> Result<Self, Flaw> {
        let (magic, rest) = octets.split_first_chunk::<8>().ok_or(Flaw::NoHeader)?;
        let (version, rest) = take_u32(rest).ok_or(Flaw::NoHeader)?;
        if *magic != MAGIC {
            return Err(Flaw::NoHeader);
        }
        // A later version may have another header, so this comes before its check sum.
        if version > VERSION {
            return Err(Flaw::Version { found: version, known: VERSION });
        }
        let (check, rest) = take_u32(rest).ok_or(Flaw::NoHeader)?;
        let (base, rest) = take_u64(rest).ok_or(Flaw::NoHeader)?;
        let (salt, rest) = take_u64(rest).ok_or(Flaw::NoHeader)?;
        let (complete, _) = take_u64(rest).ok_or(Flaw::NoHeader)?;
        let header = Self { base: Position(base), salt, complete: Position(complete) };
        // So far out, no sum of positions and lengths comes near the end of the numbers.
        let possible = base <= complete && complete < 1 << 62;
        if version != VERSION || check != header.check() || !possible {
            return Err(Flaw::NoHeader);
        }
        Ok(header)
    }

    /// The header as it lies in a file.
    pub(super) fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(FILE_HEADER);
        octets.extend(MAGIC);
        octets.extend(VERSION.to_le_bytes());
        octets.extend(self.check().to_le_bytes());
        octets.extend(self.fields());
        octets
    }

    fn check(&self) -> u32 {
        let check = crc32c::crc32c_append(crc32c::crc32c(&MAGIC), &VERSION.to_le_bytes());
        crc32c::crc32c_append(check, &self.fields())
    }

    fn fields(&self) -> Vec<u8> {
        [self.base.0, self.salt, self.complete.0].into_iter().flat_map(u64::to_le_bytes).collect()
    }
}

/// The octets of a frame before its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    length: u32,
    /// Octets from this frame back to the first one of its group.
    pub(super) back: u32,
    record_check: u32,
    frame_check: u32,
}

impl FrameHeader {
    fn read(octets: &[u8]) -> Option<Self> {
        let (length, rest) = take_u32(octets)?;
        let (back, rest) = take_u32(rest)?;
        let (record_check, rest) = take_u32(rest)?;
        let (frame_check, _) = take_u32(rest)?;
        Some(Self { length, back, record_check, frame_check })
    }

    fn octets(&self) -> [u8; FRAME_HEADER] {
        let mut octets = [0; FRAME_HEADER];
        let fields = [self.length, self.back, self.record_check, self.frame_check];
        for (to, from) in octets.iter_mut().zip(fields.into_iter().flat_map(u32::to_le_bytes)) {
            *to = from;
        }
        octets
    }

    fn check(&self, at: Position, salt: u64) -> u32 {
        let mut fields = [0; 28];
        let numbers = [salt, at.0].into_iter().flat_map(u64::to_le_bytes);
        let lengths =
            [self.length, self.back, self.record_check].into_iter().flat_map(u32::to_le_bytes);
        for (to, from) in fields.iter_mut().zip(numbers.chain(lengths)) {
            *to = from;
        }
        crc32c::crc32c(&fields)
    }

    /// Octets of the whole frame.
    pub(super) fn frame_length(&self) -> usize {
        FRAME_HEADER + self.length as usize
    }
}

/// Why octets are not a file of ours or not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The file has no sound header.
    #[error("expected the header of a journal segment, found other octets")]
    NoHeader,
    /// A newer program wrote the file.
    #[error(
        "expected format version {known} or older, found version {found}, \
         which a newer hikyaku wrote"
    )]
    Version {
        /// The version in the file.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// The header names another position than the file's name does.
    #[error("the header names the position {found}, the file's name another")]
    Renamed {
        /// The position in the header.
        found: u64,
    },
    /// No frame begins here.
    #[error("expected a record, found octets that no record begins with")]
    NoFrame,
    /// A record's octets are not those that were written.
    #[error("the record does not match its check sum")]
    Record,
    /// The file or the room that the next file leaves ends too soon.
    #[error("expected records up to position {until}, but they end here")]
    Short {
        /// Where the records ought to end.
        until: u64,
    },
}

/// The header of the frame that begins `octets`, when it is sound.
pub(super) fn frame_header(octets: &[u8], at: Position, salt: u64) -> Option<FrameHeader> {
    let header = FrameHeader::read(octets)?;
    let lengthy = 1..=LONGEST_RECORD;
    let sound = lengthy.contains(&(header.length as usize))
        && u64::from(header.back) <= at.0
        && header.frame_check == header.check(at, salt);
    sound.then_some(header)
}

/// What the beginning of some octets is.
pub(super) enum Beginning {
    /// A whole frame.
    Whole(FrameHeader),
    /// The beginning of a frame that needs this many octets in all.
    Part(usize),
    /// Nothing good.
    Bad(Flaw),
}

/// Says what `octets`, which lie at `at`, begin with.
pub(super) fn beginning(octets: &[u8], at: Position, salt: u64) -> Beginning {
    if octets.len() < FRAME_HEADER {
        return Beginning::Part(FRAME_HEADER);
    }
    let Some(header) = frame_header(octets, at, salt) else {
        return Beginning::Bad(Flaw::NoFrame);
    };
    match octets.get(FRAME_HEADER..header.frame_length()) {
        None => Beginning::Part(header.frame_length()),
        Some(record) if crc32c::crc32c(record) == header.record_check => Beginning::Whole(header),
        Some(_) => Beginning::Bad(Flaw::Record),
    }
}

/// A run of framed records that follow each other in the log.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    start: Position,
    octets: Vec<u8>,
    records: usize,
}

impl Batch {
    /// A run without records that begins at `start`.
    pub(super) fn new(start: Position, capacity: usize) -> Self {
        Self { start, octets: Vec::with_capacity(capacity), records: 0 }
    }

    /// `octets` as a run; `records` sound frames must fill them.
    pub(super) fn from_frames(start: Position, octets: Vec<u8>, records: usize) -> Self {
        Self { start, octets, records }
    }

    /// Appends a record and returns its position. Its check sums are not set yet.
    pub(super) fn push(&mut self, record: &[u8]) -> Position {
        let at = self.end();
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        let header = FrameHeader { length, back: 0, record_check: 0, frame_check: 0 };
        self.octets.extend(header.octets());
        self.octets.extend(record);
        self.records += 1;
        at
    }

    /// Appends the run that follows this one.
    pub(super) fn absorb(&mut self, next: &Self) {
        debug_assert_eq!(self.end(), next.start, "two batches that do not follow each other");
        self.octets.extend(&next.octets);
        self.records += next.records;
    }

    /// Makes the run one group of the file with this salt: sets each frame's `back` and check sums.
    pub(super) fn seal(&mut self, salt: u64) {
        let mut back = 0;
        let mut rest = self.octets.as_mut_slice();
        while let Some((octets, behind)) = rest.split_first_chunk_mut::<FRAME_HEADER>() {
            let Some(mut header) = FrameHeader::read(octets) else { break };
            let Some((record, next)) = behind.split_at_mut_checked(header.length as usize) else {
                break;
            };
            header.back = back;
            header.record_check = crc32c::crc32c(record);
            header.frame_check = header.check(beyond(self.start, back as usize), salt);
            *octets = header.octets();
            // The appender keeps a group far below 4 GiB.
            back = back.saturating_add(u32::try_from(header.frame_length()).unwrap_or(u32::MAX));
            rest = next;
        }
    }

    /// The position of the first record.
    pub fn start(&self) -> Position {
        self.start
    }

    /// The position behind the last record.
    pub fn end(&self) -> Position {
        beyond(self.start, self.octets.len())
    }

    /// How many records there are.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The frames as they lie in the log, 16 octets and the record each.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Each record with its position.
    pub fn iter(&self) -> impl Iterator<Item = (Position, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (frame, record) = record_at(&self.octets, at)?;
            let position = beyond(self.start, at);
            at += frame;
            Some((position, record))
        })
    }

    /// The record whose frame begins `offset` octets into the run, and the length of its frame.
    pub(super) fn record_at(&self, offset: usize) -> Option<(usize, &[u8])> {
        record_at(&self.octets, offset)
    }
}

fn record_at(octets: &[u8], offset: usize) -> Option<(usize, &[u8])> {
    let frame = octets.get(offset..)?;
    let length = FrameHeader::read(frame)?.frame_length();
    Some((length, frame.get(FRAME_HEADER..length)?))
}

fn take_u32(octets: &[u8]) -> Option<(u32, &[u8])> {
    octets.split_first_chunk().map(|(number, rest)| (u32::from_le_bytes(*number), rest))
}

fn take_u64(octets: &[u8]) -> Option<(u64, &[u8])> {
    octets.split_first_chunk().map(|(number, rest)| (u64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: u64 = 0x0123_4567_89ab_cdef;

    fn sealed(start: Position, records: &[Vec<u8>]) -> Batch {
        let mut batch = Batch::new(start, 0);
        for record in records {
            batch.push(record);
        }
        batch.seal(SALT);
        batch
    }

    #[test]
    fn the_header_of_a_file_lies_as_documented() {
        let header = FileHeader { base: Position(0x1122), salt: SALT, complete: Position(0x3344) };
        let octets = header.octets();
        let check = crc32c::crc32c(&[&octets[..12], &octets[16..]].concat());
        let expected = [
            b"hikyaku\0".as_slice(),
            &[1, 0, 0, 0],
            &check.to_le_bytes(),
            &[0x22, 0x11, 0, 0, 0, 0, 0, 0],
            &[0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01],
            &[0x44, 0x33, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(octets, expected.concat());
        assert_eq!(FileHeader::read(&octets), Ok(header));
        (0..FILE_HEADER)
            .for_each(|n| assert_eq!(FileHeader::read(&octets[..n]), Err(Flaw::NoHeader)));
    }

    #[test]
    fn a_header_beyond_all_positions_is_refused() {
        let base = Position(1 << 62);
        let header = FileHeader { base, salt: SALT, complete: base };
        assert_eq!(FileHeader::read(&header.octets()), Err(Flaw::NoHeader));
    }

    #[test]
    fn a_frame_lies_as_documented() {
        let batch = sealed(Position(0x1000), &[b"a".to_vec(), b"bcd".to_vec()]);
        let second = &batch.octets()[17..];
        let record_check = crc32c::crc32c(b"bcd").to_le_bytes();
        let fields = [&[3, 0, 0, 0, 17, 0, 0, 0], record_check.as_slice()].concat();
        let stamp = [SALT.to_le_bytes(), 0x1011_u64.to_le_bytes()].concat();
        let frame_check = crc32c::crc32c(&[stamp, fields.clone()].concat()).to_le_bytes();
        assert_eq!(second, [&fields, frame_check.as_slice(), b"bcd"].concat());
    }

    proptest! {
        #[test]
        fn sealed_frames_are_sound_at_their_place_only(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 1..8),
            start in 0..1_u64 << 60,
            flip in any::<prop::sample::Index>(),
            mask in 1..=u8::MAX,
        ) {
            let batch = sealed(Position(start), &records);
            let found: Vec<_> = batch.iter().map(|(_, record)| record.to_vec()).collect();
            prop_assert_eq!(&found, &records);
            let mut octets = batch.octets().to_vec();
            let frame = FRAME_HEADER + records[0].len();
            let whole = |octets: &[u8], at, salt| {
                matches!(beginning(octets, Position(at), salt), Beginning::Whole(_))
            };
            prop_assert!(whole(&octets, start, SALT));
            prop_assert!(!whole(&octets, start + 1, SALT));
            prop_assert!(!whole(&octets, start, SALT + 1));
            prop_assert!(!whole(&octets[..frame - 1], start, SALT));
            octets[flip.index(frame)] ^= mask;
            prop_assert!(!whole(&octets, start, SALT));
        }

        #[test]
        fn any_octets_have_a_beginning(octets: Vec<u8>, at: u64, salt: u64) {
            prop_assert!(!matches!(beginning(&octets, Position(at), salt), Beginning::Whole(_)));
            prop_assert!(FileHeader::read(&octets).is_err());
        }
    }
}
