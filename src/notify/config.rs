//! The table of the config about webhooks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::SchemaGenerator;
use schemars::json_schema;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::archive::EventKind;
use crate::notify::guard::Network;
use crate::notify::schedule::WAITS;
use crate::notify::send::Target;
use crate::notify::sign::Secret;
use crate::time::Span;

/// Webhooks: where events go, how often they are tried, what they may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The file with the endpoints and with what waits for them; made if it is missing.
    pub file: PathBuf,
    /// Endpoints that are written down here, besides those that clients make.
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// Private networks that may be called, such as `10.0.0.0/8`; public addresses always may.
    pub networks: Vec<Network>,
    /// Whether only `https://` addresses may be called.
    pub https_only: bool,
    /// Certificates to trust besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// How long one try may take in all.
    pub timeout: Span,
    /// How long connecting may take, the look-up of the name included.
    pub connect_timeout: Span,
    /// How many tries one endpoint gets at the same time.
    pub concurrency: usize,
    /// How many tries there are at the same time in all.
    pub concurrency_total: usize,
    /// How many events are read ahead for one endpoint.
    pub window: usize,
    /// How many events of one endpoint may wait for another try; beyond that it gets no new ones.
    pub parked: usize,
    /// How long after each failed try the next one follows, give or take a fifth; after the last
    /// the event is given up.
    pub retries: Vec<Span>,
    /// After so many failures in a row an endpoint is left alone for a while.
    pub breaker_failures: u32,
    /// Whether messages may name their own `callback_url`.
    pub callbacks: bool,
    /// How many endpoints a client may make.
    pub endpoints_per_client: usize,
    /// How long a replaced secret still signs.
    pub secret_overlap: Span,
    /// For how many days tries are listed.
    pub log_days: u32,
    /// For how many days events are kept that were given up.
    pub dead_days: u32,
}

/// An endpoint that is written down in the config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// The client whose events it gets.
    pub client: String,
    /// Where they are sent.
    pub url: String,
    /// What signs them: `whsec_` and base64. Better in a file.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// A file with the secret.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Which events it gets; empty for all.
    #[serde(default)]
    pub events: Vec<Kind>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// A kind of event that an endpoint can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One of the feed.
    Feed(EventKind),
    /// What happened to a carrier.
    Carrier(CarrierKind),
}

/// What happened to a carrier. Endpoints get it only when they ask for it by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CarrierKind {
    /// Its first bind is up.
    Up,
    /// Its last bind is down.
    Down,
    /// It has fewer binds than it should, or slows us down.
    Degraded,
}

impl CarrierKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Degraded];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "carrier.up",
            Self::Down => "carrier.down",
            Self::Degraded => "carrier.degraded",
        }
    }
}

impl Kind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Feed(kind) => kind.as_str(),
            Self::Carrier(kind) => kind.as_str(),
        }
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let feed = EventKind::ALL.into_iter().map(Self::Feed);
        feed.chain(CarrierKind::ALL.into_iter().map(Self::Carrier))
    }

    /// The kind of this word.
    pub fn of(word: &str) -> Option<Self> {
        Self::all().find(|kind| kind.as_str() == word)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = Cow::<'de, str>::deserialize(deserializer)?;
        Self::of(&word).ok_or_else(|| {
            let known: Vec<_> = Self::all().map(Self::as_str).collect();
            serde::de::Error::custom(format!(
                "expected one of {}, found {word:?}",
                known.join(", ")
            ))
        })
    }
}

impl JsonSchema for Kind {
    fn schema_name() -> Cow<'static, str> {
        "WebhookEvent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let known: Vec<_> = Self::all().map(Self::as_str).collect();
        json_schema!({ "type": "string", "enum": known })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: PathBuf::from("/var/lib/hikyaku/webhooks.db"),
            endpoints: BTreeMap::new(),
            networks: Vec::new(),
            https_only: false,
            ca_file: None,
            timeout: Span::secs(15),
            connect_timeout: Span::secs(5),
            concurrency: 32,
            concurrency_total: 1_024,
            window: 256,
            parked: 10_000,
            retries: WAITS.map(Span).to_vec(),
            breaker_failures: 10,
            callbacks: true,
            endpoints_per_client: 20,
            secret_overlap: Span::secs(24 * 3_600),
            log_days: 7,
            dead_days: 30,
        }
    }
}

/// A value of the config that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, below the module's table.
    pub key: String,
    /// What was expected and what was found.
    pub fault: String,
}

