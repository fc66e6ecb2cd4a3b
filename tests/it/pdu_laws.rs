//! The codec against any PDU and any octets.

use crate::fuzz::bodies::pdu as fuzz;
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
use hikyaku::pdu::Tlvs;
use hikyaku::pdu::Ton;
use hikyaku::pdu::UnsuccessSme;
use hikyaku::pdu::decode;
use hikyaku::pdu::decode_with;
use hikyaku::pdu::encode;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::sample::select;
use tokio_util::codec::Decoder;

use crate::vectors;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decode_gives_what_was_encoded(pdu in pdu()) {
        prop_assert_eq!(decode(encoded(&pdu)).unwrap(), pdu);
    }

    #[test]
    fn a_valid_pdu_is_read_strictly_unless_a_tlv_has_a_wrong_length(pdu in pdu()) {
        let read = decode_with(&encoded(&pdu), Leniency::Strict);
        let wrong = pdu.body.tlvs().is_some_and(|tlvs| tlvs.iter().any(|tlv| {
            let lengths = tlv.tag.lengths();
            !(lengths.min.into()..=lengths.max.into()).contains(&tlv.value.len())
        }));
        prop_assert_eq!(read.is_err(), wrong, "{:?}", read);
    }

    #[test]
    fn a_pdu_cut_anywhere_is_an_error_or_a_value(pdu in pdu()) {
        let whole = encoded(&pdu);
        for len in 0..whole.len() {
            fuzz::run(&whole[..len]);
        }
    }

    #[test]
    fn octets_that_come_one_by_one_give_the_same_pdus(pdus in vec(pdu(), 1..5)) {
        let mut frames = Frames::default();
        let mut src = BytesMut::new();
        let mut read = Vec::new();
        for octet in pdus.iter().flat_map(encoded) {
            src.extend_from_slice(&[octet]);
            read.extend(frames.decode(&mut src).unwrap());
        }
        prop_assert!(src.is_empty());
        prop_assert_eq!(read, pdus.into_iter().map(Frame::Pdu).collect::<Vec<_>>());
    }

    #[test]
    fn any_octets_are_survived(octets in vec(any::<u8>(), 0..200)) {
        fuzz::run(&octets);
    }

    #[test]
    fn any_body_is_survived(id in command_id(), body in vec(any::<u8>(), 0..120)) {
        let header = [[0; 4], id.0.to_be_bytes(), [0; 4], [0, 0, 0, 1]].concat();
        fuzz::run(&[header, body].concat());
    }

    #[test]
    fn a_spoilt_pdu_is_survived(
        pdu in pdu(),
        spoilt in vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let mut octets = encoded(&pdu).to_vec();
        for (at, octet) in spoilt {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        fuzz::run(&octets);
    }
}

#[test]
fn all_vectors_keep_the_laws() {
    for name in ["pdus.jsonl", "malformed.jsonl"] {
        for vector in vectors::load(name) {
            let octets = vectors::octets(vector["hex"].as_str().unwrap());
            (0..=octets.len()).for_each(|len| fuzz::run(&octets[..len]));
        }
    }
}

fn encoded(pdu: &Pdu) -> Bytes {
    let mut out = BytesMut::new();
    encode(pdu, &mut out).unwrap();
    out.freeze()
}

