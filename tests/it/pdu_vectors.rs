//! The codec against the vectors of valid and of broken PDUs.

use bytes::Bytes;
use bytes::BytesMut;
use hikyaku::pdu::Address;
use hikyaku::pdu::AlertNotification;
use hikyaku::pdu::Bind;
use hikyaku::pdu::BindResp;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::CancelSm;
use hikyaku::pdu::CancelSmResp;
use hikyaku::pdu::CommandId;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DataCoding;
use hikyaku::pdu::DataSm;
use hikyaku::pdu::DataSmResp;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::DeliverSmResp;
use hikyaku::pdu::DestAddress;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::Frame;
use hikyaku::pdu::FrameError;
use hikyaku::pdu::Frames;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::pdu::Leniency;
use hikyaku::pdu::MessageState;
use hikyaku::pdu::Npi;
use hikyaku::pdu::Opaque;
use hikyaku::pdu::Outbind;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::QuerySm;
use hikyaku::pdu::QuerySmResp;
use hikyaku::pdu::RegisteredDelivery;
use hikyaku::pdu::ReplaceSm;
use hikyaku::pdu::ReplaceSmResp;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::SubmitMulti;
use hikyaku::pdu::SubmitMultiResp;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::SubmitSmResp;
use hikyaku::pdu::Tag;
use hikyaku::pdu::TlvKind;
use hikyaku::pdu::Tlvs;
use hikyaku::pdu::Ton;
use hikyaku::pdu::Unreadable;
use hikyaku::pdu::UnsuccessSme;
use hikyaku::pdu::decode;
use hikyaku::pdu::decode_with;
use hikyaku::pdu::encode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio_util::codec::Decoder;

use crate::vectors;

#[test]
fn valid_pdus_are_read_with_all_their_fields() {
    for vector in vectors::load("pdus.jsonl") {
        let (id, expect) = (&vector["id"], &vector["expect"]);
        let octets = vectors::octets(text(&vector["hex"]));
        let length = octets.len();
        let pdu = decode(Bytes::from(octets)).unwrap();
        let command_id = pdu.command_id();
        assert_eq!(json!(length), expect["command_length"], "{id}");
        assert_eq!(json!(command_id), expect["command_id"], "{id}");
        assert_eq!(json!(command_id.name()), expect["command"], "{id}");
        assert_eq!(json!(pdu.command_status), expect["command_status"], "{id}");
        assert_eq!(json!(pdu.command_status.name()), expect["status_name"], "{id}");
        assert_eq!(json!(pdu.sequence_number), expect["sequence_number"], "{id}");
        if !is_broadcast(command_id) {
            assert_eq!(shown(&pdu.body), expect["body"], "{id}");
            assert_eq!(shown_tlvs(pdu.body.tlvs()), expect["tlvs"], "{id}");
        }
    }
}

#[test]
fn valid_pdus_are_read_the_same_strictly() {
    for vector in vectors::load("pdus.jsonl") {
        let octets = Bytes::from(vectors::octets(text(&vector["hex"])));
        let strict = decode_with(&octets, Leniency::Strict);
        assert_eq!(strict, decode(octets), "{}", vector["id"]);
        assert!(strict.is_ok(), "{}", vector["id"]);
    }
}

#[test]
fn decode_then_encode_gives_the_same_octets() {
    for vector in vectors::load("pdus.jsonl") {
        let hex = text(&vector["hex"]);
        let pdu = decode(Bytes::from(vectors::octets(hex))).unwrap();
        assert_eq!(encoded(&pdu), hex, "{}", vector["id"]);
    }
}

#[test]
fn the_expected_fields_are_written_to_the_octets() {
    for vector in vectors::load("pdus.jsonl") {
        let expect = &vector["expect"];
        let hex = text(&vector["hex"]);
        let id = CommandId(number(&expect["command_id"]));
        let body = if is_broadcast(id) {
            let octets = Opaque(Bytes::from(vectors::octets(&hex[32..])));
            Body::Unknown { command_id: id, octets }
        } else {
            told(text(&expect["command"]), &expect["body"], told_tlvs(&expect["tlvs"]))
        };
        let pdu = Pdu {
            command_status: CommandStatus(number(&expect["command_status"])),
            sequence_number: number(&expect["sequence_number"]),
            body,
        };
        assert_eq!(encoded(&pdu), hex, "{}", vector["id"]);
    }
}

