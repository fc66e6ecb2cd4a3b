//! What the config file says about the submit API.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::num::NonZeroU16;
use std::num::NonZeroU32;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::api::keys::KeyHash;
use crate::api::keys::Scope;
use crate::message::Class;
use crate::text::address::Region;
use crate::text::address::Sender;
use crate::time::Rate;
use crate::time::Span;

/// The submit API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// Speak HTTPS; plain HTTP without it.
    pub tls: Option<Tls>,
    /// What one client, and all together, may hold of the process.
    pub limits: Limits,
    /// What holds for messages that do not say otherwise.
    pub messages: Messages,
    /// The clients: each with its keys and what they may do.
    pub clients: BTreeMap<String, Client>,
}

/// A certificate for HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and its chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// Whose certificates clients show, PEM; none is asked for without it.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// Whether a client may come without a certificate, where one is asked for.
    #[serde(default)]
    pub client_certificates: ClientCertificates,
    /// How long a handshake may take.
    #[serde(default = "Tls::handshake_timeout")]
    pub handshake_timeout: Span,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Without a good one there is no connection.
    #[default]
    Required,
    /// One that is shown must be good.
    Optional,
}

/// Limits of the HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once; beyond, the longest idle one makes room.
    pub connections: NonZeroU32,
    /// How long a connection may be idle, and how long a request's header may take.
    pub header_timeout: Span,
    /// The octets of a request's line and header fields.
    pub header_octets: u32,
    /// The header fields of a request.
    pub header_fields: u16,
    /// How long a request's body may take.
    pub body_timeout: Span,
    /// The octets of a request's body.
    pub body_octets: u32,
    /// The octets of the body of a batch.
    pub batch_octets: u32,
    /// The octets of all bodies at once.
    pub bodies_octets: u32,
    /// How long a client may leave an answer unread.
    pub write_timeout: Span,
    /// How long an accepted message may take to become durable, and a reading its answer.
    pub answer_timeout: Span,
    /// The longest `?wait=`.
    pub wait: Span,
    /// How long connections may finish what they do when the gateway stops.
    pub drain_timeout: Span,
}

/// Defaults and bounds of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Messages {
    /// The country whose numbers may be written without its code.
    pub region: Region,
    /// How long a message of each class may be tried when it does not say.
    pub ttl: Ttl,
    /// The shortest time to live.
    pub ttl_min: Span,
    /// The longest time to live.
    pub ttl_max: Span,
    /// How far ahead `send_at` may be.
    pub schedule_max: Span,
    /// How long ago `send_at` may be: clocks differ.
    pub schedule_past: Span,
    /// The most segments of a message that does not say.
    pub segments: NonZeroU8,
    /// The most segments that a message may ask for.
    pub segments_max: NonZeroU8,
}

/// A time to live for each class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ttl {
    /// Login codes.
    pub otp: Span,
    /// Messages that somebody waits for.
    pub transactional: Span,
    /// Messages that nobody waits for.
    pub marketing: Span,
}

/// A client of the API: who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// Its live keys, as `hikyaku key add` prints them: one, or two while they rotate.
    pub keys: Vec<KeyHash>,
    /// What the keys may do.
    pub scopes: Vec<Scope>,
    /// The name in the certificate that must come with its keys (DNS name or address among the
    /// subjectAltNames); needs `client_ca_file`.
    pub certificate: Option<String>,
    /// The senders that it may use; `*` at the end stands for any rest. Empty: any.
    pub senders: Vec<String>,
    /// The sender of messages that name none.
    pub sender: Option<String>,
    /// The classes that it may send in. Empty: any.
    pub classes: Vec<Class>,
    /// The routes that it may use. Empty: any.
    pub routes: Vec<String>,
    /// The beginnings of numbers that it may send to, without `+`. Empty: any.
    pub destinations: Vec<String>,
    /// How many messages it may hand in.
    pub rate: Rate,
    /// How many messages it may hand in at once; a second's worth when not given, and at least a
    /// full batch.
    pub burst: Option<NonZeroU32>,
    /// How many other requests it may make.
    pub request_rate: Rate,
    /// How many `?wait=` and event streams it may have open.
    pub waits: NonZeroU16,
    /// How many messages it may hand in on one UTC day.
    pub daily_quota: Option<u64>,
}

