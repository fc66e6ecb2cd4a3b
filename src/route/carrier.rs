//! What is known of a carrier apart from its connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::Fault;
use super::names::CarrierId;
use super::status;
use super::status::StatusClass;
use super::status::StatusConfig;
use super::status::StatusName;
use super::status::Verdict;
use super::tlv::CustomTlv;
use super::tlv::TlvConfig;
use crate::message::ReceiptsWanted;
use crate::pdu::Address;
use crate::pdu::CommandStatus;
use crate::pdu::InterfaceVersion;
use crate::receipt::ReceiptOptions;
use crate::text::Profile;
use crate::text::Transport;
use crate::text::address::AddressError;
use crate::text::address::AddressForms;
use crate::text::address::Sender;
use crate::time::Rate;
use crate::time::Span;

/// How one carrier is sent to, as its table in the config says; the keys of its connections stand
/// beside these.
///
/// ```toml
/// [carriers.docomo]
/// rate = "50/s"
///
/// [carriers.docomo.text]
/// long = "udh16"
///
/// [carriers.docomo.addresses.source]
/// map = { SHOP = "0005123457" }
///
/// [carriers.docomo.senders]
/// default = "0005123456"
///
/// [carriers.docomo.submit]
/// validity = "absolute"
/// max_validity = "72h"
///
/// [carriers.docomo.receipts]
/// timeout = "73h"
/// form = { id_mode = "hex_dec", errors = { "001" = "absent_subscriber" } }
///
/// [carriers.docomo.status]
/// ESME_RINVDSTADR = "fallback"
///
/// [[carriers.docomo.tlvs]]
/// tag = "0x1400"
/// type = "c_octet"
/// value = "{tag:pe_id}"
/// required = true
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CarrierConfig {
    /// The most segments over all its binds.
    pub rate: Rate,
    /// The most segments over one bind, where the contract says so.
    pub rate_per_bind: Option<Rate>,
    /// What texts it can carry, and how.
    #[serde(default)]
    pub text: Profile,
    /// How it wants numbers and names written.
    #[serde(default)]
    pub addresses: AddressForms,
    /// Its senders.
    #[serde(default)]
    pub senders: SendersConfig,
    /// The fields of `submit_sm` besides addresses and text.
    #[serde(default)]
    pub submit: SubmitConfig,
    /// Its receipts.
    #[serde(default)]
    pub receipts: ReceiptsConfig,
    /// What it means by a `command_status`, where that is not what everybody means.
    #[serde(default)]
    pub status: BTreeMap<StatusName, StatusConfig>,
    /// TLVs that go with every submit.
    #[serde(default)]
    pub tlvs: Vec<TlvConfig>,
    /// Whether TLVs are sent at all.
    #[serde(default)]
    pub send_tlvs: SendTlvs,
    /// Whether it answers `query_sm` with the truth.
    #[serde(default)]
    pub query_sm: bool,
    /// Whether `cancel_sm` takes a message back.
    #[serde(default)]
    pub cancel_sm: bool,
    /// Whether a message of unknown outcome may be sent to it again; the handset may get it twice.
    #[serde(default)]
    pub resend_unknown: bool,
}

/// Which senders a carrier takes. What it has registered in place of others stands in
/// `addresses.source`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SendersConfig {
    /// For messages that name none; without it the SMSC puts in its own.
    pub default: Option<Sender>,
    /// Those that it takes as they are.
    pub allowed: Vec<Sender>,
    /// What becomes of a sender that is neither allowed nor mapped; `refuse` when `allowed` has
    /// entries, else `pass`.
    pub others: Option<OtherSenders>,
}

/// What becomes of a sender that a carrier does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherSenders {
    /// It is sent as it is.
    Pass,
    /// The default sender is sent in its place.
    Default,
    /// The carrier does not get the message.
    Refuse,
}

