//! Optional parameters (TLVs): the tags that the specifications name, and any other kept.

use std::fmt;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use nom::IResult;
use nom::Parser;
use nom::error::Error;
use nom::error::ParseError;
use nom::multi::length_data;
use nom::number::complete::be_u16;
use serde::Deserialize;
use serde::Serialize;

use crate::pdu::Leniency;
use crate::pdu::LimitError;
use crate::pdu::Why;
use crate::pdu::field::Cx;
use crate::pdu::field::Fault;
use crate::pdu::field::Field;
use crate::pdu::field::Out;
use crate::pdu::field::Read;
use crate::pdu::field::TooMany;

/// A TLV's tag (SMPP 3.4 §5.3.2, SMPP 5.0 §4.8.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tag(pub u16);

/// What a TLV's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlvKind {
    /// A big-endian number.
    Integer,
    /// Octets as they are.
    Octets,
    /// Text that ends at its first NUL, if it has one.
    COctet,
}

/// The lengths that a tag allows, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// At least so many.
    pub min: u16,
    /// At most so many.
    pub max: u16,
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { min, max } if min == max => write!(f, "{min}"),
            Self { min, max } => write!(f, "{min} to {max}"),
        }
    }
}

/// One row a tag: the constant, the number, the specification's name, what its value is, how long.
macro_rules! tags {
    ($($konst:ident = $tag:literal, $name:literal, $kind:ident, $min:literal..=$max:literal;)*) => {
        impl Tag {
            $(
                #[doc = concat!("`", $name, "`, ", $min, " to ", $max, " octets.")]
                pub const $konst: Self = Self($tag);
            )*

            /// The specification's name; `None` for a tag without one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($tag => Some($name),)*
                    _ => None,
                }
            }

            /// The tag that the specification calls `name`.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self($tag)),)*
                    _ => None,
                }
            }

            /// What the value is; octets when the tag is not known.
            pub const fn kind(self) -> TlvKind {
                match self.0 {
                    $($tag => TlvKind::$kind,)*
                    _ => TlvKind::Octets,
                }
            }

            /// How long the specification lets the value be.
            pub const fn lengths(self) -> Lengths {
                match self.0 {
                    $($tag => Lengths { min: $min, max: $max },)*
                    _ => Lengths { min: 0, max: u16::MAX },
                }
            }
        }
    };
}

