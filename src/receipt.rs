//! A `deliver_sm` read as a delivery receipt, and the forms of its id.
//!
//! [`read`] tells receipts from messages of handsets and takes apart every form of them that
//! carriers send (SMPP 3.4 appendix B, and what came of it). [`IdIndex`] finds the segment that a
//! receipt is about, in whichever form the carrier repeats its id.

mod date;
mod fields;
mod ids;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::message::Reason;
use crate::message::ReceiptRecord;
use crate::pdu::DataCoding;
use crate::pdu::DataSm;
use crate::pdu::DeliverSm;
use crate::pdu::EsmClass;
use crate::pdu::MessageState;
use crate::pdu::Tag;
use crate::pdu::Tlvs;
use crate::text::Udh;

pub use self::date::ReceiptDate;
pub use self::ids::EarlyIndex;
pub use self::ids::IdIndex;
pub use self::ids::IdMode;
pub use self::ids::Match;
pub use self::ids::ReceiptIds;

use self::fields::Fields;

/// How one carrier writes receipts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiptOptions {
    /// Whether a message that only looks like a receipt is one. A handset can write such a
    /// message: leave it off unless the carrier sets neither `esm_class` nor the parameters.
    pub receipt_by_text: bool,
    /// How the ids of receipts differ from those of answers.
    pub id_mode: IdMode,
    /// What the carrier's own words after `stat:` mean, in any case.
    pub states: BTreeMap<String, ReceiptState>,
    /// What the carrier's error codes mean: the word after `err:`, or `type:code` of a
    /// `network_error_code`.
    pub errors: BTreeMap<String, Reason>,
    /// Whether ACCEPTED ends a message; else a later receipt is waited for.
    pub accepted_is_final: bool,
    /// Whether UNKNOWN ends a message; else a later receipt is waited for.
    pub unknown_is_final: bool,
}

/// What a receipt says of a message (SMPP 5.0 §4.7.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptState {
    /// Not sent yet.
    Scheduled,
    /// On its way.
    Enroute,
    /// The handset has it.
    Delivered,
    /// The carrier's validity period ran out.
    Expired,
    /// The carrier deleted it.
    Deleted,
    /// The carrier could not deliver it.
    Undeliverable,
    /// Taken; mostly DELIVERED follows.
    Accepted,
    /// The carrier does not know, or says what nobody knows.
    Unknown,
    /// The carrier rejected it.
    Rejected,
    /// The carrier skipped it.
    Skipped,
}

impl ReceiptState {
    /// The word of the specification for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::Enroute => "ENROUTE",
            Self::Delivered => "DELIVERED",
            Self::Expired => "EXPIRED",
            Self::Deleted => "DELETED",
            Self::Undeliverable => "UNDELIVERABLE",
            Self::Accepted => "ACCEPTED",
            Self::Unknown => "UNKNOWN",
            Self::Rejected => "REJECTED",
            Self::Skipped => "SKIPPED",
        }
    }

    /// Whether nothing more is to be heard of a message in this state at most carriers.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Delivered
            | Self::Expired
            | Self::Deleted
            | Self::Undeliverable
            | Self::Rejected
            | Self::Skipped => true,
            Self::Scheduled | Self::Enroute | Self::Accepted | Self::Unknown => false,
        }
    }

    /// Why a message in this state did not arrive; `None` when it may still, or has.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Expired => Some(Reason::CarrierExpired),
            Self::Deleted => Some(Reason::Deleted),
            Self::Undeliverable => Some(Reason::Undeliverable),
            Self::Rejected => Some(Reason::CarrierRejected),
            Self::Skipped => Some(Reason::Skipped),
            Self::Unknown => Some(Reason::CarrierUnknown),
            Self::Delivered | Self::Accepted | Self::Enroute | Self::Scheduled => None,
        }
    }

    /// The state that a word after `stat:` stands for, by its beginning and in any case.
    ///
    /// [`ReceiptState::Unknown`] for a word that nobody knows: no final state is made up.
    pub fn from_word(word: &str) -> Self {
        const BEGINNINGS: [(&str, ReceiptState); 13] = [
            ("DELIV", ReceiptState::Delivered),
            ("EXPIR", ReceiptState::Expired),
            ("DELET", ReceiptState::Deleted),
            ("UNDEL", ReceiptState::Undeliverable),
            ("FAILED", ReceiptState::Undeliverable),
            ("ACCEPT", ReceiptState::Accepted),
            ("UNKNOWN", ReceiptState::Unknown),
            ("REJECT", ReceiptState::Rejected),
            ("ENROUTE", ReceiptState::Enroute),
            ("BUFF", ReceiptState::Enroute),
            ("ACKED", ReceiptState::Enroute),
            ("SCHED", ReceiptState::Scheduled),
            ("SKIPPED", ReceiptState::Skipped),
        ];
        let word = word.to_ascii_uppercase();
        let known = BEGINNINGS.iter().find(|(beginning, _)| word.starts_with(beginning));
        known.map_or(Self::Unknown, |(_, state)| *state)
    }
}

