//! A message as the requests that one carrier gets.
use std::time::Duration;

use bytes::BytesMut;
use hikyaku::message::Class;
use hikyaku::message::Content;
use hikyaku::message::MessageId;
use hikyaku::message::PlanSummary;
use hikyaku::message::Reason;
use hikyaku::message::ReceiptsWanted;
use hikyaku::message::SegmentSet;
use hikyaku::message::Submission;
use hikyaku::pdu::Body;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DataSm;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::InterfaceVersion;
use hikyaku::pdu::Npi;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::RegisteredDelivery;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::SmppTime;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::Tag;
use hikyaku::pdu::Ton;
use hikyaku::route::Carrier;
use hikyaku::route::SenderError;
use hikyaku::route::TlvError;
use hikyaku::route::Unfit;
use hikyaku::route::cancel;
use hikyaku::route::compose;
use hikyaku::route::plan;
use hikyaku::route::query;
use hikyaku::route::summary;
use hikyaku::text::EncodingChoice;
use hikyaku::time::Time;
use proptest::prelude::*;

/// 2026-11-22T00:00:00Z
const NOW: Time = Time::from_secs(1_795_305_600);

/// The carrier `a` with these keys besides its rate.
fn carrier(keys: &str) -> Carrier {
    carrier_of(InterfaceVersion::V3_4, keys)
}

fn carrier_of(version: InterfaceVersion, keys: &str) -> Carrier {
    let carrier =
        Carrier::new("a", toml::from_str(&format!("rate = \"1/s\"\n{keys}")).unwrap(), version);
    assert_eq!(carrier.faults(), []);
    carrier
}

fn message(text: &str) -> Submission {
    Submission {
        id: MessageId::from_u128(1),
        accepted_at: NOW,
        key: "shop".into(),
        to: "819012345678".into(),
        from: Some("0005123456".into()),
        content: Content::Text(text.into()),
        class: Class::Otp,
        client_ref: None,
        campaign: Some("bday".into()),
        tags: vec!["pe_id:1101".into(), "ec".into()],
        send_at: None,
        expires_at: NOW + Duration::from_secs(600),
        encoding: EncodingChoice::Auto,
        max_segments: 10,
        receipts: ReceiptsWanted::Final,
        callback_url: None,
        idempotency: None,
        plan: PlanSummary { route: "r".into(), encoding: "gsm7".into(), segments: 1, units: 1 },
    }
}

fn composed(
    message: &Submission,
    carrier: &Carrier,
    wanted: &SegmentSet,
) -> Result<Vec<(u8, Body)>, Unfit> {
    let Submission { content, encoding, max_segments, .. } = message;
    let plan = plan(content, *encoding, *max_segments, carrier)?;
    compose(NOW, message, carrier, &plan, 0xABCD, wanted)
}

/// All requests of a message as `submit_sm`.
fn submits(message: &Submission, carrier: &Carrier) -> Vec<SubmitSm> {
    let bodies = composed(message, carrier, &SegmentSet::first(255)).unwrap();
    let submit = |(_, body)| match body {
        Body::SubmitSm(submit) => submit,
        other => panic!("{other:?}"),
    };
    bodies.into_iter().map(submit).collect()
}

/// The request of a message that has one.
fn submit(message: &Submission, carrier: &Carrier) -> SubmitSm {
    let [submit] = submits(message, carrier).try_into().unwrap();
    submit
}

#[test]
fn a_short_message_is_one_plain_submit_sm() {
    let submit = submit(&message("code 1234"), &carrier(""));
    assert_eq!(submit.short_message.as_bytes(), b"code 1234");
    assert_eq!(submit.destination.addr.as_bytes(), b"819012345678");
    assert_eq!((submit.destination.ton, submit.destination.npi), (Ton::INTERNATIONAL, Npi::ISDN));
    assert_eq!(submit.source.addr.as_bytes(), b"0005123456");
    assert_eq!(submit.source.ton, Ton::NATIONAL);
    assert_eq!(submit.esm_class, EsmClass::DEFAULT);
    assert_eq!(submit.registered_delivery, RegisteredDelivery::ANY_OUTCOME);
    assert_eq!(submit.validity_period.as_bytes(), b"000000001000000R");
    assert!(submit.schedule_delivery_time.is_empty());
    assert!(submit.service_type.is_empty());
    assert!(submit.tlvs.is_empty());
    assert_eq!((submit.priority_flag, submit.protocol_id, submit.data_coding.0), (0, 0, 0));
}

