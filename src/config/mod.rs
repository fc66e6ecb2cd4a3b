//! The configuration as written, and what it means.
//!
//! TOML, then environment variables over it: `HIKYAKU__API__LISTEN` sets `api.listen`. Every table
//! refuses keys that it does not know, values carry their units, and [`read`] names every fault at
//! once, each with its place.

mod files;
mod load;
mod sample;
mod section;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::api;
use crate::api::admin::Changes;
use crate::archive;
use crate::dispatch;
use crate::journal;
use crate::notify;
use crate::ops;
use crate::route;
use crate::seal;
use crate::time::Span;

pub use self::files::Files;
pub use self::files::files;
pub use self::load::Fault;
pub use self::load::Place;
pub use self::load::Source;
pub use self::sample::sample;
pub use self::section::CarrierSection;

/// Everything that the gateway is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the keys, the journal, the archive and the webhooks' store lie, each in a folder of its
    /// own unless its own table says otherwise.
    pub data_dir: PathBuf,
    /// How long a stop waits for answers of carriers before it cuts.
    pub drain: Span,
    /// The log.
    pub log: ops::LogConfig,
    /// The submit API.
    pub api: api::Config,
    /// The listener for operators.
    pub admin: api::admin::Config,
    /// The life of messages: limits and shares.
    pub dispatch: dispatch::Config,
    /// The keys of what is sealed on the disk: texts and full numbers.
    pub seal: seal::Config,
    /// What survives a crash.
    pub journal: journal::Config,
    /// Finished messages and events.
    pub archive: archive::Config,
    /// Webhooks.
    pub webhooks: notify::Config,
    /// The carriers, by name.
    pub carriers: BTreeMap<String, CarrierSection>,
    /// The routes.
    pub routes: Vec<route::RouteConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(DATA_DIR),
            drain: Span::secs(30),
            log: ops::LogConfig::default(),
            api: api::Config::default(),
            admin: api::admin::Config::default(),
            dispatch: dispatch::Config::default(),
            seal: seal::Config::default(),
            journal: journal::Config::default(),
            archive: archive::Config::default(),
            webhooks: notify::Config::default(),
            carriers: BTreeMap::new(),
            routes: Vec::new(),
        }
    }
}

/// The keys that a reload puts in force; others count from the next start on.
const LIVE: [&str; 9] = [
    "log.level",
    "api.messages",
    "api.clients",
    "api.tls",
    "admin.tls",
    "admin.operators",
    "dispatch",
    "carriers",
    "routes",
];

/// Notes the keys at which two values differ, down to what is no table.
fn differing(
    key: &str,
    old: Option<&toml::Value>,
    new: Option<&toml::Value>,
    found: &mut Vec<String>,
) {
    let (Some(toml::Value::Table(old)), Some(toml::Value::Table(new))) = (old, new) else {
        if old != new {
            found.push(key.to_owned());
        }
        return;
    };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        differing(&below, old.get(name), new.get(name), found);
    }
}

const DATA_DIR: &str = "/var/lib/hikyaku";

/// What lies in `data_dir` when its own table does not say otherwise: the table, its key, the name.
const PLACES: [(&str, &str, &str); 4] = [
    ("seal", "dir", "keys"),
    ("journal", "dir", "journal"),
    ("archive", "dir", "archive"),
    ("webhooks", "file", "webhooks.db"),
];

/// Why a configuration file is not read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}; name an existing file, or write one with `hikyaku init`")]
pub struct NoFile {
    path: String,
    source: io::Error,
}

impl Source {
    /// The file at `path`, under the environment of this process.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, NoFile> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| NoFile { path: name.clone(), source })?;
        Ok(Self { name, text, env: std::env::vars().collect() })
    }

    /// A text that stands for a file, under no environment.
    pub fn from_text(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), env: BTreeMap::new() }
    }
}

/// Reads a configuration.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn read(source: &Source) -> Result<Config, Vec<Fault>> {
    let read = source.read(section::shape, section::unshape);
    let config: Config = read.map_err(section::cured)?;
    let faults = config.faults();
    if faults.is_empty() { Ok(config) } else { Err(source.locate(faults)) }
}

/// The JSON Schema of the configuration (2020-12).
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

impl Config {
    /// The carriers and routes, ready for use.
    ///
    /// # Errors
    /// What is wrong with them; nothing after [`read`].
    pub fn routes(&self) -> Result<route::Routes, Vec<route::Fault>> {
        let (carriers, routes) = self.parts();
        route::Routes::new(carriers, routes)
    }