impl From<MessageState> for ReceiptState {
    fn from(state: MessageState) -> Self {
        match state {
            MessageState::SCHEDULED => Self::Scheduled,
            MessageState::ENROUTE => Self::Enroute,
            MessageState::DELIVERED => Self::Delivered,
            MessageState::EXPIRED => Self::Expired,
            MessageState::DELETED => Self::Deleted,
            MessageState::UNDELIVERABLE => Self::Undeliverable,
            MessageState::ACCEPTED => Self::Accepted,
            MessageState::REJECTED => Self::Rejected,
            MessageState::SKIPPED => Self::Skipped,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ReceiptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The fields of a `deliver_sm` or `data_sm` that make it a receipt.
#[derive(Clone, Copy, Debug)]
pub struct DeliverFields<'a> {
    /// Its `esm_class`.
    pub esm_class: EsmClass,
    /// Its `data_coding`.
    pub data_coding: DataCoding,
    /// Its `short_message`; empty for a `data_sm`.
    pub short_message: &'a [u8],
    /// Its TLVs.
    pub tlvs: &'a Tlvs,
}

impl<'a> From<&'a DeliverSm> for DeliverFields<'a> {
    fn from(pdu: &'a DeliverSm) -> Self {
        Self {
            esm_class: pdu.esm_class,
            data_coding: pdu.data_coding,
            short_message: pdu.short_message.as_bytes(),
            tlvs: &pdu.tlvs,
        }
    }
}

impl<'a> From<&'a DataSm> for DeliverFields<'a> {
    fn from(pdu: &'a DataSm) -> Self {
        let (esm_class, data_coding) = (pdu.esm_class, pdu.data_coding);
        Self { esm_class, data_coding, short_message: &[], tlvs: &pdu.tlvs }
    }
}

/// What a `deliver_sm` or `data_sm` turned out to be.
#[derive(Clone, PartialEq, Eq)]
pub enum Reading {
    /// A message from a handset, or an acknowledgement by one.
    NotReceipt,
    /// A receipt.
    Receipt(Box<Receipt>),
    /// A receipt that says neither what it is about nor how that went; never a message from a
    /// handset. What it says instead, if anything, for people.
    Unparsed(Box<str>),
}

impl fmt::Debug for Reading {
    /// Without the text of what could not be read: it may be the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReceipt => f.write_str("NotReceipt"),
            Self::Receipt(receipt) => receipt.fmt(f),
            Self::Unparsed(text) => write!(f, "Unparsed({} octets)", text.len()),
        }
    }
}

