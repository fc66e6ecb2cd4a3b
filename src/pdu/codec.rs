//! Whole PDUs: cutting the stream into frames, reading a frame, writing a PDU.
//!
//! The stream is cut first and the frame read afterwards, inside its own octets, so a PDU that
//! cannot be read costs one answer and never the PDU behind it.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use nom::Parser;
use nom::error::Error;
use nom::number::complete::be_u32;
use tokio_util::codec::Decoder;
use tokio_util::codec::Encoder;

use crate::pdu::Body;
use crate::pdu::CommandId;
use crate::pdu::CommandStatus;
use crate::pdu::DecodeError;
use crate::pdu::EncodeError;
use crate::pdu::FrameError;
use crate::pdu::Tlvs;
use crate::pdu::Why;
use crate::pdu::field::Cx;
use crate::pdu::field::Fault;
use crate::pdu::field::Out;
use crate::pdu::field::Place;
use crate::pdu::field::TooMany;
use crate::pdu::field::Unwritable;

/// Octets of `command_length`, `command_id`, `command_status` and `sequence_number`.
const HEADER: usize = 16;

/// One PDU (SMPP 3.4 §3.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pdu {
    /// How the request ended; `ESME_ROK` in a request.
    pub command_status: CommandStatus,
    /// Joins a response to its request; a peer may use all 32 bits.
    pub sequence_number: u32,
    /// What the PDU is, and its fields.
    pub body: Body,
}

impl Pdu {
    /// A request of ours.
    pub const fn request(sequence_number: u32, body: Body) -> Self {
        Self { command_status: CommandStatus::ESME_ROK, sequence_number, body }
    }

    /// The answer to the request of this number.
    pub const fn response(sequence_number: u32, command_status: CommandStatus, body: Body) -> Self {
        Self { command_status, sequence_number, body }
    }

    /// A `generic_nack`.
    pub const fn generic_nack(sequence_number: u32, command_status: CommandStatus) -> Self {
        Self { command_status, sequence_number, body: Body::GenericNack(Tlvs::new()) }
    }

    /// What the PDU is.
    pub const fn command_id(&self) -> CommandId {
        self.body.command_id()
    }

    /// The answer to this PDU with `status`: its own response, a `generic_nack` for a request
    /// that we do not speak, `None` for a PDU that is never answered.
    pub fn reply(&self, status: CommandStatus) -> Option<Self> {
        match (&self.body, self.body.response()) {
            (_, Some(body)) => Some(Self::response(self.sequence_number, status, body)),
            (Body::Unknown { command_id, .. }, None) if !command_id.is_response() => {
                Some(Self::generic_nack(self.sequence_number, status))
            }
            _ => None,
        }
    }

    /// The id that the SMSC gave a message it accepted.
    ///
    /// `None` without an id, and after an error, whose body means nothing (SMPP 5.0 §3.2.1.3).
    pub fn message_id(&self) -> Option<&[u8]> {
        if self.command_status != CommandStatus::ESME_ROK {
            return None;
        }
        let id = match &self.body {
            Body::SubmitSmResp(resp) => resp.message_id.as_ref(),
            Body::SubmitMultiResp(resp) => resp.message_id.as_ref(),
            Body::DataSmResp(resp) => resp.message_id.as_ref(),
            _ => None,
        };
        id.map(|id| id.as_bytes()).filter(|id| !id.is_empty())
    }
}

/// How much to forgive a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Leniency {
    /// Takes what can be understood: C-octet strings over their limit, TLVs of a wrong length
    /// (kept, and absent when asked for), TLVs and padding that the end of the PDU cuts off,
    /// bodies where there should be none, and in a response text without its NUL and any body
    /// beside an error.
    #[default]
    Lenient,
    /// Takes what the specification allows.
    Strict,
}

