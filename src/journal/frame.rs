//! How records lie in a file: the header of a file, the frame around a record, runs of frames.
//!
//! # A segment file, version 2
//!
//! All numbers are little-endian. A file begins with 64 octets:
//!
//! | octets | field | |
//! |---|---|---|
//! | 8 | magic | `hikyaku` and a zero |
//! | 4 | version | 2 |
//! | 4 | check | CRC-32C of the magic, the version and the fields below |
//! | 8 | base | the position of the first frame, as in the file's name |
//! | 8 | salt | random, part of every check sum in the file |
//! | 8 | complete | all frames below this position were durable before the file got its name |
//! | 4 | day | the day whose key the records are sealed under |
//! | 4 | | zero |
//! | 16 | seal salt | random: makes this file's own key of the day's |
//!
//! Frames follow without a gap. The frame at position `p` lies `p - base` octets behind the header:
//!
//! | octets | field | |
//! |---|---|---|
//! | 4 | length | of the record, 1 to 16 MiB |
//! | 4 | back | from this frame back to the first frame of its group |
//! | 4 | record check | CRC-32C of the sealed record |
//! | 4 | frame check | CRC-32C of salt, position, length, back, record check and tag |
//! | 16 | tag | proves that the record is what was sealed at `p` |
//! | length | record | sealed, with `p` as its number |
//!
//! Since the salt and the position are in the frame check, no octets that an older file left on a
//! sector, and none that lie at another place, pass for a frame. Since an empty record is not
//! allowed, no run of zeros does. A *group* is what was written and synced in one go. The check
//! sums are of the sealed octets: whether a file is whole can be seen without a key.
//!
//! # Version 1
//!
//! Without day, zero and seal salt, so a header of 40 octets; without tags, so 16 octets before a
//! record, and records as they are. Such files are read, and not written but for the last group of
//! one, which opening writes once more at the same positions.

use crate::journal::Position;
use crate::journal::beyond;
use crate::seal::Cipher;
use crate::seal::Day;
use crate::seal::TAG;

/// The most octets before the first frame of a file.
pub(super) const FILE_HEADER: usize = 64;

/// Octets of a frame before its record, as new frames lie.
pub(super) const FRAME_HEADER: usize = 32;

/// How frames lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// Version 1: records as they are.
    Plain,
    /// Version 2: records sealed.
    #[default]
    Sealed,
}

impl Layout {
    /// Octets before the first frame of a file.
    pub(super) const fn file_header(self) -> usize {
        match self {
            Self::Plain => 40,
            Self::Sealed => FILE_HEADER,
        }
    }

    /// Octets of a frame before its record.
    pub(super) const fn frame_header(self) -> usize {
        match self {
            Self::Plain => 16,
            Self::Sealed => FRAME_HEADER,
        }
    }

    const fn version(self) -> u32 {
        match self {
            Self::Plain => 1,
            Self::Sealed => VERSION,
        }
    }
}

/// The longest record that any configuration may allow.
pub const LONGEST_RECORD: usize = 16 << 20;

/// The version that this code writes; it reads this one and those before.
const VERSION: u32 = 2;

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
    /// What the records are sealed with; none in a file of version 1.
    pub(super) seal: Option<Seal>,
}

/// Which key a file's records are sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// The day of the key.
    pub(super) day: Day,
    /// Makes the file's own key of it.
    pub(super) salt: [u8; 16],
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
        let (complete, rest) = take_u64(rest).ok_or(Flaw::NoHeader)?;
        let seal = (version != Layout::Plain.version())
            .then(|| Seal::read(rest).ok_or(Flaw::NoHeader))
            .transpose()?;
        let header = Self { base: Position(base), salt, complete: Position(complete), seal };
        // So far out, no sum of positions and lengths comes near the end of the numbers.
        let possible = base <= complete && complete < 1 << 62;
        if version != header.layout().version() || check != header.check() || !possible {
            return Err(Flaw::NoHeader);
        }
        Ok(header)
    }

    /// How the file's frames lie.
    pub(super) fn layout(&self) -> Layout {
        if self.seal.is_some() { Layout::Sealed } else { Layout::Plain }
    }

    /// The header as it lies in a file.
    pub(super) fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(FILE_HEADER);
        octets.extend(MAGIC);
        octets.extend(self.layout().version().to_le_bytes());
        octets.extend(self.check().to_le_bytes());
        octets.extend(self.fields());
        octets
    }

    fn check(&self) -> u32 {
        let version = self.layout().version().to_le_bytes();
        let check = crc32c::crc32c_append(crc32c::crc32c(&MAGIC), &version);
        crc32c::crc32c_append(check, &self.fields())
    }

    fn fields(&self) -> Vec<u8> {
        let numbers = [self.base.0, self.salt, self.complete.0];
        let mut fields: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        if let Some(seal) = &self.seal {
            fields.extend(u64::from(seal.day.0).to_le_bytes());
            fields.extend(seal.salt);
        }
        fields
    }
}