/// A delivery receipt, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The carrier's id of the message: from the TLV, else from the text.
    pub message_id: Option<Box<str>>,
    /// The id from the text where the TLV has another one: the second to look for.
    pub text_id: Option<Box<str>>,
    /// How the message stands; `None` when the receipt does not say.
    pub state: Option<ReceiptState>,
    /// Whether the state ends the message at this carrier.
    pub is_final: bool,
    /// The word after `stat:`, as it came.
    pub raw_stat: Option<Box<str>>,
    /// The word after `err:`, as it came.
    pub err: Option<Box<str>>,
    /// The number of messages submitted.
    pub sub: Option<u32>,
    /// The number of messages delivered.
    pub dlvrd: Option<u32>,
    /// When the message was submitted, by the SMSC's clock.
    pub submit_date: Option<ReceiptDate>,
    /// When it reached its state, by the SMSC's clock.
    pub done_date: Option<ReceiptDate>,
    /// The beginning of the message, if the receipt repeats it.
    pub text: Option<MessageText>,
    /// The `network_error_code`.
    pub network_error: Option<NetworkError>,
    /// Whether it is an intermediate notification by its `esm_class`.
    pub is_intermediate: bool,
    /// The receipt up to its `text:`, for the timeline: nothing of the message is in it.
    pub raw: Box<str>,
}

/// The octets of a message that a receipt repeats; UTF-8 when it came in UCS-2.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageText(Box<[u8]>);

impl MessageText {
    /// The octets, in whatever charset, maybe cut in the middle of a character.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for MessageText {
    /// The length only: message text is in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} octets>", self.0.len())
    }
}

/// A `network_error_code` (SMPP 3.4 §5.3.2.31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkError {
    /// Which network's codes it is of: 1 ANSI-136, 2 IS-95, 3 GSM, 8 the message centre's own.
    pub network: u8,
    /// The code.
    pub code: u16,
}

impl NetworkError {
    const GSM: u8 = 3;
    const GSM_ABSENT_SUBSCRIBER: u16 = 27;

    /// What a standard code means.
    const fn reason(self) -> Option<Reason> {
        match (self.network, self.code) {
            (Self::GSM, Self::GSM_ABSENT_SUBSCRIBER) => Some(Reason::AbsentSubscriber),
            _ => None,
        }
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.network, self.code)
    }
}

/// Reads a `deliver_sm` or `data_sm`.
pub fn read(deliver: &DeliverFields<'_>, options: &ReceiptOptions) -> Reading {
    let kind = Kind::of(deliver);
    if kind == Kind::Message && !options.receipt_by_text {
        return Reading::NotReceipt;
    }
    let octets = fields::characters(body(deliver), deliver.data_coding);
    let fields = Fields::read(&octets);
    if kind == Kind::Message && (fields.id.is_none() || fields.stat.is_none()) {
        return Reading::NotReceipt;
    }
    let receipt = receipt(deliver.tlvs, &fields, kind, options);
    if receipt.message_id.is_none() && receipt.state.is_none() {
        return Reading::Unparsed(fields::string(&octets));
    }
    Reading::Receipt(Box::new(receipt))
}

/// What the header fields say it is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Message,
    Receipt,
    Intermediate,
}

impl Kind {
    /// By `esm_class` (SMPP 3.4 §5.2.12), or by the TLVs where that says nothing.
    fn of(deliver: &DeliverFields<'_>) -> Self {
        const RECEIPT: u8 = 0x04;
        const BY_HANDSET: u8 = 0x08 | 0x10;
        const INTERMEDIATE: u8 = 0x20;
        let by_tlvs = || tlv_id(deliver.tlvs).is_some() && tlv_state(deliver.tlvs).is_some();
        match deliver.esm_class.message_type() {
            0 if by_tlvs() => Self::Receipt,
            bits if bits & BY_HANDSET != 0 => Self::Message,
            bits if bits & RECEIPT != 0 => Self::Receipt,
            bits if bits & INTERMEDIATE != 0 => Self::Intermediate,
            _ => Self::Message,
        }
    }
}

/// The octets behind the header of the message, or of its `message_payload`.
fn body<'a>(deliver: &DeliverFields<'a>) -> &'a [u8] {
    let octets = match deliver.short_message {
        [] => deliver.tlvs.get(Tag::MESSAGE_PAYLOAD).unwrap_or_default(),
        octets => octets,
    };
    Udh::split(deliver.esm_class.udhi(), octets).1
}

