//! How a carrier is reached: where, as whom, over how many binds.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

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
    /// A file with the account's password, at most 8 octets, read at each bind; its last line break
    /// does not count.
    pub password_file: Option<PathBuf>,
    /// The same as a credential of the service manager: `LoadCredential=NAME:FILE` in the unit.
    pub password_credential: Option<String>,
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
            password_file: None,
            password_credential: None,
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
        let mut fault = |key: &str, what: String| faults.push((key.to_owned(), what));
        if let Err(error) = Credentials::new(&self.system_id, "") {
            fault("system_id", error.to_string().replacen("system_id ", "", 1));
        }
        let Some(name) = &self.password_credential else { return };
        if self.password_file.is_some() {
            fault("password_credential", "is set beside password_file; expected one".into());
        }
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            fault("password_credential", "expected the name of a credential, not a path".into());
        }
    }

    /// The file with the password, if there is one.
    ///
    /// # Errors
    /// When it is a credential and the service manager gave none to this process.
    pub fn password_path(&self) -> Result<Option<PathBuf>, NoCredentials> {
        let Some(name) = &self.password_credential else { return Ok(self.password_file.clone()) };
        let folder = std::env::var_os(CREDENTIALS).filter(|folder| !folder.is_empty());
        let folder = folder.ok_or_else(|| NoCredentials { name: name.clone() })?;
        Ok(Some(PathBuf::from(folder).join(name)))
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

/// Where the service manager puts credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// That a password is a credential, and this process has none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "password_credential {name}: this process was given no credentials; put LoadCredential={name}:FILE \
     into its unit, or name the file in password_file"
)]
pub struct NoCredentials {
    name: String,
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
            system_id: "sixteen letters.".into(),
            password_file: Some("password".into()),
            password_credential: Some("alpha".into()),
            session: session::Config { window: 0, ..session::Config::default() },
            ..plain()
        };
        let expected = [
            "receive_port",
            "source_port",
            "write_timeout",
            "system_id",
            "password_credential",
            "session.window",
        ];
        assert_eq!(keys(&odd), expected);
        let path = Config { password_credential: Some("../alpha".into()), ..plain() };
        assert_eq!(keys(&path), ["password_credential"]);
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
}
