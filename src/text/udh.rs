//! The user data header in front of a message's octets (3GPP 23.040 §9.2.3.24).

use bytes::BufMut;

use super::gsm::Shifts;
use super::national::National;

/// What a header says that matters here; elements of other kinds are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Udh {
    /// Which part of which long message this is; the last such element counts.
    pub concat: Option<Concat>,
    /// The application the message is for.
    pub ports: Option<Ports>,
    /// The national language tables its septets are written with.
    pub shifts: Shifts,
    /// Its octets, the one for the length included; zero without a header.
    pub octets: usize,
}

/// One part of a long message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    /// The number that all parts of the message share.
    pub reference: u16,
    /// The width of the reference: messages with another one are other messages.
    pub bits: RefBits,
    /// How many parts there are.
    pub total: u8,
    /// Which one this is, from 1.
    pub seq: u8,
}

impl Concat {
    /// Whether the numbers can be those of a long message: 1 to `total`, of two or more.
    pub const fn is_plausible(self) -> bool {
        self.total > 1 && self.seq > 0 && self.seq <= self.total
    }
}

/// The width of a reference number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefBits {
    /// 0 to 255, in an element of five octets.
    Eight,
    /// 0 to 65,535, in an element of six octets.
    Sixteen,
}

/// An application port addressing element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The port the message is for.
    pub destination: u16,
    /// The port it is from.
    pub source: u16,
}

/// Element identifiers (3GPP 23.040 §9.2.3.24).
mod ie {
    pub(super) const CONCAT_8: u8 = 0x00;
    pub(super) const PORTS_8: u8 = 0x04;
    pub(super) const PORTS_16: u8 = 0x05;
    pub(super) const CONCAT_16: u8 = 0x08;
    pub(super) const SINGLE_SHIFT: u8 = 0x24;
    pub(super) const LOCKING_SHIFT: u8 = 0x25;
}

impl Udh {
    /// The header at the beginning of `user_data`, and the octets behind it.
    ///
    /// `None` when the header is longer than the data: then there is none, whatever the UDHI bit
    /// says. Elements that do not fit their header end it.
    pub fn parse(user_data: &[u8]) -> Option<(Self, &[u8])> {
        let (&length, rest) = user_data.split_first()?;
        let (elements, payload) = rest.split_at_checked(usize::from(length))?;
        let mut header = Self { octets: usize::from(length) + 1, ..Self::default() };
        header.read(elements);
        Some((header, payload))
    }

    /// The header of `user_data` where `udhi` says that there is one, and the octets behind it.
    pub fn split(udhi: bool, user_data: &[u8]) -> (Self, &[u8]) {
        let parsed = if udhi { Self::parse(user_data) } else { None };
        parsed.unwrap_or_else(|| (Self::default(), user_data))
    }