/// Why a carrier has no sender for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// It is no sender.
    #[error("the sender cannot be read: {0}")]
    Unreadable(AddressError),
    /// The carrier does not take it.
    #[error("the carrier does not take the sender")]
    NotAllowed,
}

/// The fields of `submit_sm` besides addresses and text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SubmitConfig {
    /// Which PDU carries a message.
    pub operation: Operation,
    /// `service_type`, at most 5 characters.
    pub service_type: String,
    /// `priority_flag`, 0 to 3 (0 to 4 in SMPP 5.0).
    pub priority_flag: u8,
    /// `protocol_id`.
    pub protocol_id: u8,
    /// The messaging mode, bits 1 and 0 of `esm_class`: 0 for the SMSC's own, 3 for store and
    /// forward.
    pub esm_class_mode: u8,
    /// `replace_if_present_flag`, 0 or 1.
    pub replace_if_present_flag: u8,
    /// `sm_default_msg_id`.
    pub sm_default_msg_id: u8,
    /// Whether receipts are asked for (`registered_delivery` 1).
    pub receipts: bool,
    /// Whether intermediate notifications may be asked for (bit 4).
    pub intermediate: bool,
    /// How `validity_period` is written.
    pub validity: Validity,
    /// The longest validity that it takes; longer ones are cut to this.
    pub max_validity: Span,
    /// Whether each submit has a `user_message_reference` TLV.
    pub user_message_reference: bool,
    /// Whether all segments but the last have a `more_messages_to_send` TLV.
    pub more_messages_to_send: bool,
}

impl Default for SubmitConfig {
    fn default() -> Self {
        Self {
            operation: Operation::SubmitSm,
            service_type: String::new(),
            priority_flag: 0,
            protocol_id: 0,
            esm_class_mode: 0,
            replace_if_present_flag: 0,
            sm_default_msg_id: 0,
            receipts: true,
            intermediate: false,
            validity: Validity::Relative,
            max_validity: Span::secs(72 * 3_600),
            user_message_reference: false,
            more_messages_to_send: false,
        }
    }
}

/// Which PDU carries a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `submit_sm`.
    #[default]
    SubmitSm,
    /// `data_sm`, its text in a `message_payload` TLV.
    DataSm,
}

/// How `validity_period` is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Validity {
    /// So long from now, `...000R`.
    #[default]
    Relative,
    /// An instant in UTC, `...00+`.
    Absolute,
    /// Left empty: the SMSC's own.
    None,
}

/// A carrier's receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiptsConfig {
    /// Which segments' receipts make the message's state.
    pub on: ReceiptOn,
    /// How long the final receipt is waited for; then the message is `unknown`.
    pub timeout: Span,
    /// Whether DELIVERED corrects a failure that was reported before it.
    pub late_delivered_wins: bool,
    /// How they are written.
    pub form: ReceiptOptions,
}

impl Default for ReceiptsConfig {
    fn default() -> Self {
        Self {
            on: ReceiptOn::All,
            timeout: Span::secs(73 * 3_600),
            late_delivered_wins: true,
            form: ReceiptOptions::default(),
        }
    }
}

/// Which segments' receipts make the message's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptOn {
    /// Delivered when all segments are, failed when any is.
    #[default]
    All,
    /// The first final receipt of any segment speaks for the message.
    Any,
    /// The last segment's receipt speaks for the message, and only that one is asked for.
    Last,
}

/// Whether TLVs are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SendTlvs {
    /// To peers of version 3.4 and up.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// One carrier of the config.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// The number of its name in its table of routes.
    pub id: CarrierId,
    /// Its name: `[a-z][a-z0-9_]*`.
    pub name: Arc<str>,
    /// Its table in the config.
    pub config: Arc<CarrierConfig>,
    /// Whether it gets TLVs.
    pub has_tlvs: bool,
    pub(super) tlvs: Vec<CustomTlv>,
}