/// The most messages of a batch.
pub const BATCH_MAX: u16 = 1_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: None,
            limits: Limits::default(),
            messages: Messages::default(),
            clients: BTreeMap::new(),
        }
    }
}

impl Tls {
    const fn handshake_timeout() -> Span {
        Span::secs(5)
    }
}

impl Default for Limits {
    fn default() -> Self {
        const fn count(n: u32) -> NonZeroU32 {
            NonZeroU32::MIN.saturating_add(n - 1)
        }
        Self {
            connections: count(16_384),
            header_timeout: Span::secs(30),
            header_octets: 16_384,
            header_fields: 64,
            body_timeout: Span::secs(10),
            body_octets: 65_536,
            batch_octets: 8_388_608,
            bodies_octets: 268_435_456,
            write_timeout: Span::secs(30),
            answer_timeout: Span::secs(10),
            wait: Span::secs(60),
            drain_timeout: Span::secs(10),
        }
    }
}

impl Default for Messages {
    fn default() -> Self {
        const TEN: NonZeroU8 = NonZeroU8::MIN.saturating_add(9);
        Self {
            region: Region::default(),
            ttl: Ttl::default(),
            ttl_min: Span::secs(10),
            ttl_max: Span::secs(7 * 86_400),
            schedule_max: Span::secs(400 * 86_400),
            schedule_past: Span::secs(300),
            segments: TEN,
            segments_max: NonZeroU8::MIN.saturating_add(39),
        }
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self {
            otp: Span::secs(600),
            transactional: Span::secs(86_400),
            marketing: Span::secs(72 * 3_600),
        }
    }
}

impl Ttl {
    /// The time to live of a class.
    pub const fn of(&self, class: Class) -> Span {
        match class {
            Class::Otp => self.otp,
            Class::Transactional => self.transactional,
            Class::Marketing => self.marketing,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            scopes: vec![Scope::MessagesWrite, Scope::MessagesRead],
            certificate: None,
            senders: Vec::new(),
            sender: None,
            classes: Vec::new(),
            routes: Vec::new(),
            destinations: Vec::new(),
            rate: Rate::per_second(1_000),
            burst: None,
            request_rate: Rate::per_second(100),
            waits: NonZeroU16::MIN.saturating_add(99),
            daily_quota: None,
        }
    }
}

impl Client {
    /// How many messages it may hand in at once.
    pub fn burst(&self) -> NonZeroU32 {
        let second = u32::try_from(self.rate.as_millis() / 1_000).unwrap_or(u32::MAX);
        let burst = NonZeroU32::new(second.max(BATCH_MAX.into())).unwrap_or(NonZeroU32::MIN);
        self.burst.unwrap_or(burst)
    }
}

impl Config {
    /// What is wrong with the values, each with its key below this table.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = self.limits.faults();
        faults.extend(self.messages.faults());
        let mut seen = BTreeMap::new();
        for (name, client) in &self.clients {
            let key = format!("clients.{name}");
            if !is_name(name) {
                let message = "a name is a small letter, then small letters, digits and `_`";
                faults.push((key.clone(), message.into()));
            }
            let asked = self.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
            if client.certificate.is_some() && !asked {
                let message = "needs client_ca_file in api.tls: nobody is asked for a certificate";
                faults.push((format!("{key}.certificate"), message.into()));
            }
            faults
                .extend(client.faults().into_iter().map(|(k, what)| (format!("{key}.{k}"), what)));
            for (i, hash) in client.keys.iter().enumerate() {
                if let Some(other) = seen.insert(hash.id(), name) {
                    let message = format!("the key {} is given to {other} already", hash.id());
                    faults.push((format!("{key}.keys[{i}]"), message));
                }
            }
        }
        faults
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl Limits {
    fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut need = |ok: bool, key: &str, what: &str| {
            if !ok {
                faults.push((format!("limits.{key}"), what.to_owned()));
            }
        };
        need(self.header_octets >= 8_192, "header_octets", "at least 8192");
        need(self.header_fields >= 16, "header_fields", "at least 16");
        need(self.body_octets >= 4_096, "body_octets", "at least 4096");
        need(self.batch_octets >= self.body_octets, "batch_octets", "at least body_octets");
        need(self.bodies_octets >= self.batch_octets, "bodies_octets", "at least batch_octets");
        for (key, span) in [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("write_timeout", self.write_timeout),
            ("answer_timeout", self.answer_timeout),
        ] {
            need(!span.is_zero(), key, "more than nothing");
        }
        faults
    }
}