    fn read(&mut self, mut elements: &[u8]) {
        while let [id, length, rest @ ..] = elements {
            let Some((data, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
            self.take(*id, data);
            elements = rest;
        }
    }

    fn take(&mut self, id: u8, data: &[u8]) {
        match (id, data) {
            (ie::CONCAT_8, &[reference, total, seq]) => {
                let (reference, bits) = (u16::from(reference), RefBits::Eight);
                self.concat = Some(Concat { reference, bits, total, seq });
            }
            (ie::CONCAT_16, &[high, low, total, seq]) => {
                let (reference, bits) = (u16::from_be_bytes([high, low]), RefBits::Sixteen);
                self.concat = Some(Concat { reference, bits, total, seq });
            }
            (ie::PORTS_8, &[destination, source]) => {
                self.ports =
                    Some(Ports { destination: u16::from(destination), source: u16::from(source) });
            }
            (ie::PORTS_16, &[to_high, to_low, from_high, from_low]) => {
                self.ports = Some(Ports {
                    destination: u16::from_be_bytes([to_high, to_low]),
                    source: u16::from_be_bytes([from_high, from_low]),
                });
            }
            (ie::SINGLE_SHIFT, &[language]) => self.shifts.single = National::from_id(language),
            (ie::LOCKING_SHIFT, &[language]) => self.shifts.locking = National::from_id(language),
            _ => {}
        }
    }
}

/// The octets of a header with a concatenation element and `elements` octets of others, the one
/// for its length included; zero without any.
pub(super) const fn length(concat: Option<RefBits>, elements: usize) -> usize {
    let concat = match concat {
        None => 0,
        Some(RefBits::Eight) => 5,
        Some(RefBits::Sixteen) => 6,
    };
    if concat + elements == 0 { 0 } else { 1 + concat + elements }
}

/// The octets of the elements that name `shifts`.
pub(super) const fn shift_octets(shifts: Shifts) -> usize {
    3 * (shifts.single.is_some() as usize + shifts.locking.is_some() as usize)
}

/// Appends the elements that name `shifts`.
pub(super) fn write_shifts(shifts: Shifts, out: &mut impl BufMut) {
    let single = shifts.single.map(|language| [ie::SINGLE_SHIFT, 1, language.id()]);
    let locking = shifts.locking.map(|language| [ie::LOCKING_SHIFT, 1, language.id()]);
    single.into_iter().chain(locking).for_each(|element| out.put_slice(&element));
}

/// Appends the beginning of a header, up to where its other elements, `elements` octets, follow;
/// nothing when there is neither.
pub(super) fn write(concat: Option<Concat>, elements: usize, out: &mut impl BufMut) {
    let length = length(concat.map(|concat| concat.bits), elements);
    if let Some(counted) = u8::try_from(length).ok().and_then(|length| length.checked_sub(1)) {
        out.put_u8(counted);
    }
    match concat {
        Some(Concat { bits: RefBits::Eight, reference, total, seq }) => {
            let [_, low] = reference.to_be_bytes();
            out.put_slice(&[ie::CONCAT_8, 3, low, total, seq]);
        }
        Some(Concat { bits: RefBits::Sixteen, reference, total, seq }) => {
            let [high, low] = reference.to_be_bytes();
            out.put_slice(&[ie::CONCAT_16, 4, high, low, total, seq]);
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_elements_are_passed_over_and_the_last_concatenation_counts() {
        let octets =
            [0x0F, 0x70, 0x01, 0xFF, 0x00, 3, 1, 2, 1, 0x08, 4, 0x12, 0x34, 3, 2, 0x00, b'x'];
        let (header, payload) = Udh::parse(&octets).unwrap();
        let concat = Concat { reference: 0x1234, bits: RefBits::Sixteen, total: 3, seq: 2 };
        assert_eq!(header.concat, Some(concat));
        assert_eq!((header.octets, payload), (16, &b"x"[..]));
    }

    #[test]
    fn a_header_longer_than_the_data_is_none() {
        assert_eq!(Udh::parse(&[]), None);
        assert_eq!(Udh::parse(&[5, 0, 3, 1]), None);
        assert_eq!(Udh::split(true, b"\x7Fabc"), (Udh::default(), &b"\x7Fabc"[..]));
    }

    #[test]
    fn an_element_that_leaves_its_header_ends_it() {
        let (header, payload) = Udh::parse(&[4, 0x05, 9, 1, 2, b'x']).unwrap();
        assert_eq!((header.ports, payload), (None, &b"x"[..]));
    }

    #[test]
    fn ports_and_languages_are_read() {
        let octets = [12, 0x05, 4, 0x0B, 0x84, 0x23, 0xF0, 0x24, 1, 1, 0x25, 1, 3];
        let (header, _) = Udh::parse(&octets).unwrap();
        assert_eq!(header.ports, Some(Ports { destination: 2948, source: 9200 }));
        assert_eq!(header.shifts.single, Some(National::Turkish));
        assert_eq!(header.shifts.locking, Some(National::Portuguese));
    }
}
