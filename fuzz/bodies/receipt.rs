//! The body of the fuzz target `receipt`.

use hikyaku::pdu::DataCoding;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::Tag;
use hikyaku::pdu::Tlvs;
use hikyaku::receipt;
use hikyaku::receipt::DeliverFields;
use hikyaku::receipt::ReceiptOptions;

/// A receipt reads the same twice, and what is kept of it never holds its text.
pub(crate) fn run(octets: &[u8]) {
    let Some((head, rest)) = octets.split_first_chunk::<3>() else { return };
    let (text, tlv) = rest.split_at(rest.len().min(usize::from(head[2])));
    let mut tlvs = Tlvs::default();
    // What does not fit a TLV is no case to try.
    let _too_long = tlvs.push(Tag::RECEIPTED_MESSAGE_ID, tlv);
    let fields = DeliverFields {
        esm_class: EsmClass(head[0]),
        data_coding: DataCoding(head[1]),
        short_message: text,
        tlvs: &tlvs,
    };
    let options = ReceiptOptions::default();
    let reading = receipt::read(&fields, &options);
    assert_eq!(reading, receipt::read(&fields, &options));
    if let receipt::Reading::Receipt(receipt) = reading {
        let _record = receipt.to_record("819012345678");
    }
}
