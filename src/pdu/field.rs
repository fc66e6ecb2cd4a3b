//! The kinds of field that bodies are made of; each knows its own octets.

use std::fmt;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use nom::IResult;
use nom::Parser;
use nom::bytes::complete::take;
use nom::bytes::complete::take_till;
use nom::error::ErrorKind;
use nom::error::ParseError;
use nom::number::complete::be_u8;
use nom::number::complete::be_u32;

use crate::pdu::CommandStatus;
use crate::pdu::DataCoding;
use crate::pdu::EsmClass;
use crate::pdu::InterfaceVersion;
use crate::pdu::Leniency;
use crate::pdu::LimitError;
use crate::pdu::MessageState;
use crate::pdu::Npi;
use crate::pdu::RegisteredDelivery;
use crate::pdu::Ton;
use crate::pdu::Why;

/// A field of a body. The law: reading what was written gives the value again.
pub(crate) trait Field: Sized {
    /// Takes the field off the front of `input`, which is a part of `cx.frame`.
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self>;

    /// Writes the field.
    fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany>;

    /// Whether the field writes nothing, as in a response of the header only.
    fn is_absent(&self) -> bool {
        false
    }
}

/// What reading a field gives: the octets behind it and the value.
pub(crate) type Read<'a, T> = IResult<&'a [u8], T, Fault>;

/// What a reader of fields must know besides the octets.
pub(crate) struct Cx<'a> {
    /// The whole PDU; values are views of it.
    pub(crate) frame: &'a Bytes,
    /// How much to forgive.
    pub(crate) leniency: Leniency,
    /// Whether the PDU answers a request of ours.
    pub(crate) response: bool,
}

impl Cx<'_> {
    /// The same octets as a share of the frame.
    pub(crate) fn view(&self, octets: &[u8]) -> Bytes {
        if octets.is_empty() { Bytes::new() } else { self.frame.slice_ref(octets) }
    }

    /// A response whose text runs to the end of the PDU is taken, since it ends our request.
    fn forgives_missing_nul(&self) -> bool {
        self.response && self.leniency == Leniency::Lenient
    }
}

/// Where reading stopped, and why. Boxed, since a result as large as this would cost every field.
#[derive(Debug)]
pub(crate) struct Fault(Box<Place>);

/// The inside of a [`Fault`].
#[derive(Debug)]
pub(crate) struct Place {
    /// Octets from the field to the end of the PDU.
    pub(crate) left: usize,
    /// The field by its SMPP name, or the part of it, or empty.
    pub(crate) field: &'static str,
    /// What is wrong.
    pub(crate) why: Why,
}

impl Fault {
    /// A fault in the field that `input` begins with; it ends the reading of the PDU.
    #[cold]
    pub(crate) fn new(input: &[u8], field: &'static str, why: Why) -> nom::Err<Self> {
        nom::Err::Error(Self(Box::new(Place { left: input.len(), field, why })))
    }

    /// What it tells.
    pub(crate) fn place(self) -> Place {
        *self.0
    }

    /// The same fault, told as one in this part of a field.
    #[cold]
    fn part(mut self, part: &'static str) -> Self {
        self.0.field = part;
        self
    }

    /// The same fault, told as one in this row of a body.
    #[cold]
    fn within(mut self, row: &'static str) -> Self {
        self.0.field = match (row, self.0.field) {
            (row, "") => row,
            ("source", "ton") => "source_addr_ton",
            ("source", "npi") => "source_addr_npi",
            ("source", "addr") => "source_addr",
            ("destination", "ton") => "dest_addr_ton",
            ("destination", "npi") => "dest_addr_npi",
            ("destination", "addr") => "destination_addr",
            ("address_range", "ton") => "addr_ton",
            ("address_range", "npi") => "addr_npi",
            ("address_range", "addr") => "address_range",
            ("esme", "ton") => "esme_addr_ton",
            ("esme", "npi") => "esme_addr_npi",
            ("esme", "addr") => "esme_addr",
            (_, part) => part,
        };
        self
    }
}

