//! How a carrier is reached: where, as whom, over how many binds.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::link::backoff;
use crate::link::tls;
use crate::session;
use crate::session::Credentials;
use crate::session::Mode;
use crate::session::Version;
use crate::time::Span;

/// The links to one carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The SMSC's name or address.
    pub host: String,
    /// The SMSC's port.
    pub port: u16,
    /// The SMSC's port for receivers, if it is another one. Only with `mode = "tx+rx"` or `"rx"`.
    pub receive_port: Option<u16>,
    /// `trx`, `tx`, `rx`, or `tx+rx` for a transmitter and a receiver that belong together.
    pub mode: BindMode,
    /// How many binds; with `tx+rx` how many pairs.
    pub binds: u16,
    /// The account's name at the carrier. At most 15 octets.
    pub system_id: String,
    /// The account's password, at most 8 octets; better kept in `password_file`.
    pub password: Option<Secret>,
    /// A file with the account's password, read at each bind; its last line break does not count.
    pub password_file: Option<PathBuf>,
    /// The address of ours to connect from; any if not set.
    pub source_address: Option<IpAddr>,
    /// The port of ours to connect from, for a single bind and together with `source_address`.
    pub source_port: Option<u16>,
    /// TLS, where the carrier has it.
    pub tls: tls::Config,
    /// How long a connection may take, its TLS handshake included.
    pub connect_timeout: Span,
    /// How long what is to be written may stay unwritten; then the connection is closed.
    pub write_timeout: Span,
    /// How soon a lost or refused bind is tried again.
    pub reconnect: backoff::Config,
    /// How the sessions behave.
    pub session: session::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 2775,
            receive_port: None,
            mode: BindMode::Trx,
            binds: 1,
            system_id: String::new(),
            password: None,
            password_file: None,
            source_address: None,
            source_port: None,
            tls: tls::Config::default(),
            connect_timeout: Span::secs(10),
            write_timeout: Span::secs(30),
            reconnect: backoff::Config::default(),
            session: session::Config::default(),
        }
    }
}

impl Config {
    /// What is wrong with the values, each with its key below this table.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: &str| faults.push((key.to_owned(), what.to_owned()));
        if self.host.trim().is_empty() {
            fault("host", "expected the SMSC's name or address");
        }
        if self.port == 0 {
            fault("port", "expected 1 to 65535, found 0");
        }
        if self.receive_port.is_some() && matches!(self.mode, BindMode::Trx | BindMode::Tx) {
            fault("receive_port", "is used with mode = \"tx+rx\" or \"rx\" only");
        }
        if !(1..=MAX_BINDS).contains(&self.binds) {
            fault("binds", &format!("expected 1 to {MAX_BINDS}, found {}", self.binds));
        }
        if self.mode == BindMode::Trx && self.session.version == Version::V3_3 {
            fault("mode", "SMPP 3.3 has no transceiver: expected \"tx\", \"rx\" or \"tx+rx\"");
        }
        if self.system_id.is_empty() {
            fault("system_id", "expected the account's name at the carrier");
        }
        if self.source_port.is_some() && (self.source_address.is_none() || self.legs().len() > 1) {
            fault("source_port", "expected a source_address beside it, and a single bind");
        }
        for (key, span) in
            [("connect_timeout", self.connect_timeout), ("write_timeout", self.write_timeout)]
        {
            if span.is_zero() {
                fault(key, "expected more than 0s");
            }
        }
        self.credential_faults(&mut faults);
        let parts = [
            ("tls", self.tls.faults()),
            ("reconnect", self.reconnect.faults()),
            ("session", self.session.faults()),
        ];
        for (table, below) in parts {
            faults.extend(below.into_iter().map(|(key, what)| (format!("{table}.{key}"), what)));
        }
        faults
    }

    fn credential_faults(&self, faults: &mut Vec<(String, String)>) {
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                let what = "password and password_file are both set; expected one";
                faults.push(("password".to_owned(), what.to_owned()));
                return;
            }
            (Some(password), None) => password.expose(),
            (None, _) => "",
        };
        if let Err(error) = Credentials::new(&self.system_id, password) {
            let (key, what) = match error {
                session::CredentialsError::SystemId(what) => ("system_id", what),
                session::CredentialsError::Password(what) => ("password", what),
            };
            faults.push((key.to_owned(), what.to_string()));
        }
    }

    /// The binds, each with its number: a pair's transmitter comes before its receiver.
    pub fn legs(&self) -> Vec<Leg> {
        let receive_port = self.receive_port.unwrap_or(self.port);
        let each: &[(Mode, u16)] = match self.mode {
            BindMode::Trx => &[(Mode::Trx, self.port)],
            BindMode::Tx => &[(Mode::Tx, self.port)],
            BindMode::Rx => &[(Mode::Rx, receive_port)],
            BindMode::TxRx => &[(Mode::Tx, self.port), (Mode::Rx, receive_port)],
        };
        let all = (0..self.binds).flat_map(|_| each.iter());
        all.zip(0..).map(|(&(mode, port), index)| Leg { index, mode, port }).collect()
    }
}