impl Seal {
    fn read(octets: &[u8]) -> Option<Self> {
        let (day, rest) = take_u64(octets)?;
        let salt = rest.first_chunk()?;
        Some(Self { day: Day(u32::try_from(day).ok()?), salt: *salt })
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
    /// None in a file of version 1.
    tag: Option<[u8; TAG]>,
}

impl FrameHeader {
    fn read(octets: &[u8], layout: Layout) -> Option<Self> {
        let (length, rest) = take_u32(octets)?;
        let (back, rest) = take_u32(rest)?;
        let (record_check, rest) = take_u32(rest)?;
        let (frame_check, rest) = take_u32(rest)?;
        let tag = match layout {
            Layout::Plain => None,
            Layout::Sealed => Some(*rest.first_chunk()?),
        };
        Some(Self { length, back, record_check, frame_check, tag })
    }

    /// Writes the header over the first octets of `out`.
    fn write(&self, out: &mut [u8]) {
        let fields = [self.length, self.back, self.record_check, self.frame_check];
        let rest = fields.into_iter().fold(out, |rest, field| put(rest, field.to_le_bytes()));
        if let Some(tag) = self.tag {
            put(rest, tag);
        }
    }

    fn check(&self, at: Position, salt: u64) -> u32 {
        let mut octets = [0; 28 + TAG];
        let rest = put(&mut octets, salt.to_le_bytes());
        let rest = put(rest, at.0.to_le_bytes());
        let lengths = [self.length, self.back, self.record_check];
        let rest = lengths.into_iter().fold(rest, |rest, field| put(rest, field.to_le_bytes()));
        match self.tag {
            Some(tag) => {
                put(rest, tag);
                crc32c::crc32c(&octets)
            }
            None => octets.get(..28).map_or(0, crc32c::crc32c),
        }
    }

    fn layout(&self) -> Layout {
        if self.tag.is_some() { Layout::Sealed } else { Layout::Plain }
    }

    /// Octets of the whole frame.
    pub(super) fn frame_length(&self) -> usize {
        self.layout().frame_header() + self.length as usize
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
    /// The key that the file's records are sealed under is not there.
    #[error("the records are sealed under the key of {}, which is not there", Day(*.day))]
    NoKey {
        /// The day of the key, counted from 1970-01-01.
        day: u32,
    },
    /// A record is not what was sealed there: it has been changed, or the key is another one.
    #[error("the record does not open under the key of its day")]
    Seal,
    /// The file or the room that the next file leaves ends too soon.
    #[error("expected records up to position {until}, but they end here")]
    Short {
        /// Where the records ought to end.
        until: u64,
    },
}

impl Flaw {
    /// Whether it tells of a key and not of octets, so that nothing may be taken for torn.
    pub(super) fn is_of_key(self) -> bool {
        matches!(self, Self::NoKey { .. } | Self::Seal)
    }
}

/// The header of the frame that begins `octets`, when it is sound.
pub(super) fn frame_header(octets: &[u8], at: Position, file: &FileHeader) -> Option<FrameHeader> {
    let header = FrameHeader::read(octets, file.layout())?;
    let lengthy = 1..=LONGEST_RECORD;
    let sound = lengthy.contains(&(header.length as usize))
        && u64::from(header.back) <= at.0
        && header.frame_check == header.check(at, file.salt);
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

/// Says what `octets`, which lie at `at` in `file`, begin with.
pub(super) fn beginning(octets: &[u8], at: Position, file: &FileHeader) -> Beginning {
    let before = file.layout().frame_header();
    if octets.len() < before {
        return Beginning::Part(before);
    }
    let Some(header) = frame_header(octets, at, file) else {
        return Beginning::Bad(Flaw::NoFrame);
    };
    match octets.get(before..header.frame_length()) {
        None => Beginning::Part(header.frame_length()),
        Some(record) if crc32c::crc32c(record) == header.record_check => Beginning::Whole(header),
        Some(_) => Beginning::Bad(Flaw::Record),
    }
}

/// A run of framed records that follow each other in the log. In memory they are never sealed.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    start: Position,
    octets: Vec<u8>,
    records: usize,
    layout: Layout,
}

impl Batch {
    /// A run without records that begins at `start`.
    pub(super) fn new(start: Position, capacity: usize) -> Self {
        Self { start, octets: Vec::with_capacity(capacity), ..Self::default() }
    }

