//! What a session is told before it starts: limits, timers, the terms of the bind.

use std::fmt;

use schemars::JsonSchema;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;

use crate::pdu::Bind;
use crate::pdu::Body;
use crate::pdu::COctetString;
use crate::pdu::CommandId;
use crate::pdu::Frames;
use crate::pdu::InterfaceVersion;
use crate::pdu::Leniency;
use crate::pdu::LimitError;
use crate::pdu::Npi;
use crate::pdu::Ton;
use crate::time::Span;

/// How a session to a carrier behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The SMPP version that we say we speak.
    pub version: Version,
    /// What kind of ESME we are; most carriers want it empty. At most 12 octets.
    #[serde(with = "c_octets")]
    #[schemars(with = "String")]
    pub system_type: COctetString<13>,
    /// Type of number of `address_range`.
    #[schemars(with = "u8")]
    pub addr_ton: Ton,
    /// Numbering plan of `address_range`.
    #[schemars(with = "u8")]
    pub addr_npi: Npi,
    /// Which numbers we serve, as the carrier wants it written; mostly empty. At most 40 octets.
    #[serde(with = "c_octets")]
    #[schemars(with = "String")]
    pub address_range: COctetString<41>,
    /// How many requests of ours may be unanswered at once.
    pub window: u16,
    /// How many requests of the carrier's may wait for our answer at once; those beyond are asked
    /// to come again (`ESME_RX_T_APPN`).
    pub receive_window: u16,
    /// How many requests whose response timer ran out are remembered for a late answer.
    pub late_answers: u16,
    /// Whether TLVs are sent.
    pub send_tlvs: SendTlvs,
    /// The longest PDU taken, in octets; a longer one costs the connection.
    pub max_pdu: u32,
    /// How much to forgive in what the carrier sends.
    #[serde(with = "LeniencyName")]
    #[schemars(with = "LeniencyName")]
    pub leniency: Leniency,
    /// The timers.
    pub timers: Timers,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: Version::V3_4,
            system_type: COctetString::EMPTY,
            addr_ton: Ton::UNKNOWN,
            addr_npi: Npi::UNKNOWN,
            address_range: COctetString::EMPTY,
            window: 10,
            receive_window: 1_000,
            late_answers: 1_000,
            send_tlvs: SendTlvs::Auto,
            max_pdu: 70_000,
            leniency: Leniency::Lenient,
            timers: Timers::default(),
        }
    }
}

impl Config {
    /// What is wrong with the values, each with its key below this table.
    pub fn faults(&self) -> Vec<(String, String)> {
        let ranges = [
            ("window", u32::from(self.window), 1, u32::from(u16::MAX)),
            ("receive_window", self.receive_window.into(), 1, u16::MAX.into()),
            ("max_pdu", self.max_pdu, 1_000, 16 << 20),
        ];
        let outside =
            ranges.into_iter().filter(|(_, found, least, most)| !(least..=most).contains(&found));
        let mut faults: Vec<_> = outside
            .map(|(key, found, least, most)| {
                (key.to_owned(), format!("expected {least} to {most}, found {found}"))
            })
            .collect();
        let timers = self.timers.faults();
        faults.extend(timers.into_iter().map(|(key, fault)| (format!("timers.{key}"), fault)));
        faults
    }

    /// How the stream of such a session is cut and read.
    pub fn frames(&self) -> Frames {
        let max = usize::try_from(self.max_pdu).unwrap_or(Frames::DEFAULT_MAX);
        Frames { max, leniency: self.leniency }
    }
}

/// How a session from an ESME behaves, when we are the SMSC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SmscConfig {
    /// Who we say we are. At most 15 octets.
    #[serde(with = "c_octets")]
    #[schemars(with = "String")]
    pub system_id: COctetString<16>,
    /// The SMPP version that we say we speak, to an ESME that speaks 3.4 or later.
    pub version: Version,
    /// How many requests of ours may be unanswered at once.
    pub window: u16,
    /// How many requests of the ESME's may wait for our answer at once; those beyond are refused
    /// with `ESME_RTHROTTLED`.
    pub receive_window: u16,
    /// How many requests whose response timer ran out are remembered for a late answer.
    pub late_answers: u16,
    /// Whether TLVs are sent.
    pub send_tlvs: SendTlvs,
    /// The timers.
    pub timers: Timers,
}