tags! {
    DEST_ADDR_SUBUNIT = 0x0005, "dest_addr_subunit", Integer, 1..=1;
    DEST_NETWORK_TYPE = 0x0006, "dest_network_type", Integer, 1..=1;
    DEST_BEARER_TYPE = 0x0007, "dest_bearer_type", Integer, 1..=1;
    DEST_TELEMATICS_ID = 0x0008, "dest_telematics_id", Integer, 2..=2;
    SOURCE_ADDR_SUBUNIT = 0x000D, "source_addr_subunit", Integer, 1..=1;
    SOURCE_NETWORK_TYPE = 0x000E, "source_network_type", Integer, 1..=1;
    SOURCE_BEARER_TYPE = 0x000F, "source_bearer_type", Integer, 1..=1;
    SOURCE_TELEMATICS_ID = 0x0010, "source_telematics_id", Integer, 1..=1;
    QOS_TIME_TO_LIVE = 0x0017, "qos_time_to_live", Integer, 4..=4;
    PAYLOAD_TYPE = 0x0019, "payload_type", Integer, 1..=1;
    ADDITIONAL_STATUS_INFO_TEXT = 0x001D, "additional_status_info_text", COctet, 1..=256;
    RECEIPTED_MESSAGE_ID = 0x001E, "receipted_message_id", COctet, 1..=65;
    MS_MSG_WAIT_FACILITIES = 0x0030, "ms_msg_wait_facilities", Integer, 1..=1;
    PRIVACY_INDICATOR = 0x0201, "privacy_indicator", Integer, 1..=1;
    SOURCE_SUBADDRESS = 0x0202, "source_subaddress", Octets, 2..=23;
    DEST_SUBADDRESS = 0x0203, "dest_subaddress", Octets, 2..=23;
    USER_MESSAGE_REFERENCE = 0x0204, "user_message_reference", Integer, 2..=2;
    USER_RESPONSE_CODE = 0x0205, "user_response_code", Integer, 1..=1;
    SOURCE_PORT = 0x020A, "source_port", Integer, 2..=2;
    DEST_PORT = 0x020B, "dest_port", Integer, 2..=2;
    SAR_MSG_REF_NUM = 0x020C, "sar_msg_ref_num", Integer, 2..=2;
    LANGUAGE_INDICATOR = 0x020D, "language_indicator", Integer, 1..=1;
    SAR_TOTAL_SEGMENTS = 0x020E, "sar_total_segments", Integer, 1..=1;
    SAR_SEGMENT_SEQNUM = 0x020F, "sar_segment_seqnum", Integer, 1..=1;
    SC_INTERFACE_VERSION = 0x0210, "sc_interface_version", Integer, 1..=1;
    CALLBACK_NUM_PRES_IND = 0x0302, "callback_num_pres_ind", Integer, 1..=1;
    CALLBACK_NUM_ATAG = 0x0303, "callback_num_atag", Octets, 0..=65;
    NUMBER_OF_MESSAGES = 0x0304, "number_of_messages", Integer, 1..=1;
    CALLBACK_NUM = 0x0381, "callback_num", Octets, 4..=19;
    DPF_RESULT = 0x0420, "dpf_result", Integer, 1..=1;
    SET_DPF = 0x0421, "set_dpf", Integer, 1..=1;
    MS_AVAILABILITY_STATUS = 0x0422, "ms_availability_status", Integer, 1..=1;
    NETWORK_ERROR_CODE = 0x0423, "network_error_code", Octets, 3..=3;
    MESSAGE_PAYLOAD = 0x0424, "message_payload", Octets, 0..=65535;
    DELIVERY_FAILURE_REASON = 0x0425, "delivery_failure_reason", Integer, 1..=1;
    MORE_MESSAGES_TO_SEND = 0x0426, "more_messages_to_send", Integer, 1..=1;
    MESSAGE_STATE = 0x0427, "message_state", Integer, 1..=1;
    CONGESTION_STATE = 0x0428, "congestion_state", Integer, 1..=1;
    USSD_SERVICE_OP = 0x0501, "ussd_service_op", Octets, 1..=1;
    BROADCAST_CHANNEL_INDICATOR = 0x0600, "broadcast_channel_indicator", Integer, 1..=1;
    BROADCAST_CONTENT_TYPE = 0x0601, "broadcast_content_type", Octets, 3..=3;
    BROADCAST_CONTENT_TYPE_INFO = 0x0602, "broadcast_content_type_info", Octets, 1..=255;
    BROADCAST_MESSAGE_CLASS = 0x0603, "broadcast_message_class", Integer, 1..=1;
    BROADCAST_REP_NUM = 0x0604, "broadcast_rep_num", Integer, 2..=2;
    BROADCAST_FREQUENCY_INTERVAL = 0x0605, "broadcast_frequency_interval", Octets, 3..=3;
    BROADCAST_AREA_IDENTIFIER = 0x0606, "broadcast_area_identifier", Octets, 1..=101;
    BROADCAST_ERROR_STATUS = 0x0607, "broadcast_error_status", Integer, 4..=4;
    BROADCAST_AREA_SUCCESS = 0x0608, "broadcast_area_success", Integer, 1..=1;
    BROADCAST_END_TIME = 0x0609, "broadcast_end_time", COctet, 1..=17;
    BROADCAST_SERVICE_GROUP = 0x060A, "broadcast_service_group", Octets, 1..=255;
    BILLING_IDENTIFICATION = 0x060B, "billing_identification", Octets, 1..=1024;
    SOURCE_NETWORK_ID = 0x060D, "source_network_id", COctet, 7..=65;
    DEST_NETWORK_ID = 0x060E, "dest_network_id", COctet, 7..=65;
    SOURCE_NODE_ID = 0x060F, "source_node_id", Octets, 6..=6;
    DEST_NODE_ID = 0x0610, "dest_node_id", Octets, 6..=6;
    DEST_ADDR_NP_RESOLUTION = 0x0611, "dest_addr_np_resolution", Integer, 1..=1;
    DEST_ADDR_NP_INFORMATION = 0x0612, "dest_addr_np_information", Octets, 10..=10;
    DEST_ADDR_NP_COUNTRY = 0x0613, "dest_addr_np_country", Octets, 1..=5;
    DISPLAY_TIME = 0x1201, "display_time", Integer, 1..=1;
    SMS_SIGNAL = 0x1203, "sms_signal", Integer, 2..=2;
    MS_VALIDITY = 0x1204, "ms_validity", Octets, 1..=4;
    ALERT_ON_MESSAGE_DELIVERY = 0x130C, "alert_on_message_delivery", Octets, 0..=1;
    ITS_REPLY_TYPE = 0x1380, "its_reply_type", Integer, 1..=1;
    ITS_SESSION_INFO = 0x1383, "its_session_info", Octets, 2..=2;
}

