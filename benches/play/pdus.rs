//! The PDUs that the benches read and write.

use hikyaku::pdu::Address;
use hikyaku::pdu::Body;
use hikyaku::pdu::COctetString;
use hikyaku::pdu::CommandStatus;
use hikyaku::pdu::DataCoding;
use hikyaku::pdu::DeliverSm;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::Npi;
use hikyaku::pdu::Pdu;
use hikyaku::pdu::RegisteredDelivery;
use hikyaku::pdu::ShortMessage;
use hikyaku::pdu::SubmitSm;
use hikyaku::pdu::SubmitSmResp;
use hikyaku::pdu::Tag;
use hikyaku::pdu::Tlvs;
use hikyaku::pdu::Ton;

pub(crate) fn submit_sm(text: &[u8]) -> Pdu {
    let mut tlvs = Tlvs::new();
    tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 7);
    let body = Body::SubmitSm(SubmitSm {
        source: Address::new(Ton::ALPHANUMERIC, Npi::UNKNOWN, "MyBrand").unwrap(),
        destination: Address::new(Ton::INTERNATIONAL, Npi::ISDN, "819012345678").unwrap(),
        validity_period: COctetString::from_static(b"000001000000000R"),
        registered_delivery: RegisteredDelivery::ANY_OUTCOME,
        data_coding: DataCoding::UCS2,
        short_message: ShortMessage::new(text.to_vec()).unwrap(),
        tlvs,
        ..SubmitSm::default()
    });
    Pdu::request(1, body)
}

pub(crate) fn submit_sm_resp() -> Pdu {
    let message_id = Some(COctetString::from_static(b"3f2a6c1e-5b7d"));
    let body = Body::SubmitSmResp(SubmitSmResp { message_id, tlvs: Tlvs::new() });
    Pdu::response(1, CommandStatus::ESME_ROK, body)
}

pub(crate) fn receipt() -> Pdu {
    let text = b"id:3f2a6c1e sub:001 dlvrd:001 submit date:2611211204 done date:2611211205 \
                 stat:DELIVRD err:000 text:Your code is";
    let mut tlvs = Tlvs::new();
    tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, b"3f2a6c1e").unwrap();
    tlvs.push_u8(Tag::MESSAGE_STATE, 2);
    let body = Body::DeliverSm(DeliverSm {
        source: Address::new(Ton::INTERNATIONAL, Npi::ISDN, "819012345678").unwrap(),
        destination: Address::new(Ton::UNKNOWN, Npi::UNKNOWN, "20011").unwrap(),
        esm_class: EsmClass::MC_DELIVERY_RECEIPT,
        short_message: ShortMessage::new(&text[..]).unwrap(),
        tlvs,
        ..DeliverSm::default()
    });
    Pdu::request(1, body)
}