impl Config {
    /// All that is wrong with the values. Reads the files that they name.
    pub fn faults(&self) -> Vec<Fault> {
        let millis = |span: Span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let count = |number: usize| number as u64;
        let ranges = [
            ("timeout", millis(self.timeout), 100, 600_000, " ms"),
            ("connect_timeout", millis(self.connect_timeout), 100, 600_000, " ms"),
            ("concurrency", count(self.concurrency), 1, 10_000, ""),
            ("concurrency_total", count(self.concurrency_total), 1, 100_000, ""),
            ("window", count(self.window), 1, 100_000, ""),
            ("parked", count(self.parked), 1, 1_000_000, ""),
            ("retries", count(self.retries.len()), 0, 50, " of them"),
            ("breaker_failures", self.breaker_failures.into(), 1, 1_000_000, ""),
            ("endpoints_per_client", count(self.endpoints_per_client), 0, 10_000, ""),
            ("log_days", self.log_days.into(), 1, 366, ""),
            ("dead_days", self.dead_days.into(), 1, 366, ""),
        ];
        let outside = ranges
            .into_iter()
            .filter(|(_, found, least, most, _)| !(least..=most).contains(&found));
        let mut faults: Vec<Fault> = outside
            .map(|(key, found, least, most, unit)| Fault {
                key: key.to_owned(),
                fault: format!("expected {least}{unit} to {most}{unit}, found {found}{unit}"),
            })
            .collect();
        if self.file.as_os_str().is_empty() {
            faults.push(Fault { key: "file".into(), fault: "expected a file".into() });
        }
        for (name, endpoint) in &self.endpoints {
            faults.extend(endpoint.faults(name, self.https_only));
        }
        faults
    }
}

impl EndpointConfig {
    fn faults(&self, name: &str, https_only: bool) -> Vec<Fault> {
        let fault =
            |key: &str, fault: String| Fault { key: format!("endpoints.{name}.{key}"), fault };
        let mut faults = Vec::new();
        if self.client.is_empty() {
            faults.push(fault("client", "expected the name of a client".to_owned()));
        }
        if let Err(error) = Target::parse(&self.url, https_only) {
            faults.push(fault("url", error.to_string()));
        }
        if let Err(error) = self.read_secret() {
            faults.push(fault("secret", error));
        }
        faults
    }

    /// The secret, from here or from its file.
    ///
    /// # Errors
    /// There is none, there are two, or the file cannot be read; told without showing any of it.
    pub fn read_secret(&self) -> Result<Secret, String> {
        match (&self.secret, &self.secret_file) {
            (Some(secret), None) => Ok(secret.clone()),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| format!("{}: {error}", file.display()))?;
                text.parse().map_err(|error| format!("{}: {error}", file.display()))
            }
            (Some(_), Some(_)) => Err("expected either secret or secret_file, found both".into()),
            (None, None) => Err("expected secret or secret_file, found neither".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault() {
        assert_eq!(Config::default().faults(), []);
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    }

    #[test]
    fn an_endpoint_is_read_and_every_fault_of_it_told() {
        let config: Config = toml::from_str(
            r#"
            concurrency = 0
            [endpoints.crm]
            client = "shop"
            url = "https://crm.example/hook"
            secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
            events = ["message.delivered", "carrier.down"]
            [endpoints.bad]
            client = ""
            url = "ftp://crm.example"
            "#,
        )
        .unwrap();
        let crm = &config.endpoints["crm"];
        let wanted = [Kind::Feed(EventKind::Delivered), Kind::Carrier(CarrierKind::Down)];
        assert_eq!(crm.events, wanted);
        let keys: Vec<_> = config.faults().into_iter().map(|fault| fault.key).collect();
        let wanted =
            ["concurrency", "endpoints.bad.client", "endpoints.bad.url", "endpoints.bad.secret"];
        assert_eq!(keys, wanted);
    }

    #[test]
    fn a_stray_key_is_refused_in_any_table() {
        for text in ["speed = 3", "[endpoints.a]\nclient = \"a\"\nurl = \"b\"\nspeed = 3"] {
            let error = toml::from_str::<Config>(text).unwrap_err();
            assert!(error.to_string().contains("speed"), "{error}");
        }
        let unknown = "[endpoints.a]\nclient = \"a\"\nurl = \"b\"\nevents = [\"message.lost\"]";
        assert!(toml::from_str::<Config>(unknown).is_err());
    }
}