impl Tag {
    /// Whether a value of `len` octets can be read.
    ///
    /// Text may be longer than the specification says, as carriers' ids are.
    fn takes(self, len: usize) -> bool {
        let Lengths { min, max } = self.lengths();
        match self.kind() {
            TlvKind::COctet => len > 0,
            TlvKind::Integer | TlvKind::Octets => (min.into()..=max.into()).contains(&len),
        }
    }

    /// The name for an error.
    fn field(self) -> &'static str {
        self.name().unwrap_or("tlv")
    }
}

impl fmt::Display for Tag {
    /// The name, or the number in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One TLV of a PDU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// What the value means.
    pub tag: Tag,
    /// The value's octets.
    pub value: &'a [u8],
}

impl fmt::Debug for Tlv<'_> {
    /// The tag and the length: values may be text or numbers of people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} octets)", self.tag, self.value.len())
    }
}

/// The TLVs of a PDU in the order of the wire, doubles and unknown ones included.
///
/// Held as they travel, tag, length and value one after the other, and read when asked for: an
/// empty list allocates nothing, a decoded one is a view of its frame.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Tlvs(Bytes);

impl Tlvs {
    /// No TLV.
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// Adds a TLV behind the others.
    ///
    /// # Errors
    /// [`LimitError::TooLong`] for a value over 65,535 octets.
    pub fn push(&mut self, tag: Tag, value: &[u8]) -> Result<(), LimitError> {
        let Ok(len) = u16::try_from(value.len()) else {
            return Err(LimitError::TooLong { len: value.len(), max: u16::MAX.into() });
        };
        self.append(tag, len, value);
        Ok(())
    }

    /// Adds a one-octet number.
    pub fn push_u8(&mut self, tag: Tag, value: u8) {
        self.append(tag, 1, &[value]);
    }

    /// Adds a two-octet number.
    pub fn push_u16(&mut self, tag: Tag, value: u16) {
        self.append(tag, 2, &value.to_be_bytes());
    }

    /// Adds a four-octet number.
    pub fn push_u32(&mut self, tag: Tag, value: u32) {
        self.append(tag, 4, &value.to_be_bytes());
    }

    /// Adds text and its NUL.
    ///
    /// # Errors
    /// [`LimitError::TooLong`] for a value over 65,535 octets with its NUL, [`LimitError::Nul`]
    /// for a NUL inside.
    pub fn push_c_octets(&mut self, tag: Tag, text: &[u8]) -> Result<(), LimitError> {
        if let Some(at) = text.iter().position(|&octet| octet == 0) {
            return Err(LimitError::Nul { at });
        }
        self.push(tag, &[text, &[0]].concat())
    }

    /// The value of the first TLV with this tag and a length that the tag allows.
    ///
    /// One of another length counts as absent: the message is worth more than the TLV.
    pub fn get(&self, tag: Tag) -> Option<&[u8]> {
        self.values(tag).next()
    }

    /// The same as [`Tlvs::get`], sharing the octets.
    pub fn get_bytes(&self, tag: Tag) -> Option<Bytes> {
        self.get(tag).map(|value| self.0.slice_ref(value))
    }

    /// The number in the first TLV with this tag and one octet.
    pub fn get_u8(&self, tag: Tag) -> Option<u8> {
        self.array(tag).map(u8::from_be_bytes)
    }