impl Default for SmscConfig {
    fn default() -> Self {
        Self {
            system_id: COctetString::EMPTY,
            version: Version::V3_4,
            window: 10,
            receive_window: 1_000,
            late_answers: 1_000,
            send_tlvs: SendTlvs::Auto,
            timers: Timers { inactivity: Span::secs(300), ..Timers::default() },
        }
    }
}

/// How long a session waits, and for what (SMPP 3.4 §2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    /// From the connection to the end of the bind; then the connection is closed.
    pub session_init: Span,
    /// Without a PDU from the peer, until it is asked whether it is there; `0s` never asks.
    pub enquire_link: Span,
    /// From our `enquire_link` to any PDU of the peer's; then the connection is closed.
    pub enquire_link_response: Span,
    /// From a request of ours to its answer; then its outcome is unknown.
    pub response: Span,
    /// Without a PDU from the peer, until the connection is closed; `0s` never closes it.
    pub inactivity: Span,
    /// From a PDU's first octet to its last; then the connection is closed.
    pub pdu_read: Span,
    /// From our `unbind` to its answer; then the connection is closed.
    pub unbind_response: Span,
    /// For answers that are still to come, once either side wants to unbind.
    pub drain: Span,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            session_init: Span::secs(30),
            enquire_link: Span::secs(30),
            enquire_link_response: Span::secs(15),
            response: Span::secs(60),
            inactivity: Span::secs(0),
            pdu_read: Span::secs(10),
            unbind_response: Span::secs(5),
            drain: Span::secs(5),
        }
    }
}

impl Timers {
    fn faults(&self) -> Vec<(String, String)> {
        let needed = [
            ("session_init", self.session_init),
            ("enquire_link_response", self.enquire_link_response),
            ("response", self.response),
            ("pdu_read", self.pdu_read),
            ("unbind_response", self.unbind_response),
        ];
        let zero = needed.into_iter().filter(|(_, span)| span.is_zero());
        zero.map(|(key, _)| (key.to_owned(), "expected more than 0s".to_owned())).collect()
    }
}

/// The SMPP version of a session.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Version {
    /// No TLVs, no transceiver.
    #[serde(rename = "3.3")]
    V3_3,
    /// What nearly all carriers speak.
    #[default]
    #[serde(rename = "3.4")]
    V3_4,
    /// Few carriers speak it.
    #[serde(rename = "5.0")]
    V5_0,
}

impl From<Version> for InterfaceVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::V3_3 => Self::V3_3,
            Version::V3_4 => Self::V3_4,
            Version::V5_0 => Self::V5_0,
        }
    }
}

/// Whether TLVs may be sent to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SendTlvs {
    /// Unless either side says that it speaks 3.3. A peer that says nothing may have them: many
    /// SMSCs leave `sc_interface_version` out.
    #[default]
    Auto,
    /// Whatever the peer says.
    Always,
    /// Not at all.
    Never,
}

/// The names of [`Leniency`].
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Leniency", rename_all = "lowercase")]
enum LeniencyName {
    /// Takes what can be understood.
    Lenient,
    /// Takes what the specification allows.
    Strict,
}

/// In which direction messages travel on a session.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// From the ESME only: `bind_transmitter`.
    Tx,
    /// To the ESME only: `bind_receiver`.
    Rx,
    /// Both ways: `bind_transceiver`.
    #[default]
    Trx,
}

impl Mode {
    /// Whether the ESME may submit.
    pub const fn transmits(self) -> bool {
        matches!(self, Self::Tx | Self::Trx)
    }