/// Reads one whole frame, header included, and forgives what can be understood.
///
/// # Errors
/// When the frame is no PDU. A number that is not known is no error.
pub fn decode(frame: Bytes) -> Result<Pdu, DecodeError> {
    decode_with(&frame, Leniency::Lenient)
}

/// Reads one whole frame, header included.
///
/// # Errors
/// As [`decode`].
pub fn decode_with(frame: &Bytes, leniency: Leniency) -> Result<Pdu, DecodeError> {
    match read(frame, leniency) {
        Frame::Pdu(pdu) => Ok(pdu),
        Frame::Unreadable(unreadable) => Err(unreadable.error),
    }
}

/// Writes `pdu` behind what `out` holds.
///
/// # Errors
/// When a list is too long for its count or a response lacks a field before one that is there;
/// `out` is as before.
pub fn encode(pdu: &Pdu, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    let written = write(pdu, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// A frame's first 16 octets.
#[derive(Clone, Copy)]
struct Header {
    command_id: CommandId,
    command_status: CommandStatus,
    sequence_number: u32,
}

impl Header {
    fn of(frame: &[u8]) -> Result<Self, DecodeError> {
        let fields = (be_u32::<_, Error<&[u8]>>, be_u32, be_u32, be_u32).parse_complete(frame);
        let found = frame.len();
        let (command_id, field, why) = match fields {
            Ok((_, (length, id, status, sequence_number))) => {
                if usize::try_from(length) == Ok(found) {
                    let command_status = CommandStatus(status);
                    return Ok(Self { command_id: CommandId(id), command_status, sequence_number });
                }
                let why = Why::CommandLength { announced: length, found };
                (CommandId(id), "command_length", why)
            }
            Err(_) => (CommandId::default(), "header", Why::Cut { left: found }),
        };
        Err(DecodeError { command_id, field, offset: 0, why })
    }
}

/// Reads one whole frame. The PDU is made where it is returned, since it is large to move.
fn read(frame: &Bytes, leniency: Leniency) -> Frame {
    let header = match Header::of(frame) {
        Ok(header) => header,
        Err(error) => return unreadable(error, CommandStatus::ESME_ROK, 0),
    };
    let Header { command_id, command_status, sequence_number } = header;
    let cx = Cx { frame, leniency, response: command_id.is_response() };
    let input = frame.get(HEADER..).unwrap_or_default();
    match Body::read(&cx, command_id, input) {
        Ok(body) => Frame::Pdu(Pdu { command_status, sequence_number, body }),
        Err(fault) => salvage(&cx, header, fault),
    }
}

/// Beside an error a response's body means nothing (SMPP 5.0 §3.2.1.3), so it may be anything.
#[cold]
fn salvage(cx: &Cx<'_>, header: Header, fault: nom::Err<Fault>) -> Frame {
    let Header { command_id, command_status, sequence_number } = header;
    let refused = cx.response && command_status != CommandStatus::ESME_ROK;
    if refused
        && cx.leniency == Leniency::Lenient
        && let Ok(body) = Body::read(cx, command_id, &[])
    {
        return Frame::Pdu(Pdu { command_status, sequence_number, body });
    }
    unreadable(placed(cx.frame, command_id, fault), command_status, sequence_number)
}

fn unreadable(error: DecodeError, command_status: CommandStatus, sequence_number: u32) -> Frame {
    let command_id = error.command_id;
    Frame::Unreadable(Unreadable { command_id, command_status, sequence_number, error })
}

/// The error for a fault in `frame`.
fn placed(frame: &Bytes, command_id: CommandId, fault: nom::Err<Fault>) -> DecodeError {
    let Place { left, field, why } = match fault {
        nom::Err::Error(fault) | nom::Err::Failure(fault) => fault.place(),
        // Frames are whole, so no parser asks for more.
        nom::Err::Incomplete(_) => Place { left: 0, field: "body", why: Why::Cut { left: 0 } },
    };
    DecodeError { command_id, field, offset: frame.len() - left, why }
}

fn write(pdu: &Pdu, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    let command_id = pdu.command_id();
    // Most PDUs fit, so the writes below find room.
    out.reserve(512);
    out.put_u32(0);
    out.put_u32(command_id.0);
    out.put_u32(pdu.command_status.0);
    out.put_u32(pdu.sequence_number);
    pdu.body.write(&mut Out::new(out)).map_err(|why| match why {
        Unwritable::TooMany(field, TooMany { len }) => {
            EncodeError::TooMany { command_id, field, len, max: u8::MAX.into() }
        }
        Unwritable::Absent(field) => EncodeError::Absent { command_id, field },
    })?;
    let length =
        u32::try_from(out.len() - start).map_err(|_| EncodeError::TooLong { command_id })?;
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// What the stream gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A PDU.
    Pdu(Pdu),
    /// A frame that is no PDU; the stream behind it is sound.
    Unreadable(Unreadable),
}

/// A frame of a known PDU that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What the PDU is.
    pub command_id: CommandId,
    /// How the request ended, when this is a response.
    pub command_status: CommandStatus,
    /// Its number.
    pub sequence_number: u32,
    /// What is wrong with it.
    pub error: DecodeError,
}

impl Unreadable {
    /// The answer to send: the request's own response with a permanent error, so that the peer
    /// does not send the same octets again for days. `None` for a PDU that is never answered.
    pub fn reply(&self) -> Option<Pdu> {
        if matches!(self.command_id, CommandId::ENQUIRE_LINK | CommandId::UNBIND) {
            let status = CommandStatus::ESME_RINVCMDLEN;
            return Some(Pdu::generic_nack(self.sequence_number, status));
        }
        let body = Body::response_to(self.command_id)?;
        Some(Pdu::response(self.sequence_number, self.status(), body))
    }

    /// The status of the answer; the one place that decides it.
    fn status(&self) -> CommandStatus {
        match (self.error.why, self.error.field) {
            (Why::TlvLength { .. }, _) => CommandStatus::ESME_RINVTLVLEN,
            (Why::Stray { .. }, _) => CommandStatus::ESME_RINVTLVSTREAM,
            (Why::Length { .. }, field) if field != "short_message" => {
                CommandStatus::ESME_RINVTLVSTREAM
            }
            // An ESME refuses for good with this one.
            _ if self.command_id == CommandId::DELIVER_SM => CommandStatus::ESME_RX_P_APPN,
            (_, "short_message" | "sm_length") => CommandStatus::ESME_RINVMSGLEN,
            (Why::DestFlag(_), _) => CommandStatus::ESME_RINVDESTFLAG,
            (_, "dest_flag" | "dest_address") => CommandStatus::ESME_RINVNUMDESTS,
            (Why::TooLong { .. }, field) => over_limit(field),
            _ => CommandStatus::ESME_RINVCMDLEN,
        }
    }
}

/// The status for a string that is longer than the specification lets `field` be.
fn over_limit(field: &str) -> CommandStatus {
    match field {
        "system_id" => CommandStatus::ESME_RINVSYSID,
        "password" => CommandStatus::ESME_RINVPASWD,
        "system_type" => CommandStatus::ESME_RINVSYSTYP,
        "service_type" => CommandStatus::ESME_RINVSERTYP,
        "source_addr" => CommandStatus::ESME_RINVSRCADR,
        "destination_addr" => CommandStatus::ESME_RINVDSTADR,
        "dl_name" => CommandStatus::ESME_RINVDLNAME,
        "schedule_delivery_time" => CommandStatus::ESME_RINVSCHED,
        "validity_period" => CommandStatus::ESME_RINVEXPIRY,
        "message_id" => CommandStatus::ESME_RINVMSGID,
        _ => CommandStatus::ESME_RINVCMDLEN,
    }
}

/// Cuts the stream into frames and reads them; writes PDUs.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// The longest PDU taken, in octets.
    pub max: usize,
    /// How much to forgive.
    pub leniency: Leniency,
}

