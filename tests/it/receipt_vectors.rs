//! The vectors of receipts and of their ids.

use hikyaku::pdu::DataCoding;
use hikyaku::pdu::EsmClass;
use hikyaku::pdu::Tag;
use hikyaku::pdu::Tlvs;
use hikyaku::receipt::DeliverFields;
use hikyaku::receipt::IdIndex;
use hikyaku::receipt::IdMode;
use hikyaku::receipt::Match;
use hikyaku::receipt::Reading;
use hikyaku::receipt::Receipt;
use hikyaku::receipt::ReceiptDate;
use hikyaku::receipt::ReceiptIds;
use hikyaku::receipt::ReceiptOptions;
use hikyaku::receipt::ReceiptState;
use hikyaku::receipt::read;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::vectors;

#[test]
fn receipts_are_read_as_the_vectors_say() {
    let mut wrong = Vec::new();
    for vector in vectors::load("receipts.jsonl") {
        let found = outcome(&reading(&vector["deliver"]));
        let expected = vector["expect"].as_object().unwrap();
        let faults = faults(&found, expected);
        if !faults.is_empty() {
            wrong.push(format!("{} ({}): {}", vector["id"], vector["why"], faults.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{} vectors:\n{}", wrong.len(), wrong.join("\n"));
}

fn reading(deliver: &Value) -> Reading {
    let mut tlvs = Tlvs::new();
    for tlv in deliver["tlvs"].as_array().unwrap() {
        let tag = Tag(u16::try_from(tlv["tag"].as_u64().unwrap()).unwrap());
        tlvs.push(tag, &vectors::octets(tlv["hex"].as_str().unwrap())).unwrap();
    }
    let octet = |name: &str| u8::try_from(deliver[name].as_u64().unwrap()).unwrap();
    let fields = DeliverFields {
        esm_class: EsmClass(octet("esm_class")),
        data_coding: DataCoding(octet("data_coding")),
        short_message: &vectors::octets(deliver["short_message_hex"].as_str().unwrap()),
        tlvs: &tlvs,
    };
    read(&fields, &ReceiptOptions::default())
}

fn outcome(reading: &Reading) -> Value {
    match reading {
        Reading::NotReceipt => json!({ "is_receipt": false }),
        Reading::Unparsed(_) => json!({ "is_receipt": true, "unparsed": true, "final": false }),
        Reading::Receipt(receipt) => fields(receipt),
    }
}

fn fields(receipt: &Receipt) -> Value {
    let date = |date: Option<ReceiptDate>| date.map(|date| date.local.to_string());
    let text = receipt.text.as_ref();
    let dates = [receipt.submit_date, receipt.done_date];
    json!({
        "is_receipt": true,
        "message_id": receipt.message_id,
        "text_id": receipt.text_id,
        "state": receipt.state.map(ReceiptState::as_str),
        "final": receipt.is_final,
        "err": receipt.err,
        "sub": receipt.sub,
        "dlvrd": receipt.dlvrd,
        "submit_date": date(receipt.submit_date),
        "done_date": date(receipt.done_date),
        "offset_quarters": dates.iter().flatten().find_map(|date| date.offset_quarters),
        "raw_stat": receipt.raw_stat,
        "text": text.and_then(|text| std::str::from_utf8(text.as_bytes()).ok()),
        "text_hex": text.map(|text| vectors::hex(text.as_bytes())),
        "network_error": receipt
            .network_error
            .map(|error| json!({ "type": error.network, "code": error.code })),
    })
}

/// The fields that are not as expected. What a vector does not name may be anything.
fn faults(found: &Value, expected: &Map<String, Value>) -> Vec<String> {
    let dates_optional = expected.get("dates_optional").is_some();
    let mut faults = Vec::new();
    for (name, value) in expected {
        let others = || expected.get("text_alt").and_then(Value::as_array);
        let right = match name.as_str() {
            "text_alt" | "dates_optional" => true,
            "submit_date" | "done_date" if dates_optional => {
                found[name] == *value || found[name].is_null()
            }
            "text" if expected.contains_key("text_hex") => true,
            "text" => {
                found[name] == *value || others().is_some_and(|them| them.contains(&found[name]))
            }
            _ => found[name] == *value,
        };
        if !right {
            faults.push(format!("{name} is {} instead of {value}", found[name]));
        }
    }
    faults
}

#[test]
fn ids_match_as_the_vectors_say() {
    let mut wrong = Vec::new();
    for vector in vectors::load("idmatch.jsonl") {
        let mode: IdMode = serde_json::from_value(vector["mode"].clone()).unwrap();
        let mut index = IdIndex::new();
        for (at, id) in vector["pending"].as_array().unwrap().iter().enumerate() {
            index.insert(id.as_str().unwrap(), at);
        }
        let id = |name: &str| vector["receipt"][name].as_str();
        let ids = ReceiptIds { first: id("tlv_id"), second: id("text_id") };
        let (found, ambiguous) = match index.lookup(mode, ids) {
            Match::None => (None, false),
            Match::One(at, _) => (Some(at), false),
            Match::Ambiguous(_) => (None, true),
        };
        let found = json!({ "match": found, "ambiguous": ambiguous });
        if found != vector["expect"] {
            wrong.push(format!("{} ({}): {found}", vector["id"], vector["why"]));
        }
    }
    assert!(wrong.is_empty(), "{} vectors:\n{}", wrong.len(), wrong.join("\n"));
}