    /// The number in the first TLV with this tag and two octets.
    pub fn get_u16(&self, tag: Tag) -> Option<u16> {
        self.array(tag).map(u16::from_be_bytes)
    }

    /// The number in the first TLV with this tag and four octets.
    pub fn get_u32(&self, tag: Tag) -> Option<u32> {
        self.array(tag).map(u32::from_be_bytes)
    }

    /// The text of the first TLV with this tag, up to its first NUL; `None` when that is empty.
    pub fn get_c_octets(&self, tag: Tag) -> Option<&[u8]> {
        let text = self.get(tag)?.split(|&octet| octet == 0).next()?;
        (!text.is_empty()).then_some(text)
    }

    /// All TLVs in their order.
    pub fn iter(&self) -> impl Iterator<Item = Tlv<'_>> {
        let mut rest = self.0.as_ref();
        std::iter::from_fn(move || {
            let (behind, tlv) = tlv::<Error<&[u8]>>(rest).ok()?;
            rest = behind;
            Some(tlv)
        })
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn values(&self, tag: Tag) -> impl Iterator<Item = &[u8]> {
        let legal = move |tlv: &Tlv<'_>| tlv.tag == tag && tag.takes(tlv.value.len());
        self.iter().filter(legal).map(|tlv| tlv.value)
    }

    fn array<const N: usize>(&self, tag: Tag) -> Option<[u8; N]> {
        let mut values = self.values(tag);
        values.find_map(|value| value.try_into().ok())
    }

    fn append(&mut self, tag: Tag, len: u16, value: &[u8]) {
        let mut octets = BytesMut::from(std::mem::take(&mut self.0));
        octets.reserve(4 + value.len());
        octets.put_u16(tag.0);
        octets.put_u16(len);
        octets.put_slice(value);
        self.0 = octets.freeze();
    }
}

impl fmt::Debug for Tlvs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Field for Tlvs {
    /// Takes all that is left of the PDU.
    fn read<'a>(cx: &Cx<'a>, input: &'a [u8]) -> Read<'a, Self> {
        let mut rest = input;
        while !rest.is_empty() {
            let Ok((behind, tlv)) = tlv::<Error<&[u8]>>(rest) else {
                check_tail(cx, rest)?;
                break;
            };
            check_length(cx, rest, tlv)?;
            rest = behind;
        }
        let whole = input.len() - rest.len();
        let octets = input.get(..whole).unwrap_or_default();
        Ok((&[], Self(cx.view(octets))))
    }