impl Frames {
    /// Room for a `message_payload` of 64 KiB and all the rest.
    pub const DEFAULT_MAX: usize = 70_000;

    /// Frames of at most `max` octets, read with forgiveness.
    pub const fn new(max: usize) -> Self {
        Self { max, leniency: Leniency::Lenient }
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MAX)
    }
}

impl FrameError {
    /// What to send before closing, now that no later PDU can be found.
    pub fn reply(&self) -> Option<Pdu> {
        match self {
            Self::CommandLength { .. } => {
                Some(Pdu::generic_nack(0, CommandStatus::ESME_RINVCMDLEN))
            }
            Self::Encode(_) | Self::Io(_) => None,
        }
    }
}

impl Decoder for Frames {
    type Item = Frame;
    type Error = FrameError;

    /// Takes one frame off `src`; `None` when more octets must come first.
    ///
    /// The length is judged as soon as its four octets are there, and never allocated for.
    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Ok((_, announced)) = be_u32::<_, Error<&[u8]>>.parse_complete(src.as_ref()) else {
            return Ok(None);
        };
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if !(HEADER..=self.max).contains(&length) {
            return Err(FrameError::CommandLength { announced, max: self.max });
        }
        if src.len() < length {
            return Ok(None);
        }
        Ok(Some(read(&src.split_to(length).freeze(), self.leniency)))
    }
}