impl Carrier {
    /// The carrier `name`, whose peers are spoken to in `version`.
    ///
    /// Nothing is checked here: [`Carrier::faults`] names the faults, and [`super::Routes::new`]
    /// asks it.
    pub fn new(name: &str, config: CarrierConfig, version: InterfaceVersion) -> Self {
        let has_tlvs = match config.send_tlvs {
            SendTlvs::Auto => version.has_tlvs(),
            SendTlvs::Always => true,
            SendTlvs::Never => false,
        };
        let tlvs = config.tlvs.iter().filter_map(|tlv| CustomTlv::new(tlv).ok()).collect();
        let id = CarrierId(u16::MAX);
        Self { id, name: name.into(), config: Arc::new(config), has_tlvs, tlvs }
    }

    pub(super) fn with_id(self, id: CarrierId) -> Self {
        Self { id, ..self }
    }

    /// What `status` means on this carrier; `failure_reason` is the answer's
    /// `delivery_failure_reason` TLV.
    pub fn judge(&self, status: CommandStatus, failure_reason: Option<u8>) -> Verdict {
        let builtin = status::judge(status, failure_reason);
        if status == CommandStatus::ESME_ROK {
            return builtin;
        }
        let own = self.config.status.get(&StatusName(status));
        own.map_or(builtin, |own| own.apply(builtin))
    }

    /// The source address of a message that asks for the sender `requested`; empty when the SMSC
    /// is to put in its own.
    ///
    /// # Errors
    /// When the carrier does not take the sender.
    pub fn source(&self, requested: Option<&str>) -> Result<Address, SenderError> {
        let requested =
            requested.map(Sender::parse).transpose().map_err(SenderError::Unreadable)?;
        let SendersConfig { default, allowed, others } = &self.config.senders;
        let forms = &self.config.addresses;
        let Some(requested) = requested else { return Ok(forms.source(default.as_ref())) };
        let registered =
            forms.source.fixed.is_some() || forms.source.map.contains_key(requested.as_str());
        if registered || allowed.contains(&requested) {
            return Ok(forms.source(Some(&requested)));
        }
        let strict = if allowed.is_empty() { OtherSenders::Pass } else { OtherSenders::Refuse };
        match others.unwrap_or(strict) {
            OtherSenders::Pass => Ok(forms.source(Some(&requested))),
            OtherSenders::Default => Ok(forms.source(default.as_ref())),
            OtherSenders::Refuse => Err(SenderError::NotAllowed),
        }
    }

    /// Whether a receipt is asked for when the owner wants `wanted`; without one the message ends
    /// when the carrier has taken it.
    pub fn asks_for_receipts(&self, wanted: ReceiptsWanted) -> bool {
        self.config.submit.receipts && wanted != ReceiptsWanted::None
    }

    /// How long the final receipt is waited for.
    pub fn receipt_timeout(&self) -> Duration {
        self.config.receipts.timeout.0
    }
}