impl ParseError<&[u8]> for Fault {
    #[cold]
    fn from_error_kind(input: &[u8], _: ErrorKind) -> Self {
        Self(Box::new(Place { left: input.len(), field: "", why: Why::Cut { left: input.len() } }))
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// The PDU being written.
pub(crate) struct Out<'a> {
    octets: &'a mut BytesMut,
    absent: Option<&'static str>,
}

/// Why a row of a body cannot be written.
pub(crate) enum Unwritable {
    /// Its list is too long.
    TooMany(&'static str, TooMany),
    /// This row is absent and a later one is not.
    Absent(&'static str),
}

/// A list with more entries than its count octet can say.
pub(crate) struct TooMany {
    /// Entries.
    pub(crate) len: usize,
}

impl<'a> Out<'a> {
    /// Writes behind what `octets` holds.
    pub(crate) fn new(octets: &'a mut BytesMut) -> Self {
        Self { octets, absent: None }
    }

    /// Writes one row of a body.
    pub(crate) fn row(&mut self, name: &'static str, field: &impl Field) -> Result<(), Unwritable> {
        if field.is_absent() {
            self.absent.get_or_insert(name);
            return Ok(());
        }
        match self.absent {
            Some(absent) => Err(Unwritable::Absent(absent)),
            None => field.write(self).map_err(|many| Unwritable::TooMany(name, many)),
        }
    }

    /// Writes octets as they are.
    pub(crate) fn put_slice(&mut self, octets: &[u8]) {
        self.octets.put_slice(octets);
    }

    fn put_count(&mut self, len: usize) -> Result<(), TooMany> {
        self.octets.put_u8(u8::try_from(len).map_err(|_| TooMany { len })?);
        Ok(())
    }
}

/// One row a number: the type, its parser, its writer.
macro_rules! number_fields {
    ($($type:ty = $int:ident, $wrap:expr, $unwrap:expr;)*) => {$(
        impl Field for $type {
            #[inline]
            fn read<'a>(_: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self> {
                $int.map($wrap).parse_complete(input)
            }

            fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany> {
                let number = $unwrap(self).to_be_bytes();
                out.put_slice(&number);
                Ok(())
            }
        }
    )*};
}

number_fields! {
    u8 = be_u8, |number| number, |number: &u8| *number;
    DataCoding = be_u8, Self, |number: &Self| number.0;
    EsmClass = be_u8, Self, |number: &Self| number.0;
    InterfaceVersion = be_u8, Self, |number: &Self| number.0;
    MessageState = be_u8, Self, |number: &Self| number.0;
    Npi = be_u8, Self, |number: &Self| number.0;
    RegisteredDelivery = be_u8, Self, |number: &Self| number.0;
    Ton = be_u8, Self, |number: &Self| number.0;
    CommandStatus = be_u32, Self, |number: &Self| number.0;
}

/// A response's field that is not there because the PDU ends before it.
impl<T: Field> Field for Option<T> {
    #[inline]
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self> {
        if input.is_empty() {
            return Ok((input, None));
        }
        T::read(cx, input).map(|(input, value)| (input, Some(value)))
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany> {
        self.as_ref().map_or(Ok(()), |value| value.write(out))
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

/// Text that a NUL ends, at most `N` octets with the NUL (SMPP 3.4 §3.1).
///
/// The octets are kept as they came, in whatever alphabet; a decoded one may be longer than `N`.
/// `Debug` shows the length only: numbers of people and passwords travel in these.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct COctetString<const N: usize>(Bytes);

impl<const N: usize> COctetString<N> {
    /// The empty string, one NUL on the wire.
    pub const EMPTY: Self = Self(Bytes::new());

    /// Text without its NUL.
    ///
    /// # Errors
    /// [`LimitError::TooLong`] from `N` octets on, [`LimitError::Nul`] for a NUL inside.
    pub fn new(octets: impl Into<Bytes>) -> Result<Self, LimitError> {
        let octets = octets.into();
        if octets.len() >= N {
            return Err(LimitError::TooLong { len: octets.len(), max: N.saturating_sub(1) });
        }
        match octets.iter().position(|&octet| octet == 0) {
            Some(at) => Err(LimitError::Nul { at }),
            None => Ok(Self(octets)),
        }
    }

    /// Text that stands in the program, without its NUL.
    ///
    /// # Panics
    /// From `N` octets on, or for a NUL inside; in a constant already when compiling.
    pub const fn from_static(octets: &'static [u8]) -> Self {
        assert!(octets.len() < N, "longer than the field");
        let mut rest = octets;
        while let [octet, behind @ ..] = rest {
            assert!(*octet != 0, "a NUL inside");
            rest = behind;
        }
        Self(Bytes::from_static(octets))
    }

    /// The octets without the NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The octets without the NUL, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Each octet as the character of its number (Latin-1): nothing is lost, and nothing is known
    /// about the real alphabet.
    pub fn to_text_lossy(&self) -> String {
        self.0.iter().copied().map(char::from).collect()
    }

    /// Whether there is no octet before the NUL.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many octets stand before the NUL.
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

impl<const N: usize> TryFrom<&str> for COctetString<N> {
    type Error = LimitError;

    /// Takes each character up to U+00FF as the octet of its number.
    fn try_from(text: &str) -> Result<Self, LimitError> {
        let octets = text
            .char_indices()
            .map(|(at, char)| u8::try_from(char).map_err(|_| LimitError::Character { at }))
            .collect::<Result<Vec<u8>, _>>()?;
        Self::new(octets)
    }
}

impl<const N: usize> fmt::Debug for COctetString<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} octets>", self.len())
    }
}

impl<const N: usize> Field for COctetString<N> {
    #[inline]
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self> {
        let (rest, octets) = take_till(|octet| octet == 0).parse_complete(input)?;
        let rest = match rest.split_first() {
            Some((_nul, rest)) => rest,
            None if cx.forgives_missing_nul() => rest,
            None => return Err(Fault::new(input, "", Why::Unterminated { left: input.len() })),
        };
        if octets.len() >= N && cx.leniency == Leniency::Strict {
            return Err(Fault::new(input, "", Why::TooLong { len: octets.len() + 1, max: N }));
        }
        Ok((rest, Self(cx.view(octets))))
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany> {
        out.put_slice(&self.0);
        out.put_slice(&[0]);
        Ok(())
    }
}

/// A number or name of somebody with its type and plan; `N` counts the NUL of the digits.
///
/// `Debug` shows the last two digits at most.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address<const N: usize = 21> {
    /// Type of number.
    pub ton: Ton,
    /// Numbering plan.
    pub npi: Npi,
    /// The digits or the name.
    pub addr: COctetString<N>,
}

impl<const N: usize> Address<N> {
    /// An address of these parts.
    ///
    /// # Errors
    /// As [`COctetString::try_from`].
    pub fn new(ton: Ton, npi: Npi, addr: &str) -> Result<Self, LimitError> {
        Ok(Self { ton, npi, addr: COctetString::try_from(addr)? })
    }
}

impl<const N: usize> fmt::Debug for Address<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ton, npi, addr } = self;
        let tail = match addr.as_bytes() {
            // A short code would be shown whole.
            [_, _, _, .., a, b] => format!("..{}", [*a, *b].escape_ascii()),
            _ => "..".to_owned(),
        };
        write!(f, "{ton}/{npi}/{tail}")
    }
}