#[test]
fn six_hundred_and_seventy_japanese_characters_are_ten_requests_alike_but_for_the_text() {
    let mut message = message(&"飛脚".repeat(335));
    message.max_segments = 10;
    let carrier = carrier("");
    let submits = submits(&message, &carrier);
    assert_eq!(submits.len(), 10);
    for (index, submit) in (1..).zip(&submits) {
        let (udh, text) = submit.short_message.as_bytes().split_at(6);
        assert_eq!(udh, [5, 0, 3, 0xCD, 10, index]);
        assert_eq!(text.len(), 134);
        assert_eq!(submit.esm_class, EsmClass::UDHI);
        assert_eq!(submit.data_coding.0, 8);
        let same = SubmitSm { short_message: ShortMessage::EMPTY, ..submit.clone() };
        let first = SubmitSm { short_message: ShortMessage::EMPTY, ..submits[0].clone() };
        assert_eq!(same, first);
    }
    let plan = plan(&message.content, EncodingChoice::Auto, 10, &carrier).unwrap();
    let expected =
        PlanSummary { route: "jp".into(), encoding: "ucs2".into(), segments: 10, units: 670 };
    assert_eq!(summary("jp", &plan), expected);
}

#[test]
fn a_retry_sends_the_same_octets_of_what_is_missing() {
    let (message, carrier) = (message(&"a".repeat(400)), carrier(""));
    let all = composed(&message, &carrier, &SegmentSet::first(3)).unwrap();
    let missing = composed(&message, &carrier, &[2, 0].into_iter().collect()).unwrap();
    assert_eq!(missing, [all[0].clone(), all[2].clone()]);
    assert!(composed(&message, &carrier, &SegmentSet::default()).unwrap().is_empty());
}