/// More binds than any carrier gives one account.
const MAX_BINDS: u16 = 1_000;

/// One bind of a carrier, as the config draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Which of the carrier's binds, from 0.
    pub index: u16,
    /// In which direction.
    pub mode: Mode,
    /// To which port.
    pub port: u16,
}

/// Which binds a carrier wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BindMode {
    /// Transceivers.
    #[default]
    Trx,
    /// Transmitters only.
    Tx,
    /// Receivers only.
    Rx,
    /// Pairs of a transmitter and a receiver.
    #[serde(rename = "tx+rx")]
    TxRx,
}

/// Text that is shown nowhere: `Debug` and the printed config say `[REDACTED]`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

const REDACTED: &str = "[REDACTED]";

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Config {
        Config { host: "smsc.example".into(), system_id: "acme".into(), ..Config::default() }
    }

    fn keys(config: &Config) -> Vec<String> {
        config.faults().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn a_host_and_an_account_are_enough() {
        let text = "host = \"smsc.example\"\nsystem_id = \"acme\"";
        assert_eq!(toml::from_str::<Config>(text).unwrap(), plain());
        assert_eq!(keys(&plain()), [""; 0]);
    }

    #[test]
    fn every_fault_is_named_with_its_key() {
        let nothing = Config { port: 0, binds: 0, ..Config::default() };
        assert_eq!(keys(&nothing), ["host", "port", "binds", "system_id"]);
        let odd = Config {
            receive_port: Some(2776),
            source_port: Some(1),
            write_timeout: Span::secs(0),
            password: Some(Secret::new("ninechars")),
            session: session::Config { window: 0, ..session::Config::default() },
            ..plain()
        };
        let expected =
            ["receive_port", "source_port", "write_timeout", "password", "session.window"];
        assert_eq!(keys(&odd), expected);
    }

    #[test]
    fn smpp_3_3_has_no_transceiver() {
        let session = session::Config { version: Version::V3_3, ..session::Config::default() };
        let config = Config { session, ..plain() };
        assert_eq!(keys(&config), ["mode"]);
        assert_eq!(keys(&Config { mode: BindMode::TxRx, ..config }), [""; 0]);
    }

    #[test]
    fn a_pair_is_two_binds_on_two_ports() {
        let config = Config { mode: BindMode::TxRx, binds: 2, receive_port: Some(2776), ..plain() };
        let legs: Vec<_> =
            config.legs().into_iter().map(|leg| (leg.index, leg.mode, leg.port)).collect();
        let expected =
            [(0, Mode::Tx, 2775), (1, Mode::Rx, 2776), (2, Mode::Tx, 2775), (3, Mode::Rx, 2776)];
        assert_eq!(legs, expected);
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let config = Config { password: Some(Secret::new("s3cret")), ..plain() };
        let shown = format!("{config:?}{}", toml::to_string(&config).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        let too_long = Config { password: Some(Secret::new("much too long")), ..plain() };
        assert!(!format!("{:?}", too_long.faults()).contains("much"));
    }
}