    /// What the carriers and routes are made of.
    pub fn parts(&self) -> (Vec<route::Carrier>, Vec<route::RouteConfig>) {
        let carriers = self
            .carriers
            .iter()
            .map(|(name, section)| {
                let version = section.link.session.version.into();
                route::Carrier::new(name, section.traffic.clone(), version)
            })
            .collect();
        (carriers, self.routes.clone())
    }

    /// How many files and sockets may be open at once when everything that is allowed is used.
    pub fn open_files(&self) -> u64 {
        /// The journal, the archive's files with its readers, the log, the runtime.
        const OWN: u64 = 128;
        let doors = if self.admin.listen.is_some() { 2 } else { 1 };
        let connections = u64::from(self.api.limits.connections.get()) * doors;
        let binds: usize = self.carriers.values().map(|section| section.link.legs().len()).sum();
        connections + binds as u64 + OWN
    }

    /// What is odd but can be run.
    pub fn warnings(&self) -> Vec<Fault> {
        let routes = self.routes().map(|routes| routes.warnings().to_vec()).unwrap_or_default();
        let routes = routes.into_iter().map(|fault| (fault.path, fault.message));
        let is_open = |listen: std::net::SocketAddr| !listen.ip().is_loopback();
        let admin =
            (self.admin.tls.is_none() && self.admin.listen.is_some_and(is_open)).then(|| {
                let what = "is not set, and operators' keys travel over a network in the clear";
                ("admin.tls".to_owned(), what.to_owned())
            });
        routes
            .chain(admin)
            .map(|(key, message)| Fault { key, message, place: Place::Nowhere })
            .collect()
    }

    /// What is wrong with values that are each of the right form.
    fn faults(&self) -> Vec<(String, String)> {
        let below = |table: &str, faults: Vec<(String, String)>| {
            let prefix = table.to_owned();
            faults.into_iter().map(move |(key, what)| (format!("{prefix}.{key}"), what))
        };
        let mut faults = Vec::new();
        faults.extend(below("log", self.log.faults()));
        faults.extend(below("api", self.api.faults()));
        faults.extend(below("admin", self.admin.faults(&self.api)));
        faults.extend(below("dispatch", self.dispatch.faults()));
        faults.extend(below("seal", self.seal.faults()));
        faults.extend(below("journal", self.journal.faults()));
        let archive = self.archive.faults().into_iter().map(|f| (f.key.to_owned(), f.fault));
        faults.extend(below("archive", archive.collect()));
        let webhooks = self.webhooks.faults().into_iter().map(|f| (f.key, f.fault));
        faults.extend(below("webhooks", webhooks.collect()));
        for (name, section) in &self.carriers {
            if !route::is_carrier_name(name) {
                faults.push((
                    format!("carriers.{name}"),
                    "a carrier's name is lower-case letters, digits and _, a letter first".into(),
                ));
            }
            faults.extend(below(&format!("carriers.{name}"), section.link.faults()));
        }
        if let Err(found) = self.routes() {
            faults.extend(found.into_iter().map(|fault| (fault.path, fault.message)));
        }
        faults.extend(self.loose_names());
        faults
    }

    /// Names of routes that clients are given and nothing defines.
    fn loose_names(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (name, client) in &self.api.clients {
            for (i, route) in client.routes.iter().enumerate() {
                if !self.routes.iter().any(|r| r.name == *route) {
                    let key = format!("api.clients.{name}.routes[{i}]");
                    faults.push((key, format!("there is no route named {route:?}")));
                }
            }
        }
        faults
    }

    /// The keys whose values are not those of `old`, and which of them count from the next start on.
    pub fn changed_from(&self, old: &Self) -> Changes {
        let shown = |config: &Self| toml::Value::try_from(config).map(section::flat).ok();
        let mut changed = Vec::new();
        if let (Some(old), Some(new)) = (shown(old), shown(self)) {
            differing("", Some(&old), Some(&new), &mut changed);
        }
        let is_live = |key: &String| {
            let below = |table: &&str| key == table || key.starts_with(&format!("{table}."));
            LIVE.iter().any(below)
        };
        let from_next_start = changed.iter().filter(|key| !is_live(key)).cloned().collect();
        Changes { changed, from_next_start, ..Changes::default() }
    }

    /// The effective configuration as TOML, secrets masked.
    ///
    /// # Errors
    /// Never for a configuration that was read.
    pub fn shown(&self) -> Result<String, toml::ser::Error> {
        let value = toml::Value::try_from(self)?;
        toml::to_string_pretty(&section::flat(value))
    }

    /// The effective configuration as JSON, secrets masked.
    ///
    /// # Errors
    /// Never for a configuration that was read.
    pub fn shown_as_json(&self) -> Result<String, Box<dyn std::error::Error>> {
        let value = section::flat(toml::Value::try_from(self)?);
        Ok(serde_json::to_string_pretty(&value)?)
    }
}