impl<const N: usize> Field for Address<N> {
    #[inline]
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self> {
        let (input, ton) = part("ton", Ton::read(cx, input))?;
        let (input, npi) = part("npi", Npi::read(cx, input))?;
        let (input, addr) = part("addr", COctetString::read(cx, input))?;
        Ok((input, Self { ton, npi, addr }))
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany> {
        self.ton.write(out)?;
        self.npi.write(out)?;
        self.addr.write(out)
    }
}

/// A message's octets behind their `sm_length`, at most 255 (254 before SMPP 5.0).
///
/// `Debug` shows the length only.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct ShortMessage(Bytes);

impl ShortMessage {
    /// The most that `sm_length` can say.
    pub const MAX: usize = 255;
    /// The most that a peer before SMPP 5.0 takes.
    pub const MAX_V3: usize = 254;
    /// No octets, as beside a `message_payload`.
    pub const EMPTY: Self = Self(Bytes::new());

    /// The octets of a message, NULs included.
    ///
    /// # Errors
    /// [`LimitError::TooLong`] over 255 octets.
    pub fn new(octets: impl Into<Bytes>) -> Result<Self, LimitError> {
        let octets = octets.into();
        match octets.len() {
            len if len > Self::MAX => Err(LimitError::TooLong { len, max: Self::MAX }),
            _ => Ok(Self(octets)),
        }
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The octets, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many octets: `sm_length`.
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for ShortMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} octets>", self.len())
    }
}