/// The id TLV, however long, up to its first NUL.
fn tlv_id(tlvs: &Tlvs) -> Option<Box<str>> {
    let tlv = tlvs.iter().find(|tlv| tlv.tag == Tag::RECEIPTED_MESSAGE_ID)?;
    let id = tlv.value.split(|&octet| octet == 0).next().unwrap_or_default().trim_ascii();
    (!id.is_empty()).then(|| fields::string(id))
}

fn tlv_state(tlvs: &Tlvs) -> Option<ReceiptState> {
    tlvs.get_u8(Tag::MESSAGE_STATE).map(|state| MessageState(state).into())
}

fn tlv_error(tlvs: &Tlvs) -> Option<NetworkError> {
    match *tlvs.get(Tag::NETWORK_ERROR_CODE)? {
        [network, high, low] => {
            Some(NetworkError { network, code: u16::from_be_bytes([high, low]) })
        }
        _ => None,
    }
}

fn receipt(tlvs: &Tlvs, fields: &Fields<'_>, kind: Kind, options: &ReceiptOptions) -> Receipt {
    let (tlv_id, text_id) = (tlv_id(tlvs), fields.id.map(fields::string));
    let raw_stat = fields.stat.map(fields::string);
    let state = tlv_state(tlvs).or_else(|| raw_stat.as_deref().map(|word| options.state(word)));
    Receipt {
        text_id: text_id.clone().filter(|id| tlv_id.as_ref().is_some_and(|tlv| tlv != id)),
        message_id: tlv_id.or(text_id),
        state,
        is_final: state.is_some_and(|state| options.is_final(state)),
        raw_stat,
        err: fields.err.map(fields::string),
        sub: fields.sub.and_then(fields::number),
        dlvrd: fields.dlvrd.and_then(fields::number),
        submit_date: fields.submit_date.and_then(ReceiptDate::parse),
        done_date: fields.done_date.and_then(ReceiptDate::parse),
        text: fields.text.map(|text| MessageText(text.into())),
        network_error: tlv_error(tlvs),
        is_intermediate: kind == Kind::Intermediate,
        raw: fields::string(fields.before_text),
    }
}

impl ReceiptOptions {
    /// What a word after `stat:` means at this carrier.
    fn state(&self, word: &str) -> ReceiptState {
        let own = self.states.iter().find(|(own, _)| own.eq_ignore_ascii_case(word));
        own.map_or_else(|| ReceiptState::from_word(word), |(_, state)| *state)
    }

    /// Whether `state` ends a message at this carrier.
    pub const fn is_final(&self, state: ReceiptState) -> bool {
        match state {
            ReceiptState::Accepted => self.accepted_is_final,
            ReceiptState::Unknown => self.unknown_is_final,
            state => state.is_final(),
        }
    }
}