#[test]
fn an_incomplete_pdu_waits_for_the_rest() {
    for vector in of_class("need_more") {
        let id = &vector["id"];
        let mut src = BytesMut::from(&vectors::octets(text(&vector["hex"]))[..]);
        let at_least: usize = number(&vector["expect"]["at_least"]);
        assert!(Frames::default().decode(&mut src).unwrap().is_none(), "{id}");
        assert_eq!(vectors::hex(&src), text(&vector["hex"]), "{id}");
        src.resize(src.len() + at_least - 1, 0);
        assert!(Frames::default().decode(&mut src).unwrap().is_none(), "{id}");
    }
}

#[test]
fn a_lost_frame_boundary_ends_the_stream() {
    for vector in of_class("fatal") {
        let (id, expect) = (&vector["id"], &vector["expect"]);
        let mut src = BytesMut::from(&vectors::octets(text(&vector["hex"]))[..]);
        if let Some(first) = expect.get("first_pdu") {
            let frame = Frames::default().decode(&mut src).unwrap();
            let Some(Frame::Pdu(pdu)) = frame else { panic!("{id}: {frame:?}") };
            assert_eq!(json!(pdu.command_id().name()), first["command"], "{id}");
            assert_eq!(json!(pdu.sequence_number), first["sequence"], "{id}");
        }
        let error = Frames::default().decode(&mut src).unwrap_err();
        assert!(matches!(error, FrameError::CommandLength { .. }), "{id}: {error}");
        assert_is_wanted(&error.reply().unwrap(), vector);
    }
}

#[test]
fn a_broken_pdu_leaves_the_one_behind_it_readable() {
    for leniency in [Leniency::Lenient, Leniency::Strict] {
        for vector in of_class("tolerate").chain(of_class("recoverable")) {
            let mut src = BytesMut::from(&vectors::octets(text(&vector["hex"]))[..]);
            encode(&ENQUIRE_LINK, &mut src).unwrap();
            let mut frames = Frames { leniency, ..Frames::default() };
            assert!(frames.decode(&mut src).unwrap().is_some(), "{}", vector["id"]);
            let next = frames.decode(&mut src).unwrap();
            assert_eq!(next, Some(Frame::Pdu(ENQUIRE_LINK)), "{}", vector["id"]);
            assert!(src.is_empty(), "{}", vector["id"]);
        }
    }
}

#[test]
fn what_is_out_of_the_specification_is_tolerated() {
    for vector in of_class("tolerate") {
        let id = &vector["id"];
        let Frame::Pdu(pdu) = first(vector, Leniency::Lenient) else { panic!("{id}") };
        for (name, expect) in vector["expect"]["fields"].as_object().into_iter().flatten() {
            // These are about the message, not the PDU.
            if !["final", "multipart", "text_one_of"].contains(&name.as_str()) {
                assert_eq!(field(&pdu, name), *expect, "{id} {name}");
            }
        }
    }
}

#[test]
fn an_unreadable_request_has_an_answer_and_a_response_has_none() {
    let mut unreadable = 0;
    for vector in of_class("recoverable") {
        match first(vector, Leniency::Lenient) {
            Frame::Unreadable(frame) => {
                unreadable += 1;
                assert_is_refused(&frame, vector);
            }
            Frame::Pdu(pdu) if matches!(pdu.body, Body::Unknown { .. }) => {
                let reply = pdu.reply(CommandStatus::ESME_RINVCMDID);
                assert_eq!(reply.is_some(), !pdu.command_id().is_response());
                reply.iter().for_each(|reply| assert_is_wanted(reply, vector));
            }
            Frame::Pdu(_) => {}
        }
    }
    assert!(unreadable > 0);
}

fn assert_is_refused(frame: &Unreadable, vector: &Value) {
    match frame.reply() {
        Some(reply) => assert_is_wanted(&reply, vector),
        None => assert!(frame.command_id.is_response(), "{}", vector["id"]),
    }
}

/// Whether `reply` is one of the answers that the vector takes.
fn assert_is_wanted(reply: &Pdu, vector: &Value) {
    let wanted = vector["expect"]["replies"].as_array().unwrap().iter().any(|wanted| {
        let sequences = wanted["sequence"].as_array().unwrap();
        let statuses = wanted["status"].as_array().unwrap();
        wanted["command"] == json!(reply.command_id().name())
            && statuses.contains(&json!(reply.command_status.name()))
            && sequences.contains(&json!(reply.sequence_number))
    });
    assert!(wanted, "{}: {reply:?}", vector["id"]);
}

fn first(vector: &Value, leniency: Leniency) -> Frame {
    let mut src = BytesMut::from(&vectors::octets(text(&vector["hex"]))[..]);
    Frames { leniency, ..Frames::default() }.decode(&mut src).unwrap().unwrap()
}