    /// `octets` as a run; `records` frames, sound and opened, must fill them.
    pub(super) fn from_frames(
        start: Position,
        octets: Vec<u8>,
        records: usize,
        layout: Layout,
    ) -> Self {
        Self { start, octets, records, layout }
    }

    /// Appends a record and returns its position. Its check sums are not set yet.
    pub(super) fn push(&mut self, record: &[u8]) -> Position {
        let at = self.end();
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        let mut header = [0; FRAME_HEADER];
        put(&mut header, length.to_le_bytes());
        self.octets.extend_from_slice(&header);
        self.octets.extend_from_slice(record);
        self.records += 1;
        at
    }

    /// Appends the run that follows this one.
    pub(super) fn absorb(&mut self, next: &Self) {
        debug_assert_eq!(self.end(), next.start, "two batches that do not follow each other");
        self.octets.extend(&next.octets);
        self.records += next.records;
    }

    /// The run as one group of the file with this salt: each frame with its `back` and check sums,
    /// each record sealed. It must lie as the file's frames do.
    pub(super) fn written(&self, salt: u64, cipher: Option<&Cipher>) -> Vec<u8> {
        let mut out = self.octets.clone();
        let mut back = 0;
        let mut rest = out.as_mut_slice();
        while let Some((octets, behind)) = rest.split_at_mut_checked(self.layout.frame_header()) {
            let Some(mut header) = FrameHeader::read(octets, self.layout) else { break };
            let Some((record, next)) = behind.split_at_mut_checked(header.length as usize) else {
                break;
            };
            let at = beyond(self.start, back as usize);
            header.tag = cipher.map(|cipher| cipher.seal(at.0, record));
            header.back = back;
            header.record_check = crc32c::crc32c(record);
            header.frame_check = header.check(at, salt);
            header.write(octets);
            // The appender keeps a group far below 4 GiB.
            back = back.saturating_add(u32::try_from(header.frame_length()).unwrap_or(u32::MAX));
            rest = next;
        }
        out
    }

    /// How its frames lie.
    pub(super) fn layout(&self) -> Layout {
        self.layout
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

    /// How long the frames are, in octets.
    pub(super) fn length(&self) -> usize {
        self.octets.len()
    }

    /// Each record with its position.
    pub fn iter(&self) -> impl Iterator<Item = (Position, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (frame, record) = self.record_at(at)?;
            let position = beyond(self.start, at);
            at += frame;
            Some((position, record))
        })
    }