impl Messages {
    fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut need = |ok: bool, key: &str, what: String| {
            if !ok {
                faults.push((format!("messages.{key}"), what));
            }
        };
        need(self.ttl_min <= self.ttl_max, "ttl_min", "at most ttl_max".into());
        for class in Class::ALL {
            let ttl = self.ttl.of(class);
            need(
                (self.ttl_min..=self.ttl_max).contains(&ttl),
                &format!("ttl.{class}"),
                format!("between ttl_min ({}) and ttl_max ({})", self.ttl_min, self.ttl_max),
            );
        }
        need(self.segments <= self.segments_max, "segments", "at most segments_max".into());
        faults
    }
}

impl Client {
    fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: String, what: &str| faults.push((key, what.to_owned()));
        match self.keys.len() {
            0 => fault("keys".into(), "a client needs a key: `hikyaku key add` makes one"),
            1 | 2 => {}
            _ => fault("keys".into(), "at most two live keys: the old one and the new one"),
        }
        if let Some(name) = &self.certificate
            && ServerName::try_from(name.as_str()).is_err()
        {
            fault("certificate".into(), "expected a DNS name or address");
        }
        if let Some(sender) = &self.sender {
            if Sender::parse(sender).is_err() {
                fault("sender".into(), "digits, or a name of at most 11 GSM characters");
            } else if !allows_sender(&self.senders, sender) {
                fault("sender".into(), "not among `senders`");
            }
        }
        for (i, prefix) in self.destinations.iter().enumerate() {
            let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
            if !digits || prefix.starts_with('0') || prefix.len() > 15 {
                fault(format!("destinations[{i}]"), "E.164 digits without `+`, such as 81");
            }
        }
        faults
    }
}

/// Whether `sender` is among `senders`; empty stands for any, `*` at the end for any rest.
pub(crate) fn allows_sender(senders: &[String], sender: &str) -> bool {
    senders.is_empty()
        || senders.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(prefix) => bare(sender).starts_with(bare(prefix)),
            None => bare(sender) == bare(allowed),
        })
}

/// A sender without the `+` that some write.
fn bare(sender: &str) -> &str {
    sender.strip_prefix('+').unwrap_or(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(Config::default().faults(), []);
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_key() {
        let client = Client {
            sender: Some("99999".into()),
            senders: vec!["0005*".into()],
            destinations: vec!["+81".into()],
            ..Client::default()
        };
        let config = Config {
            clients: BTreeMap::from([("Shop".to_owned(), client)]),
            limits: Limits { header_octets: 1, ..Limits::default() },
            messages: Messages { ttl_min: Span::secs(3_600), ..Messages::default() },
            ..Config::default()
        };
        let keys: Vec<String> = config.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "limits.header_octets",
                "messages.ttl.otp",
                "clients.Shop",
                "clients.Shop.keys",
                "clients.Shop.sender",
                "clients.Shop.destinations[0]",
            ]
        );
    }

    #[test]
    fn a_burst_lets_a_full_batch_through() {
        assert_eq!(Client::default().burst().get(), 1_000);
        let slow = Client { rate: Rate::per_second(1), ..Client::default() };
        assert_eq!(slow.burst().get(), 1_000);
        let fast = Client { rate: Rate::per_second(5_000), ..Client::default() };
        assert_eq!(fast.burst().get(), 5_000);
    }
}