fn of_class(class: &str) -> impl Iterator<Item = &'static Value> {
    let vectors = Vec::leak(vectors::load("malformed.jsonl"));
    vectors.iter().filter(move |vector| vector["expect"]["class"] == class)
}

const ENQUIRE_LINK: Pdu = Pdu::request(0x00AB_CDEF, Body::EnquireLink);

/// A field by its SMPP name, be it of the header, the body or a TLV; null when it counts as absent.
fn field(pdu: &Pdu, name: &str) -> Value {
    match name {
        "command" => json!(pdu.command_id().name()),
        "command_status" => json!(pdu.command_status),
        "message_id" => json!(pdu.message_id().map(latin_1)),
        name => match Tag::from_name(name) {
            Some(tag) => pdu.body.tlvs().map_or(Value::Null, |tlvs| meant(tlvs, tag)),
            None => shown(&pdu.body)[name].clone(),
        },
    }
}

fn encoded(pdu: &Pdu) -> String {
    let mut out = BytesMut::new();
    encode(pdu, &mut out).unwrap();
    vectors::hex(&out)
}

const fn is_broadcast(command_id: CommandId) -> bool {
    matches!(command_id.0 & 0x7FFF_FFFF, 0x111..=0x113)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    T::try_from(value.as_u64().unwrap()).ok().unwrap()
}

fn latin_1(octets: &[u8]) -> String {
    octets.iter().copied().map(char::from).collect()
}

/// The TLVs as the vectors tell them.
fn shown_tlvs(tlvs: Option<&Tlvs>) -> Value {
    let shown = tlvs.into_iter().flat_map(Tlvs::iter).map(|tlv| {
        let mut shown = json!({
            "tag": tlv.tag,
            "name": tlv.tag.name(),
            "length": tlv.value.len(),
            "hex": vectors::hex(tlv.value),
        });
        let mut alone = Tlvs::new();
        alone.push(tlv.tag, tlv.value).unwrap();
        if tlv.tag.kind() != TlvKind::Octets {
            shown["value"] = meant(&alone, tlv.tag);
        }
        shown
    });
    shown.collect()
}

/// What the getters say of `tag`.
fn meant(tlvs: &Tlvs, tag: Tag) -> Value {
    match (tag.kind(), tag.lengths().max) {
        (TlvKind::Integer, 1) => json!(tlvs.get_u8(tag)),
        (TlvKind::Integer, 2) => json!(tlvs.get_u16(tag)),
        (TlvKind::Integer, _) => json!(tlvs.get_u32(tag)),
        (TlvKind::COctet, _) => json!(tlvs.get_c_octets(tag).map(latin_1)),
        (TlvKind::Octets, _) => json!(tlvs.get(tag).map(vectors::hex)),
    }
}

fn told_tlvs(value: &Value) -> Tlvs {
    let mut tlvs = Tlvs::new();
    for tlv in value.as_array().unwrap() {
        tlvs.push(Tag(number(&tlv["tag"])), &vectors::octets(text(&tlv["hex"]))).unwrap();
    }
    tlvs
}

/// A field between its value and the names under which the vectors tell it.
trait Told: Sized {
    fn show(&self, names: &[&str], shown: &mut Map<String, Value>);
    fn read(names: &[&str], told: &Map<String, Value>) -> Self;
}

impl<const N: usize> Told for COctetString<N> {
    fn show(&self, names: &[&str], shown: &mut Map<String, Value>) {
        shown.insert(names[0].into(), self.to_text_lossy().into());
    }

    fn read(names: &[&str], told: &Map<String, Value>) -> Self {
        Self::try_from(text(&told[names[0]])).unwrap()
    }
}

impl<const N: usize> Told for Address<N> {
    fn show(&self, names: &[&str], shown: &mut Map<String, Value>) {
        self.ton.show(&names[0..], shown);
        self.npi.show(&names[1..], shown);
        self.addr.show(&names[2..], shown);
    }

    fn read(names: &[&str], told: &Map<String, Value>) -> Self {
        Self {
            ton: Ton::read(&names[0..], told),
            npi: Npi::read(&names[1..], told),
            addr: COctetString::read(&names[2..], told),
        }
    }
}

impl Told for ShortMessage {
    fn show(&self, _: &[&str], shown: &mut Map<String, Value>) {
        shown.insert("sm_length".into(), self.len().into());
        shown.insert("short_message_hex".into(), vectors::hex(self.as_bytes()).into());
    }