    /// The record whose frame begins `offset` octets into the run, and the length of its frame.
    pub(super) fn record_at(&self, offset: usize) -> Option<(usize, &[u8])> {
        let frame = self.octets.get(offset..)?;
        let length = FrameHeader::read(frame, self.layout)?.frame_length();
        Some((length, frame.get(self.layout.frame_header()..length)?))
    }
}

/// Opens the records of sound, sealed frames that begin at `start`, as far as they open, and says
/// how many octets of frames and how many frames that is.
pub(super) fn open_frames(octets: &mut [u8], start: Position, cipher: &Cipher) -> (usize, usize) {
    let (mut opened, mut frames) = (0, 0);
    while let Some((before, behind)) =
        octets.get_mut(opened..).and_then(|rest| rest.split_at_mut_checked(FRAME_HEADER))
    {
        let Some(header) = FrameHeader::read(before, Layout::Sealed) else { break };
        let Some(record) = behind.get_mut(..header.length as usize) else { break };
        let tag = header.tag.unwrap_or_default();
        if cipher.open(beyond(start, opened).0, record, &tag).is_err() {
            break;
        }
        opened += header.frame_length();
        frames += 1;
    }
    (opened, frames)
}

/// Writes `octets` over the first of `out`, when there is room, and gives the rest.
fn put<const N: usize>(out: &mut [u8], octets: [u8; N]) -> &mut [u8] {
    match out.split_first_chunk_mut() {
        Some((place, rest)) => {
            *place = octets;
            rest
        }
        None => &mut [],
    }
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

    use crate::seal::Keys;

    const SALT: u64 = 0x0123_4567_89ab_cdef;

    fn file() -> FileHeader {
        let seal = Seal { day: Day(0x5a5b), salt: *b"sixteen octets.." };
        let (base, complete) = (Position(0x1122), Position(0x3344));
        FileHeader { base, salt: SALT, complete, seal: Some(seal) }
    }

    fn cipher() -> Cipher {
        Keys::known(1).present().unwrap().1.cipher("journal", b"a salt")
    }

    fn batch(start: Position, records: &[Vec<u8>]) -> Batch {
        let mut batch = Batch::new(start, 0);
        for record in records {
            batch.push(record);
        }
        batch
    }

    #[test]
    fn the_header_of_a_file_lies_as_documented() {
        let header = file();
        let octets = header.octets();
        let check = crc32c::crc32c(&[&octets[..12], &octets[16..]].concat());
        let expected = [
            b"hikyaku\0".as_slice(),
            &[2, 0, 0, 0],
            &check.to_le_bytes(),
            &[0x22, 0x11, 0, 0, 0, 0, 0, 0],
            &[0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01],
            &[0x44, 0x33, 0, 0, 0, 0, 0, 0],
            &[0x5b, 0x5a, 0, 0, 0, 0, 0, 0],
            b"sixteen octets..",
        ];
        assert_eq!(octets, expected.concat());
        assert_eq!(FileHeader::read(&octets), Ok(header));
        (0..FILE_HEADER)
            .for_each(|n| assert_eq!(FileHeader::read(&octets[..n]), Err(Flaw::NoHeader)));
    }

    #[test]
    fn the_header_of_a_file_of_version_1_lies_as_it_did() {
        let header = FileHeader { seal: None, ..file() };
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
    }

    #[test]
    fn a_header_beyond_all_positions_is_refused() {
        let base = Position(1 << 62);
        let header = FileHeader { base, complete: base, ..file() };
        assert_eq!(FileHeader::read(&header.octets()), Err(Flaw::NoHeader));
    }

    #[test]
    fn a_frame_lies_as_documented() {
        let cipher = cipher();
        let written =
            batch(Position(0x1000), &[b"a".to_vec(), b"bcd".to_vec()]).written(SALT, Some(&cipher));
        let second = &written[33..];
        let mut record = *b"bcd";
        let tag = cipher.seal(0x1021, &mut record);
        let record_check = crc32c::crc32c(&record).to_le_bytes();
        let fields = [&[3, 0, 0, 0, 33, 0, 0, 0], record_check.as_slice()].concat();
        let stamp = [SALT.to_le_bytes(), 0x1021_u64.to_le_bytes()].concat();
        let checked = [stamp, fields.clone(), tag.to_vec()].concat();
        let frame_check = crc32c::crc32c(&checked).to_le_bytes();
        assert_eq!(second, [&fields, frame_check.as_slice(), &tag, &record].concat());
        assert_ne!(record, *b"bcd");
    }

    #[test]
    fn a_frame_of_version_1_lies_as_it_did() {
        let file = FileHeader { seal: None, ..file() };
        let octets = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'b', b'c', b'd'];
        let batch = Batch::from_frames(Position(0x1000), octets.to_vec(), 1, Layout::Plain);
        let written = batch.written(SALT, None);
        let record_check = crc32c::crc32c(b"bcd").to_le_bytes();
        let fields = [&[3, 0, 0, 0, 0, 0, 0, 0], record_check.as_slice()].concat();
        let stamp = [SALT.to_le_bytes(), 0x1000_u64.to_le_bytes()].concat();
        let frame_check = crc32c::crc32c(&[stamp, fields.clone()].concat()).to_le_bytes();
        assert_eq!(written, [&fields, frame_check.as_slice(), b"bcd"].concat());
        let whole = beginning(&written, Position(0x1000), &file);
        assert!(matches!(whole, Beginning::Whole(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn written_frames_are_sound_at_their_place_only(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 1..8),
            start in 0..1_u64 << 60,
            flip in any::<prop::sample::Index>(),
            mask in 1..=u8::MAX,
        ) {
            let batch = batch(Position(start), &records);
            let found: Vec<_> = batch.iter().map(|(_, record)| record.to_vec()).collect();
            prop_assert_eq!(&found, &records);
            let cipher = cipher();
            let mut octets = batch.written(SALT, Some(&cipher));
            let mut opened = octets.clone();
            let all = (octets.len(), records.len());
            prop_assert_eq!(open_frames(&mut opened, Position(start), &cipher), all);
            let opened = Batch::from_frames(Position(start), opened, all.1, Layout::Sealed);
            let found: Vec<_> = opened.iter().map(|(_, record)| record.to_vec()).collect();
            prop_assert_eq!(&found, &records);
            let frame = FRAME_HEADER + records[0].len();
            let whole = |octets: &[u8], at, salt| {
                let file = FileHeader { salt, ..file() };
                matches!(beginning(octets, Position(at), &file), Beginning::Whole(_))
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
            let file = FileHeader { salt, ..file() };
            prop_assert!(!matches!(beginning(&octets, Position(at), &file), Beginning::Whole(_)));
            prop_assert!(FileHeader::read(&octets).is_err());
        }
    }
}