impl Carrier {
    /// What is wrong with its table in the config, each fault with its key.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let name = &*self.name;
        let path = format!("carriers.{name}");
        if !is_carrier_name(name) {
            let message = format!(
                "expected a name of lower-case letters, digits and `_` that begins with a letter, \
                 found {name:?}"
            );
            faults.push(Fault::error(&path, message));
        }
        self.rate_faults(&path, &mut faults);
        self.sender_faults(&path, &mut faults);
        self.submit_faults(&path, &mut faults);
        self.receipt_faults(&path, &mut faults);
        self.status_faults(&path, &mut faults);
        self.tlv_faults(&path, &mut faults);
        faults
    }

    fn rate_faults(&self, path: &str, faults: &mut Vec<Fault>) {
        if let Some(rate) = self.config.rate_per_bind.filter(|rate| *rate > self.config.rate) {
            let message = format!(
                "{rate} for one bind is more than rate ({}) for all: it limits nothing",
                self.config.rate
            );
            faults.push(Fault::warning(format!("{path}.rate_per_bind"), message));
        }
    }

    fn sender_faults(&self, path: &str, faults: &mut Vec<Fault>) {
        let SendersConfig { default, allowed, others } = &self.config.senders;
        if *others == Some(OtherSenders::Default) && default.is_none() {
            let message = "\"default\" needs senders.default";
            faults.push(Fault::error(format!("{path}.senders.others"), message));
        }
        if self.config.addresses.source.fixed.is_some() && !allowed.is_empty() {
            let message = "limits nothing: addresses.source.fixed is every message's sender";
            faults.push(Fault::warning(format!("{path}.senders.allowed"), message));
        }
    }

    fn submit_faults(&self, path: &str, faults: &mut Vec<Fault>) {
        let submit = &self.config.submit;
        let ranges = [
            ("priority_flag", submit.priority_flag, 4),
            ("esm_class_mode", submit.esm_class_mode, 3),
            ("replace_if_present_flag", submit.replace_if_present_flag, 1),
        ];
        for (key, found, max) in ranges {
            if found > max {
                let message = format!("expected 0 to {max}, found {found}");
                faults.push(Fault::error(format!("{path}.submit.{key}"), message));
            }
        }
        let service_type = &submit.service_type;
        if service_type.len() > 5 || !service_type.bytes().all(|octet| octet.is_ascii_graphic()) {
            let message = format!("expected at most 5 ASCII characters, found {service_type:?}");
            faults.push(Fault::error(format!("{path}.submit.service_type"), message));
        }
        if submit.max_validity.as_secs() == 0 {
            let message = "expected at least 1s; validity = \"none\" sends none";
            faults.push(Fault::error(format!("{path}.submit.max_validity"), message));
        }
        if !self.has_tlvs {
            self.tlv_needs(path, faults);
        }
    }

    /// What the config asks for cannot be said to a peer that gets no TLVs.
    fn tlv_needs(&self, path: &str, faults: &mut Vec<Fault>) {
        let CarrierConfig { text, submit, tlvs, .. } = &*self.config;
        let needs = [
            (
                "text.long",
                matches!(text.long, Transport::Sar | Transport::Sar16 | Transport::Payload),
            ),
            ("submit.operation", submit.operation == Operation::DataSm),
            ("submit.user_message_reference", submit.user_message_reference),
            ("submit.more_messages_to_send", submit.more_messages_to_send),
            ("tlvs", !tlvs.is_empty()),
        ];
        for (key, _) in needs.into_iter().filter(|(_, needed)| *needed) {
            let message = "needs TLVs, which the carrier does not get: see send_tlvs and version";
            faults.push(Fault::error(format!("{path}.{key}"), message));
        }
    }

    fn receipt_faults(&self, path: &str, faults: &mut Vec<Fault>) {
        if self.config.receipts.timeout.is_zero() {
            let message = "expected more than 0s";
            faults.push(Fault::error(format!("{path}.receipts.timeout"), message));
        }
    }

    fn status_faults(&self, path: &str, faults: &mut Vec<Fault>) {
        for (status, config) in &self.config.status {
            let path = format!("{path}.status.{status}");
            if status.0 == CommandStatus::ESME_ROK {
                faults.push(Fault::error(path, "ESME_ROK is always accepted"));
            } else if config.class == StatusClass::Permanent && config.retries.unwrap_or(0) > 0 {
                let message = "a permanent status is not tried again: leave retries out";
                faults.push(Fault::error(format!("{path}.retries"), message));
            }
        }
    }

    fn tlv_faults(&self, path: &str, faults: &mut Vec<Fault>) {
        for (index, tlv) in self.config.tlvs.iter().enumerate() {
            if let Err((key, message)) = CustomTlv::new(tlv) {
                faults.push(Fault::error(format!("{path}.tlvs[{index}].{key}"), message));
            }
        }
    }
}

/// Whether `name` can name a carrier in the config, the environment and the metrics.
pub fn is_carrier_name(name: &str) -> bool {
    let good = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'_';
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 64
        && name.bytes().all(good)
}