#[test]
fn the_fields_of_the_carrier_are_in_every_request() {
    let carrier = carrier(
        "[submit]
        service_type = \"CMT\"
        priority_flag = 2
        protocol_id = 0x41
        esm_class_mode = 3
        replace_if_present_flag = 1
        sm_default_msg_id = 7
        [addresses]
        source = { ton = 3, npi = 0 }
        destination = { ton = 2, npi = 8, rewrite = [{ from = \"81\", to = \"0\" }] }",
    );
    for submit in submits(&message(&"a".repeat(200)), &carrier) {
        assert_eq!(submit.service_type.as_bytes(), b"CMT");
        assert_eq!((submit.priority_flag, submit.protocol_id), (2, 0x41));
        assert_eq!(submit.esm_class, EsmClass::STORE_AND_FORWARD | EsmClass::UDHI);
        assert_eq!((submit.replace_if_present_flag, submit.sm_default_msg_id), (1, 7));
        assert_eq!((submit.source.ton, submit.source.npi), (Ton(3), Npi(0)));
        assert_eq!((submit.destination.ton, submit.destination.npi), (Ton(2), Npi(8)));
        assert_eq!(submit.destination.addr.as_bytes(), b"09012345678");
    }
}

#[test]
fn the_validity_is_what_is_left_to_live_up_to_the_carriers_maximum() {
    let left = |secs| {
        let mut message = message("x");
        message.expires_at = NOW + Duration::from_millis(secs);
        message
    };
    let validity = |message: &Submission, keys: &str| {
        let submit = submit(message, &carrier(&format!("[submit]\n{keys}")));
        submit.validity_period.to_text_lossy()
    };
    assert_eq!(validity(&left(90_000), ""), "000000000130000R");
    assert_eq!(validity(&left(90_000), "max_validity = \"1m\""), "000000000100000R");
    assert_eq!(validity(&left(90_000), "validity = \"absolute\""), "261122000130000+");
    assert_eq!(validity(&left(90_000), "validity = \"none\""), "");
    assert_eq!(validity(&left(86_400_000 * 30), ""), "000003000000000R");
    assert_eq!(validity(&left(10), ""), "000000000001000R");
    let mut over = message("x");
    over.expires_at = NOW - Duration::from_secs(5);
    assert_eq!(validity(&over, ""), "000000000001000R");
}

#[test]
fn receipts_are_asked_for_as_wanted_and_as_the_carrier_gives_them() {
    let asked = |wanted, keys: &str| {
        let mut message = message(&"a".repeat(300));
        message.receipts = wanted;
        let submits = submits(&message, &carrier(keys));
        submits.iter().map(|submit| submit.registered_delivery.0).collect::<Vec<_>>()
    };
    let intermediate = "submit.intermediate = true";
    assert_eq!(asked(ReceiptsWanted::Final, ""), [1, 1]);
    assert_eq!(asked(ReceiptsWanted::All, ""), [1, 1]);
    assert_eq!(asked(ReceiptsWanted::All, intermediate), [0x11, 0x11]);
    assert_eq!(asked(ReceiptsWanted::Final, intermediate), [1, 1]);
    assert_eq!(asked(ReceiptsWanted::None, intermediate), [0, 0]);
    assert_eq!(asked(ReceiptsWanted::Final, "submit.receipts = false"), [0, 0]);
    assert_eq!(asked(ReceiptsWanted::Final, "receipts.on = \"last\""), [0, 1]);
    let carrier = carrier("submit.receipts = false");
    assert!(!carrier.asks_for_receipts(ReceiptsWanted::Final));
}

#[test]
fn sar_parameters_stand_in_for_the_header() {
    let carrier = carrier("text.long = \"sar\"\nsubmit.more_messages_to_send = true");
    let submits = submits(&message(&"a".repeat(310)), &carrier);
    assert_eq!(submits.len(), 3);
    for (index, submit) in (1..).zip(&submits) {
        assert_eq!(submit.esm_class, EsmClass::DEFAULT);
        assert_eq!(submit.tlvs.get_u8(Tag::SAR_TOTAL_SEGMENTS), Some(3));
        assert_eq!(submit.tlvs.get_u8(Tag::SAR_SEGMENT_SEQNUM), Some(index));
        assert_eq!(
            submit.tlvs.get_u16(Tag::SAR_MSG_REF_NUM),
            submits[0].tlvs.get_u16(Tag::SAR_MSG_REF_NUM)
        );
        let more = (index < 3).then_some(1);
        assert_eq!(submit.tlvs.get_u8(Tag::MORE_MESSAGES_TO_SEND), more);
    }
    let short = submit(&message("short"), &carrier);
    assert!(short.tlvs.is_empty());
}

#[test]
fn a_payload_carries_a_long_message_in_one_request() {
    let carrier = carrier("text.long = \"payload\"");
    let long = submit(&message(&"a".repeat(1_000)), &carrier);
    assert!(long.short_message.is_empty());
    assert_eq!(long.tlvs.get(Tag::MESSAGE_PAYLOAD), Some(&*b"a".repeat(1_000)));
    let short = submit(&message("short"), &carrier);
    assert_eq!(short.short_message.as_bytes(), b"short");
    assert!(short.tlvs.is_empty());
}

#[test]
fn a_data_sm_has_its_text_and_validity_in_tlvs() {
    let carrier = carrier("submit = { operation = \"data_sm\", service_type = \"CMT\" }");
    let bodies = composed(&message(&"a".repeat(200)), &carrier, &SegmentSet::first(2)).unwrap();
    assert_eq!(bodies.len(), 2);
    for (index, body) in bodies {
        let Body::DataSm(DataSm { service_type, destination, esm_class, tlvs, .. }) = body else {
            panic!("a data_sm");
        };
        assert_eq!(service_type.as_bytes(), b"CMT");
        assert_eq!(destination.addr.as_bytes(), b"819012345678");
        assert_eq!(esm_class, EsmClass::UDHI);
        let payload = tlvs.get(Tag::MESSAGE_PAYLOAD).unwrap();
        assert_eq!(payload[..6], [5, 0, 3, 0xCD, 2, index + 1]);
        assert_eq!(tlvs.get_u32(Tag::QOS_TIME_TO_LIVE), Some(600));
    }
}

#[test]
fn octets_travel_behind_the_header_that_came_with_them() {
    let mut message = message("");
    let udh = vec![6, 5, 4, 0x0B, 0x84, 0x23, 0xF0];
    message.content = Content::Binary { octets: vec![1, 2, 3].into(), udh: udh.into() };
    let submit = submit(&message, &carrier(""));
    assert_eq!(submit.short_message.as_bytes(), [6, 5, 4, 0x0B, 0x84, 0x23, 0xF0, 1, 2, 3]);
    assert_eq!((submit.esm_class, submit.data_coding.0), (EsmClass::UDHI, 4));
}

#[test]
fn a_sender_is_taken_mapped_replaced_or_refused_as_the_carrier_says() {
    let source = |from: Option<&str>, keys: &str| {
        let mut message = message("x");
        message.from = from.map(Into::into);
        let bodies = composed(&message, &carrier(keys), &SegmentSet::first(1))?;
        match &bodies[0].1 {
            Body::SubmitSm(submit) => Ok(submit.source.addr.to_text_lossy()),
            other => panic!("{other:?}"),
        }
    };
    let taken = |text: &str| Ok(text.to_owned());
    assert_eq!(source(Some("SHOP"), ""), taken("SHOP"));
    assert_eq!(source(None, ""), taken(""));
    let default = "senders.default = \"12345\"\n";
    assert_eq!(source(None, default), taken("12345"));
    assert_eq!(source(Some("SHOP"), default), taken("SHOP"));
    let map = "addresses.source.map = { SHOP = \"54321\" }\n";
    assert_eq!(source(Some("SHOP"), map), taken("54321"));
    let allowed = "senders.allowed = [\"BANK\"]\n";
    let not_allowed = Unfit::Sender(SenderError::NotAllowed);
    let refused = Err(not_allowed.clone());
    assert_eq!(source(Some("BANK"), allowed), taken("BANK"));
    assert_eq!(source(Some("SHOP"), allowed), refused);
    assert_eq!(source(Some("SHOP"), &format!("{allowed}{map}")), taken("54321"));
    let others = format!("{allowed}{default}senders.others = \"default\"\n");
    assert_eq!(source(Some("SHOP"), &others), taken("12345"));
    let pass = format!("{allowed}senders.others = \"pass\"\n");
    assert_eq!(source(Some("SHOP"), &pass), taken("SHOP"));
    assert_eq!(source(Some("SHOP"), "addresses.source.fixed = \"777\""), taken("777"));
    assert_eq!(not_allowed.reason(), Reason::InvalidSender);
    let unreadable = source(Some("東京"), "").unwrap_err();
    assert!(matches!(unreadable, Unfit::Sender(SenderError::Unreadable(_))), "{unreadable}");
}

#[test]
fn a_destination_that_is_no_number_is_told_without_it() {
    let mut message = message("x");
    message.to = "8190".into();
    let unfit = composed(&message, &carrier(""), &SegmentSet::first(1)).unwrap_err();
    assert_eq!(unfit.reason(), Reason::InvalidDestination);
    assert!(!unfit.to_string().contains("8190"), "{unfit}");
}

#[test]
fn what_a_carrier_cannot_carry_is_told_with_its_reason() {
    let long = composed(&message(&"飛".repeat(671)), &carrier(""), &SegmentSet::first(1));
    let long = long.unwrap_err();
    assert_eq!(long.reason(), Reason::TextTooLong);
    assert_eq!(long.to_string(), "the text needs 11 segments (671 units), at most 10 are allowed");
    let mut kanji = message("飛脚");
    kanji.encoding = EncodingChoice::Gsm7;
    let unfit = composed(&kanji, &carrier(""), &SegmentSet::first(1)).unwrap_err();
    assert_eq!(unfit.reason(), Reason::UnencodableText);
    let mut none = message("x");
    none.max_segments = 0;
    assert!(composed(&none, &carrier(""), &SegmentSet::first(1)).is_ok());
}

const TLVS: &str = r#"
    submit.user_message_reference = true
    [[tlvs]]
    tag = "0x1400"
    type = "c_octet"
    value = "{tag:pe_id}"
    required = true
    [[tlvs]]
    tag = "0x1401"
    type = "c_octet"
    value = "{key}/{class}/{campaign}/{{{from}}}"
    [[tlvs]]
    tag = "0x1402"
    type = "c_octet"
    value = "{client_ref}"
    [[tlvs]]
    tag = "source_port"
    type = "int2"
    value = "0x23f0"
    [[tlvs]]
    tag = "0x3177"
    type = "octets"
    value = "00ffA0"
    [[tlvs]]
    tag = "0x3178"
    type = "int8"
    value = 5
"#;

#[test]
fn tlvs_of_the_carrier_are_filled_from_the_message() {
    let tlvs = submit(&message("x"), &carrier(TLVS)).tlvs;
    let written: Vec<_> = tlvs.iter().map(|tlv| (tlv.tag.0, tlv.value.to_vec())).collect();
    let expected = [
        (0x1400, b"1101\0".to_vec()),
        (0x1401, b"shop/otp/bday/{0005123456}\0".to_vec()),
        (0x020A, vec![0x23, 0xF0]),
        (0x3177, vec![0x00, 0xFF, 0xA0]),
        (0x3178, vec![0, 0, 0, 0, 0, 0, 0, 5]),
        (0x0204, vec![0xAB, 0xCD]),
    ];
    assert_eq!(written, expected, "and {{client_ref}}, which the message lacks, is left out");
}

#[test]
fn a_required_tlv_without_its_value_makes_the_carrier_unfit() {
    let mut message = message("x");
    message.tags.clear();
    let unfit = composed(&message, &carrier(TLVS), &SegmentSet::first(1)).unwrap_err();
    assert_eq!(unfit, Unfit::Tlv(TlvError::Missing { tag: Tag(0x1400) }));
    let keys = "[[tlvs]]\ntag = \"0x1400\"\ntype = \"int1\"\nvalue = \"{tag:pe_id}\"";
    message.tags = vec!["pe_id=256".into()];
    let unfit = composed(&message, &carrier(keys), &SegmentSet::first(1)).unwrap_err();
    assert_eq!(unfit.to_string(), "TLV 0x1400: the value is not of its type int1");
    let keys = "[[tlvs]]\ntag = \"0x1400\"\ntype = \"c_octet\"\nvalue = \"{tag:pe_id}\"\nmax = 3";
    let unfit = composed(&message, &carrier(keys), &SegmentSet::first(1)).unwrap_err();
    assert_eq!(unfit.to_string(), "TLV 0x1400: the value is 4 octets, at most 3");
}

#[test]
fn a_peer_of_version_3_3_gets_no_tlv() {
    for text in ["x".to_owned(), "a".repeat(500), "飛".repeat(200)] {
        for submit in submits(&message(&text), &carrier_of(InterfaceVersion::V3_3, "")) {
            assert!(submit.tlvs.is_empty());
        }
    }
}

#[test]
fn a_query_and_a_cancel_name_the_message_as_it_was_sent() {
    let (message, carrier) = (message("x"), carrier("addresses.source.ton = 3"));
    let Some(Body::QuerySm(asked)) = query(&message, &carrier, "1f09").unwrap() else {
        panic!("a query_sm");
    };
    let submit = submit(&message, &carrier);
    assert_eq!(asked.message_id.as_bytes(), b"1f09");
    assert_eq!(asked.source, submit.source);
    let Some(Body::CancelSm(taken)) = cancel(&message, &carrier, "1f09").unwrap() else {
        panic!("a cancel_sm");
    };
    assert_eq!(taken.message_id.as_bytes(), b"1f09");
    assert!(taken.service_type.is_empty());
    assert_eq!((taken.source, taken.destination), (submit.source, submit.destination));
}

#[test]
fn without_an_id_nothing_is_cancelled_or_asked_for() {
    let (message, carrier) = (message("x"), carrier(""));
    assert_eq!(cancel(&message, &carrier, ""), Ok(None));
    assert_eq!(query(&message, &carrier, ""), Ok(None));
    assert_eq!(query(&message, &carrier, &"9".repeat(65)), Ok(None));
    assert_eq!(cancel(&message, &carrier, &"9".repeat(65)), Ok(None));
}

fn long() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["udh8", "udh16", "sar", "sar16", "payload"])
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,700}", "[ぁ-ん]{0,300}", "\\PC{0,200}", "[a-z]{0,80}[😀-😆]{0,80}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_read_back_as_it_was_and_fits_the_oldest_peer(
        text in text(),
        long in long(),
        operation in prop::sample::select(vec!["submit_sm", "data_sm"]),
        reference: u16,
    ) {
        let keys = format!("text.long = \"{long}\"\nsubmit.operation = \"{operation}\"");
        let (carrier, message) = (carrier(&keys), message(&text));
        let plan = plan(&message.content, EncodingChoice::Auto, 255, &carrier);
        prop_assume!(plan.is_ok());
        let plan = plan.unwrap();
        let all = SegmentSet::first(255);
        let bodies = compose(NOW, &message, &carrier, &plan, reference, &all).unwrap();
        prop_assert_eq!(bodies.len(), usize::from(plan.segments));
        for (sequence_number, (_, body)) in (1..).zip(bodies) {
            let octets = match &body {
                Body::SubmitSm(submit) => submit.short_message.len(),
                _ => 0,
            };
            prop_assert!(octets <= 254);
            if let Body::SubmitSm(SubmitSm { validity_period, .. }) = &body {
                prop_assert!(SmppTime::parse(validity_period.as_bytes()).is_ok());
            }
            let pdu = Pdu { command_status: CommandStatus::ESME_ROK, sequence_number, body };
            let mut octets = BytesMut::new();
            hikyaku::pdu::encode(&pdu, &mut octets).unwrap();
            prop_assert_eq!(hikyaku::pdu::decode(octets.freeze()).unwrap(), pdu);
        }
    }
}