fn pdu() -> impl Strategy<Value = Pdu> {
    (any::<u32>(), any::<u32>(), body()).prop_map(|(status, sequence_number, body)| Pdu {
        command_status: CommandStatus(status),
        sequence_number,
        body,
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![sessions(), messages(), lists(), questions()]
}

fn sessions() -> impl Strategy<Value = Body> {
    prop_oneof![
        bind().prop_map(Body::BindReceiver),
        bind().prop_map(Body::BindTransmitter),
        bind().prop_map(Body::BindTransceiver),
        bind_resp().prop_map(Body::BindReceiverResp),
        bind_resp().prop_map(Body::BindTransmitterResp),
        bind_resp().prop_map(Body::BindTransceiverResp),
        (text(), text(), tlvs()).prop_map(|(system_id, password, tlvs)| {
            Body::Outbind(Outbind { system_id, password, tlvs })
        }),
        Just(Body::Unbind),
        Just(Body::EnquireLink),
        tlvs().prop_map(Body::UnbindResp),
        tlvs().prop_map(Body::EnquireLinkResp),
        tlvs().prop_map(Body::GenericNack),
        vec(any::<u8>(), 0..40).prop_map(|octets| Body::Unknown {
            command_id: CommandId(0x0001_0200),
            octets: Opaque(octets.into()),
        }),
        (address(), address(), tlvs()).prop_map(|(source, esme, tlvs)| {
            Body::AlertNotification(AlertNotification { source, esme, tlvs })
        }),
    ]
}

fn messages() -> impl Strategy<Value = Body> {
    prop_oneof![
        submit_sm().prop_map(Body::SubmitSm),
        submit_sm().prop_map(|sm| Body::DeliverSm(delivered(sm))),
        (text(), address(), address(), any::<[u8; 3]>(), tlvs()).prop_map(
            |(service_type, source, destination, [esm, registered, coding], tlvs)| {
                Body::DataSm(DataSm {
                    service_type,
                    source,
                    destination,
                    esm_class: EsmClass(esm),
                    registered_delivery: RegisteredDelivery(registered),
                    data_coding: DataCoding(coding),
                    tlvs,
                })
            }
        ),
        message_id().prop_map(|(message_id, tlvs)| {
            Body::SubmitSmResp(SubmitSmResp { message_id, tlvs })
        }),
        message_id().prop_map(|(message_id, tlvs)| {
            Body::DeliverSmResp(DeliverSmResp { message_id, tlvs })
        }),
        message_id()
            .prop_map(|(message_id, tlvs)| Body::DataSmResp(DataSmResp { message_id, tlvs })),
    ]
}

fn lists() -> impl Strategy<Value = Body> {
    let to = prop_oneof![address().prop_map(DestAddress::Sme), text().prop_map(DestAddress::List)];
    let refused = (address(), any::<u32>()).prop_map(|(destination, status)| UnsuccessSme {
        destination,
        error_status_code: CommandStatus(status),
    });
    prop_oneof![
        (submit_sm(), vec(to, 0..5)).prop_map(|(sm, to)| Body::SubmitMulti(multiplied(sm, to))),
        (text(), option::of((vec(refused, 0..5), tlvs()))).prop_map(|(message_id, rest)| {
            let (unsuccess_sme, tlvs) = rest.unzip();
            let (message_id, tlvs) = (Some(message_id), tlvs.unwrap_or_default());
            Body::SubmitMultiResp(SubmitMultiResp { message_id, unsuccess_sme, tlvs })
        }),
    ]
}

fn questions() -> impl Strategy<Value = Body> {
    prop_oneof![
        (text(), address(), tlvs()).prop_map(|(message_id, source, tlvs)| {
            Body::QuerySm(QuerySm { message_id, source, tlvs })
        }),
        query_sm_resp().prop_map(Body::QuerySmResp),
        (text(), text(), address(), address(), tlvs()).prop_map(
            |(service_type, message_id, source, destination, tlvs)| {
                Body::CancelSm(CancelSm { service_type, message_id, source, destination, tlvs })
            }
        ),
        tlvs().prop_map(|tlvs| Body::CancelSmResp(CancelSmResp { tlvs })),
        tlvs().prop_map(|tlvs| Body::ReplaceSmResp(ReplaceSmResp { tlvs })),
        (text(), submit_sm()).prop_map(|(message_id, sm)| {
            Body::ReplaceSm(ReplaceSm {
                message_id,
                source: sm.source,
                schedule_delivery_time: sm.schedule_delivery_time,
                validity_period: sm.validity_period,
                registered_delivery: sm.registered_delivery,
                sm_default_msg_id: sm.sm_default_msg_id,
                short_message: sm.short_message,
                tlvs: sm.tlvs,
            })
        }),
    ]
}

fn bind() -> impl Strategy<Value = Bind> {
    (text(), text(), text(), any::<u8>(), address(), tlvs()).prop_map(
        |(system_id, password, system_type, version, address_range, tlvs)| Bind {
            system_id,
            password,
            system_type,
            interface_version: InterfaceVersion(version),
            address_range,
            tlvs,
        },
    )
}

fn bind_resp() -> impl Strategy<Value = BindResp> {
    option::of((text(), tlvs())).prop_map(|body| {
        let (system_id, tlvs) = body.unzip();
        BindResp { system_id, tlvs: tlvs.unwrap_or_default() }
    })
}

fn message_id() -> impl Strategy<Value = (Option<COctetString<65>>, Tlvs)> {
    option::of((text(), tlvs())).prop_map(|body| {
        let (message_id, tlvs) = body.unzip();
        (message_id, tlvs.unwrap_or_default())
    })
}

fn query_sm_resp() -> impl Strategy<Value = QuerySmResp> {
    let whole = (text(), text(), any::<[u8; 2]>(), tlvs());
    let whole = whole.prop_map(|(message_id, final_date, [state, code], tlvs)| QuerySmResp {
        message_id: Some(message_id),
        final_date: Some(final_date),
        message_state: Some(MessageState(state)),
        error_code: Some(code),
        tlvs,
    });
    prop_oneof![whole, Just(QuerySmResp::default())]
}

fn submit_sm() -> impl Strategy<Value = SubmitSm> {
    let texts = (text(), text(), text());
    let short_message = vec(any::<u8>(), 0..=ShortMessage::MAX)
        .prop_map(|octets| ShortMessage::new(octets).unwrap());
    (texts, address(), address(), any::<[u8; 7]>(), short_message, tlvs()).prop_map(
        |(texts, source, destination, octets, short_message, tlvs)| {
            let (service_type, schedule_delivery_time, validity_period) = texts;
            let [esm, protocol_id, priority_flag, registered, replace, coding, stored] = octets;
            SubmitSm {
                service_type,
                source,
                destination,
                esm_class: EsmClass(esm),
                protocol_id,
                priority_flag,
                schedule_delivery_time,
                validity_period,
                registered_delivery: RegisteredDelivery(registered),
                replace_if_present_flag: replace,
                data_coding: DataCoding(coding),
                sm_default_msg_id: stored,
                short_message,
                tlvs,
            }
        },
    )
}

fn delivered(sm: SubmitSm) -> DeliverSm {
    DeliverSm {
        service_type: sm.service_type,
        source: sm.source,
        destination: sm.destination,
        esm_class: sm.esm_class,
        protocol_id: sm.protocol_id,
        priority_flag: sm.priority_flag,
        schedule_delivery_time: sm.schedule_delivery_time,
        validity_period: sm.validity_period,
        registered_delivery: sm.registered_delivery,
        replace_if_present_flag: sm.replace_if_present_flag,
        data_coding: sm.data_coding,
        sm_default_msg_id: sm.sm_default_msg_id,
        short_message: sm.short_message,
        tlvs: sm.tlvs,
    }
}

fn multiplied(sm: SubmitSm, dest_address: Vec<DestAddress>) -> SubmitMulti {
    SubmitMulti {
        service_type: sm.service_type,
        source: sm.source,
        dest_address,
        esm_class: sm.esm_class,
        protocol_id: sm.protocol_id,
        priority_flag: sm.priority_flag,
        schedule_delivery_time: sm.schedule_delivery_time,
        validity_period: sm.validity_period,
        registered_delivery: sm.registered_delivery,
        replace_if_present_flag: sm.replace_if_present_flag,
        data_coding: sm.data_coding,
        sm_default_msg_id: sm.sm_default_msg_id,
        short_message: sm.short_message,
        tlvs: sm.tlvs,
    }
}

fn text<const N: usize>() -> impl Strategy<Value = COctetString<N>> {
    vec(1..=u8::MAX, 0..N).prop_map(|octets| COctetString::new(octets).unwrap())
}

fn address<const N: usize>() -> impl Strategy<Value = Address<N>> {
    (any::<u8>(), any::<u8>(), text()).prop_map(|(ton, npi, addr)| Address {
        ton: Ton(ton),
        npi: Npi(npi),
        addr,
    })
}

fn tlvs() -> impl Strategy<Value = Tlvs> {
    let known = vec![
        Tag::MESSAGE_PAYLOAD,
        Tag::MESSAGE_STATE,
        Tag::RECEIPTED_MESSAGE_ID,
        Tag::USER_MESSAGE_REFERENCE,
        Tag::ALERT_ON_MESSAGE_DELIVERY,
    ];
    let tag = prop_oneof![select(known), any::<u16>().prop_map(Tag)];
    vec((tag, vec(any::<u8>(), 0..12)), 0..4).prop_map(|values| {
        let mut tlvs = Tlvs::new();
        for (tag, value) in values {
            tlvs.push(tag, &value).unwrap();
        }
        tlvs
    })
}

fn command_id() -> impl Strategy<Value = CommandId> {
    let requests = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0x0B, 0x15, 0x21, 0x102, 0x103, 0x111];
    let responses = requests.map(|id| id | 0x8000_0000);
    select([&requests[..], &responses[..], &[0x8000_0000]].concat()).prop_map(CommandId)
}