    fn write(&self, out: &mut Out<'_>) -> Result<(), TooMany> {
        out.put_slice(&self.0);
        Ok(())
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// One TLV: tag, length, value.
fn tlv<'a, E: ParseError<&'a [u8]>>(input: &'a [u8]) -> IResult<&'a [u8], Tlv<'a>, E> {
    (be_u16, length_data(be_u16))
        .map(|(tag, value)| Tlv { tag: Tag(tag), value })
        .parse_complete(input)
}

/// Refuses a TLV of a length that its tag does not allow, when the reader is strict.
fn check_length<'a>(cx: &Cx<'a>, input: &'a [u8], tlv: Tlv<'_>) -> Result<(), nom::Err<Fault>> {
    let Lengths { min, max } = tlv.tag.lengths();
    let len = tlv.value.len();
    if cx.leniency == Leniency::Lenient || (min.into()..=max.into()).contains(&len) {
        return Ok(());
    }
    Err(Fault::new(input, tlv.tag.field(), Why::TlvLength { tag: tlv.tag, len }))
}

/// Judges what stands where a TLV should and is none.
///
/// One to three octets are padding of some SMSCs, and a TLV that the PDU's end cuts off is only
/// lost; but a message whose own text is cut off has not been received.
fn check_tail<'a>(cx: &Cx<'a>, tail: &'a [u8]) -> Result<(), nom::Err<Fault>> {
    let header = (be_u16::<_, Error<&[u8]>>, be_u16).parse_complete(tail);
    match (cx.leniency, header) {
        (Leniency::Lenient, Err(_)) => Ok(()),
        (Leniency::Lenient, Ok((_, (tag, _)))) if Tag(tag) != Tag::MESSAGE_PAYLOAD => Ok(()),
        (_, Ok((value, (tag, len)))) => {
            let why = Why::Length { len: len.into(), left: value.len() };
            Err(Fault::new(tail, Tag(tag).field(), why))
        }
        (Leniency::Strict, Err(_)) => {
            Err(Fault::new(tail, "tlvs", Why::Stray { octets: tail.len() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlvs(values: &[(Tag, &[u8])]) -> Tlvs {
        let mut tlvs = Tlvs::new();
        for (tag, value) in values {
            tlvs.push(*tag, value).unwrap();
        }
        tlvs
    }

    #[test]
    fn the_first_tlv_of_a_legal_length_counts() {
        let states = [&[][..], &[1, 2], &[5], &[2]].map(|value| (Tag::MESSAGE_STATE, value));
        let tlvs = tlvs(&states);
        assert_eq!(tlvs.get(Tag::MESSAGE_STATE), Some(&[5][..]));
        assert_eq!(tlvs.get_u8(Tag::MESSAGE_STATE), Some(5));
        assert_eq!(tlvs.get_u16(Tag::MESSAGE_STATE), None);
        assert_eq!(tlvs.get_u8(Tag::DPF_RESULT), None);
        assert_eq!(tlvs.iter().count(), 4);
    }

    #[test]
    fn text_ends_at_its_first_nul_and_may_lack_it() {
        for value in [&b"1f09"[..], b"1f09\0", b"1f09\0\0\0", b"1f09\0junk"] {
            let tlvs = tlvs(&[(Tag::RECEIPTED_MESSAGE_ID, value)]);
            assert_eq!(tlvs.get_c_octets(Tag::RECEIPTED_MESSAGE_ID), Some(&b"1f09"[..]));
        }
        for value in [&b""[..], b"\0", b"\0\0"] {
            let tlvs = tlvs(&[(Tag::RECEIPTED_MESSAGE_ID, value)]);
            assert_eq!(tlvs.get_c_octets(Tag::RECEIPTED_MESSAGE_ID), None);
        }
    }

    #[test]
    fn a_tag_that_nobody_named_takes_any_length() {
        let tag = Tag(0x1400);
        for len in [0, 1, 300] {
            let value = vec![7; len];
            assert_eq!(tlvs(&[(tag, &value)]).get(tag), Some(&value[..]));
        }
        assert_eq!(tag.to_string(), "0x1400");
        assert_eq!(Tag::from_name("message_payload"), Some(Tag::MESSAGE_PAYLOAD));
    }

    #[test]
    fn lengths_that_others_get_wrong_are_the_specifications() {
        let takes = |tag: Tag| (0..12).filter(|&len| tag.takes(len)).collect::<Vec<usize>>();
        assert_eq!(takes(Tag::DEST_TELEMATICS_ID), [2]);
        assert_eq!(takes(Tag::SOURCE_TELEMATICS_ID), [1]);
        assert_eq!(takes(Tag::ALERT_ON_MESSAGE_DELIVERY), [0, 1]);
        assert_eq!(takes(Tag::MS_VALIDITY), [1, 2, 3, 4]);
        assert_eq!(takes(Tag::NETWORK_ERROR_CODE), [3]);
        assert_eq!(takes(Tag::DEST_ADDR_NP_COUNTRY), [1, 2, 3, 4, 5]);
        assert_eq!(takes(Tag::BROADCAST_REP_NUM), [2]);
        assert!(Tag::RECEIPTED_MESSAGE_ID.takes(81), "carriers' ids are longer than 65");
    }

    #[test]
    fn a_value_that_no_length_can_say_is_refused() {
        let mut tlvs = Tlvs::new();
        let long = tlvs.push(Tag::MESSAGE_PAYLOAD, &[0; 65_536]);
        assert_eq!(long, Err(LimitError::TooLong { len: 65_536, max: 65_535 }));
        let nul = tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, b"1\x009");
        assert_eq!(nul, Err(LimitError::Nul { at: 1 }));
        assert!(tlvs.is_empty());
        tlvs.push(Tag::MESSAGE_PAYLOAD, &[0; 65_535]).unwrap();
        assert_eq!(tlvs.get(Tag::MESSAGE_PAYLOAD).map(<[u8]>::len), Some(65_535));
    }
}