    fn read(_: &[&str], told: &Map<String, Value>) -> Self {
        Self::new(vectors::octets(text(&told["short_message_hex"]))).unwrap()
    }
}

impl Told for Vec<DestAddress> {
    fn show(&self, _: &[&str], shown: &mut Map<String, Value>) {
        shown.insert("number_of_dests".into(), self.len().into());
        let entries = self.iter().map(|entry| {
            let mut shown = Map::new();
            match entry {
                DestAddress::Sme(sme) => {
                    shown.insert("dest_flag".into(), 1.into());
                    sme.show(&DESTINATION, &mut shown);
                }
                DestAddress::List(name) => {
                    shown.insert("dest_flag".into(), 2.into());
                    name.show(&["dl_name"], &mut shown);
                }
            }
            shown
        });
        shown.insert("dest_address".into(), entries.collect());
    }

    fn read(_: &[&str], told: &Map<String, Value>) -> Self {
        let entries = told["dest_address"].as_array().unwrap().iter();
        entries
            .map(|told| match (&told["dest_flag"], told.as_object().unwrap()) {
                (flag, told) if flag == 1 => DestAddress::Sme(Address::read(&DESTINATION, told)),
                (_, told) => DestAddress::List(COctetString::read(&["dl_name"], told)),
            })
            .collect()
    }
}

impl Told for Vec<UnsuccessSme> {
    fn show(&self, _: &[&str], shown: &mut Map<String, Value>) {
        shown.insert("no_unsuccess".into(), self.len().into());
        let entries = self.iter().map(|entry| {
            let mut shown = Map::new();
            entry.destination.show(&DESTINATION, &mut shown);
            entry.error_status_code.show(&["error_status_code"], &mut shown);
            shown
        });
        shown.insert("unsuccess_sme".into(), entries.collect());
    }

    fn read(_: &[&str], told: &Map<String, Value>) -> Self {
        let entries = told["unsuccess_sme"].as_array().unwrap().iter();
        entries
            .map(|told| UnsuccessSme {
                destination: Address::read(&DESTINATION, told.as_object().unwrap()),
                error_status_code: CommandStatus(number(&told["error_status_code"])),
            })
            .collect()
    }
}

impl<T: Told> Told for Option<T> {
    fn show(&self, names: &[&str], shown: &mut Map<String, Value>) {
        self.iter().for_each(|field| field.show(names, shown));
    }

    fn read(names: &[&str], told: &Map<String, Value>) -> Self {
        told.contains_key(names[0]).then(|| T::read(names, told))
    }
}

macro_rules! told_numbers {
    ($($type:ty: $wrap:expr, $unwrap:expr;)*) => {$(
        impl Told for $type {
            fn show(&self, names: &[&str], shown: &mut Map<String, Value>) {
                shown.insert(names[0].into(), $unwrap(*self).into());
            }

            fn read(names: &[&str], told: &Map<String, Value>) -> Self {
                $wrap(number(&told[names[0]]))
            }
        }
    )*};
}

told_numbers! {
    u8: |number| number, |number: Self| number;
    CommandStatus: Self, |number: Self| number.0;
    DataCoding: Self, |number: Self| number.0;
    EsmClass: Self, |number: Self| number.0;
    InterfaceVersion: Self, |number: Self| number.0;
    MessageState: Self, |number: Self| number.0;
    Npi: Self, |number: Self| number.0;
    RegisteredDelivery: Self, |number: Self| number.0;
    Ton: Self, |number: Self| number.0;
}

const SOURCE: [&str; 3] = ["source_addr_ton", "source_addr_npi", "source_addr"];
const DESTINATION: [&str; 3] = ["dest_addr_ton", "dest_addr_npi", "destination_addr"];
const ADDRESS_RANGE: [&str; 3] = ["addr_ton", "addr_npi", "address_range"];
const ESME: [&str; 3] = ["esme_addr_ton", "esme_addr_npi", "esme_addr"];