impl Field for ShortMessage {
    #[inline]
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self> {
        let (behind, len) = part("sm_length", be_u8.parse_complete(input))?;
        let (rest, octets) = take(len).parse_complete(behind).map_err(|_: nom::Err<Fault>| {
            Fault::new(behind, "", Why::Length { len: len.into(), left: behind.len() })
        })?;
        Ok((rest, Self(cx.view(octets))))
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany> {
        out.put_count(self.len())?;
        out.put_slice(&self.0);
        Ok(())
    }
}

/// One destination of a `submit_multi` (SMPP 3.4 §4.5.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DestAddress {
    /// `dest_flag` 1: an SME.
    Sme(Address),
    /// `dest_flag` 2: a distribution list of the SMSC's by its name.
    List(COctetString<21>),
}

impl Field for DestAddress {
    #[inline]
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self> {
        let (behind, flag) = part("dest_flag", be_u8.parse_complete(input))?;
        match flag {
            1 => {
                let (rest, sme) = within("destination", Address::read(cx, behind))?;
                Ok((rest, Self::Sme(sme)))
            }
            2 => {
                let (rest, name) = part("dl_name", COctetString::read(cx, behind))?;
                Ok((rest, Self::List(name)))
            }
            flag => Err(Fault::new(input, "dest_flag", Why::DestFlag(flag))),
        }
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany> {
        match self {
            Self::Sme(sme) => {
                out.put_slice(&[1]);
                sme.write(out)
            }
            Self::List(name) => {
                out.put_slice(&[2]);
                name.write(out)
            }
        }
    }
}

/// One destination of a `submit_multi` that was refused (SMPP 3.4 §4.5.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnsuccessSme {
    /// The destination.
    pub destination: Address,
    /// Why.
    pub error_status_code: CommandStatus,
}

impl Field for UnsuccessSme {
    #[inline]
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self> {
        let (input, destination) = within("destination", Address::read(cx, input))?;
        let (input, error_status_code) = part("error_status_code", CommandStatus::read(cx, input))?;
        Ok((input, Self { destination, error_status_code }))
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany> {
        self.destination.write(out)?;
        self.error_status_code.write(out)
    }
}

/// A list behind its count octet.
impl<T: Field> Field for Vec<T> {
    #[inline]
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self> {
        let (mut input, count) = be_u8.parse_complete(input)?;
        let mut entries = Self::new();
        for _ in 0..count {
            let (rest, entry) = T::read(cx, input)?;
            entries.push(entry);
            input = rest;
        }
        Ok((input, entries))
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany> {
        out.put_count(self.len())?;
        self.iter().try_for_each(|entry| entry.write(out))
    }
}

/// Names the part of a field that a fault is in.
#[inline]
fn part<'a, T>(name: &'static str, read: Read<'a, T>) -> Read<'a, T> {
    read.map_err(|error| error.map(|fault| fault.part(name)))
}

/// Names the row of a body that a fault is in.
#[inline]
pub(crate) fn within<'a, T>(row: &'static str, read: Read<'a, T>) -> Read<'a, T> {
    read.map_err(|error| error.map(|fault| fault.within(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_of_ours_keeps_to_its_limit() {
        let longest = COctetString::<6>::try_from("12345").unwrap();
        assert_eq!(longest.to_text_lossy(), "12345");
        let fit = COctetString::<6>::try_from;
        assert_eq!(fit("123456"), Err(LimitError::TooLong { len: 6, max: 5 }));
        assert_eq!(fit("1\x002"), Err(LimitError::Nul { at: 1 }));
        assert_eq!(fit("a飛"), Err(LimitError::Character { at: 1 }));
        assert_eq!(fit("é").unwrap().as_bytes(), b"\xE9");
    }

    #[test]
    fn a_short_message_of_ours_keeps_to_its_limit() {
        assert_eq!(ShortMessage::new(vec![0; 255]).unwrap().len(), 255);
        let long = ShortMessage::new(vec![0; 256]);
        assert_eq!(long, Err(LimitError::TooLong { len: 256, max: 255 }));
    }

    #[test]
    fn debug_of_a_short_code_hides_all_of_it() {
        let shown = |addr| format!("{:?}", Address::<21>::new(Ton::NATIONAL, Npi::ISDN, addr));
        assert_eq!(shown("1234"), "Ok(national/isdn/..)");
        assert_eq!(shown("12345"), "Ok(national/isdn/..45)");
    }
}