    /// Whether the SMSC may deliver.
    pub const fn receives(self) -> bool {
        matches!(self, Self::Rx | Self::Trx)
    }

    /// `tx`, `rx` or `trx`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tx => "tx",
            Self::Rx => "rx",
            Self::Trx => "trx",
        }
    }

    /// The request that opens such a session.
    pub(crate) const fn bind(self, bind: Bind) -> Body {
        match self {
            Self::Tx => Body::BindTransmitter(bind),
            Self::Rx => Body::BindReceiver(bind),
            Self::Trx => Body::BindTransceiver(bind),
        }
    }

    /// The answer to it.
    pub(crate) const fn bind_resp(self) -> CommandId {
        match self {
            Self::Tx => CommandId::BIND_TRANSMITTER_RESP,
            Self::Rx => CommandId::BIND_RECEIVER_RESP,
            Self::Trx => CommandId::BIND_TRANSCEIVER_RESP,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who binds, and the proof of it. `Debug` shows neither, and what proves it is wiped when dropped.
#[derive(Clone)]
pub struct Credentials {
    /// The account's name at the carrier.
    pub system_id: COctetString<16>,
    password: SecretString,
}

/// Why credentials cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// `system_id` does not fit.
    #[error("system_id {0}")]
    SystemId(LimitError),
    /// `password` does not fit.
    #[error("password {0}")]
    Password(LimitError),
}

impl Credentials {
    /// The credentials as the carrier gave them.
    ///
    /// # Errors
    /// When one is longer than SMPP allows (15 and 8 octets) or has characters beyond Latin-1.
    pub fn new(system_id: &str, password: &str) -> Result<Self, CredentialsError> {
        let system_id = COctetString::try_from(system_id).map_err(CredentialsError::SystemId)?;
        COctetString::<9>::try_from(password).map_err(CredentialsError::Password)?;
        Ok(Self { system_id, password: password.into() })
    }

    /// The account's password as a bind carries it.
    pub(super) fn password(&self) -> COctetString<9> {
        COctetString::try_from(self.password.expose_secret()).unwrap_or_default()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// C-octet strings as text in the config.
mod c_octets {
    use std::borrow::Cow;

    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;

    use crate::pdu::COctetString;

    pub(super) fn serialize<S: Serializer, const N: usize>(
        text: &COctetString<N>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text.to_text_lossy())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<COctetString<N>, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        COctetString::try_from(text.as_ref()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_the_default() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        assert_eq!(toml::from_str::<SmscConfig>("").unwrap(), SmscConfig::default());
    }

    #[test]
    fn a_config_reads_what_it_writes() {
        let config = Config {
            version: Version::V5_0,
            system_type: "VMA".try_into().unwrap(),
            leniency: Leniency::Strict,
            send_tlvs: SendTlvs::Never,
            ..Config::default()
        };
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&written).unwrap(), config);
    }

    #[test]
    fn what_smpp_cannot_carry_is_refused_with_its_limit() {
        let error = toml::from_str::<Config>("system_type = \"much too long a type\"").unwrap_err();
        assert!(error.message().contains("is 20 octets, at most 12"), "{error}");
        assert!(toml::from_str::<Config>("version = \"3.5\"").is_err());
        assert!(toml::from_str::<Config>("windows = 10").is_err());
    }

    #[test]
    fn every_fault_is_named_with_its_key() {
        let timers = Timers { response: Span::secs(0), ..Timers::default() };
        let config = Config { window: 0, max_pdu: 15, timers, ..Config::default() };
        let keys: Vec<_> = config.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["window", "max_pdu", "timers.response"]);
        assert_eq!(Config::default().faults(), []);
    }

    #[test]
    fn credentials_are_never_shown() {
        let credentials = Credentials::new("acme", "s3cret").unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials { .. }");
        let error = Credentials::new("acme", "ninechars").unwrap_err();
        assert_eq!(error.to_string(), "password is 9 octets, at most 8");
    }
}