impl Encoder<&Pdu> for Frames {
    type Error = FrameError;

    fn encode(&mut self, pdu: &Pdu, out: &mut BytesMut) -> Result<(), FrameError> {
        Ok(encode(pdu, out)?)
    }
}

impl Encoder<Pdu> for Frames {
    type Error = FrameError;

    fn encode(&mut self, pdu: Pdu, out: &mut BytesMut) -> Result<(), FrameError> {
        Ok(encode(&pdu, out)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::Address;
    use crate::pdu::COctetString;
    use crate::pdu::DeliverSm;
    use crate::pdu::DestAddress;
    use crate::pdu::Npi;
    use crate::pdu::QuerySm;
    use crate::pdu::QuerySmResp;
    use crate::pdu::ShortMessage;
    use crate::pdu::SubmitMulti;
    use crate::pdu::SubmitMultiResp;
    use crate::pdu::SubmitSm;
    use crate::pdu::SubmitSmResp;
    use crate::pdu::Tag;
    use crate::pdu::Ton;

    fn encoded(pdu: &Pdu) -> BytesMut {
        let mut out = BytesMut::new();
        encode(pdu, &mut out).unwrap();
        out
    }

    fn address(addr: &str) -> Address {
        Address::new(Ton::UNKNOWN, Npi::UNKNOWN, addr).unwrap()
    }

    /// A whole `deliver_sm` of 52 octets whose `short_message` begins at 50.
    fn deliver_sm() -> Body {
        Body::DeliverSm(DeliverSm {
            source: address("819012345678"),
            destination: address("20011"),
            short_message: ShortMessage::new("hi").unwrap(),
            ..DeliverSm::default()
        })
    }

    /// `body` with its `command_length` set to `length` octets, padded or cut to it.
    fn cut(body: Body, length: u8, change: impl Fn(&mut [u8])) -> Bytes {
        let mut octets = encoded(&Pdu::request(7, body));
        octets.resize(length.into(), 0);
        octets[3] = length;
        change(&mut octets);
        octets.freeze()
    }

    fn error(frame: Bytes) -> String {
        decode(frame).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_the_field_and_its_place() {
        let long = cut(deliver_sm(), 52, |octets| octets[49] = 200);
        assert_eq!(
            error(long),
            "deliver_sm: short_message length 200 exceeds the 2 octets left at offset 50"
        );
        assert_eq!(
            error(cut(deliver_sm(), 25, |_| {})),
            "deliver_sm: source_addr has no NUL in the 6 octets left at offset 19"
        );
        assert_eq!(
            error(cut(deliver_sm(), 32, |_| {})),
            "deliver_sm: dest_addr_ton is cut off, 0 octets left at offset 32"
        );
        assert_eq!(
            error(cut(deliver_sm(), 49, |_| {})),
            "deliver_sm: sm_length is cut off, 0 octets left at offset 49"
        );
        assert_eq!(
            error(Bytes::from_static(&[0; 20])),
            "0x00000000: command_length is 0, the frame has 20 octets at offset 0"
        );
    }

    #[test]
    fn a_message_whose_payload_is_cut_off_is_not_taken() {
        let mut tlvs = Tlvs::new();
        tlvs.push(Tag::MESSAGE_STATE, &[2]).unwrap();
        tlvs.push(Tag::MESSAGE_PAYLOAD, b"a long text").unwrap();
        let body = Body::DeliverSm(DeliverSm { tlvs, ..DeliverSm::default() });
        let length = u8::try_from(encoded(&Pdu::request(7, body.clone())).len()).unwrap();
        assert_eq!(
            error(cut(body, length - 1, |_| {})),
            "deliver_sm: message_payload length 11 exceeds the 10 octets left at offset 38"
        );
    }

    #[test]
    fn another_tlv_that_is_cut_off_is_lost() {
        let mut tlvs = Tlvs::new();
        tlvs.push_u8(Tag::MESSAGE_STATE, 2);
        let kept = tlvs.clone();
        tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, b"1f09").unwrap();
        let body = Body::DeliverSm(DeliverSm { tlvs, ..DeliverSm::default() });
        let length = u8::try_from(encoded(&Pdu::request(7, body.clone())).len()).unwrap();
        let pdu = decode(cut(body, length - 1, |_| {})).unwrap();
        assert_eq!(pdu.body.tlvs(), Some(&kept));
    }

    fn strict(frame: &Bytes) -> String {
        decode_with(frame, Leniency::Strict).unwrap_err().to_string()
    }

    #[test]
    fn only_the_strict_mind_what_can_be_understood() {
        let length = 52;
        let stray = cut(deliver_sm(), length + 3, |_| {});
        assert_eq!(strict(&stray), "deliver_sm: tlvs followed by 3 stray octets at offset 52");
        let tlv = cut(deliver_sm(), length + 6, |octets| {
            octets[52..].copy_from_slice(&[4, 0x27, 0, 2, 9, 9]);
        });
        assert_eq!(strict(&tlv), "deliver_sm: message_state is 2 octets, expected 1 at offset 52");
        for frame in [stray, tlv] {
            let pdu = decode(frame).unwrap();
            let Body::DeliverSm(sm) = pdu.body else { panic!("{pdu:?}") };
            assert_eq!(sm.tlvs.get_u8(Tag::MESSAGE_STATE), None);
            assert_eq!(sm.short_message.as_bytes(), b"hi");
        }
    }

    #[test]
    fn a_string_over_its_limit_is_kept_whole_unless_strict() {
        let short = Body::QuerySm(QuerySm::default());
        let long = cut(short, 41, |octets| octets[19..40].fill(b'1'));
        let over = "query_sm: source_addr is 22 octets with its NUL, at most 21 at offset 19";
        assert_eq!(strict(&long), over);
        let pdu = decode(long.clone()).unwrap();
        assert_eq!(encoded(&pdu), long);
        let Body::QuerySm(sm) = pdu.body else { panic!("{pdu:?}") };
        assert_eq!(sm.source.addr.as_bytes(), [b'1'; 21]);
    }

    #[test]
    fn a_body_where_none_belongs_is_skipped_unless_strict() {
        let padded = cut(Body::EnquireLink, 20, |_| {});
        assert_eq!(decode(padded.clone()), Ok(Pdu::request(7, Body::EnquireLink)));
        assert_eq!(strict(&padded), "enquire_link: header followed by 4 stray octets at offset 16");
    }

    /// A response of `body` behind a header.
    fn answer(command_id: CommandId, status: u32, body: &[u8]) -> Bytes {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let header = [length, command_id.0, status, 7].map(u32::to_be_bytes).concat();
        Bytes::from([&header, body].concat())
    }

    #[test]
    fn an_id_without_its_nul_is_taken_unless_strict() {
        let frame = answer(CommandId::SUBMIT_SM_RESP, 0, b"abc");
        let why = "submit_sm_resp: message_id has no NUL in the 3 octets left at offset 16";
        assert_eq!(strict(&frame), why);
        assert_eq!(decode(frame).unwrap().message_id(), Some(&b"abc"[..]));
    }

    #[test]
    fn beside_an_error_any_body_is_taken_unless_strict() {
        let garbage = b"id\0\x03no list";
        let refused = answer(CommandId::SUBMIT_MULTI_RESP, 0x14, garbage);
        let pdu = decode(refused.clone()).unwrap();
        assert_eq!(pdu.command_status, CommandStatus::ESME_RMSGQFUL);
        assert_eq!(pdu.body, Body::SubmitMultiResp(SubmitMultiResp::default()));
        assert!(decode_with(&refused, Leniency::Strict).is_err());
        assert!(decode(answer(CommandId::SUBMIT_MULTI_RESP, 0, garbage)).is_err());
    }

    #[test]
    fn the_status_of_a_refusal_tells_what_was_wrong() {
        let status = |command_id, field, why| {
            let error = DecodeError { command_id, field, offset: 16, why };
            let (command_status, sequence_number) = (CommandStatus::ESME_ROK, 7);
            let frame = Unreadable { command_id, command_status, sequence_number, error };
            frame.reply().map(|reply| reply.command_status)
        };
        let long = Why::TooLong { len: 99, max: 9 };
        for (field, expect) in [
            ("system_id", CommandStatus::ESME_RINVSYSID),
            ("password", CommandStatus::ESME_RINVPASWD),
            ("system_type", CommandStatus::ESME_RINVSYSTYP),
            ("address_range", CommandStatus::ESME_RINVCMDLEN),
        ] {
            assert_eq!(status(CommandId::BIND_TRANSCEIVER, field, long), Some(expect));
        }
        for (field, why, expect) in [
            ("service_type", long, CommandStatus::ESME_RINVSERTYP),
            ("source_addr", long, CommandStatus::ESME_RINVSRCADR),
            ("destination_addr", long, CommandStatus::ESME_RINVDSTADR),
            ("schedule_delivery_time", long, CommandStatus::ESME_RINVSCHED),
            ("validity_period", long, CommandStatus::ESME_RINVEXPIRY),
            ("short_message", Why::Length { len: 9, left: 1 }, CommandStatus::ESME_RINVMSGLEN),
            ("esm_class", Why::Cut { left: 0 }, CommandStatus::ESME_RINVCMDLEN),
            ("message_payload", Why::Length { len: 9, left: 1 }, CommandStatus::ESME_RINVTLVSTREAM),
            ("tlvs", Why::Stray { octets: 3 }, CommandStatus::ESME_RINVTLVSTREAM),
        ] {
            assert_eq!(status(CommandId::SUBMIT_SM, field, why), Some(expect));
        }
        let cut = Why::Cut { left: 0 };
        let permanent = Some(CommandStatus::ESME_RX_P_APPN);
        assert_eq!(status(CommandId::DELIVER_SM, "esm_class", cut), permanent);
        assert_eq!(status(CommandId::SUBMIT_SM_RESP, "message_id", cut), None);
        assert_eq!(status(CommandId::ALERT_NOTIFICATION, "source_addr", cut), None);
    }

    #[test]
    fn a_pdu_of_ours_that_cannot_be_written_leaves_nothing_behind() {
        let gap = QuerySmResp { error_code: Some(1), ..QuerySmResp::default() };
        let list = vec![DestAddress::List(COctetString::EMPTY); 256];
        let long = SubmitMulti { dest_address: list, ..SubmitMulti::default() };
        let mut out = BytesMut::from(&b"before"[..]);
        let mut refusal = |body| {
            let error = encode(&Pdu::request(1, body), &mut out).unwrap_err().to_string();
            assert_eq!(out, "before");
            error
        };
        assert_eq!(
            refusal(Body::QuerySmResp(gap)),
            "query_sm_resp: message_id is absent, yet a field behind it is there"
        );
        assert_eq!(
            refusal(Body::SubmitMulti(long)),
            "submit_multi: dest_address has 256 entries, at most 255"
        );
    }

    #[test]
    fn an_error_response_says_nothing_of_an_id() {
        let message_id = Some(COctetString::try_from("1f09").unwrap());
        let body = Body::SubmitSmResp(SubmitSmResp { message_id, tlvs: Tlvs::new() });
        let taken = Pdu::response(1, CommandStatus::ESME_ROK, body.clone());
        let refused = Pdu::response(1, CommandStatus::ESME_RTHROTTLED, body);
        assert_eq!(taken.message_id(), Some(&b"1f09"[..]));
        assert_eq!(refused.message_id(), None);
        assert_eq!(decode(encoded(&refused).freeze()), Ok(refused));
    }

    #[test]
    fn a_reply_is_the_requests_own_response_or_a_nack() {
        let reply = |body| Pdu::request(7, body).reply(CommandStatus::ESME_RINVBNDSTS);
        let id = |body| reply(body).map(|pdu| pdu.command_id());
        let unknown = |id| Body::Unknown { command_id: id, octets: Default::default() };
        assert_eq!(id(deliver_sm()), Some(CommandId::DELIVER_SM_RESP));
        assert_eq!(id(Body::EnquireLink), Some(CommandId::ENQUIRE_LINK_RESP));
        assert_eq!(id(unknown(CommandId::BROADCAST_SM)), Some(CommandId::GENERIC_NACK));
        assert_eq!(id(unknown(CommandId::BROADCAST_SM_RESP)), None);
        assert_eq!(id(Body::AlertNotification(Default::default())), None);
        assert_eq!(id(Body::GenericNack(Tlvs::new())), None);
        let answer = reply(deliver_sm()).unwrap();
        assert_eq!(encoded(&answer).len(), 17, "the empty message_id has its NUL");
    }

    #[test]
    fn a_length_is_refused_as_soon_as_it_is_there() {
        let refuse = |length: u32| {
            let mut src = BytesMut::from(&length.to_be_bytes()[..]);
            Frames::new(1_000).decode(&mut src)
        };
        for length in [0, 15, 1_001, u32::MAX] {
            let error = refuse(length).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("command_length is {length}, expected 16 to 1000")
            );
            assert_eq!(error.reply(), Some(Pdu::generic_nack(0, CommandStatus::ESME_RINVCMDLEN)));
        }
        assert_eq!(refuse(16).unwrap(), None);
        assert_eq!(refuse(1_000).unwrap(), None);
    }

    #[test]
    fn debug_shows_no_text_and_no_number() {
        let mut tlvs = Tlvs::new();
        tlvs.push(Tag::MESSAGE_PAYLOAD, b"secret").unwrap();
        let body = Body::SubmitSm(SubmitSm {
            source: address("1234"),
            destination: address("819012345678"),
            short_message: ShortMessage::new("secret").unwrap(),
            tlvs,
            ..SubmitSm::default()
        });
        let shown = format!("{:?}", Pdu::request(1, body));
        assert!(shown.contains("unknown/unknown/..78"), "{shown}");
        assert!(shown.contains("message_payload(6 octets)"), "{shown}");
        assert!(!["secret", "5678", "34"].iter().any(|hidden| shown.contains(hidden)), "{shown}");
    }
}