impl Receipt {
    /// The ids to look for, in their order.
    pub fn ids(&self) -> ReceiptIds<'_> {
        ReceiptIds { first: self.message_id.as_deref(), second: self.text_id.as_deref() }
    }

    /// The carrier's error code as people read it: the word after `err:`, else `type:code`.
    pub fn error(&self) -> Option<Cow<'_, str>> {
        let network = || self.network_error.map(|error| Cow::Owned(error.to_string()));
        self.err.as_deref().map(Cow::Borrowed).or_else(network)
    }

    /// Why a message did not arrive: what the carrier's config says of the error code, else what
    /// a standard code means, else what the state says. `None` when it may still arrive, or has.
    pub fn reason(&self, options: &ReceiptOptions) -> Option<Reason> {
        let by_state = self.state?.reason()?;
        let word = self.err.as_deref().and_then(|err| options.errors.get(err));
        let network = self.network_error;
        let code = network.and_then(|error| options.errors.get(&error.to_string()));
        let standard = network.and_then(NetworkError::reason);
        Some(word.or(code).copied().or(standard).unwrap_or(by_state))
    }

    /// The receipt as it is kept, about the number `source`.
    pub fn to_record(&self, source: &str) -> ReceiptRecord {
        ReceiptRecord {
            carrier_message_id: self.message_id.clone().unwrap_or_default(),
            text_id: self.text_id.clone().unwrap_or_default(),
            source: source.into(),
            state: self.state.map_or("", ReceiptState::as_str).into(),
            is_final: self.is_final,
            error: self.error().unwrap_or_default().into(),
            raw: self.raw.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECEIPT: u8 = 0x04;

    fn deliver<'a>(esm_class: u8, text: &'a [u8], tlvs: &'a Tlvs) -> DeliverFields<'a> {
        let (esm_class, data_coding) = (EsmClass(esm_class), DataCoding(0));
        DeliverFields { esm_class, data_coding, short_message: text, tlvs }
    }

    fn parse(text: &str, options: &ReceiptOptions) -> Receipt {
        match read(&deliver(RECEIPT, text.as_bytes(), &Tlvs::new()), options) {
            Reading::Receipt(receipt) => *receipt,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_handset_cannot_write_a_receipt_unless_the_carrier_leaves_no_choice() {
        let (text, tlvs) = (b"id:1 stat:DELIVRD", Tlvs::new());
        let by_text = ReceiptOptions { receipt_by_text: true, ..ReceiptOptions::default() };
        let message = deliver(0, text, &tlvs);
        assert_eq!(read(&message, &ReceiptOptions::default()), Reading::NotReceipt);
        assert!(matches!(read(&message, &by_text), Reading::Receipt(_)));
        for other in [&b"hello id:1"[..], b"stat:DELIVRD", b""] {
            assert_eq!(read(&deliver(0, other, &tlvs), &by_text), Reading::NotReceipt);
        }
    }

    #[test]
    fn an_acknowledgement_by_a_handset_is_no_receipt() {
        for esm_class in [0x08, 0x10, 0x18, 0x0C] {
            let tlvs = Tlvs::new();
            let acknowledgement = deliver(esm_class, b"id:1 stat:DELIVRD", &tlvs);
            assert_eq!(read(&acknowledgement, &ReceiptOptions::default()), Reading::NotReceipt);
        }
    }

    #[test]
    fn a_receipt_is_read_from_a_payload_behind_a_header() {
        let mut tlvs = Tlvs::new();
        tlvs.push(Tag::MESSAGE_PAYLOAD, b"\x05\x00\x03\x01\x01\x01id:1 stat:EXPIRED").unwrap();
        let pdu = DataSm { esm_class: EsmClass(0x44), tlvs, ..DataSm::default() };
        match read(&DeliverFields::from(&pdu), &ReceiptOptions::default()) {
            Reading::Receipt(receipt) => {
                assert_eq!(receipt.message_id.as_deref(), Some("1"));
                assert_eq!(receipt.state, Some(ReceiptState::Expired));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_id_is_never_cut() {
        let id = "7".repeat(100);
        let mut tlvs = Tlvs::new();
        tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, id.as_bytes()).unwrap();
        tlvs.push_u8(Tag::MESSAGE_STATE, 2);
        match read(&deliver(0, b"", &tlvs), &ReceiptOptions::default()) {
            Reading::Receipt(receipt) => assert_eq!(receipt.message_id.as_deref(), Some(&*id)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_carriers_own_words_and_codes_are_taken_from_its_config() {
        let options: ReceiptOptions = toml::from_str(
            r#"
            id_mode = "hex_dec"
            unknown_is_final = true
            [states]
            "0" = "delivered"
            gone = "undeliverable"
            [errors]
            "027" = "absent_subscriber"
            "3:1" = "invalid_destination"
            "#,
        )
        .unwrap();
        assert_eq!(options.id_mode, IdMode::HexDec);
        let delivered = parse("id:1 stat:0 err:000", &options);
        assert_eq!((delivered.state, delivered.is_final), (Some(ReceiptState::Delivered), true));
        assert_eq!(delivered.reason(&options), None);
        let absent = parse("id:1 stat:GONE err:027", &options);
        assert_eq!(absent.reason(&options), Some(Reason::AbsentSubscriber));
        assert_eq!(absent.error().as_deref(), Some("027"));
        let unknown = parse("id:1 stat:UNKNOWN", &options);
        assert!(unknown.is_final && !parse("id:1 stat:ACCEPTD", &options).is_final);
        assert_eq!(unknown.reason(&options), Some(Reason::CarrierUnknown));
        assert!(toml::from_str::<ReceiptOptions>("[states]\nX = \"happy\"").is_err());
        assert!(toml::from_str::<ReceiptOptions>("stray = 1").is_err());
    }

    #[test]
    fn a_network_error_gives_the_reason_where_no_word_does() {
        let reason = |error: &[u8]| {
            let mut tlvs = Tlvs::new();
            tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, b"1").unwrap();
            tlvs.push_u8(Tag::MESSAGE_STATE, 5);
            tlvs.push(Tag::NETWORK_ERROR_CODE, error).unwrap();
            let errors = [("3:1".to_owned(), Reason::InvalidDestination)].into();
            let options = ReceiptOptions { errors, ..ReceiptOptions::default() };
            match read(&deliver(RECEIPT, b"", &tlvs), &options) {
                Reading::Receipt(receipt) => {
                    (receipt.reason(&options), receipt.error().unwrap_or_default().into_owned())
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason(&[3, 0, 27]), (Some(Reason::AbsentSubscriber), "3:27".to_owned()));
        assert_eq!(reason(&[3, 0, 1]), (Some(Reason::InvalidDestination), "3:1".to_owned()));
        assert_eq!(reason(&[8, 1, 0]), (Some(Reason::Undeliverable), "8:256".to_owned()));
    }

    #[test]
    fn what_is_kept_holds_nothing_of_the_message() {
        let receipt = parse("id:1 stat:DELIVRD text:a secret", &ReceiptOptions::default());
        let record = receipt.to_record("819012345678");
        assert_eq!((&*record.raw, &*record.state), ("id:1 stat:DELIVRD ", "DELIVERED"));
        assert_eq!((&*record.carrier_message_id, &*record.text_id), ("1", ""));
        assert!(!format!("{receipt:?}").contains("secret"));
        let mut tlvs = Tlvs::new();
        tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, b"1").unwrap();
        tlvs.push_u8(Tag::MESSAGE_STATE, 2);
        match read(&deliver(RECEIPT, b"a secret", &tlvs), &ReceiptOptions::default()) {
            Reading::Receipt(receipt) => assert_eq!(&*receipt.raw, ""),
            other => panic!("{other:?}"),
        }
        let unparsed =
            read(&deliver(RECEIPT, b"a secret", &Tlvs::new()), &ReceiptOptions::default());
        assert_eq!(unparsed, Reading::Unparsed("a secret".into()));
        assert!(!format!("{unparsed:?}").contains("secret"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn anything_is_read(
            esm_class: u8,
            data_coding: u8,
            octets in prop::collection::vec(any::<u8>(), 0..300),
            text in "((id|sub|dlvrd|submit date|done date|stat|err|text):[ -~]{0,12}[ ,;\n]?){0,9}",
        ) {
            let options = ReceiptOptions { receipt_by_text: true, ..ReceiptOptions::default() };
            for short_message in [&octets[..], text.as_bytes()] {
                let deliver = DeliverFields {
                    esm_class: EsmClass(esm_class),
                    data_coding: DataCoding(data_coding),
                    short_message,
                    tlvs: &Tlvs::new(),
                };
                if let Reading::Receipt(receipt) = read(&deliver, &options) {
                    prop_assert!(receipt.message_id.is_some() || receipt.state.is_some());
                    prop_assert_eq!(
                        receipt.is_final,
                        receipt.state.is_some_and(ReceiptState::is_final)
                    );
                }
            }
        }
    }
}