/// One row a PDU: our fields; those told under other names than ours say which.
macro_rules! pdus {
    ($($command:literal => $variant:ident($body:ident { $($field:ident $(as $names:expr)?),* });)*) => {
        /// The mandatory fields by their SMPP names; null for a response of the header only.
        fn shown(body: &Body) -> Value {
            let mut shown = Map::new();
            match body {
                $(Body::$variant(body) => {
                    let $body { $($field,)* tlvs: _ } = body;
                    $($field.show(told_as!($field $(as $names)?), &mut shown);)*
                })*
                Body::EnquireLink
                | Body::Unbind
                | Body::EnquireLinkResp(_)
                | Body::UnbindResp(_)
                | Body::GenericNack(_) => {}
                Body::Unknown { .. } => panic!("not spoken: {body:?}"),
            }
            let header_only = shown.is_empty() && has_fields(body);
            if header_only { Value::Null } else { shown.into() }
        }

        /// The body of `command` with the fields that `told` names.
        fn told(command: &str, told: &Value, tlvs: Tlvs) -> Body {
            let nothing = Map::new();
            let told = told.as_object().unwrap_or(&nothing);
            match command {
                $($command => Body::$variant($body {
                    $($field: Told::read(told_as!($field $(as $names)?), told),)*
                    tlvs,
                }),)*
                "enquire_link" => Body::EnquireLink,
                "enquire_link_resp" => Body::EnquireLinkResp(tlvs),
                "unbind" => Body::Unbind,
                "unbind_resp" => Body::UnbindResp(tlvs),
                "generic_nack" => Body::GenericNack(tlvs),
                command => panic!("not spoken: {command}"),
            }
        }
    };
}

macro_rules! told_as {
    ($field:ident) => {
        &[stringify!($field)]
    };
    ($field:ident as $names:expr) => {
        &$names
    };
}

/// Whether the specification gives this body mandatory fields.
const fn has_fields(body: &Body) -> bool {
    !matches!(
        body,
        Body::EnquireLink
            | Body::Unbind
            | Body::EnquireLinkResp(_)
            | Body::UnbindResp(_)
            | Body::GenericNack(_)
            | Body::CancelSmResp(_)
            | Body::ReplaceSmResp(_)
    )
}

pdus! {
    "bind_receiver" => BindReceiver(Bind {
        system_id, password, system_type, interface_version, address_range as ADDRESS_RANGE
    });
    "bind_receiver_resp" => BindReceiverResp(BindResp { system_id });
    "bind_transmitter" => BindTransmitter(Bind {
        system_id, password, system_type, interface_version, address_range as ADDRESS_RANGE
    });
    "bind_transmitter_resp" => BindTransmitterResp(BindResp { system_id });
    "bind_transceiver" => BindTransceiver(Bind {
        system_id, password, system_type, interface_version, address_range as ADDRESS_RANGE
    });
    "bind_transceiver_resp" => BindTransceiverResp(BindResp { system_id });
    "outbind" => Outbind(Outbind { system_id, password });
    "submit_sm" => SubmitSm(SubmitSm {
        service_type, source as SOURCE, destination as DESTINATION, esm_class, protocol_id,
        priority_flag, schedule_delivery_time, validity_period, registered_delivery,
        replace_if_present_flag, data_coding, sm_default_msg_id, short_message
    });
    "submit_sm_resp" => SubmitSmResp(SubmitSmResp { message_id });
    "submit_multi" => SubmitMulti(SubmitMulti {
        service_type, source as SOURCE, dest_address, esm_class, protocol_id,
        priority_flag, schedule_delivery_time, validity_period, registered_delivery,
        replace_if_present_flag, data_coding, sm_default_msg_id, short_message
    });
    "submit_multi_resp" => SubmitMultiResp(SubmitMultiResp { message_id, unsuccess_sme });
    "deliver_sm" => DeliverSm(DeliverSm {
        service_type, source as SOURCE, destination as DESTINATION, esm_class, protocol_id,
        priority_flag, schedule_delivery_time, validity_period, registered_delivery,
        replace_if_present_flag, data_coding, sm_default_msg_id, short_message
    });
    "deliver_sm_resp" => DeliverSmResp(DeliverSmResp { message_id });
    "data_sm" => DataSm(DataSm {
        service_type, source as SOURCE, destination as DESTINATION, esm_class,
        registered_delivery, data_coding
    });
    "data_sm_resp" => DataSmResp(DataSmResp { message_id });
    "query_sm" => QuerySm(QuerySm { message_id, source as SOURCE });
    "query_sm_resp" => QuerySmResp(QuerySmResp {
        message_id, final_date, message_state, error_code
    });
    "cancel_sm" => CancelSm(CancelSm {
        service_type, message_id, source as SOURCE, destination as DESTINATION
    });
    "cancel_sm_resp" => CancelSmResp(CancelSmResp {});
    "replace_sm" => ReplaceSm(ReplaceSm {
        message_id, source as SOURCE, schedule_delivery_time, validity_period,
        registered_delivery, sm_default_msg_id, short_message
    });
    "replace_sm_resp" => ReplaceSmResp(ReplaceSmResp {});
    "alert_notification" => AlertNotification(AlertNotification {
        source as SOURCE, esme as ESME
    });
}
