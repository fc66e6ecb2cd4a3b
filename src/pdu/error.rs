//! What can be wrong with octets that came, and with values that are to go.

use std::fmt;
use std::io;

use crate::pdu::CommandId;
use crate::pdu::Tag;

/// Why one whole frame is no PDU; the stream behind it is sound.
///
/// Names places and lengths, never what stood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What the header says the PDU is.
    pub command_id: CommandId,
    /// The field by its SMPP name, or the TLV's name.
    pub field: &'static str,
    /// Where the field begins, counted from the PDU's first octet.
    pub offset: usize,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The PDU ends inside the field.
    Cut {
        /// Octets left for the field.
        left: usize,
    },
    /// The field announces more octets than there are.
    Length {
        /// Octets announced.
        len: usize,
        /// Octets left for them.
        left: usize,
    },
    /// A C-octet string without NUL.
    Unterminated {
        /// Octets left, none of them NUL.
        left: usize,
    },
    /// A C-octet string over its limit; only [`Strict`](crate::pdu::Leniency::Strict) minds.
    TooLong {
        /// Its octets, with the NUL.
        len: usize,
        /// The specification's limit, with the NUL.
        max: usize,
    },
    /// A `dest_flag` that is neither 1 (an SME) nor 2 (a distribution list).
    DestFlag(u8),
    /// Octets behind the last field; only [`Strict`](crate::pdu::Leniency::Strict) minds.
    Stray {
        /// How many.
        octets: usize,
    },
    /// A TLV whose length its tag does not allow; only
    /// [`Strict`](crate::pdu::Leniency::Strict) minds.
    TlvLength {
        /// Its tag.
        tag: Tag,
        /// Octets of its value.
        len: usize,
    },
    /// `command_length` is not the length of the frame.
    CommandLength {
        /// What `command_length` says.
        announced: u32,
        /// Octets in the frame.
        found: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command_id, field, offset, why } = self;
        write!(f, "{command_id}: {field} {why} at offset {offset}")
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Cut { left } => write!(f, "is cut off, {left} octets left"),
            Self::Length { len, left } => {
                write!(f, "length {len} exceeds the {left} octets left")
            }
            Self::Unterminated { left } => write!(f, "has no NUL in the {left} octets left"),
            Self::TooLong { len, max } => write!(f, "is {len} octets with its NUL, at most {max}"),
            Self::DestFlag(flag) => write!(f, "is {flag}, expected 1 or 2"),
            Self::Stray { octets } => write!(f, "followed by {octets} stray octets"),
            Self::TlvLength { tag, len } => {
                write!(f, "is {len} octets, expected {}", tag.lengths())
            }
            Self::CommandLength { announced, found } => {
                write!(f, "is {announced}, the frame has {found} octets")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why a PDU cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A list has more entries than its count octet can say.
    TooMany {
        /// The PDU.
        command_id: CommandId,
        /// The list's SMPP name.
        field: &'static str,
        /// Entries.
        len: usize,
        /// At most so many.
        max: usize,
    },
    /// A response's field is absent although one behind it is there.
    Absent {
        /// The PDU.
        command_id: CommandId,
        /// The absent field.
        field: &'static str,
    },
    /// The PDU is longer than 4 GiB.
    TooLong {
        /// The PDU.
        command_id: CommandId,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { command_id, field, len, max } => {
                write!(f, "{command_id}: {field} has {len} entries, at most {max}")
            }
            Self::Absent { command_id, field } => {
                write!(f, "{command_id}: {field} is absent, yet a field behind it is there")
            }
            Self::TooLong { command_id } => write!(f, "{command_id}: longer than 4 GiB"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Why the stream is lost: no later PDU can be found in it.
#[derive(Debug)]
pub enum FrameError {
    /// `command_length` is below the 16 octets of a header or above the limit.
    CommandLength {
        /// What it says.
        announced: u32,
        /// The limit.
        max: usize,
    },
    /// A PDU of ours cannot be written; nothing of it was.
    Encode(EncodeError),
    /// The transport failed.
    Io(io::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLength { announced, max } => {
                write!(f, "command_length is {announced}, expected 16 to {max}")
            }
            Self::Encode(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FrameError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::CommandLength { .. } => None,
            Self::Encode(error) => Some(error),
            Self::Io(error) => Some(error),
        }
    }
}

impl From<EncodeError> for FrameError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Why a value of ours does not fit its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitError {
    /// More octets than the field holds, a C-octet string's NUL counted.
    TooLong {
        /// Octets found.
        len: usize,
        /// At most so many.
        max: usize,
    },
    /// A NUL inside a C-octet string would end it.
    Nul {
        /// Its position.
        at: usize,
    },
    /// A character beyond U+00FF has no octet.
    Character {
        /// Its position in octets of UTF-8.
        at: usize,
    },
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => write!(f, "is {len} octets, at most {max}"),
            Self::Nul { at } => write!(f, "has a NUL at {at}"),
            Self::Character { at } => write!(f, "has a character beyond U+00FF at {at}"),
        }
    }
}

impl std::error::Error for LimitError {}
